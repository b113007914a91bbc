"""The public simulator of Amazon Bedrock AgentCore Harness: a real HTTP server that keeps the service's contract.

It is held to the contract, not to this library's client: boto3 drives it unchanged, both planes at one address. This
file offers the test its view; who is admitted is the gate's, what the API does is in the files of its endpoints.

Where the service's behaviour is not documented the simulator takes one side and says so: a user's text during a
hand-off is refused within the stream, a second invocation of a session that runs is refused with 409, an endpoint that
is not ready with 400, and deletion ends in 404. The files of the parts say what else they have chosen; the results of
one response are shown together once all are there, and a client token is remembered as long as the simulator lives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast, get_args

import trio

from .._errors import ConfigurationError
from ._agentcore_api import ApiCall, ServiceRefusal
from ._agentcore_commands import CommandFunction
from ._agentcore_gate import CONTRACT, Gate
from ._agentcore_harnesses import create_harness
from ._agentcore_resume import Contract
from ._agentcore_round import HandOffOrder
from ._agentcore_session import RuntimeSession
from ._agentcore_shapes import read_input
from ._agentcore_state import SessionOptions
from ._agentcore_turn import USAGE_NAMES
from ._agentcore_world import FALLIBLE, AgentCoreWorld, checked_times
from ._background import open_background
from ._clients import connect_agentcore_client
from ._fault_plan import FaultPlan
from ._frames import encode
from ._given import require_a, require_callable, require_one_of, require_text
from ._http_messages import RecordedRequest, Request
from ._http_server import HttpServer, TransportName, open_http_server, require_transport
from ._script import Script, compile_script
from ._sigv4 import SimulatedCredentials

if TYPE_CHECKING:
    from ..agentcore import AgentCoreClient

__all__ = ["AgentCoreSimulator", "SimulatedRuntimeSession", "open_agentcore_simulator"]

Json: TypeAlias = dict[str, Any]

CREDENTIALS = SimulatedCredentials("ASIASIMULATEDKEY0000", "simulated-secret-key", "simulated-session-token")
USAGE = {
    "input_tokens": 932,
    "output_tokens": 24,
    "cache_read_input_tokens": 0,
    "cache_creation_input_tokens": 0,
}
HARNESS: Json = {
    "harnessName": "simulated_harness",
    "executionRoleArn": "arn:aws:iam::123456789012:role/SimulatedHarness",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRuntimeSession:
    """A look at a runtime session from inside the simulator, at one moment.

    Attributes:
        messages: The conversation its microVM holds; empty once that is gone.
        pending: The ids of the calls that are handed off and unanswered.
        invocations: How many invocations it took, refused ones within the stream included.
        running: Whether its agent works for one now, heard by a client or not.
        stopped: Whether it was stopped and not used since.
        actor_id: The actor that was named last.
        events: What its streams were given to carry, in order: each event with its ``"type"``, and its members under
            that; the latest 100,000. Whether anybody heard them is not told, and exceptions are no events.
    """

    messages: tuple[Json, ...]
    pending: tuple[str, ...]
    invocations: int
    running: bool
    stopped: bool
    actor_id: str | None
    events: tuple[Json, ...]


class AgentCoreSimulator:
    """A running simulator; see :func:`open_agentcore_simulator`.

    Attributes:
        base_url: Where both planes are reached.
        region: The region it is in.
        harness_arn: A harness that is there and ready from the start.
        harness_id: Its id.
        faults: The fault plan it plays.
    """

    def __init__(self, server: HttpServer, world: AgentCoreWorld, gate: Gate, harness: Mapping[str, Any]) -> None:
        self._server = server
        self._world = world
        self._gate = gate
        self.base_url = server.base_url
        self.region = world.region
        self.faults = gate.faults
        self.harness_id = _create(world, {**HARNESS, **harness})
        self.harness_arn = world.harness(self.harness_id).arn

    @property
    def credentials(self) -> SimulatedCredentials:
        """What it accepts now: ``access_key``, ``secret_key`` and ``token``."""
        return self._gate.credentials

    def rotate_credentials(self) -> None:
        """Accept new credentials from now on; the old ones have expired, open streams stay open."""
        self._gate.rotate_credentials()

    @property
    def open_streams(self) -> int:
        """How many event streams, of invocations and commands, are being read by clients now."""
        return self._gate.open_streams

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The wire log: every request read so far, in order of arrival, credentials removed."""
        return self._server.requests

    async def open_memory_stream(self, host: str, port: int) -> trio.abc.Stream:
        """Connect in memory: returns the client's end. Waits for one scheduling round."""
        return await self._server.open_memory_stream(host, port)

    def client(self, **options: Any) -> AgentCoreClient:
        """An AgentCore client that talks to this simulator, whichever the transport; ``options`` are the client's own.

        Its credentials are always good, unless ``credentials=`` says otherwise.
        """
        given = {"region": self.region, "credentials": self._gate.botocore_credentials(), **options}
        return connect_agentcore_client(self._server, given)

    def session(self, runtime_session_id: str) -> SimulatedRuntimeSession:
        """A look at a runtime session; to be taken from inside of trio, for it depends on the time.

        Raises:
            KeyError: No request ever named it.
        """
        session = self._session(runtime_session_id)
        session.expire()
        return SimulatedRuntimeSession(
            messages=() if session.vm is None else tuple(dict(message) for message in session.vm.messages),
            pending=session.pending,
            invocations=session.invocations,
            running=session.invocation is not None,
            stopped=session.stopped,
            actor_id=session.actor_id,
            events=tuple(session.sent),
        )

    async def wait_idle(self, runtime_session_id: str) -> SimulatedRuntimeSession:
        """Wait until a session's agent does not work, and look at it then."""
        await self._session(runtime_session_id).wait_resting()
        return self.session(runtime_session_id)

    def stop_session(self, runtime_session_id: str) -> None:
        """End a session's microVM, as if the service gave it up: its stream ends, its conversation is gone."""
        self._session(runtime_session_id).stop()

    def fail_next(self, operation: str, reason: str = "simulated failure") -> None:
        """Let the next change that this operation begins fail: it is accepted, and its resource ends ``*_FAILED``.

        Args:
            operation: Such as ``"create_harness"`` or ``"update_harness_endpoint"``.
            reason: The resource's ``failureReason``.

        Raises:
            ConfigurationError: The operation begins no such change.
        """
        require_one_of("fail_next: operation", operation, FALLIBLE)
        require_text("fail_next: reason", reason)
        self._world.failures[operation].append(reason)

    def _session(self, runtime_session_id: str) -> RuntimeSession:
        session = self._world.find_session(runtime_session_id)
        if session is None:
            raise KeyError(runtime_session_id)
        return session


@asynccontextmanager
async def open_agentcore_simulator(
    script: Script = None,
    *,
    transport: TransportName = "loopback",
    faults: FaultPlan | None = None,
    region: str = "us-east-1",
    credentials: tuple[str, str, str | None] | None = None,
    resume: Contract = "both",
    hand_off: HandOffOrder = "together",
    lifecycle: Mapping[str, float] | None = None,
    harness: Mapping[str, Any] | None = None,
    commands: CommandFunction | None = None,
    usage: Mapping[str, int] | None = None,
) -> AsyncIterator[AgentCoreSimulator]:
    """Run a simulator until the block is left.

    Args:
        script: What the agent does: a list of steps (one turn), a list of such lists (one per turn), or an async
            function of the turn. Every session plays it from its start; further turns echo the message. A turn goes on
            over the invocations that bring its tool results. Where the harness or the invocation declares tools, a
            call of an inline function that is not among them is a defect of the script; where neither does, it may
            call what it likes.
        transport: ``"loopback"`` for a real socket, ``"memory"`` for in-memory streams and virtual time.
        faults: What goes wrong, and when; operations are named as boto3 names them, such as ``"invoke_harness"``.
        region: The region it is in, which signatures must name.
        credentials: Access key, secret key and session token that it accepts; a token of ``None`` is none.
        resume: How the answer to a hand-off must look: ``"documented"`` (the harness holds the call, only the result
            counts), ``"echo"`` (the older contract: the assistant's message comes back with the results), or either.
        hand_off: Whether the inline calls of one response are handed off ``"together"`` or ``"one_by_one"``.
        lifecycle: Seconds until a change is done: ``"create"`` (a harness), ``"visible"`` (its DEFAULT endpoint can
            be seen), ``"endpoint"`` (one is ready), ``"update"``, ``"delete"``. None of them takes time by default.
        harness: Members of the CreateHarness request of the harness that is there from the start, such as ``tools``.
        commands: What a command gives: a function of its text, async or not, to stdout, stderr and exit code. Without
            it a few are built in: ``echo``, ``cat``, ``sleep``, ``exit``, ``true`` and ``false``, and ``> file``.
        usage: Tokens each model request reports, as ``spend`` names them.

    Raises:
        ConfigurationError: The script is not one, an option is none, ``harness=`` is no request that the service would
            take, a fault could never befall a request, the plan serves another simulator; or, on leaving, a
            :class:`CrashSession` came due and no session was bound.
        BaseExceptionGroup: On leaving, if the simulator or the script's function failed; holds the failures.
    """
    agent = compile_script(script)
    require_transport(transport)
    require_text("region=", region)
    require_one_of("resume=", resume, get_args(Contract))
    require_one_of("hand_off=", hand_off, get_args(HandOffOrder))
    if commands is not None:
        require_callable("commands=", commands, "a function of a command's text")
    for name in usage or {}:
        require_one_of("usage=: each name", name, USAGE_NAMES)
    plan = FaultPlan() if faults is None else faults
    require_a("faults=", plan, FaultPlan)
    times, keys = checked_times(lifecycle), _credentials(credentials)
    plan.serve(CONTRACT)
    options = SessionOptions(agent=agent, usage={**USAGE, **(usage or {})}, contract=resume, order=hand_off)
    async with open_background() as background:
        world = AgentCoreWorld(region=region, background=background, options=options, times=times)
        gate = Gate(world, credentials=keys, faults=plan, commands=commands)
        async with open_http_server(gate.handle, transport=transport) as server:
            yield AgentCoreSimulator(server, world, gate, harness or {})
    plan.require_bound()


def _credentials(given: tuple[str, str, str | None] | None) -> SimulatedCredentials:
    if given is None:
        return CREDENTIALS
    if not isinstance(given, tuple) or len(given) != 3:
        raise ConfigurationError("credentials= must be an access key, a secret key and a session token or None")
    access_key, secret_key, token = given
    require_text("credentials=: the access key", access_key)
    if not isinstance(secret_key, str) or not secret_key or not (token is None or (isinstance(token, str) and token)):
        # Not shown: they are secret.
        raise ConfigurationError("credentials=: the secret key and the session token must be text that is not empty")
    return SimulatedCredentials(access_key, secret_key, token)


def _create(world: AgentCoreWorld, params: Json) -> str:
    """A harness that is ready at once."""
    try:
        request = Request(method="POST", path="", query={}, headers={}, body=encode(params))
        call = ApiCall(world=world, request=request, params=read_input("create_harness", request, ()))
        reply = create_harness(call)
    except (ServiceRefusal, TypeError) as refusal:
        raise ConfigurationError(f"harness=: {refusal}") from refusal
    shown = cast("Json", reply.body)["harness"]
    world.harness(shown["harnessId"]).settle(world.clock.now(), at_once=True)
    return str(shown["harnessId"])
