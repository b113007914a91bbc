"""Requests to a transport as httpx makes them, and the whole of what they are answered."""

from __future__ import annotations

from typing import Any

import httpx

__all__ = ["BASE", "answer", "asks"]

BASE = "http://api.test"


def asks(method: str = "GET", path: str = "/", *, base: str = BASE, **options: Any) -> httpx.Request:
    """A request; ``options`` are httpx's."""
    return httpx.Request(method, base + path, **options)


async def answer(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> tuple[int, bytes]:
    """The status and the whole body."""
    response = await transport.handle_async_request(request)
    try:
        return response.status_code, await response.aread()
    finally:
        await response.aclose()  # httpx leaves one that was interrupted to whoever has it
