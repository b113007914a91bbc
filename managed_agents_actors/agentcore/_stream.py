"""The events of an invocation, decoded as their bytes arrive. It neither repeats nor interprets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .._errors import TruncatedStream
from .._http.errors import request_id_of, stream_exception, unusable
from .._http.event_channel import Event, EventChannel, Source, StreamEnd
from .._http.exchange import Incoming
from .._http.redaction import redact
from .._protocol.aws_events import StreamException, read_event
from .._protocol.converse import usage_of
from .._protocol.event_stream import EventStreamDecoder
from .._protocol.sse import DecodeFailure
from ..telemetry._scope import NO_TAGS

__all__ = ["CONTENT_TYPE", "HarnessStream", "check_is_stream"]

CONTENT_TYPE: Final = "application/vnd.amazon.eventstream"

# The events that this library reads: one that is damaged ends its stream, while others are passed on as they are.
# Source: Bedrock AgentCore API, InvokeHarnessStreamOutput, InvokeAgentRuntimeCommandStreamOutput and its ResponseChunk.
_EVENTS: Final = frozenset(
    {
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
        "hookEvent",
        "chunk",
        "contentStart",
        "contentDelta",
        "contentStop",
    }
)

# The status each exception has where it answers a request. Source: Bedrock AgentCore API and Bedrock Runtime API, data
# types; AgentCore reports what a model's provider said, too.
_STATUS: Final = {
    "validationException": 400,
    "unauthorizedException": 401,
    "serviceQuotaExceededException": 402,
    "accessDeniedException": 403,
    "resourceNotFoundException": 404,
    "modelTimeoutException": 408,
    "conflictException": 409,
    "retryableConflictException": 409,
    "runtimeClientError": 424,
    "modelErrorException": 424,
    "modelStreamErrorException": 424,
    "modelNotReadyException": 429,
    "throttledException": 429,
    "throttlingException": 429,
    "tooManyRequestsException": 429,
    "internalServerException": 500,
    "serviceException": 500,
    "serviceUnavailableException": 503,
}
_UNKNOWN_STATUS: Final = 200  # of the response it came in
_THROTTLED_STATUS: Final = 429

# What a model's provider reports comes as this exception, with what it is only in its text, such as "An error occurred
# (ThrottlingException) when calling the ConverseStream operation: Too many requests".
_RELAYED: Final = "runtimeClientError"
_THROTTLED: Final = re.compile(r"\((?:throttl\w*|toomanyrequests\w*)\)|\btoo many requests\b", re.IGNORECASE)


class HarnessStream(EventChannel):
    """The events of one invocation, ``{"type": name, name: members}``, in the order the service sent them.

    A message that is no such event, such as a keep-alive, comes as ``{"type": "unrecognised", "unrecognised": …}``.
    It ends once: with ``trio.EndOfChannel`` when the service closed it between two events, which says nothing about
    the turn, or with an error, after all the events that came before it. A body that ends within an event is a
    ``TruncatedStream``.

    Attributes:
        headers: The response's headers, such as ``x-amzn-requestid``; of a command,
            ``x-amzn-bedrock-agentcore-runtime-session-id`` names its session. Look-ups ignore case.
    """

    def __init__(self, source: Source, headers: Mapping[str, str], about: Mapping[str, Any] = NO_TAGS) -> None:
        super().__init__(source, about)
        self.headers = headers
        self._decoder = EventStreamDecoder()

    def _decode(self, chunk: bytes) -> Iterator[Event | StreamEnd]:
        secrets = self._source.secrets
        for message in self._decoder.feed(chunk):
            item = message if isinstance(message, DecodeFailure) else read_event(message, known=_EVENTS)
            if isinstance(item, DecodeFailure):
                yield unusable(item.message, item.raw, secrets=secrets)
            elif isinstance(item, StreamException):
                yield self._error(item)
            else:
                yield item if item["type"] in _EVENTS else _renamed(item, redact(item["type"], secrets))

    def _error(self, exception: StreamException) -> StreamEnd:
        # Errors of the transport are spelt with a capital.
        name = exception.type[:1].lower() + exception.type[1:]
        throttled = name == _RELAYED and _THROTTLED.search(exception.message)
        return stream_exception(
            exception.type,
            exception.message,
            exception.payload,
            status=_THROTTLED_STATUS if throttled else _STATUS.get(name, _UNKNOWN_STATUS),
            request_id=request_id_of(self.headers, self._source.secrets),
            secrets=self._source.secrets,
        )

    def _usage(self, event: Event) -> Mapping[str, Any] | None:
        return usage_of(event)

    def _at_end(self) -> StreamEnd | None:
        pending = self._decoder.pending
        return (
            TruncatedStream(f"the event stream ended within an event, {pending} bytes after its beginning")
            if pending
            else None
        )


def _renamed(event: Event, name: str) -> Event:
    """An event that this library does not know, under a name that may be shown: that is told and logged."""
    return {"type": name, name: event[event["type"]]}


async def check_is_stream(incoming: Incoming) -> None:
    """Refuse an accepted answer that is something else: a proxy's page, or nothing.

    Raises:
        ProtocolError: It is no event stream.
    """
    kind = incoming.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() == CONTENT_TYPE:
        return
    answer = f"with {kind}" if kind else "without a content type"
    excerpt = await incoming.beginning()
    raise unusable(f"an event stream was asked for and answered {answer}", excerpt, secrets=incoming.secrets)
