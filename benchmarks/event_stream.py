"""How fast the event streams of AgentCore are decoded, beside botocore, on one core and without a network.

A row takes the bytes of a stream, in pieces as they are read, to its verified messages, or on to its events: ours to
dictionaries, botocore's to what boto3 gives. Its time is processor time; some messages are decoded before, so that
everything is loaded. Run it with ``make bench`` or ``python benchmarks/event_stream.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, TypeAlias

from rig import Benchmark, Figures, Limit, Options, Table

Decode: TypeAlias = Callable[[list[bytes]], int]

MODEL_CHUNK: Final = 4096  # what a model's stream brings at once
READ_CHUNK: Final = 65536  # what is read at once from a connection that has more
SMALL: Final = 170
OURS: Final = "ours, to events"
BOTOCORE: Final = "botocore, to events"
RATE: Final = "MB/s"


def delta_burst(count: int, size: int) -> bytes:
    """Give ``count`` text deltas in messages of about ``size`` bytes."""
    from managed_agents_actors.testing._aws_frames import event_frame

    text = "x" * max(1, size - 145)
    return b"".join(
        event_frame("contentBlockDelta", {"contentBlockIndex": n % 10, "delta": {"text": text}}) for n in range(count)
    )


def measured(decode: Decode, count: int, size: int, step: int) -> Figures:
    """Decode a stream, read in pieces of ``step`` bytes."""
    warm_up = delta_burst(50, SMALL)
    assert decode([warm_up]) == 50
    stream = delta_burst(count, size)
    pieces = [stream[start : start + step] for start in range(0, len(stream), step)]
    began = time.process_time()
    seen = decode(pieces)
    seconds = time.process_time() - began
    assert seen == count, seen
    return {RATE: len(stream) / 1e6 / seconds, "events/s": count / seconds}


def events_by_ours(count: int, size: int, step: int) -> Figures:
    """Decode with our decoder, to events."""
    from managed_agents_actors._protocol.aws_events import read_event
    from managed_agents_actors._protocol.event_stream import EventStreamDecoder, EventStreamMessage

    def decode(pieces: list[bytes]) -> int:
        decoder, seen = EventStreamDecoder(), 0
        for piece in pieces:
            for message in decoder.feed(piece):
                assert isinstance(message, EventStreamMessage)
                seen += isinstance(read_event(message), dict)
        return seen

    return measured(decode, count, size, step)


def messages_by_ours(count: int, size: int, step: int) -> Figures:
    """Decode with our decoder, to verified messages only."""
    from managed_agents_actors._protocol.event_stream import EventStreamDecoder

    def decode(pieces: list[bytes]) -> int:
        decoder = EventStreamDecoder()
        return sum(len(decoder.feed(piece)) for piece in pieces)

    return measured(decode, count, size, step)


def events_by_botocore(count: int, size: int, step: int) -> Figures:
    """Decode with botocore's buffer and parser, to events."""
    from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped]  # botocore has no types
    from botocore.parsers import EventStreamJSONParser  # type: ignore[import-untyped]  # as above

    shape = harness_stream()

    def decode(pieces: list[bytes]) -> int:
        buffer, parser, seen = EventStreamBuffer(), EventStreamJSONParser(), 0
        for piece in pieces:
            buffer.add_data(piece)
            for message in buffer:
                seen += bool(parser.parse(message.to_response_dict(), shape))
        return seen

    return measured(decode, count, size, step)


def messages_by_botocore(count: int, size: int, step: int) -> Figures:
    """Decode with botocore's buffer, to verified messages only."""
    from botocore.eventstream import EventStreamBuffer

    def decode(pieces: list[bytes]) -> int:
        buffer, seen = EventStreamBuffer(), 0
        for piece in pieces:
            buffer.add_data(piece)
            seen += sum(1 for _ in buffer)
        return seen

    return measured(decode, count, size, step)


def harness_stream() -> Any:
    """Give what botocore knows of the events of InvokeHarness."""
    from botocore.model import ServiceModel  # type: ignore[import-untyped]  # as above
    from botocore.session import Session  # type: ignore[import-untyped]  # as above

    loader = Session().get_component("data_loader")
    service = ServiceModel(loader.load_service_model("bedrock-agentcore", "service-2"), "bedrock-agentcore")
    return service.operation_model("InvokeHarness").get_event_stream_output()


def tables(options: Options) -> Iterator[Table]:
    """Measure small and large messages, in small and large pieces; and whether ours is linear on large ones."""
    sizes = {SMALL: 20_000, 2048: 5_000, 100_000: 400, 1_000_000: 20, 10_000_000: 2}
    if options.short:
        sizes = {SMALL: 10_000, 100_000: 200}
    for step in (MODEL_CHUNK,) if options.short else (MODEL_CHUNK, READ_CHUNK):
        by_size: dict[str, list[Figures | None]] = {}
        for size, count in sizes.items():
            rows = {OURS: events_by_ours, BOTOCORE: events_by_botocore}
            if not options.short:
                rows |= {"ours, to messages": messages_by_ours, "botocore, to messages": messages_by_botocore}
            calls = {name: partial(row, count, size, step) for name, row in rows.items()}
            limits = [Limit(row=OURS, unit=RATE, base=BOTOCORE, least=3)] if size == SMALL else []
            title = f"Messages of {size:,} B, read by {step:,} B"
            table = benchmark.measure(title, calls, options, bases=[BOTOCORE], limits=limits)
            by_size[f"{size:,} B"] = table.runs[OURS]
            yield table
        if not options.short:
            base, large = f"{1_000_000:,} B", f"{10_000_000:,} B"
            # Large ones are beyond the processor's caches; with quadratic work it would be a tenth.
            linear = Limit(row=large, unit=RATE, base=base, least=0.4)
            yield Table(f"Ours, to events, by size, read by {step:,} B", [base], by_size, [linear])


benchmark = Benchmark(__file__, (events_by_ours, messages_by_ours, events_by_botocore, messages_by_botocore))

if __name__ == "__main__":
    benchmark.main(tables, __doc__)
