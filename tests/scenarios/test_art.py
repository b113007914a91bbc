"""ART: what an agent stores, as the stores and the commands below them show it. Time is virtual."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.agentcore import CommandResult
from managed_agents_actors.artifacts import ClaudeFiles
from managed_agents_actors.testing import (
    ClaudeSimulator,
    EndStream,
    Fault,
    FaultPlan,
    RefuseWith,
    Request,
    Responder,
    StallStream,
    ThrowInStream,
    open_agentcore_simulator,
    open_claude_simulator,
    open_wire_server,
)

SESSION_ID = "session-of-the-scenarios-00000000000000"
COMMAND = "invoke_agent_runtime_command"


@dataclass
class Place:
    """A simulator with a session, and the store of its files."""

    simulator: ClaudeSimulator
    client: maa.ClaudeClient
    session_id: str
    store: ClaudeFiles

    def requests(self, method: str, path: str) -> list[Any]:
        return [request for request in self.simulator.requests if (request.method, request.path) == (method, path)]


@asynccontextmanager
async def open_place(*faults: Fault) -> AsyncIterator[Place]:
    async with (
        open_claude_simulator(transport="memory", faults=FaultPlan(faults)) as simulator,
        simulator.client(max_retries=0) as client,
    ):
        session = await client.sessions.create(agent=simulator.agent_id, environment_id=simulator.environment_id)
        yield Place(simulator, client, session["id"], ClaudeFiles(client, session["id"]))


# --- ART-01 -----------------------------------------------------------------------------------------------------------


async def test_art_01_the_listing_is_scoped_and_shows_duplicates(autojump_clock: MockClock) -> None:
    async with open_place() as place:
        first = place.simulator.add_output_file(place.session_id, "report.csv", b"1")
        second = place.simulator.add_output_file(place.session_id, "report.csv", b"22")
        await place.client.files.upload(b"333", filename="report.csv")
        listed = await place.store.list()
        assert [(artifact.name, artifact.size, artifact.ref) for artifact in listed] == [
            ("report.csv", 2, second),
            ("report.csv", 1, first),
        ]
        (request,) = place.requests("GET", "/v1/files")
        assert request.query == {"scope_id": (place.session_id,)}
        assert request.headers["anthropic-beta"] == "managed-agents-2026-04-01"


async def test_art_01_fetch_and_delete_take_the_newest_by_time(autojump_clock: MockClock) -> None:
    async with open_place() as place:
        # As text the first is the later one.
        for made, content in {"2026-03-01T10:30:00+02:00": b"older", "2026-03-01T09:00:00Z": b"newer"}.items():
            place.simulator.add_output_file(place.session_id, "report.csv", content, created_at=made)
        assert await place.store.fetch("report.csv") == b"newer"
        await place.store.delete("report.csv")
        (left,) = await place.store.list()
        assert left.created_at == "2026-03-01T10:30:00+02:00"
        assert await place.store.fetch("report.csv") == b"older"


async def test_art_01_a_name_that_is_not_there_is_not_found(autojump_clock: MockClock) -> None:
    async with open_place() as place:
        place.simulator.add_output_file(place.session_id, "report.csv", b"1")
        for act in (place.store.fetch, place.store.delete):
            with pytest.raises(maa.ArtifactNotFound, match=r"report\.cs'"):
                await act("report.cs")
        assert place.requests("DELETE", "/v1/files") == []
        assert len(await place.store.list()) == 1


async def test_art_01_a_body_without_data_is_a_typed_error(autojump_clock: MockClock) -> None:
    async def answer(request: Request, respond: Responder) -> None:
        await respond.json(200, {"files": []}, {})

    async with open_wire_server(answer) as server, server.client() as client:
        store = ClaudeFiles(client, "sesn_1")
        for act in (store.list, lambda: store.fetch("a"), lambda: store.delete("a")):
            with pytest.raises(maa.ProtocolError, match=r'"data".*files'):
                await act()


def test_art_01_the_agent_is_told_where_to_write() -> None:
    assert ClaudeFiles.OUTPUTS_DIR == "/mnt/session/outputs"
    assert ClaudeFiles.output_path("report.csv") == "/mnt/session/outputs/report.csv"


# --- ART-02 -----------------------------------------------------------------------------------------------------------


async def test_art_02_the_target_may_be_on_the_third_page_of_45_files(autojump_clock: MockClock) -> None:
    async with open_place() as place:
        # The listing goes from the last to the first: of 45 rows, this one is the 43rd.
        for number in range(45):
            name, content = ("target", b"found") if number == 2 else (f"file-{number}", b"x")
            place.simulator.add_output_file(place.session_id, name, content)
        assert len(await place.store.list()) == 45
        assert len(place.requests("GET", "/v1/files")) == 3
        (third,) = [r for r in place.requests("GET", "/v1/files") if "page" in r.query][1:]
        assert third.query["scope_id"] == (place.session_id,)
        assert await place.store.fetch("target") == b"found"
        await place.store.delete("target")
        assert len(await place.store.list()) == 44
        with pytest.raises(maa.ArtifactNotFound):
            await place.store.fetch("target")


async def test_art_02_the_newest_may_be_on_the_last_page(autojump_clock: MockClock) -> None:
    async with open_place() as place:
        for number in range(45):
            name = "target" if number in (0, 44) else f"file-{number}"
            made = "2027-01-01T00:00:00Z" if number == 0 else "2026-01-01T00:00:00Z"
            place.simulator.add_output_file(place.session_id, name, str(number).encode(), created_at=made)
        assert await place.store.fetch("target") == b"0"
        await place.store.delete("target")
        assert await place.store.fetch("target") == b"44"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
async def test_art_02_of_equal_times_one_is_chosen_whatever_the_order_of_the_listing(
    order: tuple[int, ...], autojump_clock: MockClock
) -> None:
    rows = [{"id": f"file_{n}", "filename": "a", "created_at": "2026-01-01T00:00:00Z"} for n in range(3)]
    gone: set[str] = set()

    async def answer(request: Request, respond: Responder) -> None:
        if request.method == "DELETE":
            gone.add(request.path.rpartition("/")[2])
            await respond.json(200, {}, {})
        elif request.path.endswith("/content"):
            await respond.bytes(200, request.path.split("/")[3].encode(), {})
        else:
            await respond.json(200, {"data": [rows[n] for n in order if rows[n]["id"] not in gone]}, {})

    async with open_wire_server(answer) as server, server.client() as client:
        store = ClaudeFiles(client, "sesn_1")
        found = []
        for _ in range(3):
            found.append(await store.fetch("a"))
            await store.delete("a")
    assert found == [b"file_2", b"file_1", b"file_0"]


# --- ART-03 -----------------------------------------------------------------------------------------------------------


async def test_art_03_an_upload_that_cannot_be_attached_is_deleted(autojump_clock: MockClock) -> None:
    async with open_place(Fault(on="add_resource", action=RefuseWith(400))) as place:
        with pytest.raises(maa.InvalidRequestError) as caught:
            await place.store.put("report.csv", b"1")
        assert not hasattr(caught.value, "__notes__")
        assert await place.client.files.list_all() == []


async def test_art_03_an_upload_that_cannot_be_deleted_either_is_reported(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    faults = [Fault(on="add_resource", action=RefuseWith(400)), Fault(on="delete_file", action=RefuseWith(500))]
    async with open_place(*faults) as place:
        with pytest.raises(maa.InvalidRequestError) as caught:
            await place.store.put("report.csv", b"1")
        (left,) = await place.client.files.list_all()
        assert left["id"] in caught.value.__notes__[0]
    assert "artifact_left_behind" in caplog.text


async def test_art_03_a_name_that_leads_elsewhere_is_refused(autojump_clock: MockClock) -> None:
    async with open_place() as place:
        before = len(place.simulator.requests)
        for name in ("../secrets", "a/../../b", "..", "/etc/passwd"):
            with pytest.raises(maa.ConfigurationError, match="name"):
                await place.store.put(name, b"1")
        assert len(place.simulator.requests) == before


async def test_art_03_uploads_are_forms_and_downloads_are_bytes(autojump_clock: MockClock) -> None:
    seen: dict[str, Request] = {}
    row = {"id": "file_1", "filename": "report.csv", "created_at": "2026-01-01T00:00:00Z"}

    async def answer(request: Request, respond: Responder) -> None:
        seen[f"{request.method} {request.path}"] = request
        if request.path.endswith("/content"):
            await respond.bytes(200, b"\x00\xff", {"content-type": "text/csv"})
        else:
            await respond.json(200, {**row, "data": [row]}, {})

    async with open_wire_server(answer) as server, server.client(files_beta="files-api-2025-04-14") as client:
        store = ClaudeFiles(client, "sesn_1")
        await store.put("report.csv", b"a,b\r\n")
        assert await store.fetch("report.csv") == b"\x00\xff"
    upload, download = seen["POST /v1/files"], seen["GET /v1/files/file_1/content"]
    kind, _, boundary = upload.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/form-data"
    assert (
        upload.body
        == (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="report.csv"\r\n'
            f"Content-Type: text/csv\r\n\r\na,b\r\n\r\n--{boundary}--\r\n"
        ).encode()
    )
    betas = download.headers["anthropic-beta"].split(",")
    assert betas == ["files-api-2025-04-14", "managed-agents-2026-04-01"]
    attached = seen["POST /v1/sessions/sesn_1/resources"].json()
    assert attached == {"type": "file", "file_id": "file_1", "mount_path": "/data/report.csv"}


# --- ART-05 -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_shell(*faults: Fault, commands: Any = None) -> AsyncIterator[tuple[maa.AgentCoreClient, str]]:
    async with (
        open_agentcore_simulator(transport="memory", faults=FaultPlan(faults), commands=commands) as simulator,
        simulator.client() as client,
    ):
        yield client, simulator.harness_arn


async def test_art_05_output_comes_in_order(autojump_clock: MockClock) -> None:
    told: list[tuple[str, str]] = []
    outputs = ("1\n2\n3\n", "a\nb\n", 0)
    async with open_shell(commands=lambda _: outputs) as (client, arn):
        result = await client.run_command(arn, SESSION_ID, "make", on_output=lambda *piece: told.append(piece))
    assert result == CommandResult(stdout="1\n2\n3\n", stderr="a\nb\n", exit_code=0, status="COMPLETED")
    assert told == [("stdout", "1\n"), ("stderr", "a\n"), ("stdout", "2\n"), ("stderr", "b\n"), ("stdout", "3\n")]


async def test_art_05_an_exit_status_is_a_result(autojump_clock: MockClock) -> None:
    async with open_shell() as (client, arn):
        result = await client.run_command(arn, SESSION_ID, "exit 7")
        assert (result.exit_code, result.status) == (7, "COMPLETED")
        assert (await client.run_command(arn, SESSION_ID, "true")).exit_code == 0


async def test_art_05_a_command_that_takes_too_long_is_timed_out(autojump_clock: MockClock) -> None:
    async with open_shell() as (client, arn):
        began = trio.current_time()
        result = await client.run_command(arn, SESSION_ID, "sleep 100", timeout=5)
        assert (result.exit_code, result.status) == (-1, "TIMED_OUT")
        assert trio.current_time() - began == pytest.approx(5)


async def test_art_05_a_stream_that_stalls_is_given_up(autojump_clock: MockClock) -> None:
    async with open_shell(Fault(on=COMMAND, action=StallStream(after_events=1))) as (client, arn):
        began = trio.current_time()
        with pytest.raises(maa.StreamIdleTimeout):
            await client.run_command(arn, SESSION_ID, "echo x", timeout=5)
        assert 5 < trio.current_time() - began <= 5 + 60


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("throttlingException", maa.RateLimitError),
        ("internalServerException", maa.ServerError),
        ("accessDeniedException", maa.PermissionDeniedError),
        ("runtimeClientError", maa.APIError),
    ],
)
async def test_art_05_an_exception_in_the_stream_is_a_typed_error(
    kind: str, error: type[maa.APIError], autojump_clock: MockClock
) -> None:
    throwing = Fault(on=COMMAND, action=ThrowInStream(type=kind, message="so it is", after_events=1))
    async with open_shell(throwing) as (client, arn):
        with pytest.raises(error, match="so it is") as caught:
            await client.run_command(arn, SESSION_ID, "echo x")
        assert caught.value.type == kind


async def test_art_05_a_stream_without_its_stop_is_an_error(autojump_clock: MockClock) -> None:
    async with open_shell(Fault(on=COMMAND, action=EndStream(after_events=2))) as (client, arn):
        with pytest.raises(maa.TruncatedStream, match="exit code"):
            await client.run_command(arn, SESSION_ID, "echo x")
