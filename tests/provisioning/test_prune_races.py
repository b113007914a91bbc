"""Pruning beside others: what was refused, lost, used or tagged meanwhile; the store never offers what is gone."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.testing import Delay, Fault, LoseAnswer, RefuseWith

from ._world import Failing
from .test_prune import PUT_AWAY, versions
from .test_tags import KINDS, open_kind


@KINDS
async def test_what_was_not_remembered_is_not_remembered_after_a_refusal(name: str, autojump_clock: MockClock) -> None:
    async with open_kind(name, Fault(on=PUT_AWAY[name], action=RefuseWith(403), nth="every")) as kind:
        await versions(kind, 2)
        elsewhere = maa.MemoryStore()
        with pytest.raises(maa.ProvisioningError):
            await kind.prune(1, store=elsewhere)
        assert await elsewhere.items("") == {}


@KINDS
async def test_an_archived_version_whose_answer_was_lost_is_never_offered(name: str, autojump_clock: MockClock) -> None:
    async with open_kind(name, Fault(on=PUT_AWAY[name], action=LoseAnswer(), nth="every")) as kind:
        made = await versions(kind, 2)
        with pytest.raises(maa.ProvisioningError):
            await kind.prune(1)
        assert made[0].name not in [version.name for version in await kind.list()]
        offered = [value["name"] for key, value in (await kind.entries).items() if key.startswith("resource")]
        assert offered == [made[1].name]


async def test_what_comes_into_use_meanwhile_stays(autojump_clock: MockClock) -> None:
    async with open_kind("agent", Fault(on="archive_agent", action=Delay(2))) as kind:
        made = await versions(kind, 3)
        client, box = kind.here.client, kind.here.simulator.environment_id

        async def use() -> None:
            await trio.sleep(1)  # the first version is being archived
            await client.sessions.create(agent=made[1].id, environment_id=box)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(use)
            pruned = await kind.prune(1)
        assert pruned.archived == (made[0].name,)
        assert pruned.kept == {made[2].name: "newest", made[1].name: "in use"}


@pytest.mark.parametrize("is_readable", [True, False])
async def test_a_tag_that_another_process_sets_too_late_is_told_of(
    is_readable: bool, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Other(Failing):
        """A store in which another process, which knows of no flights, tags what is about to be archived."""

        async def delete_value(self, value: Any) -> int:
            found = await super().delete_value(value)
            for key, kept in late.items():
                await self.inner.put(key, kept)
            if not is_readable:
                self.operations.add("items")
            return found

    late: dict[str, Any] = {}
    async with open_kind("agent") as kind:
        kind.store = store = Other()
        made = await versions(kind, 2)
        await kind.tag("support", "late", made[0])
        late = {key: kept for key, kept in (await store.items("")).items() if key.startswith("tag")}
        for key in late:
            await store.delete(key)
        assert (await kind.prune(1)).archived == (made[0].name,)
    expected = "provisioning_tag_of_what_is_away" if is_readable else "no disk to items"
    assert expected in caplog.text
    assert ("tag='late'" in caplog.text) is is_readable
