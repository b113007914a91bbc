"""How fast AgentCore turns are taken, one at a time and 200 at once, beside boto3 in threads.

A turn is a signed InvokeHarness whose answer has 50 small frames, each in a chunk of its own; it is read to its end and
every event decoded. Each worker, a task of ours or a thread of boto3's, has had a turn before the clock starts, so that
its connection is open and everything is loaded. boto3 has one client with a connection for each thread and makes no
second attempts. Processor time is that of the row's process. Run it with ``make bench`` or
``python benchmarks/agent_core.py``.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from functools import partial
from typing import Any, Final, TypeAlias

import trio
from peers import unused_tool
from rig import Benchmark, Figures, Options, Table, serving

REGION: Final = "eu-central-1"
KEYS: Final = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
HARNESS_ARN: Final = f"arn:aws:bedrock-agentcore:{REGION}:123456789012:harness/benchmark-A1b2C3d4E5"
FRAMES: Final = 50
BOTO3: Final = "boto3 in threads"

OpenTurn: TypeAlias = Callable[[int], AbstractAsyncContextManager[Callable[[], Awaitable[None]]]]


class Watch:
    """The time from when every worker is ready to when the last is done."""

    def __init__(self) -> None:
        self._began = self._cpu = 0.0
        self._turns: list[float] = []

    def start(self) -> None:
        """Every worker is ready."""
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def turn_took(self, seconds: float) -> None:
        """A turn has ended."""
        self._turns.append(seconds)

    def figures(self, turns: int) -> Figures:
        """Every worker is done."""
        seconds, cpu = time.perf_counter() - self._began, time.process_time() - self._cpu
        assert len(self._turns) == turns, len(self._turns)
        return {
            "turns/s": turns / seconds,
            "p50, ms": 1000 * statistics.median(self._turns),
            "CPU ms/turn": 1000 * cpu / turns,
        }


def name_of(number: int) -> str:
    """Give the id of a worker's session."""
    return f"session-of-the-benchmark-{number:016}"


def boto3(url: str, at_once: int, rounds: int) -> Figures:
    """The blocking client of boto3, one for all threads."""
    import boto3  # type: ignore[import-untyped]  # has no types
    from botocore.config import Config  # type: ignore[import-untyped]  # as above

    access_key, secret_key = KEYS
    client = boto3.client(
        "bedrock-agentcore",
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=at_once),
    )
    watch = Watch()
    barrier = threading.Barrier(at_once, action=watch.start)

    def turn(number: int) -> None:
        messages = [{"role": "user", "content": [{"text": "go"}]}]
        answer = client.invoke_harness(harnessArn=HARNESS_ARN, runtimeSessionId=name_of(number), messages=messages)
        with closing(answer["stream"]) as stream:
            seen = sum(1 for _event in stream)
        assert seen == FRAMES, seen

    def work(number: int) -> None:
        turn(number)
        barrier.wait()
        for _ in range(rounds):
            began = time.perf_counter()
            turn(number)
            watch.turn_took(time.perf_counter() - began)

    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(work, range(at_once)))
    return watch.figures(at_once * rounds)


async def in_tasks(open_turn: OpenTurn, at_once: int, rounds: int) -> Figures:
    """Have so many tasks take turns."""
    watch, go, preparing = Watch(), trio.Event(), at_once

    async def work(number: int) -> None:
        nonlocal preparing
        async with open_turn(number) as turn:
            await turn()
            preparing -= 1
            if not preparing:
                watch.start()
                go.set()
            await go.wait()
            for _ in range(rounds):
                began = time.perf_counter()
                await turn()
                watch.turn_took(time.perf_counter() - began)

    async with trio.open_nursery() as nursery:
        for number in range(at_once):
            nursery.start_soon(work, number)
    return watch.figures(at_once * rounds)


def client(url: str, at_once: int, rounds: int) -> Figures:
    """Our client, one for all tasks."""
    import managed_agents_actors as maa

    async def main() -> Figures:
        async with maa.AgentCoreClient(REGION, KEYS, url, max_retries=0) as client:

            @asynccontextmanager
            async def open_turn(number: int) -> AsyncIterator[Callable[[], Awaitable[None]]]:
                messages = [{"role": "user", "content": [{"text": "go"}]}]
                about: dict[str, Any] = {
                    "harnessArn": HARNESS_ARN,
                    "runtimeSessionId": name_of(number),
                    "messages": messages,
                }

                async def turn() -> None:
                    seen = 0
                    async with client.invoke_harness(**about) as stream:
                        try:
                            while True:
                                seen += len(await stream.receive_batch())
                        except trio.EndOfChannel:
                            assert seen == FRAMES, seen

                yield turn

            return await in_tasks(open_turn, at_once, rounds)

    return trio.run(main)


def session(url: str, at_once: int, rounds: int) -> Figures:
    """Whole sessions of ours: each turn is a request with a result."""
    import managed_agents_actors as maa
    from managed_agents_actors.providers import bedrock_agent_core

    async def main() -> Figures:
        async with maa.AgentCoreClient(REGION, KEYS, url, max_retries=0) as client:

            @asynccontextmanager
            async def open_turn(number: int) -> AsyncIterator[Callable[[], Awaitable[None]]]:
                async with maa.open_session(
                    bedrock_agent_core,
                    handler=unused_tool,
                    client=client,
                    harness_arn=HARNESS_ARN,
                    runtime_session_id=name_of(number),
                ) as live:

                    async def turn() -> None:
                        result = await live.ask("go")
                        assert result.text.startswith("a few words"), result.text

                    yield turn

            return await in_tasks(open_turn, at_once, rounds)

    return trio.run(main)


def tables(options: Options) -> Iterator[Table]:
    """Measure one at a time and 200 at once."""
    with serving("agent_core_server.py", frames=FRAMES) as server:
        for at_once, rounds in ((1, 200), (200, 10)):
            if options.short:
                rounds //= 10
            yield benchmark.measure(
                f"AgentCore turns, {at_once} at once",
                {
                    BOTO3: partial(boto3, server.url, at_once, rounds),
                    "ours, client": partial(client, server.url, at_once, rounds),
                    "ours, sessions": partial(session, server.url, at_once, rounds),
                },
                options,
                bases=[BOTO3],
            )


benchmark = Benchmark(__file__, (boto3, client, session))

if __name__ == "__main__":
    benchmark.main(tables, __doc__)
