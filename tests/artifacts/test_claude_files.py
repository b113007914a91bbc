"""A Claude session's files: which of several is meant, what is sent, and what is taken back. Time is virtual."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from managed_agents_actors import _errors as errors
from managed_agents_actors.artifacts import Artifact, ClaudeFiles, _undo
from managed_agents_actors.claude import ClaudeClient
from managed_agents_actors.testing import (
    ClaudeSimulator,
    Delay,
    DelayAnswer,
    Fault,
    FaultPlan,
    LoseAnswer,
    RefuseWith,
    Request,
    Responder,
    Turn,
    open_claude_simulator,
    open_wire_server,
    run_in_virtual_time,
    write_output,
)

# Virtual seconds after which a test that waits for what never comes fails, instead of running for ever.
PATIENCE = 1_000.0


@dataclass
class Place:
    """A simulator with a session, and the store of its files."""

    simulator: ClaudeSimulator
    client: ClaudeClient
    session_id: str
    store: ClaudeFiles

    def add(self, name: str, content: bytes = b"x", **options: Any) -> str:
        """Let the session have produced a file."""
        return self.simulator.add_output_file(self.session_id, name, content, **options)

    async def tell(self, text: str) -> None:
        """Send a message, and wait until the agent has done its part."""
        content = [{"type": "text", "text": text}]
        await self.client.sessions.events.send(self.session_id, [{"type": "user.message", "content": content}])
        await self.simulator.wait_idle(self.session_id)

    async def uploads(self) -> list[str]:
        """The names of the files that belong to no session."""
        rows = await self.client.files.list_all()
        return [row["filename"] for row in rows if row["scope"] is None]

    async def mounts(self) -> list[str]:
        return [row["mount_path"] for row in await self.client.sessions.resources.list_all(self.session_id)]


@asynccontextmanager
async def open_place(*faults: Fault, script: Any = None, **options: Any) -> AsyncIterator[Place]:
    with trio.fail_after(PATIENCE):
        async with (
            open_claude_simulator(script, transport="memory", faults=FaultPlan(faults)) as simulator,
            simulator.client(max_retries=0) as client,
        ):
            new = {"agent": simulator.agent_id, "environment_id": simulator.environment_id}
            session_id = (await client.sessions.create(new))["id"]
            yield Place(simulator, client, session_id, ClaudeFiles(client, session_id, **options))


# --- what is there ----------------------------------------------------------------------------------------------------


async def test_what_the_agent_writes_is_listed_and_fetched(autojump_clock: MockClock) -> None:
    script = [[write_output("a.txt", b"first")], [write_output("a.txt", b"second"), write_output("b.txt", b"")]]
    async with open_place(script=script) as place:
        assert await place.store.list() == []
        await place.tell("go")
        assert await place.store.fetch("a.txt") == b"first"
        await place.tell("again")
        listed = await place.store.list()
        assert [(artifact.name, artifact.size) for artifact in listed] == [("b.txt", 0), ("a.txt", 6), ("a.txt", 5)]
        assert await place.store.fetch("a.txt") == b"second"
        json.dumps([[artifact.ref, artifact.created_at, dict(artifact.raw)] for artifact in listed])


async def test_only_the_sessions_own_files_are_there(autojump_clock: MockClock) -> None:
    async with open_place() as place:
        new = {"agent": place.simulator.agent_id, "environment_id": place.simulator.environment_id}
        other = (await place.client.sessions.create(new))["id"]
        place.simulator.add_output_file(other, "theirs", b"x")
        await place.client.files.upload(b"x", filename="nobodys")
        mine = place.add("mine", content=b"12")
        (only,) = await place.store.list()
        assert only == Artifact(name="mine", size=2, ref=mine, created_at=only.created_at, raw=only.raw)
        for name in ("theirs", "nobodys"):
            with pytest.raises(errors.ArtifactNotFound, match=name):
                await place.store.fetch(name)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("2026-01-01T10:00:00+02:00", "2026-01-01T09:00:00Z"),
        ("2026-01-01T09:00:00Z", "2026-01-01T09:00:00.000001Z"),
        ("2026-01-01T09:00:00.999Z", "2026-01-01T09:00:01Z"),
        ("2025-12-31T23:59:59-00:00", "2026-01-01"),
        ("yesterday", "0001-01-01T00:00:00Z"),
        ("", "1969-12-31T00:00:00Z"),
    ],
)
@pytest.mark.parametrize("turned", [False, True], ids=["older first", "newer first"])
async def test_the_newest_is_found_by_time_and_not_by_its_spelling(
    older: str, newer: str, turned: bool, autojump_clock: MockClock
) -> None:
    async with open_place() as place:
        for made in (newer, older) if turned else (older, newer):
            place.add("a", made.encode(), created_at=made)
        assert await place.store.fetch("a") == newer.encode()
        assert [artifact.created_at for artifact in await place.store.list()] == [newer, older]
        await place.store.delete("a")
        assert await place.store.fetch("a") == older.encode()
        await place.store.delete("a")
        with pytest.raises(errors.ArtifactNotFound):
            await place.store.delete("a")


async def test_what_was_put_is_passed_over_for_an_older_output_that_can_be_downloaded(
    autojump_clock: MockClock,
) -> None:
    async with open_place() as place:
        for content in (b"oldest", b"older"):
            place.add("a", content)
        for content in (b"put", b"put again"):
            put = await place.store.put("a", content)
        listed = await place.store.list()
        assert [artifact.raw["downloadable"] for artifact in listed] == [False, False, True, True]
        assert await place.store.fetch("a") == b"older"
        place.add("a", b"newest")
        assert await place.store.fetch("a") == b"newest"
        await place.store.delete("a")
        # What is deleted is the newest, whether it can be downloaded or not.
        await place.store.delete("a")
        assert put.ref not in [artifact.ref for artifact in await place.store.list()]
        assert await place.store.fetch("a") == b"older"


async def test_of_files_that_cannot_be_downloaded_the_newest_is_asked_for_and_refused(
    autojump_clock: MockClock,
) -> None:
    async with open_place() as place:
        place.add("b")
        puts = [await place.store.put("a", b"x") for _ in range(2)]
        with pytest.raises(errors.InvalidRequestError, match="platform produced"):
            await place.store.fetch("a")
        assert place.simulator.requests[-1].path == f"/v1/files/{puts[-1].ref}/content"


@pytest.mark.parametrize("told", [{}, {"downloadable": None}, {"downloadable": True}], ids=str)
async def test_only_a_file_that_is_said_to_be_kept_back_is_passed_over(
    told: dict[str, Any], autojump_clock: MockClock
) -> None:
    rows = [
        {"id": "file_old", "filename": "a", "created_at": "2026-01-01T00:00:00Z", "downloadable": True},
        {"id": "file_new", "filename": "a", "created_at": "2026-01-02T00:00:00Z", **told},
    ]

    async def answer(request: Request, respond: Responder) -> None:
        if request.path.endswith("/content"):
            await respond.bytes(200, request.path.split("/")[3].encode(), {})
        else:
            await respond.json(200, {"data": rows}, {})

    async with open_wire_server(answer) as server, server.client() as client:
        assert await ClaudeFiles(client, "sesn_1").fetch("a") == b"file_new"


async def test_a_file_without_data_or_names_is_a_protocol_error(autojump_clock: MockClock) -> None:
    answers: list[Any] = [
        {},
        {"data": "x"},
        {"data": [{"id": "f"}]},
        {"data": [{"filename": "a"}]},
        {"data": [{"id": 5, "filename": "a"}]},
    ]

    async def answer(request: Request, respond: Responder) -> None:
        await respond.json(200, answers[0], {})

    async with open_wire_server(answer) as server, server.client() as client:
        store = ClaudeFiles(client, "sesn_1")
        while answers:
            for act in (store.list, lambda: store.fetch("a"), lambda: store.delete("a")):
                with pytest.raises(errors.ProtocolError):
                    await act()
            answers.pop(0)


async def test_an_upload_without_an_id_is_a_protocol_error(autojump_clock: MockClock) -> None:
    async def answer(request: Request, respond: Responder) -> None:
        await respond.json(200, {"type": "file"}, {})

    async with open_wire_server(answer) as server, server.client() as client:
        with pytest.raises(errors.ProtocolError, match="'id'") as caught:
            await ClaudeFiles(client, "sesn_1").put("a", b"x")
    assert caught.value.raw == b'{"type":"file"}'


async def test_a_file_that_goes_between_listing_and_fetching_is_not_found(autojump_clock: MockClock) -> None:
    async with open_place(Fault(on="download_file", action=RefuseWith(404))) as place:
        place.add("a")
        with pytest.raises(errors.ArtifactNotFound):
            await place.store.fetch("a")


async def test_a_deletion_that_finds_its_file_gone_has_what_it_wanted(autojump_clock: MockClock) -> None:
    async with open_place(Fault(on="delete_file", action=RefuseWith(404))) as place:
        place.add("a")
        await place.store.delete("a")
        assert [request.status for request in place.simulator.requests if request.method == "DELETE"] == [404]


# --- put --------------------------------------------------------------------------------------------------------------


async def test_the_agent_finds_what_is_put(autojump_clock: MockClock) -> None:
    async def copy(turn: Turn) -> None:
        await turn.write_output("copy.bin", await turn.read_file(turn.text))

    async with open_place(script=copy) as place:
        put = await place.store.put("in.bin", b"\x00\xff")
        assert (put.name, put.size, put.raw["mount_path"]) == ("in.bin", 2, "/data/in.bin")
        assert [artifact.ref for artifact in await place.store.list()] == [put.ref]
        await place.tell("/data/in.bin")
        assert await place.store.fetch("copy.bin") == b"\x00\xff"
        with pytest.raises(errors.InvalidRequestError, match="platform produced"):
            await place.store.fetch("in.bin")
        await place.store.delete("in.bin")
        assert [artifact.name for artifact in await place.store.list()] == ["copy.bin"]


async def test_the_directory_of_what_is_put_can_be_chosen(autojump_clock: MockClock) -> None:
    async with open_place(mount_dir="/inputs/today//") as place:
        await place.store.put("a.csv", b"x")
        assert await place.mounts() == ["/inputs/today/a.csv"]


async def test_the_upload_stays_beside_the_sessions_copy(autojump_clock: MockClock) -> None:
    async with open_place() as place:
        await place.store.put("a", b"x")
        assert (await place.uploads(), len(await place.store.list())) == (["a"], 1)
        await place.store.delete("a")
        assert (await place.uploads(), await place.store.list()) == (["a"], [])


@pytest.mark.parametrize("seconds", [None, 3_600, 7_776_000])
async def test_when_the_upload_expires_is_sent_with_it(seconds: int | None, autojump_clock: MockClock) -> None:
    uploads: list[bytes] = []

    async def answer(request: Request, respond: Responder) -> None:
        if request.path == "/v1/files":
            uploads.append(request.body)
        await respond.json(200, {"id": "file_1"}, {})

    async with open_wire_server(answer) as server, server.client() as client:
        await ClaudeFiles(client, "sesn_1", upload_expires_in=seconds).put("a", b"x")
    (form,) = uploads
    field = b'name="expires_in_seconds"\r\n\r\n%d\r\n' % (seconds or 0)
    assert (b"expires_in_seconds" in form, field in form) == (seconds is not None,) * 2


@settings(max_examples=20)
@given(data=st.binary(max_size=300))
def test_any_bytes_go_to_the_agent_and_back(data: bytes) -> None:
    async def copy(turn: Turn) -> None:
        await turn.write_output("out.bin", await turn.read_file("/data/in.bin"))

    async def there_and_back() -> None:
        async with open_place(script=copy) as place:
            await place.store.put("in.bin", data)
            await place.tell("go")
            assert await place.store.fetch("out.bin") == data

    run_in_virtual_time(there_and_back)


@pytest.mark.parametrize("status", [400, 404, 429, 500])
async def test_an_upload_that_cannot_be_mounted_is_deleted(status: int, autojump_clock: MockClock) -> None:
    async with open_place(Fault(on="add_resource", action=RefuseWith(status))) as place:
        with pytest.raises(errors.APIError) as caught:
            await place.store.put("a", b"x")
        assert (caught.value.status, hasattr(caught.value, "__notes__")) == (status, False)
        assert (await place.uploads(), await place.mounts()) == ([], [])


async def test_an_upload_of_which_it_is_unknown_whether_it_was_mounted_is_deleted(autojump_clock: MockClock) -> None:
    async with open_place(Fault(on="add_resource", action=LoseAnswer())) as place:
        with pytest.raises(errors.TransportError):
            await place.store.put("a", b"x")
        assert await place.uploads() == []
        # The session has a copy of its own, of which nobody knew: it is whole.
        assert [artifact.name for artifact in await place.store.list()] == ["a"]


async def test_an_upload_is_deleted_when_its_mounting_is_cancelled(autojump_clock: MockClock) -> None:
    async with open_place(Fault(on="add_resource", action=Delay(10.0))) as place:
        with trio.move_on_after(3.0) as scope:
            await place.store.put("a", b"x")
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(3.0)
        assert await place.uploads() == []


async def test_a_deletion_that_fails_is_told_and_does_not_hide_the_error(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    faults = [
        Fault(on="add_resource", action=RefuseWith(400)),
        Fault(on="delete_file", action=RefuseWith(503)),
    ]
    async with open_place(*faults) as place:
        with pytest.raises(errors.InvalidRequestError) as caught:
            await place.store.put("a", b"x")
        assert await place.uploads() == ["a"]
    (note,) = caught.value.__notes__
    assert note.startswith("the upload file_")
    assert "could not be removed: ServerError: 503" in note
    assert "artifact_left_behind" in caplog.text


async def test_a_deletion_takes_no_longer_than_its_bound(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    faults = [
        Fault(on="add_resource", action=Delay(10.0)),
        Fault(on="delete_file", action=DelayAnswer(500.0)),
    ]
    async with open_place(*faults) as place:
        with trio.move_on_after(1.0) as scope:
            await place.store.put("a", b"x")
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(1.0 + _undo.UNDO_SECONDS)
    assert "artifact_left_behind" in caplog.text


async def test_an_upload_that_was_refused_leaves_nothing_to_delete(autojump_clock: MockClock) -> None:
    async with open_place(Fault(on="upload_file", action=RefuseWith(400))) as place:
        with pytest.raises(errors.InvalidRequestError):
            await place.store.put("a", b"x")
        assert [request.method for request in place.simulator.requests] == ["POST", "POST"]


# --- what is refused before anything is sent --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../../etc/passwd", "a/b", "-a", "a b", "a\n", "a\0", "ü", "n" * 256, None, 5], ids=ascii
)
async def test_a_hostile_name_is_not_put(name: Any, autojump_clock: MockClock) -> None:
    async with open_place() as place:
        before = len(place.simulator.requests)
        with pytest.raises(errors.ConfigurationError, match="name"):
            await place.store.put(name, b"x")
        with pytest.raises(errors.ConfigurationError, match="name"):
            ClaudeFiles.output_path(name)
        assert len(place.simulator.requests) == before


async def test_a_name_that_the_agent_chose_can_be_anything(autojump_clock: MockClock) -> None:
    async with open_place() as place:
        for name in ("my report (1).pdf", "-x", "..", "ü/ö\n", "n" * 300):
            place.add(name, name.encode())
            assert await place.store.fetch(name) == name.encode()
            await place.store.delete(name)
        assert await place.store.list() == []
        before = len(place.simulator.requests)
        bad: Any
        for bad in ("", None, 5, "\ud800"):
            for act in (place.store.fetch, place.store.delete):
                with pytest.raises(errors.ConfigurationError, match="name"):
                    await act(bad)
        assert len(place.simulator.requests) == before


async def test_content_that_is_no_bytes_is_not_put(autojump_clock: MockClock) -> None:
    content: Any
    async with open_place() as place:
        before = len(place.simulator.requests)
        for content in ("/etc/passwd", bytearray(b"x"), None):
            with pytest.raises(errors.ConfigurationError, match="bytes"):
                await place.store.put("a", content)
        assert len(place.simulator.requests) == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"client": None}, "ClaudeClient"),
        ({"session_id": ""}, "session_id"),
        ({"session_id": None}, "session_id"),
        ({"mount_dir": "data"}, "mount_dir"),
        ({"mount_dir": "/data/../etc"}, "mount_dir"),
        ({"mount_dir": None}, "mount_dir"),
        *(({"upload_expires_in": bad}, "3600 to 7776000") for bad in (0, 3_599, 7_776_001, 3_600.0, True, "3600")),
    ],
)
async def test_arguments_are_looked_at_first(change: dict[str, Any], told: str, autojump_clock: MockClock) -> None:
    async with open_place() as place:
        given = {"client": place.client, "session_id": place.session_id}
        with pytest.raises(errors.ConfigurationError, match=told):
            ClaudeFiles(**{**given, **change})
        assert repr(ClaudeFiles(**given)) == f"ClaudeFiles(session_id={place.session_id!r})"


# --- cancellation -----------------------------------------------------------------------------------------------------


class Alarm(trio.abc.Instrument):
    """Cancels a scope after so many scheduling steps of any task."""

    def __init__(self, steps: int, scope: trio.CancelScope) -> None:
        self._left = steps
        self._scope = scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._left == 0:
            self._scope.cancel()
        self._left -= 1


@pytest.mark.parametrize("verb", ["list", "fetch", "put", "delete"])
async def test_every_verb_can_be_cancelled_at_any_moment(verb: str, autojump_clock: MockClock) -> None:
    for steps in range(1_000):
        async with open_place() as place:
            place.add("a", b"old")
            acts = {
                "list": place.store.list,
                "fetch": lambda: place.store.fetch("a"),
                "put": lambda: place.store.put("b", b"new"),
                "delete": lambda: place.store.delete("a"),
            }
            with trio.CancelScope() as scope:
                alarm = Alarm(steps, scope)
                trio.lowlevel.add_instrument(alarm)
                try:
                    await acts[verb]()
                finally:
                    trio.lowlevel.remove_instrument(alarm)
            # Whatever was cut short, what is there is whole, and the store still works.
            if verb != "delete":
                assert await place.store.fetch("a") == b"old"
            if verb == "put" and await place.mounts() == []:
                uploaded = [r for r in place.simulator.requests if r.path == "/v1/files" and r.method == "POST"]
                answered = [r for r in place.simulator.requests if r.path.endswith("/resources") and r.method == "POST"]
                assert await place.uploads() == [] or (uploaded and not answered)
            if not scope.cancelled_caught:
                return
    raise AssertionError("it never came to its end")
