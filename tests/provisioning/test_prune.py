"""Pruning: what is new, tagged or in use stays, or cannot be told for certain; the rest goes, the oldest first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.testing import (
    Fault,
    LoseRequest,
    RefuseWith,
    TerminateSession,
    run_in_virtual_time,
)

from ._world import ROLE, Failing
from .test_tags import KINDS, Kind, open_kind

PUT_AWAY = {"agent": "archive_agent", "environment": "archive_environment", "harness": "delete_harness"}


async def versions(kind: Kind, count: int) -> list[Any]:
    return [await kind.ensure(f"version {number}") for number in range(count)]


async def live(kind: Kind) -> set[str]:
    return {version.name for version in await kind.list()}


def id_of(handle: Any) -> str:
    return getattr(handle, "harness_id", None) or handle.id


@KINDS
async def test_the_newest_and_the_tagged_stay(name: str, autojump_clock: MockClock) -> None:
    async with open_kind(name) as kind:
        made = await versions(kind, 6)
        await kind.tag("support", "live", made[1])
        names = [handle.name for handle in made]
        would = await kind.prune(2, dry_run=True)
        assert await live(kind) == set(names)
        pruned = await kind.prune(2)
        assert pruned == would
        assert pruned.archived == (names[0], names[2], names[3])
        assert pruned.kept == {names[5]: "newest", names[4]: "newest", names[1]: "tagged"}
        assert await live(kind) == {names[1], names[4], names[5]}
        order = [line for line in kind.here.traffic if line.endswith("/archive") or line.startswith("DELETE")]
        assert [id_of(made[number]) in line for number, line in zip((0, 2, 3), order, strict=True)] == [True] * 3
        # The store offers nothing that is gone.
        tracked = {value["name"] for key, value in (await kind.entries).items() if key.startswith("resource")}
        assert tracked == {names[1], names[4], names[5]}
        again = await kind.prune(2)
        assert (again.archived, again.kept) == ((), pruned.kept)


@KINDS
async def test_other_bases_are_never_touched(name: str, autojump_clock: MockClock) -> None:
    async with open_kind(name) as kind:
        others = [await kind.ensure("x", name=base) for base in ("support_x", "support_0123abcd", "suppor", "support_")]
        made = await versions(kind, 2)
        assert (await kind.prune(1)).archived == (made[0].name,)
        for other in others:
            base = other.name.removesuffix(f"_{other.digest}")
            assert [version.name for version in await kind.list(base)] == [other.name]


@KINDS
@pytest.mark.parametrize("keep", [0, -1, True, 1.0, "1", None])
async def test_how_many_to_keep_must_be_said(name: str, keep: Any, autojump_clock: MockClock) -> None:
    async with open_kind(name) as kind:
        await kind.ensure()
        sent = len(kind.here.traffic)
        with pytest.raises(maa.ConfigurationError, match="keep="):
            await kind.prune(keep)
        assert len(kind.here.traffic) == sent


@KINDS
@pytest.mark.parametrize("damage", ["items", "entry"])
async def test_without_the_tags_nothing_is_put_away(name: str, damage: str, autojump_clock: MockClock) -> None:
    async with open_kind(name) as kind:
        await versions(kind, 3)
        store: Any = Failing("items")
        if damage == "entry":
            store = kind.store
            await kind.tag("support", "live", await kind.ensure())
            [key] = [key for key in await kind.entries if key.startswith("tag")]
            await store.put(key, "junk")
        sent = len(kind.here.traffic)
        with pytest.raises(maa.StoreError):
            await kind.prune(1, store=store)
        assert len(kind.here.traffic) == sent


@KINDS
async def test_what_was_tagged_under_another_key_stays(name: str, autojump_clock: MockClock) -> None:
    async with open_kind(name) as kind:
        made = await versions(kind, 3)
        await kind.tag("support", "live", made[0])
        entries = await kind.entries
        [key] = [key for key in entries if key.startswith("tag")]
        place = key.split("/")[3]
        await kind.store.delete(key)
        await kind.store.put(key.replace(place, "0" * 16), entries[key])
        assert (await kind.prune(1)).kept[made[0].name] == "tagged"


@KINDS
@pytest.mark.parametrize("action", [RefuseWith(403), LoseRequest(), RefuseWith(500)])
async def test_a_failure_says_what_was_done(name: str, action: Any, autojump_clock: MockClock) -> None:
    async with open_kind(name, Fault(on=PUT_AWAY[name], action=action, nth=2, times=100)) as kind:
        made = await versions(kind, 5)
        names = [handle.name for handle in made]
        with pytest.raises(maa.ProvisioningError, match="1 were before it") as caught:
            await kind.prune(1)
        context = caught.value.context
        assert (context["phase"], context["id"]) == ("prune", id_of(made[1]))
        assert (context["archived"], context["failed"], context["kept"]) == (
            (names[0],),
            names[1],
            {names[4]: "newest"},
        )
        assert isinstance(caught.value.__cause__, maa.PermissionDeniedError | maa.TransportError | maa.ServerError)
        assert await live(kind) == set(names[1:])
        # What was refused is still remembered. What may have been put away is not, and is found again if it was not.
        tracked = {value["name"] for key, value in (await kind.entries).items() if key.startswith("resource")}
        assert tracked == set(names[1 if action == RefuseWith(403) else 2 :])
        assert await kind.ensure("version 1") == made[1]


@KINDS
async def test_a_store_that_cannot_forget_puts_nothing_away(name: str, autojump_clock: MockClock) -> None:
    async with open_kind(name) as kind:
        made = await versions(kind, 2)
        with pytest.raises(maa.ProvisioningError, match="no disk to delete_value") as caught:
            await kind.prune(1, store=Failing("delete_value"))
        assert caught.value.context["archived"] == ()
        assert isinstance(caught.value.__cause__, maa.StoreError)
        assert await live(kind) == {handle.name for handle in made}


@KINDS
@pytest.mark.parametrize("operation", ["list", "use"])
async def test_what_cannot_be_told_is_no_reason_to_go(name: str, operation: str, autojump_clock: MockClock) -> None:
    listing = {"agent": "list_agents", "environment": "list_environments", "harness": "list_harnesses"}[name]
    uses = "list_harness_endpoints" if name == "harness" else "list_sessions"
    fault = Fault(on=listing if operation == "list" else uses, action=RefuseWith(403), nth="every")
    if name == "agent" and operation == "list":
        fault = Fault(on=listing, action=RefuseWith(403), nth=4)
    async with open_kind(name, fault) as kind:
        await versions(kind, 3)
        with pytest.raises(maa.PermissionDeniedError):
            await kind.prune(1)
        assert [line for line in kind.here.traffic if line.endswith("/archive") or line.startswith("DELETE")] == []


@pytest.mark.parametrize("name", ["agent", "environment"])
async def test_what_a_session_uses_stays_until_it_has_terminated(name: str, autojump_clock: MockClock) -> None:
    async with open_kind(name) as kind:
        made = await versions(kind, 4)
        client, simulator = kind.here.client, kind.here.simulator
        used = {"agent": made[0].id, "environment_id": simulator.environment_id}
        if name == "environment":
            used = {"agent": simulator.agent_id, "environment_id": made[0].id}
        session = await client.sessions.create(**used)
        for _ in range(25):  # whoever looks at one page does not see it
            await client.sessions.create(agent=simulator.agent_id, environment_id=simulator.environment_id)
        pruned = await kind.prune(1)
        assert pruned.kept == {made[3].name: "newest", made[0].name: "in use"}
        assert pruned.archived == (made[1].name, made[2].name)
        await client.sessions.archive(session["id"])
        assert (await kind.prune(1)).archived == (made[0].name,)


@pytest.mark.parametrize("name", ["agent", "environment"])
async def test_a_session_that_has_terminated_uses_nothing(name: str, autojump_clock: MockClock) -> None:
    async with open_kind(name, Fault(on="retrieve_session", action=TerminateSession())) as kind:
        made = await versions(kind, 2)
        client, simulator = kind.here.client, kind.here.simulator
        ids = {"agent": simulator.agent_id, "environment_id": simulator.environment_id}
        ids["agent" if name == "agent" else "environment_id"] = made[0].id
        session = await client.sessions.create(ids)
        assert (await kind.prune(1)).archived == ()
        assert (await client.sessions.retrieve(session["id"]))["status"] == "terminated"
        assert (await kind.prune(1)).archived == (made[0].name,)


@pytest.mark.parametrize(
    "multiagent",
    [
        lambda part: {"type": "coordinator", "agents": [part]},
        lambda part: {"type": "coordinator", "agents": [{"type": "agent", "id": part, "version": 1}]},
        lambda part: {"type": "multiagent_20261001", "subagents": {"type": "enabled", "predefined_agents": [part]}},
        lambda part: {
            "type": "multiagent_20261001",
            "workflows": {"predefined_agents": [{"type": "agent", "id": part}]},
        },
    ],
)
async def test_what_is_a_part_of_another_agent_stays(multiagent: Any, autojump_clock: MockClock) -> None:
    async with open_kind("agent") as kind:
        made = await versions(kind, 3)
        boss = await kind.here.client.agents.create(name="boss", model="m", multiagent=multiagent(made[0].id))
        assert (await kind.prune(1)).kept[made[0].name] == "in use"
        # A session keeps what its agent was when it began.
        box = kind.here.simulator.environment_id
        session = await kind.here.client.sessions.create(agent=boss["id"], environment_id=box)
        await kind.here.client.agents.archive(boss["id"])
        assert (await kind.prune(1)).kept[made[0].name] == "in use"
        await kind.here.client.sessions.archive(session["id"])
        assert (await kind.prune(1)).archived == (made[0].name,)


async def test_an_agent_that_is_a_part_of_itself_alone_is_not_in_use(autojump_clock: MockClock) -> None:
    async with open_kind("agent") as kind:
        made = await versions(kind, 2)
        itself = {"type": "coordinator", "agents": [{"type": "agent", "id": made[0].id, "version": 1}]}
        await kind.here.client.agents.update(made[0].id, multiagent=itself)
        assert (await kind.prune(1)).archived == (made[0].name,)


async def test_a_harness_with_an_endpoint_of_somebody_s_stays(autojump_clock: MockClock) -> None:
    async with open_kind("harness") as kind:
        made = await versions(kind, 3)
        await kind.here.client.create_harness_endpoint(harnessId=made[0].harness_id, endpointName="prod")
        pruned = await kind.prune(1)
        assert pruned.kept == {made[2].name: "newest", made[0].name: "in use"}
        assert pruned.archived == (made[1].name,)


async def test_a_harness_that_failed_takes_nobody_s_place(autojump_clock: MockClock) -> None:
    async with open_kind("harness") as kind:
        good = await kind.ensure("good")
        simulator, client = kind.here.simulator, kind.here.client
        simulator.fail_next("create_harness")
        broken = f"support_{'0' * 8}"
        row = await client.create_harness(harnessName=broken, executionRoleArn=ROLE)
        pruned = await kind.prune(1)
        assert (pruned.archived, pruned.kept) == ((broken,), {good.name: "newest"})
        assert row["harness"]["harnessId"] not in await kind.here.harnesses()


async def test_a_harness_that_is_going_already_is_not_counted(autojump_clock: MockClock) -> None:
    async with open_kind("harness", times={"delete": 100}) as kind:
        made = await versions(kind, 3)
        await kind.here.client.delete_harness(harnessId=made[2].harness_id)
        pruned = await kind.prune(1)
        assert (pruned.archived, pruned.kept) == ((made[0].name,), {made[1].name: "newest"})


async def test_agents_of_one_name_are_one_version(autojump_clock: MockClock) -> None:
    async with open_kind("agent") as kind:
        one, two = await versions(kind, 2)
        await kind.here.client.agents.create(name=two.name, model="m")
        pruned = await kind.prune(2)
        assert (pruned.archived, set(pruned.kept)) == ((), {one.name, two.name})


async def test_what_is_archived_meanwhile_is_as_good(autojump_clock: MockClock) -> None:
    """Some servers refuse to do it twice."""
    refused = False

    def bend(line: str, code: int, body: Any) -> tuple[int, Any]:
        nonlocal refused
        if line.endswith("/archive") and not refused:  # it was done, but by somebody else
            refused = True
            return 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "it is archived"}}
        return code, body

    async with open_kind("agent", bend=bend) as kind:
        made = await versions(kind, 2)
        assert (await kind.prune(1)).archived == (made[0].name,)
        assert refused


@pytest.mark.parametrize("value", [None, "yesterday", 7])
async def test_without_the_time_nothing_is_put_away(value: Any, autojump_clock: MockClock) -> None:
    def bend(line: str, code: int, body: Any) -> tuple[int, Any]:
        if line == "GET /v1/agents":
            for row in body["data"][:1]:
                row["created_at"] = value
        return code, body

    async with open_kind("agent", bend=bend) as kind:
        await versions(kind, 3)
        with pytest.raises(maa.ProtocolError, match="without the time it was made at"):
            await kind.prune(1)
        assert [line for line in kind.here.traffic if line.endswith("/archive")] == []


async def test_a_tag_that_is_set_meanwhile_protects(autojump_clock: MockClock) -> None:
    class Tagging(Failing):
        """A store in which somebody tags the second version, just before the first is forgotten."""

        async def delete_value(self, value: Any) -> int:
            if self.then is not None:
                then, self.then = self.then, None
                await then()
            return await super().delete_value(value)

        then: Any = None

    async with open_kind("agent") as kind:
        kind.store = store = Tagging()
        made = await versions(kind, 3)

        async def tag() -> None:
            await kind.tag("support", "live", made[1])

        store.then = tag
        pruned = await kind.prune(1)
        assert pruned.archived == (made[0].name,)
        assert pruned.kept == {made[2].name: "newest", made[1].name: "tagged"}
        assert await kind.resolve("support:live") == made[1]


FORMS = [
    lambda at: at.isoformat(),
    lambda at: at.isoformat().replace("+00:00", "Z"),
    lambda at: at.astimezone().isoformat(),
    lambda at: at.astimezone(UTC).replace(tzinfo=None).isoformat(),
    lambda at: at.strftime("%Y-%m-%dT%H:%M:%S.%f%z"),
]


@given(ages=st.lists(st.integers(0, 4), min_size=1, max_size=6), keep=st.integers(1, 7), draw=st.data())
@settings(max_examples=30)
def test_age_is_a_point_in_time_and_not_its_text(ages: list[int], keep: int, draw: st.DataObject) -> None:
    epoch = datetime(2026, 5, 1, 12, tzinfo=UTC)
    forms = [draw.draw(st.sampled_from(FORMS)) for _ in ages]
    shown: dict[str, str] = {}

    def bend(line: str, code: int, body: Any) -> tuple[int, Any]:
        if line == "GET /v1/agents":
            for row in body["data"]:
                row["created_at"] = shown.get(row["id"], row["created_at"])
        return code, body

    async def run() -> None:
        async with open_kind("agent", bend=bend) as kind:
            made = await versions(kind, len(ages))
            for handle, age, form in zip(made, ages, forms, strict=True):
                shown[handle.id] = form(epoch - timedelta(minutes=age))
            oldest_first = sorted(range(len(ages)), key=lambda n: (-ages[n], made[n].id))
            expected = tuple(made[n].name for n in oldest_first)
            pruned = await kind.prune(keep)
            assert pruned.archived == expected[: max(0, len(ages) - keep)]
            assert set(pruned.kept) == set(expected[max(0, len(ages) - keep) :])

    run_in_virtual_time(run)
