"""A store that does not answer blocks nobody: it is one that fails, after a bounded time."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa

from ._world import AGENT, Failing, open_claude


class Hanging(Failing):
    """A store that never answers what is named."""

    def __init__(self, *hanging: str) -> None:
        super().__init__()
        self.hanging = hanging

    async def get(self, key: str) -> Any:
        await self._hang("get")
        return await super().get(key)

    async def put(self, key: str, value: Any) -> None:
        await self._hang("put")
        await super().put(key, value)

    async def items(self, prefix: str) -> dict[str, Any]:
        await self._hang("items")
        return await super().items(prefix)

    async def _hang(self, operation: str) -> None:
        if operation in self.hanging:
            await trio.sleep_forever()


async def test_a_store_that_does_not_answer_is_one_without_entries(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_claude() as here:
        await maa.ensure_agent(here.client, AGENT, store=Hanging("get"))
        assert trio.current_time() == 5
        assert len(await here.agents()) == 1
    assert "operation='get'" in caplog.text


@pytest.mark.parametrize("operation", ["get", "put", "items"])
async def test_where_tags_are_a_store_that_does_not_answer_is_an_error(
    operation: str, autojump_clock: MockClock
) -> None:
    async with open_claude() as here:
        handle = await maa.ensure_agent(here.client, AGENT, store=here.store)
        store, client = Hanging(operation), here.client
        with pytest.raises(maa.StoreError, match="within 5 s"):
            match operation:
                case "get":
                    await maa.resolve_agent(client, "support:live", store=store)
                case "put":
                    await maa.tag_agent(client, "support", "live", handle, store=store)
                case _:
                    await maa.prune_agents(client, "support", keep=1, store=store)
        assert trio.current_time() == 5
