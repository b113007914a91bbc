"""Failed exchanges as our typed errors: statuses with bodies, error frames in a stream, httpx's exceptions.

Pure functions. Whatever goes into an error is decoded, has the secrets of the call removed, and is bounded, in this
order.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from .._errors import (
    APIError,
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    StreamIdleTimeout,
    StreamLost,
    TransportError,
    TruncatedStream,
)
from .._protocol.codec import decode_json
from .redaction import redact, redacted

__all__ = [
    "Failure",
    "status_failure",
    "stream_error",
    "stream_exception",
    "stream_failure",
    "transport_failure",
    "unusable",
]

MAX_MESSAGE_CHARS: Final = 1_000  # of an error's text: the whole of any real message, the start of an HTML page
MAX_RAW_BYTES: Final = 512  # of what a ProtocolError shows
MAX_EXCERPT_BYTES: Final = 8 * 1024  # of what is searched for secrets first: any of them is whole in it

_BY_STATUS: Final[dict[int, type[APIError]]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: NotFoundError,
    412: ConflictError,
    424: ServerError,
    429: RateLimitError,
    529: OverloadedError,
}

_BY_TYPE: Final[dict[str, type[APIError]]] = {
    "api_error": ServerError,
    "authentication_error": AuthenticationError,
    "billing_error": InvalidRequestError,
    "conflict_error": ConflictError,
    "invalid_request_error": InvalidRequestError,
    "not_found_error": NotFoundError,
    "overloaded_error": OverloadedError,
    "permission_error": PermissionDeniedError,
    "rate_limit_error": RateLimitError,
    "request_too_large": InvalidRequestError,
    "timeout_error": ServerError,
}

# AWS says with 403 what others say with 401. Source: AWS, "Common error types" of its services, signature version 4.
_REFUSED_CREDENTIAL: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
# Says with 409, which is not repeated otherwise, that the same request will do later. Source: Bedrock AgentCore API.
_RETRYABLE: Final = "RetryableConflictException"

_NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt at a call failed.

    Attributes:
        error: What to raise.
        should_retry: The server's word on repeating it (``x-should-retry``, or the error's kind), if it gave one.
        aged: Whether the request was refused for the age of its signature.
    """

    error: APIError | TransportError
    should_retry: bool | None = None
    aged: bool = False


def request_id_of(headers: Mapping[str, str], secrets: Sequence[str]) -> str | None:
    """Give the server's own name for a request, if it tells one; a server may name it by anything."""
    told = headers.get("request-id") or headers.get("x-amzn-requestid")
    return _told(told, secrets) if told else None


def status_failure(status: int, headers: Mapping[str, str], raw: bytes, *, secrets: Sequence[str] = ()) -> Failure:
    """Translate a response that is not a success.

    Args:
        status: The HTTP status.
        headers: The response's headers; look-ups ignore case.
        raw: The body, or its beginning.
        secrets: What must not be shown.
    """
    body = _decoded(raw.decode("utf-8", "replace"), secrets)
    type_, message = _type_and_message(body)
    type_ = type_ or _aws_code(headers, body, secrets)
    if not message:
        location = (
            f" to {redact(headers['location'], secrets)}" if 300 <= status < 400 and "location" in headers else ""
        )
        message = f"HTTP {status}{location} with no message"
    error = _class_of(status, type_)(
        _bounded(message),
        status=status,
        type=type_ or "api_error",
        request_id=request_id_of(headers, secrets) or _request_id(body),
        retry_after=_retry_after(headers),
        body=body,
    )
    hint = {"true": True, "false": False}.get(headers.get("x-should-retry", "").lower())
    return Failure(
        error,
        should_retry=True if type_ == _RETRYABLE else hint,
        aged=type_ == "InvalidSignatureException" and "expired" in message,
    )


def stream_error(event: Mapping[str, Any], *, secrets: Sequence[str] = ()) -> APIError:
    """Translate an error frame of an accepted stream: its class follows the error's type, its status is 200."""
    body = redacted(dict(event), secrets)
    type_, message = _type_and_message(body)
    return _BY_TYPE.get(type_ or "", APIError)(
        _bounded(message or "the stream reported an error without a message"),
        status=200,
        type=type_ or "api_error",
        request_id=_request_id(body),
        body=body,
    )


def stream_exception(
    type: str,
    message: str,
    payload: Mapping[str, Any],
    *,
    status: int,
    request_id: str | None = None,
    secrets: Sequence[str] = (),
) -> APIError:
    """Translate an exception within an accepted stream: its class follows the status its kind has outside of one."""
    return _class_of(status, type)(
        _told(message, secrets) or "the stream reported an exception without a message",
        status=status,
        type=_told(type, secrets) or "api_error",
        request_id=_told(request_id or "", secrets) or None,
        body=redacted(dict(payload), secrets) or None,
    )


def transport_failure(exc: httpx.HTTPError, what: str, *, secrets: Sequence[str] = ()) -> Failure:
    """Translate what httpx raised while ``what`` was requested; it is the cause, unless it quotes a secret."""
    text = f"{what} failed: {_told(str(exc), secrets) or type(exc).__name__}"
    error: TransportError
    if isinstance(exc, _NOT_SENT):
        error = TransportError(text, request_sent=False)
    elif isinstance(exc, httpx.RemoteProtocolError):
        error = TruncatedStream(text) if "without sending complete" in str(exc) else ProtocolError(text)
    else:
        error = TransportError(text)
    error.__cause__ = _cause(exc, secrets)
    return Failure(error)


def stream_failure(exc: httpx.HTTPError, what: str, *, secrets: Sequence[str] = ()) -> Failure:
    """Translate what httpx raised while an event stream was read; it is the cause, unless it quotes a secret."""
    silent = isinstance(exc, httpx.TimeoutException)
    told = _told(str(exc), secrets) or type(exc).__name__
    error = StreamIdleTimeout(f"{what}: {told}") if silent else StreamLost(f"{what} broke off: {told}")
    error.__cause__ = _cause(exc, secrets)
    return Failure(error)


def unusable(message: str, raw: bytes, *, secrets: Sequence[str] = ()) -> ProtocolError:
    """Describe a successful answer that is not the protocol, with an excerpt of it."""
    shown = redact(raw[:MAX_EXCERPT_BYTES].decode("utf-8", "replace"), secrets).encode("utf-8", "replace")
    return ProtocolError(_told(message, secrets), raw=shown[:MAX_RAW_BYTES])


def _class_of(status: int, type_: str | None) -> type[APIError]:
    if status == 403 and type_ in _REFUSED_CREDENTIAL:
        return AuthenticationError
    if known := _BY_STATUS.get(status):
        return known
    if status >= 500:
        return ServerError
    return InvalidRequestError if status >= 400 else APIError


def _type_and_message(body: Any) -> tuple[str | None, str | None]:
    """Find type and message in ``{"error": {…}}``, ``{"error": "text"}``, ``{"message": …}``, text, or nothing."""
    if isinstance(body, str):
        return None, body
    if not isinstance(body, dict):
        return None, None
    error = body.get("error", body)
    if isinstance(error, str):
        return None, error
    if not isinstance(error, dict):
        return None, None
    type_, message = error.get("type"), error.get("message") or error.get("Message")
    return type_ if isinstance(type_, str) else None, message if isinstance(message, str) else None


def _aws_code(headers: Mapping[str, str], body: Any, secrets: Sequence[str]) -> str | None:
    """The error's code as AWS gives it: in a header or the body, after a namespace, before the address of its text.

    Source: Smithy, AWS restJson1 protocol, operation error serialization.
    """
    members = body if isinstance(body, dict) else {}
    for value in (headers.get("x-amzn-errortype"), members.get("__type"), members.get("code")):
        # Redacted before it is cut.
        if isinstance(value, str) and (code := redact(value, secrets).partition(":")[0].rpartition("#")[2].strip()):
            return _bounded(code)
    return None


def _request_id(body: Any) -> str | None:
    value = body.get("request_id") if isinstance(body, dict) else None
    return value if isinstance(value, str) else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: ``retry-after-ms``, else ``retry-after`` in seconds or as a date by the server's clock."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return max(0.0, milliseconds / 1000)
    text = headers.get("retry-after")
    if text is None:
        return None
    if (seconds := _number(text)) is not None:
        return max(0.0, seconds)
    until = _timestamp(text)
    if until is None:
        return None
    now = _timestamp(headers.get("date"))
    return max(0.0, until - (time.time() if now is None else now))


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _timestamp(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except (ValueError, OverflowError):
        return None


def _decoded(text: str, secrets: Sequence[str]) -> Any:
    """Decode an error body: JSON if it is JSON, else its text without the surplus of an HTML page."""
    try:
        return redacted(decode_json(text), secrets)
    except ValueError:
        return _told(text.strip(), secrets) or None


def _cause(exc: BaseException, secrets: Sequence[str]) -> BaseException | None:
    """The exception, unless it or what has caused it quotes a secret: tracebacks show causes as they are."""
    each: BaseException | None = exc
    while each is not None:
        if redact(str(each), secrets) != str(each):
            return None
        each = each.__cause__ or each.__context__
    return exc


def _told(text: str, secrets: Sequence[str]) -> str:
    return _bounded(redact(text, secrets))


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_CHARS else f"{text[:MAX_MESSAGE_CHARS]}…"
