"""Admits each request to the simulated AgentCore: route, signature, model, faults; and carries its answer back.

The order of refusals is AWS's: who asks is looked at before what is asked for.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from . import _agentcore_endpoints, _agentcore_harnesses, _agentcore_invocations
from ._agentcore_api import ApiCall, Route, ServiceRefusal, invalid, refuse
from ._agentcore_commands import CommandFunction
from ._agentcore_faults import LISTED, SENT, AgentCoreFaultedRequest
from ._agentcore_invocations import STREAMED, OpenedStream, open_command, open_invocation
from ._agentcore_shapes import read_input
from ._agentcore_world import AgentCoreWorld
from ._api import Reply
from ._fault_actions import DeleteSession, RepeatEvents
from ._fault_contract import Contract
from ._fault_plan import FaultPlan
from ._http_messages import Request
from ._http_server import Responder
from ._sigv4 import SimulatedCredentials, UnsignedRequest, check_signature

__all__ = ["CONTRACT", "Gate"]

Json: TypeAlias = dict[str, Any]

# The signing name of both planes.
SERVICE = "bedrock-agentcore"
ROUTES: tuple[Route, ...] = (
    *_agentcore_invocations.ROUTES,
    *_agentcore_harnesses.ROUTES,
    *_agentcore_endpoints.ROUTES,
)
STREAMS = frozenset(route.operation for route in ROUTES if route.handler is None)
CONTRACT = Contract(
    operations=frozenset(route.operation for route in ROUTES),
    streams=STREAMS,
    listings=frozenset(LISTED),
    of_session=STREAMS | {"stop_runtime_session"},
    sends={"invoke_harness": SENT},
    events=STREAMED,
    without={
        RepeatEvents: "no stream sends an event twice: each invocation has events of its own",
        DeleteSession: "a runtime session is no resource: TerminateSession ends its microVM",
    },
)


class Gate:
    """The simulator's handler.

    Attributes:
        credentials: What it accepts now.
        faults: The plan it plays.
        open_streams: How many event streams are being read by clients.
    """

    def __init__(
        self,
        world: AgentCoreWorld,
        *,
        credentials: SimulatedCredentials,
        faults: FaultPlan,
        commands: CommandFunction | None,
    ) -> None:
        self.credentials = credentials
        self.faults = faults
        self._world = world
        self._commands = commands
        self._expired: frozenset[str] = frozenset()
        self.open_streams = 0
        self._given: Any = None

    def botocore_credentials(self) -> Any:
        """The keys that are accepted, as botocore's fixed credentials, kept good: a client needs no thread for them."""
        from botocore.credentials import Credentials  # type: ignore[import-untyped]  # botocore has no types

        if self._given is None:
            keys = self.credentials
            self._given = Credentials(keys.access_key, keys.secret_key, keys.token)
        return self._given

    def _renew_given(self) -> None:
        if self._given is not None:
            keys, given = self.credentials, self._given
            given.access_key, given.secret_key, given.token = keys.access_key, keys.secret_key, keys.token

    async def handle(self, request: Request, respond: Responder) -> None:
        """Answer one request."""
        number = self._world.ids.new("request").removeprefix("request_").zfill(12)
        headers = {"x-amzn-requestid": f"00000000-0000-4000-8000-{number}"}
        try:
            await self._serve(request, respond, headers)
        except ServiceRefusal as refusal:
            # The service's front end adds where the error is from; a client has to cut that off.
            headers["x-amzn-errortype"] = f"{refusal.code}:http://internal.amazon.com/coral/com.amazon.coral.service/"
            await respond.json(refusal.status, refusal.body(), headers)

    def rotate_credentials(self, *, token: str | None = None) -> None:
        """Accept new keys from now on, or the same with another session token; the old ones have expired.

        Args:
            token: The new session token; without it everything is new.
        """
        old = self.credentials
        self._expired = (self._expired | {old.token or old.access_key}) - {token}
        if token is not None:
            self.credentials = replace(old, token=token)
            self._renew_given()
            return
        number = self._world.ids.new("keys").removeprefix("keys_").zfill(12)
        self.credentials = SimulatedCredentials(
            f"ASIASIM{number}", secrets.token_urlsafe(30), None if old.token is None else secrets.token_urlsafe(60)
        )
        self._renew_given()

    async def _serve(self, request: Request, respond: Responder, headers: Json) -> None:
        route, ids = _route(request)
        self._authorise(request)
        self._world.settle()
        call = ApiCall(world=self._world, request=request, params=read_input(route.operation, request, ids))
        faulted = AgentCoreFaultedRequest(self.faults, route, call)
        if await faulted.suffer(respond, headers, lambda key: self.rotate_credentials(token=key)):
            return
        # The credentials may be others by now, and time may have passed.
        self._authorise(request)
        self._world.settle()
        if route.handler is None:
            opened = self._open(route, call, faulted)
            faulted.undo = opened.undo
            faulted.is_committed = lambda: bool(opened.feed.carried("messageStop"))
            if not await faulted.suffer_after(respond):
                head = {"content-type": "application/vnd.amazon.eventstream", **opened.headers, **headers}
                self.open_streams += 1
                try:
                    await opened.feed.pump(await respond.start_stream(head))
                finally:
                    self.open_streams -= 1
            return
        reply = self._answer_once(route.operation, route.handler, call)
        if not await faulted.suffer_after(respond):
            await faulted.answer(reply, respond, headers)

    def _open(self, route: Route, call: ApiCall, faulted: AgentCoreFaultedRequest) -> OpenedStream:
        if route.operation == "invoke_harness":
            return open_invocation(call, faulted.on_stream)
        return open_command(call, faulted.on_stream, self._commands)

    def _authorise(self, request: Request) -> None:
        try:
            check_signature(
                request,
                self.credentials,
                region=self._world.region,
                service=SERVICE,
                expired=self._expired,
                now=datetime.now(UTC),
            )
        except UnsignedRequest as unsigned:
            raise refuse(403, str(unsigned), code=unsigned.code) from unsigned

    def _answer_once(self, operation: str, handler: Callable[[ApiCall], Reply], call: ApiCall) -> Reply:
        """The answer; under a client token that was used already, the same one again, whatever became of it since."""
        token = call.params.get("clientToken")
        if token is None:
            return handler(call)
        known = self._world.answers.get((operation, token))
        if known is None:
            known = self._world.answers[operation, token] = (call.params, handler(call))
        elif known[0] != call.params:
            raise invalid(
                "The client token was used with other parameters", reason="IdempotentParameterMismatchException"
            )
        return known[1]


def _route(request: Request) -> tuple[Route, tuple[str, ...]]:
    path = request.target.partition("?")[0]
    for route in ROUTES:
        match = route.pattern.fullmatch(path)
        if match is not None and route.method == request.method:
            return route, match.groups()
    raise refuse(404, f"{request.method} {request.path} is no operation", code="UnknownOperationException")
