"""What is lost, repeated, cut off or overlapping never leaves a half file under a name. Time is virtual."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shlex
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from managed_agents_actors import _errors as errors
from managed_agents_actors._http.transport import Transport
from managed_agents_actors.artifacts import AgentCoreSessionStorage, _machine, _undo
from managed_agents_actors.artifacts import _programs as programs
from managed_agents_actors.artifacts import _session_storage as session_storage
from managed_agents_actors.testing import (
    Action,
    Delay,
    DropStream,
    EndStream,
    Fault,
    GarbageFrame,
    LoseAnswer,
    LoseRequest,
    RefuseWith,
    ThrowInStream,
    local_shell,
)

from ._machine import COMMAND, SESSION_ID, Place, open_place

OLD = b"the old content"
NEW = os.urandom(2 * session_storage.PIECE_BYTES + 5)
COMMANDS = 4  # of a put of the new content: three pieces, and one that finishes
# Processes side by side, and bytes of which writing and reading take long enough for them to meet.
PUTS, READERS, LARGE = 12, 3, 1 << 24


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    return autojump_clock


def doing(number: int, act: Callable[[], object]) -> Callable[[int], Awaitable[None]]:
    """Do something at the command with this number."""

    async def hook(at: int) -> None:
        await trio.lowlevel.checkpoint()
        if at == number:
            act()

    return hook


# --- what is lost is repeated -----------------------------------------------------------------------------------------

PASSING: dict[str, Action] = {
    "the answer is lost": LoseAnswer(),
    "the request is lost": LoseRequest(),
    "it is throttled": RefuseWith(429, retry_after=2.0),
    "the service fails": RefuseWith(503),
    "the stream breaks": DropStream(after_events=1),
    "the stream ends early": EndStream(after_events=1),
    "the stream throttles": ThrowInStream(),
    "the stream fails": ThrowInStream(type="internalServerException"),
    "the stream is garbled": GarbageFrame(),
}


@pytest.mark.parametrize("nth", range(1, COMMANDS + 1))
@pytest.mark.parametrize("what", PASSING)
async def test_a_put_survives_the_loss_of_any_command(tmp_path: Path, clock: MockClock, what: str, nth: int) -> None:
    async with open_place(tmp_path, Fault(on=COMMAND, action=PASSING[what], nth=nth)) as place:
        place.write("a", OLD)
        await place.store.put("a", NEW)
        assert len(place.simulator.requests) == COMMANDS + 1
        assert (place.read("a"), place.names) == (NEW, ["a"])


@pytest.mark.parametrize("verb", ["list", "fetch", "delete"])
@pytest.mark.parametrize("what", PASSING)
async def test_every_verb_survives_the_loss_of_a_command(
    tmp_path: Path, clock: MockClock, what: str, verb: str
) -> None:
    async def hold(number: int) -> None:
        # What is throttled has not run; a real shell could not take back what it did.
        await trio.lowlevel.checkpoint()
        if number == 0 and what == "the stream throttles":
            await trio.sleep_forever()

    async with open_place(tmp_path, Fault(on=COMMAND, action=PASSING[what])) as place:
        place.machine.before = hold
        place.write("a", OLD)
        match verb:
            case "list":
                assert [artifact.name for artifact in await place.store.list()] == ["a"]
            case "fetch":
                assert await place.store.fetch("a") == OLD
            case _:
                # Lost with its answer, it is found done by the repetition.
                await place.store.delete("a")
                assert place.names == []
        assert len(place.simulator.requests) == 2


async def test_repetitions_are_spaced_and_bounded(tmp_path: Path, clock: MockClock) -> None:
    async with open_place(tmp_path, Fault(on=COMMAND, action=RefuseWith(503), nth="every")) as place:
        with pytest.raises(errors.ServerError):
            await place.store.list()
        at = [request.at for request in place.simulator.requests]
        assert len(at) == 1 + _machine.MAX_REPETITIONS
        gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
        assert all(0.25 <= gap / 2**n <= 0.5 for n, gap in enumerate(gaps))


async def test_a_wait_that_the_service_asks_for_is_kept(tmp_path: Path, clock: MockClock) -> None:
    async with open_place(tmp_path, Fault(on=COMMAND, action=RefuseWith(429, retry_after=5.0))) as place:
        assert await place.store.list() == []
    assert clock.current_time() >= 5.0


# --- what ran nothing is not taken for what may have run --------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 529])
async def test_a_deletion_of_what_is_not_there_is_an_error_after_a_refusal_too(
    tmp_path: Path, clock: MockClock, status: int
) -> None:
    async with open_place(tmp_path, Fault(on=COMMAND, action=RefuseWith(status))) as place:
        with pytest.raises(errors.ArtifactNotFound):
            await place.store.delete("absent")
        assert len(place.simulator.requests) == 2


async def test_a_deletion_of_what_is_not_there_is_an_error_after_a_failed_connection_too(
    tmp_path: Path, clock: MockClock
) -> None:
    dials = 0
    async with open_place(tmp_path) as place:

        async def dial(host: str, port: int) -> trio.abc.Stream:
            nonlocal dials
            dials += 1
            if dials == 1:
                raise OSError("no route")
            return await place.simulator.open_memory_stream(host, port)

        async with place.simulator.client(transport=Transport(open_stream=dial)) as client:
            store = AgentCoreSessionStorage(client, place.simulator.harness_arn, SESSION_ID, str(place.folder))
            with pytest.raises(errors.ArtifactNotFound):
                await store.delete("absent")
    assert dials == 2


@pytest.mark.parametrize("then", [429, None])
async def test_a_deletion_whose_outcome_was_lost_finds_nothing_and_has_what_it_wanted(
    tmp_path: Path, clock: MockClock, then: int | None
) -> None:
    faults = [Fault(on=COMMAND, action=LoseAnswer())]
    if then is not None:
        faults.append(Fault(on=COMMAND, action=RefuseWith(then), nth=2))
    async with open_place(tmp_path, *faults) as place:
        place.write("a", OLD)
        await place.store.delete("a")
        assert (place.names, len(place.simulator.requests)) == ([], 2 + len(faults) - 1)


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_a_refusal_is_not_repeated(tmp_path: Path, clock: MockClock, status: int) -> None:
    async with open_place(tmp_path, Fault(on=COMMAND, action=RefuseWith(status))) as place:
        with pytest.raises(errors.APIError) as caught:
            await place.store.list()
        assert (caught.value.status, len(place.simulator.requests)) == (status, 1)


# --- a put that fails -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nth", range(1, COMMANDS + 1))
async def test_a_put_that_cannot_be_carried_through_leaves_the_old_content_and_no_parts(
    tmp_path: Path, clock: MockClock, nth: int
) -> None:
    attempts = 1 + _machine.MAX_REPETITIONS
    async with open_place(tmp_path, Fault(on=COMMAND, action=RefuseWith(503), nth=nth, times=attempts)) as place:
        place.write("a", OLD)
        with pytest.raises(errors.ServerError) as caught:
            await place.store.put("a", NEW)
        assert not hasattr(caught.value, "__notes__")
        assert (place.read("a"), place.names) == (OLD, ["a"])


async def test_a_clean_up_that_fails_is_told_and_does_not_hide_the_error(
    tmp_path: Path, clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_place(tmp_path, Fault(on=COMMAND, action=RefuseWith(400), nth=2, times=100)) as place:
        with pytest.raises(errors.InvalidRequestError) as caught:
            await place.store.put("a", NEW)
        assert len(place.simulator.requests) == 3
        [left] = place.names
    (note,) = caught.value.__notes__
    assert "the parts of" in note
    assert "InvalidRequestError" in note
    assert left.startswith(".put-")
    assert "artifact_left_behind" in caplog.text


async def test_a_clean_up_takes_no_longer_than_its_bound(
    tmp_path: Path, clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_place(tmp_path, Fault(on=COMMAND, action=Delay(60.0), nth=2, times=100)) as place:
        began = clock.current_time()
        with trio.move_on_after(0.1) as scope:
            await place.store.put("a", NEW)
        assert scope.cancelled_caught
        assert clock.current_time() - began == pytest.approx(0.1 + _undo.UNDO_SECONDS)
    assert "artifact_left_behind" in caplog.text


@pytest.mark.parametrize("way", ["shorter", "as long", "longer"])
async def test_parts_that_are_not_what_was_sent_are_never_put(tmp_path: Path, clock: MockClock, way: str) -> None:
    async with open_place(tmp_path) as place:
        place.write("a", OLD)

        def tamper() -> None:
            [parts] = place.folder.glob(".put-*")
            content = (parts / "0").read_bytes()
            changed = {"shorter": content[:-1], "as long": bytes(len(content)), "longer": content + b"x"}
            (parts / "0").write_bytes(changed[way])

        place.machine.before = doing(COMMANDS - 1, tamper)
        with pytest.raises(errors.ArtifactError, match="not what was sent") as caught:
            await place.store.put("a", NEW)
        assert caught.value.exit_code == 4
        assert (place.read("a"), place.names) == (OLD, ["a"])


@pytest.mark.parametrize("number", range(1, COMMANDS))
async def test_parts_that_are_gone_are_an_error(tmp_path: Path, clock: MockClock, number: int) -> None:
    async with open_place(tmp_path) as place:
        place.write("a", OLD)

        def remove() -> None:
            [parts] = place.folder.glob(".put-*")
            shutil.rmtree(parts)

        place.machine.before = doing(number, remove)
        with pytest.raises(errors.ArtifactError) as caught:
            await place.store.put("a", NEW)
        assert caught.value.exit_code == (5 if number == COMMANDS - 1 else 1)
        assert ("was not put" in str(caught.value)) == (number == COMMANDS - 1)
        assert (place.read("a"), place.names) == (OLD, ["a"])


async def test_a_finish_that_was_repeated_after_another_put_took_the_name_leaves_that_whole(
    tmp_path: Path, clock: MockClock
) -> None:
    last = Fault(on=COMMAND, action=LoseAnswer(), nth=COMMANDS)
    async with open_place(tmp_path, last) as place:
        place.machine.after = doing(COMMANDS - 1, partial(place.write, "a", OLD))
        with pytest.raises(errors.ArtifactError, match="may have been put, and moved away, changed or replaced"):
            await place.store.put("a", NEW)
        assert (place.read("a"), place.names) == (OLD, ["a"])


async def test_a_file_that_was_put_and_taken_before_that_was_known_is_not_said_to_be_as_it_was(
    tmp_path: Path, clock: MockClock
) -> None:
    last = Fault(on=COMMAND, action=LoseAnswer(), nth=COMMANDS)
    async with open_place(tmp_path, last) as place:
        place.write("a", OLD)
        place.machine.after = doing(COMMANDS - 1, lambda: (place.folder / "a").rename(place.folder / "taken"))
        with pytest.raises(errors.ArtifactError, match=r"whether .*/a was put is unknown") as caught:
            await place.store.put("a", NEW)
        assert caught.value.exit_code == 5
        assert "stayed" not in str(caught.value)
        assert (place.read("taken"), place.names) == (NEW, ["taken"])


async def test_parts_that_are_gone_after_a_refusal_alone_were_not_put(tmp_path: Path, clock: MockClock) -> None:
    async with open_place(tmp_path, Fault(on=COMMAND, action=RefuseWith(429), nth=COMMANDS)) as place:
        place.write("a", OLD)

        def remove() -> None:
            [parts] = place.folder.glob(".put-*")
            shutil.rmtree(parts)

        place.machine.before = doing(COMMANDS - 1, remove)
        with pytest.raises(errors.ArtifactError, match="was not put, what was sent is gone"):
            await place.store.put("a", NEW)
        assert (place.read("a"), place.names) == (OLD, ["a"])


# --- a put that is cancelled ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(COMMANDS))
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_put_that_is_cancelled_at_any_command_leaves_whole_content_and_no_parts(
    tmp_path: Path, clock: MockClock, when: str, number: int
) -> None:
    async with open_place(tmp_path) as place:
        place.write("a", OLD)
        with trio.CancelScope() as scope:
            setattr(place.machine, when, doing(number, scope.cancel))
            await place.store.put("a", NEW)
        assert scope.cancelled_caught
        await place.machine.is_quiet()
        # The service runs what it was sent: the last command has its effect, and it is a whole one.
        assert place.read("a") == (NEW if number == COMMANDS - 1 else OLD)
        assert place.names == ["a"]
    assert clock.current_time() < _undo.UNDO_SECONDS


async def test_a_put_in_a_cancelled_scope_does_nothing(tmp_path: Path, clock: MockClock) -> None:
    async with open_place(tmp_path) as place:
        place.write("a", OLD)
        with trio.CancelScope() as scope:
            scope.cancel()
            await place.store.put("a", NEW)
        assert scope.cancelled_caught
        assert (place.read("a"), place.names) == (OLD, ["a"])


VERBS: dict[str, Callable[[Place], Awaitable[Any]]] = {
    "list": lambda place: place.store.list(),
    "fetch": lambda place: place.store.fetch("a"),
    "delete": lambda place: place.store.delete("a"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_every_other_verb_can_be_cancelled(tmp_path: Path, clock: MockClock, when: str, verb: str) -> None:
    async with open_place(tmp_path) as place:
        place.write("a", OLD)
        with trio.CancelScope() as scope:
            setattr(place.machine, when, doing(0, scope.cancel))
            await VERBS[verb](place)
        assert scope.cancelled_caught
        await place.machine.is_quiet()
        assert len(place.simulator.requests) == 1
        await place.store.put("a", NEW)
        assert await place.store.fetch("a") == NEW
    assert clock.current_time() == 0


async def test_what_a_late_command_leaves_behind_is_no_artifact(tmp_path: Path, clock: MockClock) -> None:
    async with open_place(tmp_path) as place:
        with trio.CancelScope() as scope:
            place.machine.after = doing(0, scope.cancel)
            await place.store.put("a", NEW)
        await place.machine.is_quiet()
        # A network may deliver the first piece once more, when all is over.
        await place.machine(place.machine.commands[0])
        assert len(place.names) == 1
        assert await place.store.list() == []
        await place.store.put("b", NEW)
        assert await place.store.fetch("b") == NEW
        with pytest.raises(errors.ArtifactNotFound):
            await place.store.fetch("a")


# --- what overlaps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writers", [2, 5])
async def test_puts_of_one_name_that_overlap_end_with_the_whole_content_of_one(
    tmp_path: Path, clock: MockClock, writers: int
) -> None:
    contents = [os.urandom(2 * session_storage.PIECE_BYTES) for _ in range(writers)]
    async with open_place(tmp_path) as place:
        place.write("a", OLD)
        async with trio.open_nursery() as nursery:
            for content in contents:
                nursery.start_soon(place.store.put, "a", content)
        assert place.read("a") in contents
        assert place.names == ["a"]


async def test_every_command_may_run_beside_copies_of_itself(tmp_path: Path, clock: MockClock) -> None:
    shell = local_shell(tmp_path)

    async def run_copies(command: str) -> tuple[str, str, int]:
        outcomes: list[tuple[str, str, int]] = []

        async def run() -> None:
            outcomes.append(await shell(command))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(run)
        return max(outcomes, key=lambda outcome: outcome[2])

    async with open_place(tmp_path, commands=run_copies) as place:
        for content in (OLD, NEW, NEW[:-1]):
            await place.store.put("a", content)
            assert await place.store.fetch("a") == content
            assert place.names == ["a"]


async def test_a_put_gives_the_name_to_another_file_and_leaves_the_old_one_to_its_readers(
    tmp_path: Path, clock: MockClock
) -> None:
    async with open_place(tmp_path) as place:
        await place.store.put("a", OLD)
        with (place.folder / "a").open("rb") as reader:
            await place.store.put("a", NEW)
            assert reader.read() == OLD
            assert os.fstat(reader.fileno()).st_ino != (place.folder / "a").stat().st_ino
        assert place.read("a") == NEW


async def test_processes_that_read_while_others_finish_puts_read_whole_contents(tmp_path: Path) -> None:
    target, shell = tmp_path / "a", local_shell(tmp_path)
    contents = [bytes([n]) * LARGE for n in range(PUTS)]
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    target.write_bytes(contents[0])
    seen: list[str] = []
    writing = PUTS

    async def run(program: str, *arguments: object) -> str:
        stdout, stderr, code = await shell(shlex.join(("python3", "-IS", "-c", program, *map(str, arguments))))
        assert (stderr, code) == ("", 0)
        return stdout

    async def put(number: int) -> None:
        nonlocal writing
        parts = tmp_path / f".put-{number}"
        parts.mkdir()
        (parts / "0").write_bytes(contents[number])
        await run(programs.FINISH, parts, target, 1, LARGE, digests[number])
        writing -= 1

    async def read() -> None:
        while writing:
            told = json.loads(await run(programs.READ, target, 0, 0, LARGE))
            assert told["size"] == LARGE
            seen.append(told["sha256"])

    async with trio.open_nursery() as nursery:
        for number in range(PUTS):
            nursery.start_soon(put, number)
        for _ in range(READERS):
            nursery.start_soon(read)
    assert len(seen) >= READERS
    assert set(seen) <= set(digests)


async def test_a_file_that_changes_between_ranges_is_read_again(tmp_path: Path, clock: MockClock) -> None:
    size = session_storage.RANGE_BYTES + 1
    async with open_place(tmp_path) as place:
        place.write("a", bytes(size))
        place.machine.before = doing(1, lambda: place.write("a", b"x" * size))
        assert await place.store.fetch("a") == b"x" * size
        assert len(place.machine.commands) == 4


@pytest.mark.parametrize("growth", [-1, 0, 1])
async def test_a_file_that_keeps_changing_is_an_error(tmp_path: Path, clock: MockClock, growth: int) -> None:
    sizes = [session_storage.RANGE_BYTES + 10 + growth * n for n in range(10)]
    async with open_place(tmp_path) as place:

        async def change(number: int) -> None:
            await trio.lowlevel.checkpoint()
            place.write("a", bytes([number]) * sizes[number])

        place.machine.before = change
        with pytest.raises(errors.ArtifactError, match="changed while it was read"):
            await place.store.fetch("a")


async def test_a_file_that_is_deleted_between_ranges_is_not_found(tmp_path: Path, clock: MockClock) -> None:
    async with open_place(tmp_path) as place:
        place.write("a", bytes(session_storage.RANGE_BYTES + 1))
        place.machine.before = doing(1, (place.folder / "a").unlink)
        with pytest.raises(errors.ArtifactNotFound):
            await place.store.fetch("a")
