"""The events of an AWS event stream whose payloads are JSON: verified messages in, events or exceptions out.

An event keeps everything its payload held, whether this library knows its type or not. What cannot be decoded becomes
a :class:`DecodeFailure`: nothing is dropped silently. Nothing here knows what an event means.

Source: Smithy, "Amazon Event Stream specification": ``:message-type`` is ``event``, ``exception`` (modelled by the
service) or ``error`` (not modelled, all of it in headers).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .._model import Event
from .codec import decode_json
from .event_stream import EventStreamMessage, HeaderValue
from .sse import EXCERPT_BYTES, MAX_SHOWN_NAME, DecodeFailure

__all__ = ["StreamException", "read_event"]

# The header that names what a message holds, by the message's type; also what tells the type where it is not said.
_NAMING_HEADERS = {"event": ":event-type", "exception": ":exception-type", "error": ":error-code"}


@dataclass(frozen=True, slots=True)
class StreamException:
    """What a service reports, within its stream, instead of going on.

    Attributes:
        type: The exception's name on the wire, such as ``"runtimeClientError"``, or the error's code; empty if the
            message names none.
        message: What the service says of it; where it says nothing in the agreed place, the beginning of the payload.
        payload: All of the payload, such as ``reason`` and ``fieldList``; empty if it is no JSON object.
        kind: ``"exception"`` is one that the service defines, ``"error"`` comes from the transport.
    """

    type: str
    message: str
    payload: dict[str, Any]
    kind: Literal["exception", "error"]


def read_event(message: EventStreamMessage) -> Event | StreamException | DecodeFailure:
    """What one message says.

    An event becomes ``{"type": <its type>, <its type>: <its payload>}``. A message that does not say its own type is
    taken for what its other headers name.
    """
    headers, payload = message
    kind = headers.get(":message-type")
    if kind is None:
        kind = next((kind for kind, header in _NAMING_HEADERS.items() if header in headers), None)
    if kind == "event":
        return _event(headers.get(":event-type"), payload)
    if kind == "exception":
        return _exception("exception", headers, payload)
    if kind == "error":
        return _exception("error", headers, payload)
    seen = "does not say what it is" if kind is None else "is neither an event nor an exception nor an error"
    return DecodeFailure.of(f"an event-stream message {seen}", payload)


def _event(name: HeaderValue | None, payload: bytes) -> Event | DecodeFailure:
    # An event named "type" could not be told from its own name.
    if not isinstance(name, str) or name in {"", "type"}:
        return DecodeFailure.of("an event of an event stream has no usable name", payload)
    try:
        value = decode_json(payload)
    except ValueError as error:
        return DecodeFailure.of(f"the payload of {_named(name)} is not JSON: {error}", payload)
    if not isinstance(value, dict):
        seen = type(value).__name__
        return DecodeFailure.of(f"the payload of {_named(name)} is a JSON {seen}, expected an object", payload)
    return {"type": name, name: value}


def _exception(
    kind: Literal["exception", "error"], headers: Mapping[str, HeaderValue], payload: bytes
) -> StreamException:
    """The exception of one message, whatever its payload: that something failed is never lost."""
    try:
        value = decode_json(payload)
    except ValueError:
        value = None
    members = value if isinstance(value, dict) else {}
    said = (headers.get(":error-message"), members.get("message"), members.get("Message"))
    text = next((text for text in said if isinstance(text, str) and text), None)
    if text is None:
        text = payload[:EXCERPT_BYTES].decode("utf-8", "replace")
    name = headers.get(_NAMING_HEADERS[kind])
    return StreamException(name if isinstance(name, str) else "", text, members, kind)


def _named(name: str) -> str:
    """The event by its name, which is never cut: half a secret could not be recognised as one."""
    return f"a {name!r} event" if len(name) <= MAX_SHOWN_NAME else f"an event named with {len(name)} characters"
