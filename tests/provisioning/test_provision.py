"""The facade: what is checked, in which order, before anything is sent; whose client it is; what is told on the way."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.provisioning import Order, Progress, Removal
from managed_agents_actors.testing import Delay, Fault, RefuseWith, open_agentcore_simulator, open_claude_simulator

from ._world import AGENT, HARNESS, ROLE, TIMES, Failing, open_agentcore, open_claude

PROVIDERS = {"claude": claude_managed_agents, "agentcore": bedrock_agent_core}


@pytest.mark.parametrize(
    ("provider", "options", "error", "told"),
    [
        ("claude", {"colour": 1}, TypeError, "colour.*client, model_config"),
        ("claude", {"execution_role_arn": ROLE}, TypeError, "execution_role_arn"),
        ("claude", {"client": object()}, maa.ConfigurationError, "must be a ClaudeClient"),
        ("claude", {"model_config": 7}, maa.ConfigurationError, "model_config="),
        ("claude", {"model_config": {"apikey": "x"}}, maa.ConfigurationError, "apikey"),
        ("agentcore", {}, TypeError, "execution_role_arn="),
        ("agentcore", {"execution_role_arn": None}, TypeError, "execution_role_arn="),
        ("agentcore", {"execution_role_arn": " "}, maa.ConfigurationError, "execution_role_arn="),
        ("agentcore", {"execution_role_arn": 7}, maa.ConfigurationError, "execution_role_arn="),
        ("agentcore", {"execution_role_arn": "role/Harness"}, maa.ConfigurationError, "execution_role_arn="),
        ("agentcore", {"execution_role_arn": "arn:aws:iam::1:role/x"}, maa.ConfigurationError, "execution_role_arn="),
        ("agentcore", {"execution_role_arn": ROLE, "client": 7}, maa.ConfigurationError, "must be an? AgentCoreClient"),
        ("agentcore", {"execution_role_arn": ROLE, "colour": 1}, TypeError, "colour"),
    ],
)
async def test_the_provider_s_options_are_checked(
    provider: str, options: dict[str, Any], error: Any, told: str, autojump_clock: MockClock
) -> None:
    with pytest.raises(error, match=told):
        await maa.provision(PROVIDERS[provider], AGENT, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
        {"timeout": "60"},
        {"timeout": True},
        {"timeout": None},
        {"interval": 0},
        {"interval": float("inf")},
        {"interval": "5"},
        {"on_progress": 7},
        {"store": "x.db"},
        {"name": ""},
        {"name": "a\ud83d"},
        {"environment": 7},
        {"environment": {"runtimes": ["go"]}},
        {"spec": None},
        {"spec": {"name": "a"}},
        {"spec": {"name": "a", "system_prompt": "s", "model": "m", "settings": {"model": "x"}}},
        {"spec": {"name": "a", "system_prompt": "s", "model": "m", "settings": {"tools": []}}},
    ],
)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_bad_input_sends_nothing(provider: str, options: dict[str, Any], autojump_clock: MockClock) -> None:
    async with (open_claude if provider == "claude" else open_agentcore)() as here:
        role = {} if provider == "claude" else {"execution_role_arn": ROLE}
        given: dict[str, Any] = {"spec": AGENT, "client": here.client, "store": here.store, **role, **options}
        with pytest.raises(maa.ConfigurationError):
            await maa.provision(PROVIDERS[provider], given.pop("spec"), **given)
        assert here.traffic == []


async def test_things_are_checked_in_their_order(autojump_clock: MockClock) -> None:
    wrong: dict[str, Any] = {"execution_role_arn": "x", "environment": 7, "timeout": 0}
    for told in ("AgentSpec", "execution_role_arn", "EnvironmentSpec", "timeout"):
        spec: Any = None if told == "AgentSpec" else AGENT
        with pytest.raises(maa.ConfigurationError, match=told):
            await maa.provision(bedrock_agent_core, spec, **wrong)
        match told:
            case "execution_role_arn":
                wrong[told] = f"  {ROLE}\n"
            case "EnvironmentSpec":
                wrong["environment"] = {}


async def test_the_role_is_taken_without_the_space_around_it(autojump_clock: MockClock) -> None:
    async with open_agentcore(times={}) as here:
        for role in (ROLE, f"  {ROLE}\n"):
            await maa.provision(
                bedrock_agent_core, HARNESS, client=here.client, store=here.store, execution_role_arn=role
            )
        assert len(await here.harnesses()) == 1


async def test_a_client_of_one_s_own_is_made_and_closed() -> None:
    async with open_claude_simulator() as simulator:  # on a socket: there is no transport to give
        config = {"api_key": simulator.api_key, "base_url": simulator.base_url, "metadata": {"a": "b"}}
        store = maa.MemoryStore()
        handle = await maa.provision(claude_managed_agents, AGENT, store=store, model_config=config)
        await maa.teardown(claude_managed_agents, handle, store=store, model_config=config)
        assert await store.items("") == {}
        with pytest.raises(maa.ConfigurationError, match="beside client="):
            async with simulator.client() as client:
                await maa.provision(claude_managed_agents, AGENT, client=client, model_config=config)
    async with open_agentcore_simulator() as there:
        settings = {"region": there.region, "endpoint_url": there.base_url, "credentials": there.credentials}
        spec: dict[str, Any] = {"store": store, "model_config": settings}
        harness = await maa.provision(bedrock_agent_core, HARNESS, execution_role_arn=ROLE, timeout=5, **spec)
        del settings["region"]  # the handle tells it
        await maa.teardown(bedrock_agent_core, harness, **spec)


async def test_a_harness_is_not_looked_for_in_another_region(autojump_clock: MockClock) -> None:
    async with open_agentcore(times={}) as here:
        handle = await maa.ensure_harness(here.client, HARNESS, execution_role_arn=ROLE, store=here.store)
        async with here.simulator.client(region="eu-west-1") as elsewhere:
            with pytest.raises(maa.ConfigurationError, match="another region"):
                await maa.teardown(bedrock_agent_core, handle, client=elsewhere, store=here.store)
        assert len(await here.store.items("")) == 1


@pytest.mark.parametrize("value", [None, "x", {}, {"agent": {}}, 7])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_is_no_handle_cannot_be_put_away(provider: str, value: Any, autojump_clock: MockClock) -> None:
    async with (open_claude if provider == "claude" else open_agentcore)() as here:
        with pytest.raises(maa.ConfigurationError):
            await maa.teardown(PROVIDERS[provider], value, client=here.client)
        with pytest.raises(maa.ConfigurationError, match="timeout"):
            await maa.teardown(PROVIDERS[provider], value, client=here.client, timeout=float("inf"))
        assert here.traffic == []


async def test_a_store_that_cannot_forget_is_an_error_of_teardown(autojump_clock: MockClock) -> None:
    store = Failing("delete_value")
    async with open_claude() as here:
        handle = await maa.provision(claude_managed_agents, AGENT, client=here.client, store=store)
        with pytest.raises(maa.StoreError, match="no disk to delete_value"):
            await maa.teardown(claude_managed_agents, handle, client=here.client, store=store)
        store.operations.clear()
        await maa.teardown(claude_managed_agents, handle, client=here.client, store=store)
        assert await store.items("") == {}


async def test_what_is_forgotten_is_put_away_or_found_again(autojump_clock: MockClock) -> None:
    class Slow(Failing):
        """A store that takes a second to forget, in which the call is cancelled."""

        async def delete_value(self, value: Any) -> int:
            scope.cancel()
            await trio.sleep(1)
            return await super().delete_value(value)

    store = Slow()
    async with open_claude() as here:
        handle = await maa.provision(claude_managed_agents, AGENT, client=here.client, store=store)
        with trio.CancelScope() as scope:
            await maa.teardown(claude_managed_agents, handle, client=here.client, store=store)
        # Nothing was put away that the store would offer.
        there = {row["id"] for row in (*await here.agents(), *await here.environments())}
        assert {value["id"] for value in (await store.items("")).values()} <= there
        again = await maa.provision(claude_managed_agents, AGENT, client=here.client, store=store)
        assert (again.agent_id, again.environment_id) == (handle.agent_id, handle.environment_id)


async def test_a_store_that_forgets_for_ever_is_an_error_of_teardown(autojump_clock: MockClock) -> None:
    class Stuck(Failing):
        async def delete_value(self, value: Any) -> int:
            await trio.sleep_forever()

    async with open_claude() as here:
        handle = await maa.provision(claude_managed_agents, AGENT, client=here.client, store=Stuck())
        with pytest.raises(maa.StoreError, match="within 5 s"):
            await maa.teardown(claude_managed_agents, handle, client=here.client, store=Stuck())
        assert trio.current_time() == 5


async def test_a_store_that_writes_for_ever_is_waited_for_5_seconds(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Stuck(Failing):
        async def put(self, key: str, value: Any) -> None:
            await trio.sleep_forever()

    async with open_claude() as here:
        handle = await maa.ensure_agent(here.client, AGENT, store=Stuck())
        assert (trio.current_time(), "it takes too long" in caplog.text) == (5, True)
        assert [row["id"] for row in await here.agents()] == [handle.id]


class Mine:
    """A provider that has what it needs to be provisioned, and nothing else."""

    NAME = "mine"

    def __init__(self) -> None:
        self.orders: list[Order] = []

    def parse_provisioning(self, options: Any, *, teardown: bool = False) -> Any:
        return {**options, "teardown": teardown}

    async def provision(self, order: Order) -> Any:
        self.orders.append(order)
        order.course.enter("thinking", "an id")
        await trio.sleep(order.options["seconds"])
        return "a handle"

    async def teardown(self, removal: Removal) -> None:
        assert (removal.handle, removal.timeout, removal.options) == ("a handle", 7, {"teardown": True})


async def test_a_provider_of_one_s_own_is_given_an_order(autojump_clock: MockClock) -> None:
    mine = Mine()
    assert await maa.provision(mine, AGENT, name="x", seconds=10) == "a handle"
    [order] = mine.orders
    assert (order.spec, order.environment, order.name) == (AGENT, None, "x")
    assert order.options == {"seconds": 10, "teardown": False}
    with pytest.raises(
        maa.ProvisioningError, match="x at mine was not provisioned within 5 s: thinking of an id"
    ) as caught:
        await maa.provision(mine, AGENT, name="x", seconds=10, timeout=5)
    assert caught.value.context == {"phase": "thinking", "id": "an id", "status": None, "elapsed": 5, "polls": 0}
    await maa.teardown(mine, "a handle", timeout=7)


async def test_a_provider_that_cannot_is_refused() -> None:
    class Other:
        NAME = "other"

    for provider, told in ((Other(), "other cannot provision"), (object(), "an? object cannot provision")):
        for call in (maa.provision(provider, AGENT), maa.teardown(provider, "x")):  # type: ignore[arg-type]
            with pytest.raises(maa.ConfigurationError, match=told):
                await call


async def test_a_look_that_fails_leaves_the_status_that_was_seen(autojump_clock: MockClock) -> None:
    told: list[Progress] = []
    fault = Fault(on="get_harness", action=RefuseWith(500), nth=2, times=100)
    async with open_agentcore(fault) as here:
        with pytest.raises(maa.ProvisioningError, match=r"ready of .* last seen CREATING") as caught:
            await maa.ensure_harness(
                here.client, HARNESS, execution_role_arn=ROLE, store=here.store, timeout=9, on_progress=told.append
            )
        assert caught.value.context["status"] == "CREATING"
        assert caught.value.context["polls"] == told[-1].polls > 1
        assert isinstance(caught.value.__cause__, maa.ServerError)


async def test_a_rollback_of_what_is_gone_already_is_none(autojump_clock: MockClock) -> None:
    def bend(line: str, code: int, body: Any) -> tuple[int, Any]:
        if line.startswith("DELETE"):
            return 404, {"message": "it is gone"}
        if line.startswith("GET /harnesses/support") and code == 200:
            body["harness"]["status"] = "FROZEN"
        return code, body

    async with open_agentcore(bend=bend) as here:
        with pytest.raises(maa.ProvisioningError, match="is FROZEN") as caught:
            await maa.ensure_harness(here.client, HARNESS, execution_role_arn=ROLE, store=here.store)
        assert getattr(caught.value, "__notes__", []) == []
        assert [line for line in here.traffic if line.startswith("DELETE")] == [f"DELETE /{caught.value.context['id']}"]


async def test_a_rollback_of_an_agent_that_is_gone_already_is_none(autojump_clock: MockClock) -> None:
    faults = [
        Fault(on=on, action=RefuseWith(status)) for on, status in (("create_environment", 400), ("archive_agent", 404))
    ]
    async with open_claude(*faults) as here:
        with pytest.raises(maa.InvalidRequestError) as caught:
            await maa.provision(claude_managed_agents, AGENT, client=here.client, store=here.store)
        assert getattr(caught.value, "__notes__", []) == []
        assert [line for line in here.traffic if line.endswith("/archive")] != []


# --- what is told -----------------------------------------------------------------------------------------------------


async def test_progress_may_be_told_to_an_async_function_and_its_failures_are_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Progress] = []

    async def slow(progress: Progress) -> None:
        await trio.sleep(1)
        told.append(progress)
        raise RuntimeError("my defect")

    async with open_agentcore(times={"create": 11}) as here:
        await maa.ensure_harness(here.client, HARNESS, execution_role_arn=ROLE, store=here.store, on_progress=slow)
    assert len(told) == 4
    assert caplog.text.count("provisioning_on_progress_failed") == 4
    assert "my defect" in caplog.text


async def test_every_end_of_a_wait_is_logged(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "managed_agents_actors")
    async with open_agentcore(times=TIMES) as here:
        await maa.ensure_harness(here.client, HARNESS, execution_role_arn=ROLE, store=here.store)
        ends = [record for record in caplog.records if "provisioning_phase_done" in record.getMessage()]
        assert [record.levelname for record in ends] == ["INFO"] * 3
        caplog.clear()
        with pytest.raises(maa.ProvisioningError):
            await maa.ensure_harness(
                here.client, HARNESS, name="other", execution_role_arn=ROLE, store=here.store, timeout=20
            )
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert ["provisioning_phase_failed" in warnings[0], "provisioning_rolled_back" in warnings[1]] == [True, True]


async def test_waiting_for_another_call_counts_too(autojump_clock: MockClock) -> None:
    async with open_claude(Fault(on="create_environment", action=Delay(100))) as here, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: maa.provision(claude_managed_agents, AGENT, client=here.client, store=here.store))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(maa.ProvisioningError, match="within 10 s: queued of support_") as caught:
            await maa.provision(claude_managed_agents, AGENT, client=here.client, store=here.store, timeout=10)
        assert caught.value.context["elapsed"] == 10
        nursery.cancel_scope.cancel()


# --- what the clients tell of where they are --------------------------------------------------------------------------


async def test_an_account_is_told_by_its_key_unless_it_has_a_name() -> None:
    keys = iter(["one", "two", "two"])

    async def digest(**options: Any) -> str:
        async with maa.ClaudeClient(**options) as client:
            return await client.account_digest()

    one, two, three = [
        await digest(api_key="one"),
        await digest(api_key="two"),
        await digest(api_key=lambda: next(keys)),
    ]
    assert (one == three, one == two) == (True, False)
    assert [len(each) for each in (one, two)] == [16, 16]
    assert await digest(api_key="one", base_url="http://other.test") != one
    named = await digest(api_key="one", account="prod")
    assert named == await digest(api_key="two", account="prod") != await digest(api_key="two", account="stage")
    # A key that looks like an account's name is no other account's.
    assert await digest(api_key="prod") != named
    async with maa.ClaudeClient("k", "http://x.test/prefix/") as client:
        assert client.base_url == "http://x.test/prefix"
        with trio.testing.assert_checkpoints():
            await client.account_digest()
    with pytest.raises(maa.ConfigurationError, match="account"):
        maa.ClaudeClient("k", account=7)  # type: ignore[arg-type]


async def test_a_key_that_cannot_be_had_is_an_error_of_the_exchange() -> None:
    def key() -> str:
        raise OSError("no vault")

    async with maa.ClaudeClient(key) as client:
        with pytest.raises(maa.TransportError) as caught:
            await maa.ensure_agent(client, AGENT)
    assert caught.value.request_sent is False


async def test_the_control_plane_is_where_it_was_said_to_be() -> None:
    keys = ("a", "b")
    async with maa.AgentCoreClient("eu-west-1", keys) as client:
        assert client.control_endpoint_url == "https://bedrock-agentcore-control.eu-west-1.amazonaws.com"
    async with maa.AgentCoreClient("eu-west-1", keys, "http://x.test") as client:
        assert client.control_endpoint_url == "http://x.test"
    async with maa.AgentCoreClient("eu-west-1", keys, "http://x.test", control_endpoint_url="http://y.test") as client:
        assert client.control_endpoint_url == "http://y.test"
