"""A stream or a listing that is cut at any byte changes nothing: every byte of one variant, a sample of the others.

Of a harness, which keeps no listing, it changes nothing or is a typed error.

``python -m tests.soak --every-byte`` makes every cut of all variants.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import managed_agents_actors as maa

from .every_byte import (
    HARNESS_VARIANTS,
    RECORDINGS,
    VARIANTS,
    Cut,
    captured,
    differences,
    play,
    simulated,
    try_every_byte,
    variant,
)
from .harness_every_byte import HarnessCut, is_sound, recorded
from .harness_every_byte import play as play_harness

ROOT = Path(__file__).parent.parent.parent
WHOLE, *SAMPLED = (name for name in VARIANTS if name not in HARNESS_VARIANTS)

PARTS = 4

# Odd, so that samples of a frame's bytes fall differently in every frame.
STEP = 97


@pytest.mark.parametrize("first", range(PARTS))
def test_a_stream_cut_at_any_byte_changes_nothing(first: int) -> None:
    # In processes of its own, on every core; in parts, so that none of them takes long.
    part = ["--first", str(first), "--step", str(PARTS)]
    command = [sys.executable, "-m", "tests.soak", "--every-byte", WHOLE, *part]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    count = len(range(first, captured("T4-parallel").size + 1, PARTS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{WHOLE}: {count} cuts, 0 change something" in done.stdout


@pytest.mark.parametrize("name", SAMPLED)
def test_a_cut_anywhere_changes_nothing(name: str) -> None:
    recording, cuts = variant(name)
    assert differences(recording, cuts[::STEP]) == []


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_recorded_turn_is_told_as_it_was_recorded(name: str) -> None:
    recording = RECORDINGS[name]()
    outcome, _ = play(recording, Cut())
    listed = [row["id"] for row in recording.rows if row is not None]
    assert [event["id"] for event in outcome.result.events] == listed
    assert [event["id"] for event in outcome.shown] == listed
    assert len(outcome.calls) >= 2
    assert outcome.deltas == outcome.result.text != ""


def test_a_cut_is_seen_to_be_made() -> None:
    recording = captured("T4-parallel")
    for cut in (Cut(stream=recording.size // 2), Cut(stream=recording.size // 2, how="end")):
        _, server = play(recording, cut)
        assert (server.streams, server.listings) == (2, 1)
    _, server = play(recording, Cut(stream=recording.size // 2, listing=10))
    assert (server.streams, server.listings) == (2, 2)


def test_a_listing_that_lacks_an_event_is_a_difference() -> None:
    recording = simulated()
    spoken = [place for place, event in enumerate(recording.events) if event["type"] == "agent.message"]
    rows = tuple(None if place == spoken[0] else row for place, row in enumerate(recording.rows))
    place = len(b"".join(recording.frames[: spoken[0]]))
    assert differences(recording, [Cut(stream=place)]) == []
    (line,) = differences(replace(recording, rows=rows), [Cut(stream=place)])
    assert "changes result, shown" in line


@pytest.mark.parametrize("name", HARNESS_VARIANTS)
def test_a_turn_of_a_harness_that_is_cut_anywhere_is_the_whole_or_a_typed_error(name: str) -> None:
    count, found = try_every_byte(name, slice(0, None, 7), jobs=1)
    assert (count > 100, found) == (True, [])


def test_a_cut_of_a_harness_is_seen_to_be_made_and_what_it_changes_is_found() -> None:
    turn = recorded()
    wanted = play_harness(turn, None)
    torn = HarnessCut(1, 10, "reset")
    lost = play_harness(turn, torn)
    assert (type(lost.error), len(lost.calls), lost.invocations) == (maa.StreamLost, 2, 2)
    again = play_harness(turn, HarnessCut(0, 10, "end"))
    assert (again.error, again.invocations) == (None, 3)
    assert is_sound(lost, torn, wanted)
    assert not is_sound(replace(lost, invocations=3), torn, wanted)
    assert not is_sound(replace(lost, calls=(*lost.calls, *lost.calls)), torn, wanted)
    assert not is_sound(replace(lost, error=maa.ServerError("no", status=500)), torn, wanted)
    assert again.result is not None
    assert not is_sound(replace(again, result=replace(again.result, text="That")), torn, wanted)
