"""What every call of a client shares: its settings, its two hosts, the way from parameters to an answer.

Groups of operations name an operation and its parameters; they never build a request or touch HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from .._http.checks import check_seconds
from .._http.errors import request_id_of, unusable
from .._http.exchange import Call, Exchange
from .._http.redaction import redacted
from ..telemetry import emit
from ._loading import LARGE_BYTES, Aws, loaded, run_in_thread
from ._secrets import secrets_in
from ._stream import CONTENT_TYPE, HarnessStream, check_is_stream

__all__ = ["Api", "Plane"]

Plane: TypeAlias = Literal["data", "control"]

# The service of each plane, as botocore names it.
_SERVICES: Final[Mapping[Plane, str]] = {"data": "bedrock-agentcore", "control": "bedrock-agentcore-control"}

# What a value costs to encode beside its text, in characters: a message is a dozen values and takes 28 µs.
VALUE_WEIGHT: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """One client's settings and its way to make calls. Times are in seconds.

    Attributes:
        exchanges: Send the calls, one for each plane.
        timeout: For a whole call that is no stream.
        idle_timeout: The longest silence of an event stream, its beginning included.
    """

    exchanges: Mapping[Plane, Exchange]
    timeout: float
    idle_timeout: float

    async def request(self, plane: Plane, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Make a call that is repeated where that helps: every such operation reads, or takes a client token.

        Raises:
            ConfigurationError: The parameters are not what the operation takes; nothing was sent.
            APIError: The service refused.
            ProtocolError: It accepted the call, but its answer has another form, or is empty where it must not be.
            TransportError: The exchange failed, or did not end in time.
        """
        aws = await loaded()
        call = await _call(aws, plane, operation, parameters, idempotent=True, timeout=self.timeout)
        answer = await self.exchanges[plane].answer(call, may_be_empty=aws.models.may_answer_nothing(operation))
        try:
            value = aws.models.answer(operation, answer.status, answer.headers, answer.data or b"{}")
        except ValueError as exc:
            raise unusable(
                f"{call} was accepted, but its answer is {exc}", answer.data, secrets=answer.secrets
            ) from exc
        return _showable(value, answer.secrets)

    @asynccontextmanager
    async def stream(
        self, operation: str, parameters: Mapping[str, Any], *, idle_timeout: float | None
    ) -> AsyncIterator[HarnessStream]:
        """Make a call that answers with events; entering waits for their beginning. It is never repeated.

        Raises:
            ConfigurationError: The parameters are not what the operation takes; nothing was sent.
            APIError: The service refused.
            TransportError: The exchange failed, or nothing was answered in time.
        """
        silence = self.idle_timeout if idle_timeout is None else idle_timeout
        check_seconds(idle_timeout=silence)
        call = await _call(
            await loaded(),
            "data",
            operation,
            parameters,
            headers={"accept": CONTENT_TYPE},
            retry=False,
            own_connection=True,
            silence=silence,
            timeout=max(self.timeout, silence),
        )
        async with aclosing(await self.exchanges["data"].open(call)) as incoming:
            await check_is_stream(incoming)
            session_id = parameters.get("runtimeSessionId")
            about = {} if session_id is None else {"session_id": session_id}
            request_id = request_id_of(incoming.headers, incoming.secrets)
            emit("managed_agents.stream.connected", metadata={**about, "request_id": request_id})
            stream = HarnessStream(incoming, incoming.headers, about)
            try:
                yield stream
            finally:
                stream.close()


def _showable(answer: dict[str, Any], secrets: Sequence[str]) -> dict[str, Any]:
    """Take the secrets out of what an answer says of a failure, which goes into errors; all else stays as it is."""
    for row in answer.values():
        if isinstance(row, dict) and "failureReason" in row:
            row["failureReason"] = redacted(row["failureReason"], secrets)
    return answer


async def _call(aws: Aws, plane: Plane, operation: str, parameters: Mapping[str, Any], **options: Any) -> Call:
    """Describe a call; what is large is encoded in a thread."""
    encode = aws.models.request
    parts = (
        await run_in_thread(encode, operation, parameters) if _is_large(parameters) else encode(operation, parameters)
    )
    headers = {"user-agent": "managed-agents-actors", **options.pop("headers", {}), **parts.headers}
    return Call(
        method=parts.method,
        path=parts.path,
        query=parts.query,
        headers=headers,
        body=parts.body,
        secrets=secrets_in(parameters),
        labels={"operation": operation, "service": _SERVICES[plane]},
        **options,
    )


def _is_large(parameters: Mapping[str, Any]) -> bool:
    """Whether encoding is worth a thread; looks no further than it must."""
    weight = 0
    for value in _values(parameters):
        weight += VALUE_WEIGHT + (len(value) if isinstance(value, str | bytes) else 0)
        if weight > LARGE_BYTES:
            return True
    return False


def _values(parameters: Mapping[str, Any]) -> Iterator[Any]:
    """The value and every value in it, at any depth."""
    left: list[Any] = [parameters]
    while left:
        value = left.pop()
        yield value
        if isinstance(value, Mapping):
            left.extend(value.values())
        elif isinstance(value, list | tuple):
            left.extend(value)
