"""The events of an AWS event stream whose payloads are JSON: verified messages in, events or exceptions out.

An event keeps everything its message held, whether this library knows its type or not. One that it needs and that
cannot be decoded becomes a :class:`DecodeFailure`: nothing is dropped silently. Nothing here knows what an event means.

Source: Smithy, "Amazon Event Stream specification": ``:message-type`` is ``event``, ``exception`` (modelled by the
service) or ``error`` (not modelled, all of it in headers).
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .._model import Event
from .codec import decode_json
from .event_stream import EventStreamMessage, HeaderValue
from .sse import EXCERPT_BYTES, DecodeFailure

__all__ = ["UNRECOGNISED", "StreamException", "read_event"]

# The header that names what a message holds, by the message's type; also what tells the type where it is not said.
_NAMING_HEADERS = {"event": ":event-type", "exception": ":exception-type", "error": ":error-code"}

# The type of an event that holds a message as it came, because it could not be told as what it calls itself.
UNRECOGNISED = "unrecognised"

# An event's own keys: one of such a name could not be told from them.
_TAKEN = frozenset({"", "type", "id"})


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


def read_event(message: EventStreamMessage, *, known: Collection[str] = ()) -> Event | StreamException | DecodeFailure:
    """What one message says.

    An event becomes ``{"type": <its type>, <its type>: <its payload>}``; without a payload, that is ``{}``. A message
    that does not say its own type is taken for what its other headers name. What is no event of this form, such as a
    keep-alive, becomes ``{"type": "unrecognised", "unrecognised": {"headers": …, "payload": …}}``, where bytes that are
    no text are ``{"base64": …}``.

    Args:
        message: The message.
        known: The events whose payload is needed: one that is no JSON object is a failure.
    """
    headers, payload = message
    kind = headers.get(":message-type")
    if kind is None:
        kind = next((kind for kind, header in _NAMING_HEADERS.items() if header in headers), None)
    if kind == "event":
        return _event(message, known)
    if kind == "exception":
        return _exception("exception", headers, payload)
    if kind == "error":
        return _exception("error", headers, payload)
    return _unrecognised(message)


def _event(message: EventStreamMessage, known: Collection[str]) -> Event | DecodeFailure:
    headers, payload = message
    name = headers.get(":event-type")
    if not isinstance(name, str) or name in _TAKEN:
        return _unrecognised(message)
    try:
        value = decode_json(payload) if payload else {}
    except ValueError as error:
        seen = f"not JSON: {error}"
    else:
        if isinstance(value, dict):
            return {"type": name, name: value}
        seen = f"a JSON {type(value).__name__}, expected an object"
    return (
        DecodeFailure.of(f"the payload of a {name!r} event is {seen}", payload)
        if name in known
        else _unrecognised(message)
    )


def _unrecognised(message: EventStreamMessage) -> Event:
    headers = {name: _plain(value) for name, value in message.headers.items()}
    return {"type": UNRECOGNISED, UNRECOGNISED: {"headers": headers, "payload": _plain(message.payload)}}


def _plain(value: HeaderValue) -> Any:
    """A value as JSON has it."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": b2a_base64(value, newline=False).decode("ascii")}


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
