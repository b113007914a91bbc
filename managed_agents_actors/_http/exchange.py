"""One call from a value to a value: build the request, send it, bound its time, classify what came back.

The clients describe a :class:`Call`; this file knows no endpoint. Credentials are asked for before every attempt and
once more after one was refused, and are removed from whatever an error shows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import urlsplit

import httpx
import trio

from .._errors import AuthenticationError, ConfigurationError, ManagedAgentsError, TransportError
from .._protocol.codec import decode_json
from ..telemetry._bus import TRACE_HEADERS, is_span_heard, trace_headers
from ..telemetry._events import SpanName
from ..telemetry._spans import SpanBlock
from .body import ResponseBody
from .credentials import Authenticate, Credential, Keyring, Outgoing
from .errors import Failure, request_id_of, status_failure, stream_failure, transport_failure, unusable
from .messages import Origin, Request, Response, Timeouts
from .retry import RetryPolicy, repeat
from .upload import Multipart
from .url import join_url

__all__ = ["Answer", "Call", "Exchange", "Incoming"]

# A page of 1000 events whose tool outputs are at the platform's 100 000 characters is 100 MB; nothing is larger.
MAX_BODY_BYTES: Final = 128 * 1024 * 1024
MAX_ERROR_BYTES: Final = 64 * 1024  # of an error's body: any error object, the start of an HTML page
# Secrets of earlier calls, which a server may name in later answers: the token of a repository that it could not clone.
# Each open stream keeps a list of them, so only the latest: those of its own session were given just before.
MAX_GIVEN: Final = 64
BODILESS: Final = frozenset({"GET", "HEAD", "DELETE"})  # methods whose empty body is not framed
BEGINNING_SECONDS: Final = 2.0  # for the first bytes of an answer that is refused whatever it says


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to make. Times are in seconds.

    Attributes:
        method: The HTTP method.
        path: The path's segments; each is escaped, so that an id cannot change the path.
        query: The query's fields; see :func:`join_url`.
        headers: Headers beyond the credential's.
        body: The encoded body, or a form with a file.
        secrets: What of the body must never be shown.
        idempotent: Whether repeating the call after an ambiguous failure is harmless.
        retry: Whether the call may be repeated at all.
        own_connection: Whether the response is a long stream that gets a connection of its own.
        timeout: For the whole call, waits between attempts included; of a stream, until its head has come.
        silence: The longest wait for the next bytes in either direction, once connected; ``None`` for no limit.
        labels: What is told of it beside its method and path.
    """

    method: str
    path: tuple[str, ...]
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Multipart | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    idempotent: bool = False
    retry: bool = True
    own_connection: bool = False
    timeout: float | None = None
    silence: float | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} /{'/'.join(self.path)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The whole answer to an accepted call.

    Attributes:
        status: The HTTP status, a success.
        headers: The response's headers.
        data: The body as received.
        value: The JSON object it is.
        secrets: What of the request must never be shown.
    """

    status: int
    headers: Mapping[str, str]
    data: bytes = field(repr=False)
    value: dict[str, Any]
    secrets: tuple[str, ...] = field(repr=False)


@dataclass(slots=True)
class _Course:
    """How far a call has come: whose credentials it uses, how often it was given to the transport, what ends it."""

    keyring: Keyring
    attempts: int = 0
    limit: trio.CancelScope = field(default_factory=trio.CancelScope)


T = TypeVar("T")
Send: TypeAlias = Callable[[Request], Awaitable[Response]]


class Incoming:
    """An accepted response whose body is read as it comes.

    Attributes:
        body: The body; :meth:`receive` reads it with errors of ours.
        secrets: What of the request must never be shown.
    """

    __slots__ = ("_call", "body", "secrets")

    def __init__(self, body: ResponseBody, call: Call, secrets: tuple[str, ...]) -> None:
        self.secrets = secrets
        self.body = body
        self._call = call

    @property
    def headers(self) -> Mapping[str, str]:
        """The response's headers; look-ups ignore case."""
        return self.body.response.headers

    async def receive(self) -> bytes:
        """Wait for the next bytes; ``b""`` is the end.

        Raises:
            StreamIdleTimeout: Nothing came on an event stream within the call's ``silence``.
            StreamLost: An event stream broke.
            TransportError: Another response broke, was silent for too long, or ended too early.
        """
        try:
            return await self.body.receive()
        except httpx.HTTPError as exc:
            translate = stream_failure if self._call.own_connection else transport_failure
            error = translate(exc, str(self._call), secrets=self.secrets).error
            raise error from error.__cause__

    async def aclose(self) -> None:
        """Release the connection; see :meth:`ResponseBody.aclose`."""
        await self.body.aclose()

    async def beginning(self) -> bytes:
        """Wait a moment for the first bytes, for an answer that is refused whatever it says; ``b""`` if none come."""
        with trio.move_on_after(BEGINNING_SECONDS), suppress(TransportError):
            return await self.receive()
        return b""


class Exchange:
    """Sends calls to one base URL.

    Args:
        base_url: Scheme, host and optional path prefix.
        send: Sends one request, and waits for the head of its response.
        authenticate: Gives the credential of each attempt, and for a refused one another if it has one.
        connect_timeout: For a new connection, TLS included, in seconds.
        retry: How calls are repeated.
        span: What requests are told as on the event bus.
    """

    def __init__(
        self,
        *,
        base_url: str,
        send: Send,
        authenticate: Authenticate,
        connect_timeout: float,
        retry: RetryPolicy,
        span: SpanName = "managed_agents.request",
    ) -> None:
        self._span = span
        url = httpx.URL(base_url)
        self._host = url.netloc.decode("ascii")
        self._origin = Origin.of(url)
        self._server = {"scheme": url.scheme, "host": url.host, "port": self._origin.port}
        # As it goes on the wire, so that all of a call's URL after it is sent as it is.
        self._root = f"{url.scheme}://{self._host}"
        self._base_url = self._root + url.raw_path.decode("ascii").rstrip("/")
        self._send = send
        self._authenticate = authenticate
        self._connect_timeout = connect_timeout
        self._retry = retry
        self._given: deque[str] = deque(maxlen=MAX_GIVEN)
        self._closed = False

    def close(self) -> None:
        """Refuse further calls."""
        self._closed = True

    async def json(self, call: Call, *, may_be_empty: bool = False) -> dict[str, Any]:
        """Make a call and decode the JSON object it answers. As :meth:`answer`."""
        return (await self.answer(call, may_be_empty=may_be_empty)).value

    async def answer(self, call: Call, *, may_be_empty: bool = False) -> Answer:
        """Make a call whose answer is a JSON object; wait for all of it.

        Args:
            call: What to send.
            may_be_empty: Whether an accepted call may answer nothing, which is then ``{}``.

        Raises:
            APIError: The server refused.
            ProtocolError: The call was accepted but its answer is not a JSON object.
            TransportError: The exchange failed, or did not end in time.
        """
        course = _Course(Keyring(self._authenticate))

        async def attempt() -> Answer | Failure:
            return await self._fetch(call, course, may_be_empty=may_be_empty)

        return await self._bounded(call, course, attempt)

    async def open(self, call: Call) -> Incoming:
        """Make a call and read its answer as it comes: ``async with aclosing(await exchange.open(call))``.

        Waits for the head of a success.

        Raises:
            APIError: The server refused.
            TransportError: The exchange failed, or its head did not come in time.
        """
        course = _Course(Keyring(self._authenticate))

        async def attempt() -> Incoming | Failure:
            return await self._attempt(call, course)

        return await self._bounded(call, course, attempt)

    async def _bounded(self, call: Call, course: _Course, attempt: Callable[[], Awaitable[T | Failure]]) -> T:
        """Make attempts within the call's time."""
        policy = self._retry if call.retry else replace(self._retry, max_retries=0)
        if call.timeout is not None:
            course.limit.deadline = trio.current_time() + call.timeout
        with course.limit:
            return await repeat(attempt, policy=policy, idempotent=call.idempotent)
        if not course.attempts:
            raise TransportError(
                f"{call} was not sent: its credential did not come within {call.timeout:g} s", request_sent=False
            )
        raise TransportError(f"{call} did not finish within {call.timeout:g} s; whether it took effect is unknown")

    async def _fetch(self, call: Call, course: _Course, *, may_be_empty: bool) -> Answer | Failure:
        """One attempt, its body included."""
        incoming = await self._attempt(call, course)
        if isinstance(incoming, Failure):
            return incoming
        try:
            data, complete = await incoming.body.read(MAX_BODY_BYTES)
        except httpx.HTTPError as exc:
            return transport_failure(exc, str(call), secrets=incoming.secrets)
        finally:
            await incoming.body.aclose()
        empty = may_be_empty and not data.strip()
        value = _json_object(b"{}" if empty else data) if complete else f"over {MAX_BODY_BYTES} bytes"
        if isinstance(value, str):
            raise unusable(f"{call} was accepted, but its answer is {value}", data, secrets=incoming.secrets)
        status = incoming.body.response.status
        return Answer(status=status, headers=incoming.headers, data=data, value=value, secrets=incoming.secrets)

    async def _attempt(self, call: Call, course: _Course) -> Incoming | Failure:
        """One attempt up to the head of a success; a refused credential is replaced once, if there is another."""
        outgoing = self._outgoing(call)
        credential = await course.keyring.give(outgoing)
        outcome = await self._exchange(call, course, outgoing, credential)
        if isinstance(outcome, Failure) and isinstance(outcome.error, AuthenticationError):
            try:
                fresh = await course.keyring.refresh(credential, outgoing, aged=outcome.aged)
            except ManagedAgentsError as exc:
                exc.add_note(f"Another credential was asked for because the one before was refused: {outcome.error}")
                raise
            if fresh is not None:
                return await self._exchange(call, course, outgoing, fresh)
        return outcome

    async def _exchange(
        self, call: Call, course: _Course, outgoing: Outgoing, credential: Credential
    ) -> Incoming | Failure:
        """One request, and the head of its answer; all of it if it is a refusal."""
        if call.secrets:
            self._given.extend(secret for secret in call.secrets if secret not in self._given)
        secrets = (*credential.secrets, *call.secrets, *self._given)
        course.attempts += 1
        try:
            if not is_span_heard(self._span):
                return await self._perform(call, outgoing, credential, secrets)
            path = urlsplit(outgoing.url).path
            about = {**call.labels, "method": call.method, "path": path, **self._server, "attempt": course.attempts}
            # An error of httpx's may hold its request, and with it the credential: it is shown to nobody.
            with SpanBlock(self._span, about, shows_error=False) as told, _overdue(course.limit, told):
                outcome = await self._perform(call, outgoing, credential, secrets, told)
                if isinstance(outcome, Failure):
                    told["error_type"] = type(outcome.error).__name__
                return outcome
        except httpx.HTTPError as exc:
            return transport_failure(exc, str(call), secrets=secrets)

    async def _perform(
        self,
        call: Call,
        outgoing: Outgoing,
        credential: Credential,
        secrets: tuple[str, ...],
        told: dict[str, Any] | None = None,
    ) -> Incoming | Failure:
        """Send the request and take the head of its answer; what is to be told of that is put into ``told``."""
        body = ResponseBody(await self._send(self._request(call, outgoing, credential)))
        response = body.response
        if told is not None:
            told |= {"status": response.status, "request_id": request_id_of(response.headers, secrets)}
        return Incoming(body, call, secrets) if response.is_success else await _refusal(body, secrets)

    def _outgoing(self, call: Call) -> Outgoing:
        if self._closed:
            raise ConfigurationError(f"{call}: this client is closed; make a new one")
        url = join_url(self._base_url, call.path, call.query)
        # Said here: a signature covers the host, and httpx adds it only to a request whose content it is given.
        headers = {"host": self._host, "accept": "application/json", "accept-encoding": "identity", **call.headers}
        if isinstance(call.body, Multipart):
            headers |= {"content-type": call.body.content_type, "content-length": str(call.body.length)}
        content = call.body if isinstance(call.body, bytes) else None
        return Outgoing(method=call.method, url=url, headers=headers, body=content)

    def _request(self, call: Call, outgoing: Outgoing, credential: Credential) -> Request:
        headers = {**_trace_headers(outgoing.headers), **outgoing.headers, **credential.headers}
        body = outgoing.body
        if not isinstance(call.body, Multipart) and (body or call.method not in BODILESS):
            headers["content-length"] = str(len(body or b""))
        return Request(
            method=outgoing.method,
            url=outgoing.url,
            origin=self._origin,
            target=outgoing.url[len(self._root) :].encode("ascii"),
            headers=[(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()],
            body=call.body if isinstance(call.body, Multipart) else body,
            timeouts=Timeouts(self._connect_timeout, call.silence, call.silence),
            own_connection=call.own_connection,
            idempotent=call.idempotent and call.retry,
        )


@contextmanager
def _overdue(limit: trio.CancelScope, told: dict[str, Any]) -> Iterator[None]:
    """Tell of a request that its call's time has cut off that this is a failure, unlike any other cancellation."""
    try:
        yield
    except trio.Cancelled:
        if limit.cancel_called:
            told["error_type"] = "timeout"
        raise


def _trace_headers(given: Mapping[str, str]) -> dict[str, str]:
    """The headers that carry the trace on; none if the caller gives one of its own, as they belong together."""
    return {} if any(name.lower() in TRACE_HEADERS for name in given) else trace_headers()


async def _refusal(body: ResponseBody, secrets: tuple[str, ...]) -> Failure:
    """Read what the server says about a call that it does not accept."""
    try:
        data, _ = await body.read(MAX_ERROR_BYTES)
    except httpx.HTTPError:
        data = b""  # the status alone says enough
    finally:
        await body.aclose()
    return status_failure(body.response.status, body.response.headers, data, secrets=secrets)


def _json_object(data: bytes) -> dict[str, Any] | str:
    """The object, or what was found in its place."""
    if not data.strip():
        return "empty"
    try:
        value = decode_json(data)
    except ValueError:
        return "not JSON; check base_url"
    return value if isinstance(value, dict) else f"a JSON {type(value).__name__}, not an object"
