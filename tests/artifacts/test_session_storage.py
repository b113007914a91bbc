"""Files in a session's machine: the four verbs over a real shell, and what is refused or reported. Time is virtual."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from managed_agents_actors import _errors as errors
from managed_agents_actors.artifacts import AgentCoreSessionStorage, Artifact
from managed_agents_actors.artifacts import _session_storage as session_storage
from managed_agents_actors.testing import open_agentcore_simulator, run_in_virtual_time

from ._machine import SESSION_ID, open_place

PIECE = session_storage.PIECE_BYTES
DAY = 86_400.0


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    return autojump_clock


async def test_what_is_put_is_listed_fetched_and_deleted(tmp_path: Path, clock: MockClock) -> None:
    data = os.urandom(100_000)
    async with open_place(tmp_path) as place:
        assert await place.store.list() == []
        put = await place.store.put("report.csv", data)
        path = str(place.folder / "report.csv")
        assert put == Artifact(name="report.csv", size=100_000, ref=path)
        assert place.names == ["report.csv"]
        (listed,) = await place.store.list()
        assert (listed.name, listed.size, listed.ref) == ("report.csv", 100_000, path)
        assert await place.store.fetch("report.csv") == data
        await place.store.delete("report.csv")
        assert place.names == []


async def test_a_put_takes_the_place_of_what_has_the_name(tmp_path: Path, clock: MockClock) -> None:
    async with open_place(tmp_path) as place:
        for content in (b"first", b"", b"x" * (2 * PIECE + 1)):
            await place.store.put("a", content)
            assert place.read("a") == await place.store.fetch("a") == content
        assert place.names == ["a"]


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
async def test_a_put_is_a_command_for_each_piece_and_one_that_finishes(
    tmp_path: Path, clock: MockClock, size: int
) -> None:
    async with open_place(tmp_path) as place:
        await place.store.put("a", b"\xff" * size)
        assert len(place.machine.commands) == max(1, -(-size // PIECE)) + 1
        assert place.read("a") == b"\xff" * size


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(block=st.binary(max_size=100), times=st.integers(0, 1_000))
def test_any_bytes_come_back(tmp_path: Path, block: bytes, times: int) -> None:
    data = block * times

    async def there_and_back() -> None:
        async with open_place(tmp_path) as place:
            await place.store.put("any.bin", data)
            assert await place.store.fetch("any.bin") == data

    run_in_virtual_time(there_and_back)


async def test_a_large_file_is_fetched_in_ranges(tmp_path: Path, clock: MockClock) -> None:
    data = os.urandom(2 * session_storage.RANGE_BYTES + 1)
    async with open_place(tmp_path) as place:
        place.write("large", data)
        assert await place.store.fetch("large") == data
        assert len(place.machine.commands) == 3
        place.write("large", data[: session_storage.RANGE_BYTES])
        assert await place.store.fetch("large") == data[: session_storage.RANGE_BYTES]
        assert len(place.machine.commands) == 4


async def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, clock: MockClock) -> None:
    async with open_place(tmp_path) as place:
        place.write("huge", b"")
        os.truncate(place.folder / "huge", session_storage.MAX_BYTES + 1)
        with pytest.raises(errors.ArtifactError, match="536,870,913 bytes"):
            await place.store.fetch("huge")


async def test_the_newest_is_listed_first(tmp_path: Path, clock: MockClock) -> None:
    async with open_place(tmp_path) as place:
        for name, age in {"old": 300.0, "b": 100.0, "a": 100.0, "new": 0.0}.items():
            place.write(name, name.encode())
            os.utime(place.folder / name, (1_800_000_000 - age,) * 2)
        listed = await place.store.list()
        assert [artifact.name for artifact in listed] == ["new", "b", "a", "old"]
        assert [artifact.created_at for artifact in listed[::3]] == [
            "2027-01-15T08:00:00+00:00",
            "2027-01-15T07:55:00+00:00",
        ]
        json.dumps([[artifact.name, artifact.ref, dict(artifact.raw)] for artifact in listed])


async def test_only_regular_files_are_artifacts(tmp_path: Path, clock: MockClock) -> None:
    async with open_place(tmp_path) as place:
        place.write("file", b"x")
        (tmp_path / "elsewhere").write_bytes(b"secret")
        (place.folder / "link").symlink_to(tmp_path / "elsewhere")
        (place.folder / "folder").mkdir()
        os.mkfifo(place.folder / "pipe")
        assert [artifact.name for artifact in await place.store.list()] == ["file"]
        for name in ("link", "folder", "pipe", "absent"):
            with pytest.raises(errors.ArtifactNotFound, match=name):
                await place.store.fetch(name)
            with pytest.raises(errors.ArtifactNotFound, match=name):
                await place.store.delete(name)
        await place.store.put("link", b"mine")
        assert (place.read("link"), (tmp_path / "elsewhere").read_bytes()) == (b"mine", b"secret")
        with pytest.raises(errors.ArtifactError, match="Is a directory") as caught:
            await place.store.put("folder", b"mine")
        assert (caught.value.exit_code, caught.value.timed_out) == (1, False)
        assert place.names == ["file", "folder", "link", "pipe"]


async def test_any_file_name_can_be_listed(tmp_path: Path, clock: MockClock) -> None:
    names = [b"a b", b"line\nline", b"\xff", "ü'\"".encode(), b"-rf"]
    async with open_place(tmp_path) as place:
        place.folder.mkdir()
        for name in names:
            (place.folder / os.fsdecode(name)).touch()
        listed = {artifact.name for artifact in await place.store.list()}
        assert listed == {"a b", "line\nline", "\N{REPLACEMENT CHARACTER}", "ü'\"", "-rf"}


async def test_times_outside_of_the_calendar_are_none(tmp_path: Path, clock: MockClock) -> None:
    row = {"name": "a", "size": 1, "mtime_ns": 10**24}
    async with open_place(tmp_path, commands=lambda _: (json.dumps([row]), "", 0)) as place:
        (listed,) = await place.store.list()
        assert (listed.created_at, listed.raw) == (None, row)


@pytest.mark.parametrize("folder", ["a b", 'it\'s $(touch gone) `x` "y" \\ ; rm -rf *', "ünï/de ep", "-n"])
async def test_a_directory_may_have_any_name(tmp_path: Path, clock: MockClock, folder: str) -> None:
    async with open_place(tmp_path, folder=folder) as place:
        await place.store.put("a.b", b"content")
        assert [artifact.ref for artifact in await place.store.list()] == [str(tmp_path / folder / "a.b")]
        assert await place.store.fetch("a.b") == b"content"
        await place.store.delete("a.b")
        assert place.names == []
    async with open_place(tmp_path.parent, folder=tmp_path.name) as above:
        assert above.names == [folder.partition("/")[0]]


async def test_what_lies_about_in_the_machine_is_not_imported(tmp_path: Path, clock: MockClock) -> None:
    for module in ("json", "os", "base64", "hashlib"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit(99)")
    async with open_place(tmp_path) as place:
        await place.store.put("a", b"x")
        assert await place.store.fetch("a") == b"x"


async def test_every_command_is_short_enough_for_the_service(tmp_path: Path, clock: MockClock) -> None:
    texts: list[str] = []

    def run(command: str) -> tuple[str, str, int]:
        texts.append(command)
        return "", "", 0

    longest = "/" + "'" * 1_023
    async with open_agentcore_simulator(transport="memory", commands=run) as simulator, simulator.client() as client:
        store = AgentCoreSessionStorage(client, simulator.harness_arn, SESSION_ID, longest)
        await store.put("n" * 255, b"\xff" * 100_000)
    assert [len(text) <= 65_536 for text in texts] == [True] * 4


# --- what is refused before anything is sent --------------------------------------------------------------------------

HOSTILE: list[Any] = [
    "",
    ".",
    "..",
    "../x",
    "/etc/passwd",
    "a/b",
    "-rf",
    "a b",
    "a\n",
    "a\0",
    "a'b",
    'a"b',
    "$(x)",
    "`x`",
    "a;b",
    "a*",
    "ü",
    "\ud800",
    "n" * 256,
    None,
    7,
    b"a",
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
async def test_a_hostile_name_is_refused_before_anything_is_sent(tmp_path: Path, clock: MockClock, name: Any) -> None:
    async with open_place(tmp_path) as place:
        for act in (place.store.fetch, place.store.delete, lambda bad: place.store.put(bad, b"x")):
            with pytest.raises(errors.ConfigurationError, match="name"):
                await act(name)
        assert place.simulator.requests == ()


async def test_content_that_is_no_bytes_or_too_much_is_refused_before_anything_is_sent(
    tmp_path: Path, clock: MockClock
) -> None:
    content: Any
    async with open_place(tmp_path) as place:
        for content in ("text", bytearray(b"x"), None, str(tmp_path)):
            with pytest.raises(errors.ConfigurationError, match="bytes"):
                await place.store.put("a", content)
        with pytest.raises(errors.ConfigurationError, match=r"536,870,912 bytes, not 536,870,913"):
            await place.store.put("a", bytes(session_storage.MAX_BYTES + 1))
        assert place.simulator.requests == ()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        *(
            ({"base_path": path}, "base_path")
            for path in ("", "/", "//", "data", "/a/../b", "/a\nb", "/a\0", "/\ud800")
        ),
        ({"base_path": "/" + "a" * 1_024}, "1024"),
        ({"base_path": Path("/mnt/data")}, "base_path"),
        ({"client": None}, "AgentCoreClient"),
        ({"harness_arn": ""}, "harness_arn"),
        ({"session_id": "short"}, "33 to 100"),
        ({"session_id": 5}, "session_id"),
        ({"qualifier": ""}, "qualifier"),
        *(({"timeout": seconds}, "3600") for seconds in (0, 3601, 1.5, True, None)),
    ],
)
async def test_arguments_are_looked_at_first(
    tmp_path: Path, clock: MockClock, change: dict[str, Any], told: str
) -> None:
    async with open_place(tmp_path) as place:
        given = {"client": place.client, "harness_arn": place.simulator.harness_arn, "session_id": SESSION_ID}
        with pytest.raises(errors.ConfigurationError, match=told):
            AgentCoreSessionStorage(**{**given, **change})
        assert repr(AgentCoreSessionStorage(**given, base_path="/mnt/x//")).endswith("base_path='/mnt/x')")


# --- what a command may come to ---------------------------------------------------------------------------------------

VERBS: dict[str, Any] = {
    "list": lambda store: store.list(),
    "fetch": lambda store: store.fetch("a"),
    "put": lambda store: store.put("a", b"x"),
    "delete": lambda store: store.delete("a"),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_a_failed_command_is_an_error_with_its_exit_code_and_the_end_of_its_stderr(
    tmp_path: Path, clock: MockClock, verb: str
) -> None:
    stderr = "x" * 5_000 + "\nsh: 1: python3: not found\n"
    async with open_place(tmp_path, commands=lambda _: ("", stderr, 127)) as place:
        with pytest.raises(errors.ArtifactError, match=r"(?s)127.*python3: not found") as caught:
            await VERBS[verb](place.store)
    error = caught.value
    assert not isinstance(error, errors.ArtifactNotFound)
    assert (error.exit_code, error.stderr, error.timed_out) == (127, stderr[-500:], False)


@pytest.mark.parametrize("verb", VERBS)
async def test_a_command_that_takes_too_long_is_an_error(tmp_path: Path, clock: MockClock, verb: str) -> None:
    async def hang(_: str) -> tuple[str, str, int]:
        await trio.sleep_forever()
        raise AssertionError

    async with open_place(tmp_path, commands=hang, timeout=9) as place:
        with pytest.raises(errors.ArtifactError, match="within 9 s") as caught:
            await VERBS[verb](place.store)
    assert (caught.value.timed_out, caught.value.exit_code) == (True, -1)
    assert clock.current_time() < 9 + 9 + 1


@pytest.mark.parametrize(
    "printed", ["", "motd", "{}", "[]", "[1]", '{"data": "?", "size": 1, "sha256": ""}', '{"data": 5}', '[{"name": 1}]']
)
async def test_other_output_than_expected_is_an_error(tmp_path: Path, clock: MockClock, printed: str) -> None:
    async with open_place(tmp_path, commands=lambda _: (printed, "", 0)) as place:
        with pytest.raises(errors.ArtifactError, match="something else"):
            await place.store.fetch("a")
        if printed not in ("[]", "{}"):
            with pytest.raises(errors.ArtifactError, match="something else"):
                await place.store.list()


async def test_the_endpoint_and_the_time_are_the_stores(tmp_path: Path, clock: MockClock) -> None:
    async with open_place(tmp_path, qualifier="DEFAULT", timeout=7) as place:
        await place.store.list()
        (request,) = place.simulator.requests
        assert (request.query["qualifier"], request.body["timeout"]) == (("DEFAULT",), 7)


async def test_what_dead_processes_left_behind_is_removed_a_day_later(tmp_path: Path, clock: MockClock) -> None:
    async with open_place(tmp_path) as place:
        for name, days in {".put-dead": 2, ".put-alive": 0.5, "folder": 9}.items():
            (place.folder / name).mkdir(parents=True)
            (place.folder / name / "0").touch()
            os.utime(place.folder / name, (time.time() - days * DAY,) * 2)
        place.write(".put-file", b"an artifact all the same")
        os.utime(place.folder / ".put-file", (time.time() - 9 * DAY,) * 2)
        await place.store.put("a", b"x")
        assert place.names == [".put-alive", ".put-file", "a", "folder"]
