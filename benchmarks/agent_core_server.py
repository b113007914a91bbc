"""A server for the benchmarks that answers every request with the same turn of a harness, made beforehand.

It is a process of its own, and checks nothing, so that what is measured is its client.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from http_server import HttpConnection, chunk, serve

from managed_agents_actors.testing._aws_frames import event_frame

HEAD: Final = b"\r\n".join(
    (
        b"HTTP/1.1 200 OK",
        b"content-type: application/vnd.amazon.eventstream",
        b"x-amzn-requestid: 11111111-1111-4111-8111-111111111111",
        b"transfer-encoding: chunked",
        b"\r\n",
    )
)
END: Final = b"0\r\n\r\n"


def frames_of_turn(frames: int) -> list[bytes]:
    """Give a turn of so many frames that says a small piece of text in most of them."""
    usage = {"inputTokens": 100, "outputTokens": 20, "totalTokens": 120}
    begin = [event_frame("messageStart", {"role": "assistant"})]
    end = [
        event_frame("contentBlockStop", {"contentBlockIndex": 0}),
        event_frame("messageStop", {"stopReason": "end_turn"}),
        event_frame("metadata", {"usage": usage, "metrics": {"latencyMs": 100}}),
    ]
    delta = event_frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "a few words of text "}})
    return [*begin, *[delta] * (frames - len(begin) - len(end)), *end]


class Connection(HttpConnection):
    """A client's connection."""

    def __init__(self, turn: bytes) -> None:
        super().__init__()
        self._turn = turn

    def answer(self, method: str, target: str, body: bytes) -> None:  # noqa: ARG002 -- whatever it asks
        """Answer a request with the turn."""
        self.transport.write(self._turn)


def main() -> None:
    """Serve turns of as many frames as the argument says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, required=True)
    frames = frames_of_turn(parser.parse_args().frames)
    turn = b"".join([HEAD, *map(chunk, frames), END])
    asyncio.run(serve(lambda: Connection(turn)))


if __name__ == "__main__":
    main()
