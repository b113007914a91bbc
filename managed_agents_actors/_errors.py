"""The one exception tree. Every error this library raises on purpose is defined here, and nothing else.

Foreign exceptions (httpx, botocore, operating system) are translated at the rim of the room that uses them, with
the original as ``__cause__``. A message says what was seen, what was expected and what to do; it never holds a secret.

    ManagedAgentsError
      ConfigurationError
      APIError(status, type, message, request_id, retry_after, body)
        AuthenticationError PermissionDeniedError NotFoundError ConflictError InvalidRequestError
        RateLimitError OverloadedError ServerError
      TransportError(request_sent)
        StreamLost  StreamIdleTimeout  TruncatedStream  ProtocolError(raw)
      SessionError(result)
        SessionTimeout(TimeoutError)  MaxTurnsExceeded  TurnHalted(reason)
        UnresolvedRequiresAction(stop_reason)  SessionGone  SessionCrashed
      ProvisioningError(context)
      JournalError
      StoreError
      ArtifactError(exit_code, stderr, timed_out)
        ArtifactNotFound
      RestartIntensityExceeded
      ActorGone  MailboxFull
      ToolError
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._model import SessionResult

__all__ = [
    "APIError",
    "ActorGone",
    "ArtifactError",
    "ArtifactNotFound",
    "AuthenticationError",
    "ConfigurationError",
    "ConflictError",
    "InvalidRequestError",
    "JournalError",
    "MailboxFull",
    "ManagedAgentsError",
    "MaxTurnsExceeded",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "ProtocolError",
    "ProvisioningError",
    "RateLimitError",
    "RestartIntensityExceeded",
    "ServerError",
    "SessionCrashed",
    "SessionError",
    "SessionGone",
    "SessionTimeout",
    "StoreError",
    "StreamIdleTimeout",
    "StreamLost",
    "ToolError",
    "TransportError",
    "TruncatedStream",
    "TurnHalted",
    "UnresolvedRequiresAction",
]


class ManagedAgentsError(Exception):
    """Base of every error raised on purpose by this library."""


class ConfigurationError(ManagedAgentsError):
    """An option, setting or environment variable is missing or unusable; nothing was sent."""


class APIError(ManagedAgentsError):
    """The provider answered a request with an error status, or a stream with an error frame.

    Attributes:
        status: HTTP status code. For an error inside an accepted stream, the one such an error has outside of it, or
            200 if it has none.
        type: The provider's error type, such as ``"rate_limit_error"``.
        message: The provider's message, with any credential of ours removed.
        request_id: The provider's id for the request, for support; ``None`` if it sent none.
        retry_after: Seconds the provider asked to wait, or ``None``.
        body: The decoded error body (or its text) as received, credentials removed; ``None`` if empty.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type: str = "api_error",
        request_id: str | None = None,
        retry_after: float | None = None,
        body: Any = None,
    ) -> None:
        self.status = status
        self.type = type
        self.message = message
        self.request_id = request_id
        self.retry_after = retry_after
        self.body = body
        shown = f" (request {request_id})" if request_id else ""
        super().__init__(f"{status} {type}: {message}{shown}")


class AuthenticationError(APIError):
    """401, or AWS's 403 for it: the credential is missing, wrong or expired."""


class PermissionDeniedError(APIError):
    """403: the credential is valid but may not do this."""


class NotFoundError(APIError):
    """404 or 410: the resource does not exist (any more), or a beta header is missing."""


class ConflictError(APIError):
    """409 or 412: the resource is not in the state the request needs."""


class InvalidRequestError(APIError):
    """400, 413, 422 or another 4xx: the request itself was refused; repeating it will not help."""


class RateLimitError(APIError):
    """429: too many requests; see ``retry_after``."""


class OverloadedError(APIError):
    """529: the provider is overloaded and did not take the request."""


class ServerError(APIError):
    """5xx, and 424 of an AgentCore runtime: the provider failed; whether it acted on the request is unknown."""


class TransportError(ManagedAgentsError):
    """The exchange with the provider failed below the level of HTTP answers.

    Attributes:
        request_sent: ``False`` only when it is certain that no byte of the request left this process, so that
            repeating it cannot double an effect.
    """

    def __init__(self, message: str, *, request_sent: bool = True) -> None:
        self.request_sent = request_sent
        super().__init__(message)


class StreamLost(TransportError):
    """An event stream broke or ended before its session did."""


class StreamIdleTimeout(TransportError):
    """An event stream was silent for longer than its idle timeout."""


class TruncatedStream(TransportError):
    """A stream ended in the middle of a message."""


class ProtocolError(TransportError):
    """The provider sent something that is not the protocol: undecodable JSON, a frame over the cap, a wrong shape.

    Attributes:
        raw: An excerpt of what was received, as bytes.
        permanent: Whether asking again would give the same.
    """

    def __init__(self, message: str, *, raw: bytes = b"", request_sent: bool = True, permanent: bool = False) -> None:
        self.raw = raw
        self.permanent = permanent
        super().__init__(message, request_sent=request_sent)


class SessionError(ManagedAgentsError):
    """A session's request ended on our side, not by the provider.

    Attributes:
        result: What had been gathered until then: session id, partial text, usage, events.
    """

    def __init__(self, message: str, *, result: SessionResult) -> None:
        self.result = result
        super().__init__(message)


class SessionTimeout(SessionError, TimeoutError):
    """The request did not end within its timeout."""


class MaxTurnsExceeded(SessionError):
    """The request wanted another turn after its last allowed one."""


class TurnHalted(SessionError):
    """The turn guard stopped the request, or failed (a guard that fails halts).

    Attributes:
        reason: What the guard gave as its reason.
    """

    def __init__(self, message: str, *, result: SessionResult, reason: Any) -> None:
        self.reason = reason
        super().__init__(message, result=result)


class UnresolvedRequiresAction(SessionError):
    """The session waits for an action on calls that neither the stream nor the history knows.

    Attributes:
        stop_reason: The provider's stop reason, verbatim.
    """

    def __init__(self, message: str, *, result: SessionResult, stop_reason: Any) -> None:
        self.stop_reason = stop_reason
        super().__init__(message, result=result)


class SessionGone(SessionError):
    """The server-side session was deleted, terminated or never existed; it takes no further input."""


class SessionCrashed(SessionError):
    """The session's actor failed with a defect; the defect is the ``__cause__``."""


class ProvisioningError(ManagedAgentsError):
    """Creating or removing a provider resource did not finish.

    Attributes:
        context: Phase, id, last status, elapsed seconds and polls.
    """

    def __init__(self, message: str, *, context: Mapping[str, Any]) -> None:
        self.context = dict(context)
        super().__init__(message)


class JournalError(ManagedAgentsError):
    """A tool journal cannot be read or written, or was told of a call's end before its beginning."""


class ArtifactError(ManagedAgentsError):
    """What a session's agent stores could not be listed, read, written or deleted.

    Attributes:
        exit_code: The exit code of the command that failed; ``None`` if no command did.
        stderr: The end of what that command wrote to its standard error.
        timed_out: Whether the command did not end in time.
    """

    def __init__(
        self, message: str, *, exit_code: int | None = None, stderr: str = "", timed_out: bool = False
    ) -> None:
        self.exit_code = exit_code
        self.stderr = stderr
        self.timed_out = timed_out
        super().__init__(message)


class ArtifactNotFound(ArtifactError):
    """There is no artifact of this name."""


class StoreError(ManagedAgentsError):
    """A provisioning store cannot be read or written."""


class RestartIntensityExceeded(ManagedAgentsError):
    """A supervisor's children failed more often than its restart intensity allows."""


class ActorGone(ManagedAgentsError):
    """The actor that was called, or asked, has ended; what it had not answered it will not answer."""


class MailboxFull(ManagedAgentsError):
    """A message was cast to an actor whose mailbox is at its bound."""


class ToolError(ManagedAgentsError):
    """Raised by a tool: its text goes to the model as the call's error result."""
