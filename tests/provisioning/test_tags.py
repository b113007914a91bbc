"""Tags: a tag means exactly the version it was set on, until it is moved; else there is an error that says why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa

from ._world import AGENT, ENVIRONMENT, HARNESS, OTHER_ACCOUNT, OTHER_ROLE, ROLE, Failing, open_agentcore, open_claude


class Kind:
    """One of the three kinds, spoken to in one way."""

    def __init__(self, name: str, here: Any) -> None:
        self.name, self.here, self.store = name, here, here.store
        self.role = {"execution_role_arn": ROLE} if name == "harness" else {}
        plural = "harnesses" if name == "harness" else f"{name}s"
        self._tag, self._resolve = getattr(maa, f"tag_{name}"), getattr(maa, f"resolve_{name}")
        self._list, self._prune = getattr(maa, f"list_{plural}"), getattr(maa, f"prune_{plural}")
        self._ensure = getattr(maa, f"ensure_{name}")

    @property
    def entries(self) -> Any:
        return self.store.items("")

    async def ensure(self, content: str = "", *, name: str = "support", **more: Any) -> Any:
        spec: Any = {"agent": AGENT, "environment": ENVIRONMENT, "harness": HARNESS}[self.name]
        if content:
            config = {"type": "cloud", "packages": {"pip": [content]}}
            change: dict[str, Any] = {"config": config} if self.name == "environment" else {"system_prompt": content}
            spec = replace(spec, **change)
        options = {"name": name, "store": self.store, **self.role, **more}
        return await self._ensure(self.here.client, spec, **options)

    async def tag(self, base: Any, tag: Any, target: Any, **more: Any) -> None:
        await self._tag(self.here.client, base, tag, target, **{"store": self.store, **self.role, **more})

    async def resolve(self, reference: Any, **more: Any) -> Any:
        return await self._resolve(self.here.client, reference, **{"store": self.store, **self.role, **more})

    async def list(self, base: str = "support") -> Any:
        return await self._list(self.here.client, base, store=self.store)

    async def prune(self, keep: Any, base: str = "support", **more: Any) -> Any:
        return await self._prune(self.here.client, base, **{"keep": keep, "store": self.store, **more})


@asynccontextmanager
async def open_kind(name: str, *faults: Any, **options: Any) -> AsyncIterator[Kind]:
    if name == "harness":
        options.setdefault("times", {})
    async with (open_agentcore if name == "harness" else open_claude)(*faults, **options) as here:
        yield Kind(name, here)


KINDS = pytest.mark.parametrize("name", ["agent", "environment", "harness"])


@KINDS
async def test_a_tag_can_be_moved_and_moved_back(name: str, autojump_clock: MockClock) -> None:
    async with open_kind(name) as kind:
        one, two = await kind.ensure("one"), await kind.ensure("two")
        sent = len(kind.here.traffic)
        for handle in (one, two, one):
            await kind.tag("support", "live", handle)
            assert await kind.resolve("support:live") == handle
        await kind.tag("support", "live", two.digest)
        await kind.tag("support", "next", one)
        assert (await kind.resolve("support:live"), await kind.resolve("support:next")) == (two, one)
        assert len(kind.here.traffic) == sent  # tags are in the store alone


@KINDS
async def test_only_the_first_colon_ends_the_base(name: str, autojump_clock: MockClock) -> None:
    async with open_kind(name) as kind:
        handle = await kind.ensure()
        for tag in ("a:b", ":", "a/b", "%2F", "ü 🙂", "live"):
            await kind.tag("support", tag, handle)
            assert await kind.resolve(f"support:{tag}") == handle
        with pytest.raises(maa.ProvisioningError, match="unknown tag"):
            await kind.resolve("support:a")


@KINDS
async def test_nothing_is_taken_in_a_tag_s_place(name: str, autojump_clock: MockClock) -> None:
    async with open_kind(name) as kind:
        handle = await kind.ensure()
        await kind.tag("support", "live", handle)
        for reference in ("support:other", "support:Live", "suppor:live", "support_:live", "support_x:live"):
            with pytest.raises(maa.ProvisioningError, match="unknown tag") as caught:
                await kind.resolve(reference)
            assert (caught.value.context["phase"], caught.value.context["reason"]) == ("resolve", "unknown tag")
        await kind.store.delete_value(handle.to_json())
        with pytest.raises(maa.ProvisioningError, match="no handle in the store") as caught:
            await kind.resolve("support:live")
        assert caught.value.context["reason"] == "untracked digest"
        assert caught.value.context["digest"] == handle.digest
        with pytest.raises(maa.ProvisioningError, match="cannot be set") as caught:
            await kind.tag("support", "live", handle.digest)
        assert (caught.value.context["phase"], caught.value.context["reason"]) == ("tag", "untracked digest")
        # A handle is remembered again.
        await kind.tag("support", "live", handle)
        assert await kind.resolve("support:live") == handle


@KINDS
@pytest.mark.parametrize("junk", ["junk", "0123456G", 7, [], {"a": 1}, True])
async def test_a_damaged_store_is_reported(name: str, junk: Any, autojump_clock: MockClock) -> None:
    async with open_kind(name) as kind:
        handle = await kind.ensure()
        await kind.tag("support", "live", handle)
        entries = await kind.entries
        for key, value in entries.items():
            await kind.store.put(key, junk)
            with pytest.raises(maa.ProvisioningError) as caught:
                await kind.resolve("support:live")
            assert caught.value.context["reason"] == "corrupt entry"
            await kind.store.put(key, value)
        [key] = [key for key in entries if key.startswith("resource")]
        await kind.store.put(key, {**handle.to_json(), "name": "another_01234567"})
        with pytest.raises(maa.ProvisioningError, match="is of another_01234567") as caught:
            await kind.resolve("support:live")
        with pytest.raises(maa.ProvisioningError, match="is of another_01234567"):
            await kind.tag("support", "live", handle.digest)


@KINDS
@pytest.mark.parametrize("operation", ["get", "put"])
async def test_a_store_that_fails_is_an_error(name: str, operation: str, autojump_clock: MockClock) -> None:
    async with open_kind(name) as kind:
        handle = await kind.ensure()
        broken = Failing(operation)
        with pytest.raises(maa.StoreError, match=f"no disk to {operation}") as caught:
            await (
                kind.resolve("support:live", store=broken)
                if operation == "get"
                else kind.tag("support", "live", handle, store=broken)
            )
        assert isinstance(caught.value.__cause__, OSError)
        own = Failing(operation, error=maa.StoreError("mine"))
        with pytest.raises(maa.StoreError, match="mine"):
            await (
                kind.resolve("support:live", store=own)
                if operation == "get"
                else kind.tag("support", "live", handle, store=own)
            )


@KINDS
async def test_what_cannot_be_tagged_or_resolved_is_refused(name: str, autojump_clock: MockClock) -> None:
    async with open_kind(name) as kind:
        handle = await kind.ensure()
        other = await kind.ensure(name="other")
        strange: Any = replace(handle, digest="xyz")
        for base, tag, target in [
            ("sup:port", "live", handle),
            ("", "live", handle),
            (None, "live", handle),
            ("support", "", handle),
            ("support", None, handle),
            ("support", "live", other),
            ("support", "live", strange),
            ("support", "live", "0123456"),
            ("support", "live", None),
            ("support", "live", handle.to_json()),
            ("support", "live", AnyDigest(handle.digest, handle.name)),
        ]:
            with pytest.raises(maa.ConfigurationError):
                await kind.tag(base, tag, target)
        for reference in ("support", "", ":live", "support:", "support: ", None, 7):
            with pytest.raises(maa.ConfigurationError):
                await kind.resolve(reference)
        assert [key for key in await kind.entries if key.startswith("tag")] == []


class AnyDigest:
    """Something that looks like a handle."""

    def __init__(self, digest: str, name: str) -> None:
        self.digest, self.name = digest, name


async def test_a_tag_is_of_one_account(autojump_clock: MockClock) -> None:
    async with open_kind("harness") as kind:
        handle = await kind.ensure()
        await kind.tag("support", "live", handle)
        # Another role of the account finds it; the role is a part of what the version is, not of where it is tagged.
        assert await kind.resolve("support:live", execution_role_arn=OTHER_ROLE) == handle
        with pytest.raises(maa.ProvisioningError, match="unknown tag"):
            await kind.resolve("support:live", execution_role_arn=OTHER_ACCOUNT)
        with pytest.raises(maa.ConfigurationError, match="execution_role_arn"):
            await kind.resolve("support:live", execution_role_arn="role")
        async with kind.here.simulator.client(control_endpoint_url="http://elsewhere.test") as elsewhere:
            with pytest.raises(maa.ProvisioningError, match="unknown tag"):
                await maa.resolve_harness(elsewhere, "support:live", execution_role_arn=ROLE, store=kind.store)


async def test_kinds_have_tags_of_their_own(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        agent = await maa.ensure_agent(here.client, AGENT, name="x", store=here.store)
        box = await maa.ensure_environment(here.client, ENVIRONMENT, name="x", store=here.store)
        await maa.tag_agent(here.client, "x", "live", agent, store=here.store)
        with pytest.raises(maa.ProvisioningError, match="unknown tag"):
            await maa.resolve_environment(here.client, "x:live", store=here.store)
        await maa.tag_environment(here.client, "x", "live", box, store=here.store)
        assert await maa.resolve_agent(here.client, "x:live", store=here.store) == agent


async def test_bases_that_give_the_same_harness_names_are_one(autojump_clock: MockClock) -> None:
    async with open_kind("harness") as kind:
        handle = await kind.ensure(name="sup-port")
        assert await kind.ensure(name="sup.port") == handle
        await kind.tag("sup.port", "live", handle)
        assert await kind.resolve("sup_port:live") == handle
        assert (await kind.prune(1, base="sup port")).kept == {handle.name: "newest"}


@KINDS
async def test_a_listing_shows_versions_the_newest_first(name: str, autojump_clock: MockClock) -> None:
    async with open_kind(name) as kind:
        handles = [await kind.ensure(content) for content in ("one", "two", "three")]
        await kind.ensure("one", name="support_longer")
        await kind.tag("support", "live", handles[1])
        await kind.tag("support", "beta", handles[1])
        await kind.store.delete_value(handles[0].to_json())
        versions = await kind.list()
        assert [version.name for version in versions] == [handle.name for handle in reversed(handles)]
        assert [version.tags for version in versions] == [(), ("beta", "live"), ()]
        assert [version.is_tracked for version in versions] == [True, True, False]
        assert [version.digest for version in versions] == [handle.digest for handle in reversed(handles)]
        assert all(version.created_at.tzinfo is not None for version in versions)
        assert await kind.list("nothing") == []


@KINDS
@pytest.mark.parametrize("text", ["a\ud83d", "\ud83d", "a\nb", "a\x00", "\x1b[2J"])
async def test_a_tag_and_a_base_can_be_written_down(name: str, text: str, autojump_clock: MockClock) -> None:
    async with open_kind(name) as kind:
        handle = await kind.ensure()
        for base, tag in (("support", text), (text, "live")):
            with pytest.raises(maa.ConfigurationError, match=r"half a surrogate pair|a control character"):
                await kind.tag(base, tag, handle)
            with pytest.raises(maa.ConfigurationError, match=r"half a surrogate pair|a control character"):
                await kind.resolve(f"{base}:{tag}")
        with pytest.raises(maa.ConfigurationError):
            await kind.ensure(name=text)


@KINDS
async def test_what_could_not_be_tagged_is_not_made(name: str, autojump_clock: MockClock) -> None:
    async with open_kind(name) as kind:
        with pytest.raises(maa.ConfigurationError, match="a colon"):
            await kind.ensure(name="sup:port")
        assert kind.here.traffic == []


async def test_a_harness_of_another_place_is_not_tagged_here(autojump_clock: MockClock) -> None:
    async with open_kind("harness") as kind:
        handle = await kind.ensure()
        with pytest.raises(maa.ConfigurationError, match="account 210987654321"):
            await kind.tag("support", "live", handle, execution_role_arn=OTHER_ACCOUNT)
        async with kind.here.simulator.client(region="eu-west-1") as elsewhere:
            with pytest.raises(maa.ConfigurationError, match="in eu-west-1"):
                await maa.tag_harness(elsewhere, "support", "live", handle, execution_role_arn=ROLE, store=kind.store)
        assert [key for key in await kind.entries if key.startswith("tag")] == []


@KINDS
async def test_tagging_waits_for_whoever_has_the_version(name: str, autojump_clock: MockClock) -> None:
    """Between the two writings of a tag nobody prunes the version."""

    class Slow(Failing):
        async def put(self, key: str, value: Any) -> None:
            await trio.sleep(1)
            await super().put(key, value)

    async with open_kind(name) as kind:
        made = [await kind.ensure(content) for content in ("one", "two")]
        kind.store = store = Slow()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kind.tag, "support", "live", made[0])
            await trio.sleep(0.5)  # the handle is being written, the tag is not yet
            pruned = await kind.prune(1)
        assert pruned.archived == ()
        assert pruned.kept[made[0].name] == "tagged"
        assert await kind.resolve("support:live", store=store) == made[0]
