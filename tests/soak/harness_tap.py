"""Listens in between the client and its connection: every invocation, and the bytes of its answer, as they pass.

What they say is read with AWS's own decoder, and with no help from the library.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import httpx
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer, ParserError

from .harness_record import Attempt, End, Heard, HeldHarness

SESSION_HEADER = "x-amzn-bedrock-agentcore-runtime-session-id"

# What the service calls keys that it does not take any more.
REFUSED_KEYS = ("ExpiredTokenException", "UnrecognizedClientException")

# What is told of an announced terminal, at the moment an attempt is made.
Terminals = Callable[[], int]


class Tap(httpx.AsyncBaseTransport):
    """A transport that writes down what goes through it.

    Args:
        inner: Where it goes.
        renew: Called when keys were refused.

    Attributes:
        open_bodies: Answers that are being read.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, renew: Callable[[], object]) -> None:
        self._inner = inner
        self._renew = renew
        self._held: dict[str, tuple[HeldHarness, Terminals]] = {}
        self.open_bodies = 0

    def watch(self, held: HeldHarness, terminals: Terminals) -> None:
        """Write a session's invocations down from now on."""
        self._held[held.session_id] = (held, terminals)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/harnesses/invoke":
            response = await self._inner.handle_async_request(request)
            self._look_at(response)
            return response
        held, terminals = self._held[request.headers[SESSION_HEADER]]
        messages = json.loads(request.content)["messages"]
        attempt = Attempt(messages, len(held.lives) - 1, terminals())
        held.attempts.append(attempt)
        try:
            response = await self._inner.handle_async_request(request)
        except httpx.HTTPError as error:
            attempt.end = "silent" if isinstance(error, httpx.TimeoutException) else "unanswered"
            raise
        attempt.status = response.status_code
        attempt.code = self._look_at(response)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self.open_bodies += 1
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Body(response.stream, attempt, self, terminals),
            extensions=response.extensions,
        )

    def _look_at(self, response: httpx.Response) -> str:
        """The name of a refusal; keys that were refused are replaced."""
        code = str(response.headers.get("x-amzn-errortype", "")).partition(":")[0]
        if code in REFUSED_KEYS:
            self._renew()
        return code

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, attempt: Attempt, tap: Tap, terminals: Terminals) -> None:
        self._inner = inner
        self._attempt = attempt
        self._tap = tap
        self._terminals = terminals
        self._is_open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                self._attempt.data += chunk
                yield chunk
        except httpx.HTTPError as error:
            self._end("silent" if isinstance(error, httpx.TimeoutException) else "torn")
            raise
        self._end("clean")

    def _end(self, end: End) -> None:
        self._attempt.end = end
        self._attempt.over = self._terminals() > self._attempt.terminals

    async def aclose(self) -> None:
        self._tap.open_bodies -= self._is_open
        self._is_open = False
        await self._inner.aclose()


def read_frames(data: bytes) -> Heard:
    """Read the frames of a body, as far as they can be read."""
    buffer, heard = EventStreamBuffer(), Heard()
    buffer.add_data(data)
    read = 0
    try:
        for frame in buffer:
            read += frame.prelude.total_length
            kind = frame.headers[":message-type"]
            if kind != "event":
                heard.thrown = frame.headers.get(":exception-type", frame.headers.get(":error-code"))
                return heard
            name = frame.headers[":event-type"]
            heard.events.append({"type": name, name: json.loads(frame.payload)})
    except (ChecksumMismatch, ParserError):
        heard.is_damaged = True
        return heard
    heard.is_cut = read < len(data)
    return heard
