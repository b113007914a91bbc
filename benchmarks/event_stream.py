"""How fast the event streams of AgentCore are decoded, beside botocore, on one core and without a network.

A row takes the bytes of a stream to its events: ours to dictionaries, botocore's to what boto3 gives. Each row is the
median of several runs; only the ratios within one table mean anything, because machines differ and are noisy. Run it
with ``python benchmarks/event_stream.py``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from botocore.eventstream import EventStreamBuffer
from botocore.model import ServiceModel, Shape
from botocore.parsers import EventStreamJSONParser
from botocore.session import Session
from session import report

from managed_agents_actors._protocol.aws_events import read_event
from managed_agents_actors._protocol.event_stream import EventStreamDecoder, EventStreamMessage
from managed_agents_actors.testing._aws_frames import event_frame

Decode = Callable[[list[bytes]], int]

MODEL_CHUNK = 4096  # what a model's stream brings at once
READ_CHUNK = 65536  # what is read at once from a connection that has more


def delta_burst(count: int, size: int) -> bytes:
    """Give ``count`` text deltas in messages of about ``size`` bytes."""
    text = "x" * max(1, size - 145)
    return b"".join(
        event_frame("contentBlockDelta", {"contentBlockIndex": n % 10, "delta": {"text": text}}) for n in range(count)
    )


def harness_stream() -> Shape:
    """What botocore knows of the events of InvokeHarness."""
    loader = Session().get_component("data_loader")
    service = ServiceModel(loader.load_service_model("bedrock-agentcore", "service-2"), "bedrock-agentcore")
    return service.operation_model("InvokeHarness").get_event_stream_output()


def events_by_ours(chunks: list[bytes]) -> int:
    """Decode with our decoder, to events."""
    decoder, seen = EventStreamDecoder(), 0
    for chunk in chunks:
        for message in decoder.feed(chunk):
            assert isinstance(message, EventStreamMessage)
            seen += isinstance(read_event(message), dict)
    return seen


def messages_by_ours(chunks: list[bytes]) -> int:
    """Decode with our decoder, to verified messages only."""
    decoder = EventStreamDecoder()
    return sum(len(decoder.feed(chunk)) for chunk in chunks)


def messages_by_botocore(chunks: list[bytes]) -> int:
    """Decode with botocore's buffer, to verified messages only."""
    buffer, seen = EventStreamBuffer(), 0
    for chunk in chunks:
        buffer.add_data(chunk)
        seen += sum(1 for _ in buffer)
    return seen


def events_by_botocore(shape: Shape) -> Decode:
    """Decode with botocore's buffer and parser, to events."""

    def decode(chunks: list[bytes]) -> int:
        buffer, parser, seen = EventStreamBuffer(), EventStreamJSONParser(), 0
        for chunk in chunks:
            buffer.add_data(chunk)
            for message in buffer:
                seen += bool(parser.parse(message.to_response_dict(), shape))
        return seen

    return decode


def medians(rows: dict[str, Decode], chunks: list[bytes], count: int, repeats: int) -> dict[str, float]:
    """Decode with every row ``repeats`` times, in turns, and give the medians of the seconds."""
    found: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(repeats):
        for name, decode in rows.items():
            started = time.perf_counter()
            seen = decode(chunks)
            found[name].append(time.perf_counter() - started)
            assert seen == count, (name, seen)
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object per table")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows: dict[str, Decode] = {
        "ours, messages only": messages_by_ours,
        "ours, to events": events_by_ours,
        "botocore's buffer, messages only": messages_by_botocore,
        "botocore's buffer and parser, to events": events_by_botocore(harness_stream()),
    }
    for size, count in ((170, 20_000), (2048, 5_000), (100_000, 400), (5_000_000, 1)):
        stream = delta_burst(count, size)
        for step in (MODEL_CHUNK, READ_CHUNK):
            chunks = [stream[start : start + step] for start in range(0, len(stream), step)]
            seconds = medians(rows, chunks, count, options.repeats)
            title = f"{size} bytes each, read by {step}"
            events = {name: count / taken for name, taken in seconds.items()}
            megabytes = {name: len(stream) / 1e6 / taken for name, taken in seconds.items()}
            report(f"Events per second, {title}", events, as_json=options.json)
            report(f"MB per second, {title}", megabytes, as_json=options.json)


if __name__ == "__main__":
    main()
