"""A stage for children: they serve until the test tells them how to end, and what they do is logged with its time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import trio

from managed_agents_actors.actors import ChildSpec, stop_signal


class Stage:
    """Makes child specs; knows which runs began and ended when, and ends them on request.

    Attributes:
        log: What happened, such as ``"db up"`` and ``"db down"``, with the time since the stage was made.
    """

    def __init__(self) -> None:
        self._began = trio.current_time()
        self._orders: dict[str, trio.MemorySendChannel[BaseException | None]] = {}
        self.log: list[tuple[float, str]] = []
        self._troubles: dict[str, deque[Exception]] = {}

    @property
    def now(self) -> float:
        return trio.current_time() - self._began

    @property
    def events(self) -> list[str]:
        """The log without its times."""
        return [what for _, what in self.log]

    def note(self, what: str) -> None:
        self.log.append((self.now, what))

    def clear(self) -> None:
        self.log.clear()

    def child(
        self,
        id: str,
        *,
        start_takes: float = 0,
        heeds: float | None = None,
        cleanup: float = 0,
        check: Callable[[], Any] = lambda: None,
        **fields: Any,
    ) -> ChildSpec:
        """A child that takes so long to start, to end once it is told (``heeds``), and to clean up when cancelled.

        ``check`` is called in each run, before it serves; what it gives is the child's value.
        """

        async def start(*, task_status: trio.TaskStatus[Any]) -> None:
            troubles = self._troubles.get(id)
            if start_takes:
                await trio.sleep(start_takes)
            if troubles:
                raise troubles.popleft()
            orders, take = trio.open_memory_channel[BaseException | None](1)
            task_status.started(check())
            self._orders[id] = orders
            self.note(f"{id} up")
            try:
                await self._serve(take, heeds)
            except trio.Cancelled:
                with trio.move_on_after(cleanup, shield=True):
                    await trio.sleep_forever()
                raise
            finally:
                self.note(f"{id} down")

        return ChildSpec(id=id, start=start, **fields)

    def fail_next(self, id: str, *errors: Exception) -> None:
        """Let the next starts of a child raise these, one after the other."""
        self._troubles[id] = deque(errors)

    def end(self, id: str, error: BaseException | None = None) -> None:
        """Let the present run of a child raise this, or return."""
        self._orders[id].send_nowait(error)

    def is_up(self, id: str) -> bool:
        """Whether a child serves and has not been told how to end."""
        ups_and_downs = [what for what in self.events if what in {f"{id} up", f"{id} down"}]
        return ups_and_downs[-1:] == [f"{id} up"] and self._orders[id].statistics().current_buffer_used == 0

    async def _serve(self, take: trio.MemoryReceiveChannel[BaseException | None], heeds: float | None) -> None:
        if heeds is not None:
            signal = stop_signal()
            await signal.wait()
            self.note("told to restart" if signal.restarting else "told to end")
            await trio.sleep(heeds)
            return
        error = await take.receive()
        if error is not None:
            raise error


# Virtual seconds after which a test that waits for what never comes fails, instead of running for ever.
PATIENCE = 1_000_000.0


@pytest.fixture
async def stage(nursery: trio.Nursery) -> Stage:
    """An empty stage. A test asks for ``autojump_clock`` beside it, and is bounded by it."""
    nursery.start_soon(_lose_patience)
    return Stage()


async def _lose_patience() -> None:
    await trio.sleep(PATIENCE)
    pytest.fail("it waits for what never comes")


@pytest.fixture(scope="session")
def stage_type() -> type[Stage]:
    """For laws, which need a stage for each case."""
    return Stage
