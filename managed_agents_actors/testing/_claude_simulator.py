"""The public simulator of Claude Managed Agents: a real HTTP server that keeps the provider's contract.

It is held to the contract, not to this library's client: the official SDK drives it unchanged. This file admits
requests, plays the fault plan and offers the test its view; what the API does is in the files of its endpoints.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import trio

from .._protocol.claude_events import KNOWN_TYPES
from .._protocol.codec import has_lone_surrogate
from . import _claude_agents, _claude_environments, _claude_events, _claude_resources, _claude_sessions
from ._api import Reply
from ._background import open_background
from ._claude_api import BETA, ApiCall, ApiRefusal, Route, refuse
from ._claude_faults import ClaudeFaultedRequest
from ._claude_inputs import CHECKS
from ._claude_world import ClaudeWorld
from ._clients import connect_client
from ._fault_actions import ThrowInStream
from ._fault_contract import Contract
from ._fault_plan import FaultPlan
from ._given import require_a, require_text
from ._http_messages import RecordedRequest, Request
from ._http_server import HttpServer, Responder, TransportName, open_http_server, require_transport
from ._script import Script, compile_script

if TYPE_CHECKING:
    from ..claude import ClaudeClient

__all__ = ["ClaudeSimulator", "SimulatedSession", "open_claude_simulator"]

Json: TypeAlias = dict[str, Any]

ROUTES: tuple[Route, ...] = (
    *_claude_events.ROUTES,
    *_claude_sessions.ROUTES,
    *_claude_agents.ROUTES,
    *_claude_environments.ROUTES,
    *_claude_resources.ROUTES,
)
CONTRACT = Contract(
    operations=frozenset(route.operation for route in ROUTES),
    streams=frozenset(route.operation for route in ROUTES if route.handler is None),
    listings=frozenset(route.operation for route in ROUTES if route.operation.startswith("list_")),
    of_session=frozenset(route.operation for route in ROUTES if route.path.startswith("/v1/sessions/{}")),
    sends={"send_events": frozenset(CHECKS)},
    events=KNOWN_TYPES,
    without={ThrowInStream: "its streams carry no exceptions: script fail(), or refuse a request"},
)
KNOWN_BETAS = frozenset(
    {
        BETA,
        "agent-memory-2026-07-22",
        "dreaming-2026-04-21",
        "files-api-2025-04-14",
        "mcp-tunnels-2026-06-22",
        "oauth-2025-04-20",
        "oidc-federation-2026-04-01",
        "skills-2025-10-02",
        "user-profiles-2026-08-18",
    }
)
# The API's limit for a JSON body.
MAX_JSON_BYTES = 32 * 1024 * 1024
USAGE = {
    "input_tokens": 120,
    "output_tokens": 24,
    "cache_read_input_tokens": 0,
    "cache_creation_input_tokens": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedSession:
    """A look at a session from inside the simulator, at one moment.

    Attributes:
        events: Its log in order, then what is queued.
        status: ``"idle"``, ``"running"``, ``"rescheduling"`` or ``"terminated"``.
        pending: The ids of the unanswered calls.
        open_streams: How many streams are attached.
    """

    events: tuple[Json, ...]
    status: str
    pending: tuple[str, ...]
    open_streams: int


class ClaudeSimulator:
    """A running simulator; see :func:`open_claude_simulator`.

    Attributes:
        base_url: Where it is reached.
        agent_id: An agent that is there from the start.
        environment_id: An environment that is there from the start.
        faults: The fault plan it plays.
    """

    def __init__(self, server: HttpServer, world: ClaudeWorld, gate: _Gate) -> None:
        self._server = server
        self._world = world
        self._gate = gate
        self.base_url = server.base_url
        self.faults = gate.faults
        self.agent_id = _create(
            world, _claude_agents.create_agent, {"name": "Simulated agent", "model": "claude-opus-5-5"}
        )
        self.environment_id = _create(world, _claude_environments.create_environment, {"name": "simulated-environment"})

    @property
    def api_key(self) -> str:
        """The key it accepts now."""
        return self._gate.api_key

    def rotate_key(self, key: str) -> None:
        """Accept this key from now on, and no other; open streams stay open."""
        self._gate.rotate_key(key)

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The wire log: every request read so far, in order of arrival, credentials removed."""
        return self._server.requests

    async def open_memory_stream(self, host: str, port: int) -> trio.abc.Stream:
        """Connect in memory: returns the client's end. Waits for one scheduling round."""
        return await self._server.open_memory_stream(host, port)

    def client(self, **options: Any) -> ClaudeClient:
        """A Claude client that talks to this simulator, whichever the transport; ``options`` are the client's own."""
        return connect_client(self._server, {"api_key": self.api_key, **options})

    def session(self, session_id: str) -> SimulatedSession:
        """A look at a session.

        Raises:
            KeyError: There is no such session.
        """
        engine = self._world.sessions[session_id].engine
        return SimulatedSession(
            events=tuple(dict(event) for event in engine.log.rows()),
            status=engine.log.status,
            pending=tuple(engine.pending),
            open_streams=len(engine.log.feeds()),
        )

    async def wait_idle(self, session_id: str) -> SimulatedSession:
        """Wait until a session is not running, and look at it then."""
        await self._world.sessions[session_id].engine.log.wait_not_running()
        return self.session(session_id)

    def add_output_file(
        self,
        session_id: str,
        filename: str,
        content: bytes,
        *,
        mime_type: str = "text/plain",
        created_at: str | None = None,
    ) -> str:
        """Let a session have produced a file, which can be listed by scope and downloaded. Returns its id.

        Args:
            session_id: The session.
            filename: The file's name.
            content: Its content.
            mime_type: Its type.
            created_at: When it was made, in any form; by default now. The listing's order is that of the calls.
        """
        self._world.session(session_id)
        stored = _claude_resources.store_file(
            self._world, filename, content, mime_type=mime_type, session_id=session_id
        )
        if created_at is not None:
            stored["created_at"] = created_at
        return str(stored["id"])

    async def emit(self, session_id: str, event: Mapping[str, Any]) -> None:
        """Let the server send this event now; id and time are added if it has none. Waits for one scheduling round."""
        self._world.sessions[session_id].engine.log.emit(event)
        await trio.lowlevel.checkpoint()

    def drop_streams(self, session_id: str) -> None:
        """Tear the session's open streams, after what is queued on them."""
        for feed in self._world.sessions[session_id].engine.log.feeds():
            feed.drop()

    def end_streams(self, session_id: str) -> None:
        """End the session's open streams cleanly, after what is queued on them."""
        for feed in self._world.sessions[session_id].engine.log.feeds():
            feed.end()

    def stall_streams(self, session_id: str) -> None:
        """Let the session's open streams fall silent, pings included."""
        for feed in self._world.sessions[session_id].engine.log.feeds():
            feed.stall()


class _Gate:
    """Admits each request in the hosted API's order of refusals, and carries its answer through the fault plan."""

    def __init__(self, world: ClaudeWorld, *, api_key: str, faults: FaultPlan) -> None:
        self.api_key = api_key
        self.faults = faults
        self._world = world

    async def handle(self, request: Request, respond: Responder) -> None:
        """Answer one request."""
        request_id = self._world.ids.new("req")
        headers = {"request-id": request_id}
        try:
            route, call = self._admit(request)
            faulted = ClaudeFaultedRequest(self.faults, route, call)
            if await faulted.suffer(respond, headers, self.rotate_key):
                return
            # The key may be another one by now.
            self._authorise(request, beta=route.beta)
            if route.handler is None:
                await self._stream(call, faulted, respond, headers)
                return
            reply = route.handler(call)
        except ApiRefusal as refusal:
            await respond.json(refusal.status, refusal.body(request_id), headers)
            return
        if not await faulted.suffer_after(respond):
            await faulted.answer(reply, respond, headers)

    def rotate_key(self, key: str) -> None:
        """Accept this key from now on, and no other."""
        self.api_key = key

    def _admit(self, request: Request) -> tuple[Route, ApiCall]:
        for route in ROUTES:
            match = route.pattern.fullmatch(request.path)
            if match is not None and route.method == request.method:
                break
        else:
            raise refuse(f"{request.method} {request.path} does not exist", status=404)
        self._authorise(request, beta=route.beta)
        body: Any = {}
        if request.headers.get("content-type", "").startswith("application/json"):
            body = _decode(request)
        return route, ApiCall(world=self._world, request=request, ids=match.groups(), body=body)

    def _authorise(self, request: Request, *, beta: bool) -> None:
        headers = request.headers
        credentials = {headers.get("x-api-key"), headers.get("authorization", "").removeprefix("Bearer ")}
        if self.api_key not in credentials:
            raise refuse("invalid credentials: send x-api-key or Authorization: Bearer", status=401)
        betas = {name.strip() for name in headers.get("anthropic-beta", "").split(",")} - {""}
        if beta and BETA not in betas:
            raise refuse(f"not found: this endpoint needs the header anthropic-beta: {BETA}", status=404)
        unknown = betas - KNOWN_BETAS
        if unknown:
            raise refuse(f"anthropic-beta: unexpected values {sorted(unknown)}")
        if "anthropic-version" not in headers:
            raise refuse("anthropic-version: header is required")

    async def _stream(
        self, call: ApiCall, faulted: ClaudeFaultedRequest, respond: Responder, headers: dict[str, str]
    ) -> None:
        feed = _claude_events.open_feed(call, faulted.on_stream)
        log = self._world.session(call.ids[0]).engine.log
        # Attached before the head is sent: whoever has seen the head misses nothing from then on.
        log.attach(feed)
        try:
            if await faulted.suffer_after(respond):
                return
            head = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **headers}
            await feed.pump(await respond.start_stream(head))
        finally:
            log.detach(feed)


@asynccontextmanager
async def open_claude_simulator(
    script: Script = None,
    *,
    transport: TransportName = "loopback",
    faults: FaultPlan | None = None,
    api_key: str = "test-key",
    usage: Mapping[str, int] | None = None,
) -> AsyncIterator[ClaudeSimulator]:
    """Run a simulator until the block is left.

    Args:
        script: What the agent does: a list of steps (one turn), a list of such lists (one per turn), or an async
            function of the turn. Every session plays it from its start; further turns echo the message.
        transport: ``"loopback"`` for a real socket, ``"memory"`` for in-memory streams and virtual time.
        faults: What goes wrong, and when.
        api_key: The key it accepts, as ``x-api-key`` or as a bearer token.
        usage: Tokens each model request reports.

    Raises:
        ConfigurationError: The script is not one, a fault could never befall a request, the plan serves another
            simulator; or, on leaving, a :class:`CrashSession` came due and no session was bound to the plan.
        BaseExceptionGroup: On leaving, if the simulator or the script's function failed; holds the failures.
    """
    agent = compile_script(script)
    require_transport(transport)
    require_text("api_key=", api_key)
    plan = FaultPlan() if faults is None else faults
    require_a("faults=", plan, FaultPlan)
    plan.serve(CONTRACT)
    async with open_background() as background:
        world = ClaudeWorld(background=background, agent=agent, usage={**USAGE, **(usage or {})})
        gate = _Gate(world, api_key=api_key, faults=plan)
        async with open_http_server(gate.handle, transport=transport) as server:
            yield ClaudeSimulator(server, world, gate)
    plan.require_bound()


def _decode(request: Request) -> Json:
    if len(request.body) > MAX_JSON_BYTES:
        raise refuse("the request body is over 32 MB", status=413)
    try:
        body = request.json()
    except ValueError as exc:
        raise refuse("the request body is not valid JSON") from exc
    # As the hosted API (observed), whether the half pair came escaped or as bytes.
    if (b"\\u" in request.body or b"\xed" in request.body) and has_lone_surrogate(body):
        raise refuse("the request body is not valid JSON: no low surrogate in string")
    if body is not None and not isinstance(body, dict):
        raise refuse("the request body must be a JSON object")
    return body or {}


def _create(world: ClaudeWorld, handler: Callable[[ApiCall], Reply], body: Json) -> str:
    request = Request(method="POST", path="", query={}, headers={}, body=b"")
    reply = handler(ApiCall(world=world, request=request, ids=(), body=body))
    return str(cast("Json", reply.body)["id"])
