"""The metrics that OpenTelemetry is told: what is counted and measured, by what; and that none is by an id or a tag."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
import trio.testing

from managed_agents_actors import telemetry
from managed_agents_actors.telemetry._readings import SOURCES, Reading

from ._traced import CLAUDE, begin_request, begin_turn, end_request, end_turn, new_number, tool, traced

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
LONG_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

REQUEST = {"gen_ai.operation.name": "invoke_agent", "gen_ai.provider.name": "anthropic"}


def test_the_tokens_of_a_request() -> None:
    usage = {"input_tokens": 100, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 3, "output_tokens": 40}
    with traced() as world:
        world.attach()
        end_request(begin_request(), measurements=usage)
        end_request(begin_request(), measurements={"input_tokens": 0, "output_tokens": 0})
        end_request(begin_request(), measurements={"duration": 1.0})
        told = {
            attributes.pop("gen_ai.token.type"): (attributes, point)
            for attributes, point in world.metric("gen_ai.client.token.usage")
        }
        assert set(told) == {"input", "output"}
        for kind, tokens in (("input", 123), ("output", 40)):
            attributes, point = told[kind]
            assert attributes == REQUEST
            assert (point.count, point.sum) == (1, tokens)
            assert point.explicit_bounds == TOKENS


@pytest.mark.parametrize(
    ("name", "bounds"),
    [("gen_ai.client.operation.duration", SECONDS), ("gen_ai.invoke_agent.duration", LONG_SECONDS)],
)
def test_how_long_requests_took(name: str, bounds: tuple[float, ...]) -> None:
    with traced() as world:
        world.attach()
        end_request(begin_request())
        end_request(begin_request(), cancelled=True)
        end_request(begin_request(), measurements={"duration": 9.0}, error_type="StreamLost")
        (well, ended), (failed, lost) = world.metric(name)
        assert (well, ended.count, ended.sum) == (REQUEST, 2, 5.0)
        assert (failed, lost.count, lost.sum) == ({**REQUEST, "error.type": "StreamLost"}, 1, 9.0)
        assert ended.explicit_bounds == bounds


async def test_how_long_tools_took(autojump_clock: trio.testing.MockClock) -> None:
    with traced() as world:
        world.attach()
        for _ in range(2):
            with tool(new_number()):
                await trio.sleep(1.5)
        with tool(new_number()) as told:
            told.update(is_error=True)
        with pytest.raises(LookupError), tool(new_number()):
            raise LookupError
        telemetry.emit("managed_agents.tool.exception", {"duration": 3.0}, {"tool": "lookup"})
        found = {
            attributes.get("error.type"): (attributes, point)
            for attributes, point in world.metric("gen_ai.execute_tool.duration")
        }
        attributes, point = found[None]
        assert attributes == {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.tool.name": "lookup",
            "gen_ai.tool.type": "function",
        }
        assert (point.count, point.sum, point.explicit_bounds) == (2, 3.0, SECONDS)
        assert set(found) == {None, "tool_error", "LookupError", "_OTHER"}


def test_how_long_turns_took() -> None:
    with traced() as world:
        world.attach()
        end_turn(begin_turn(new_number()))
        ((attributes, point),) = world.metric("managed_agents.turn.duration")
        assert attributes == {"gen_ai.provider.name": "anthropic"}
        assert (point.count, point.sum, point.explicit_bounds) == (1, 1.5, LONG_SECONDS)


def test_reconnections_and_restarts_are_counted() -> None:
    with traced() as world:
        world.attach()
        lost = {**CLAUDE, "attempt": 1, "error_type": "StreamLost"}
        telemetry.emit("managed_agents.stream.reconnecting", {"delay": 0.5}, lost)
        telemetry.emit("managed_agents.stream.reconnecting", {"delay": 0.5}, {**lost, "attempt": 2})
        telemetry.emit("managed_agents.stream.reconnecting", {"delay": 0.0}, {**CLAUDE, "error_type": None})
        telemetry.emit("managed_agents.supervisor.child_restarted", {}, {**CLAUDE, "supervisor": "s", "child": "c"})
        telemetry.emit("managed_agents.supervisor.child_restarted", {}, {"supervisor": "s", "child": "no session"})
        reconnects = [
            (attributes, point.value) for attributes, point in world.metric("managed_agents.stream.reconnects")
        ]
        assert reconnects == [
            ({"gen_ai.provider.name": "anthropic", "error.type": "StreamLost"}, 2),
            ({"gen_ai.provider.name": "anthropic"}, 1),
        ]
        ((attributes, point),) = world.metric("managed_agents.session.restarts")
        assert (attributes, point.value) == ({"gen_ai.provider.name": "anthropic"}, 1)


def test_terminals_are_counted_by_how_a_request_ended() -> None:
    with traced() as world:
        world.attach()
        for more in ({}, {}, {"cancelled": True}, {"terminal": "terminated", "error_type": "SessionGone"}):
            end_request(begin_request(), **more)
        provider = {"gen_ai.provider.name": "anthropic"}
        told = [(attributes, point.value) for attributes, point in world.metric("managed_agents.session.terminals")]
        assert told == [
            ({**provider, "managed_agents.terminal": "end_turn"}, 2),
            ({**provider, "managed_agents.terminal": "end_turn", "managed_agents.cancelled": True}, 1),
            ({**provider, "managed_agents.terminal": "terminated", "error.type": "SessionGone"}, 1),
        ]


def test_no_metric_is_by_an_id_or_a_tag() -> None:
    ids = {*CLAUDE.values()} - {CLAUDE["provider"]} | {"toolu_lookup", "req_1"}
    with traced() as world:
        world.attach()
        request = begin_request()
        turn = begin_turn(request)
        with tool(turn):
            pass
        end_turn(turn)
        end_request(request)
        for name in telemetry.EVENT_NAMES:
            telemetry.emit(name, {"duration": 1.0}, {**CLAUDE, "request_id": "req_1", "tool_use_id": "toolu_lookup"})
        data = world.reader.get_metrics_data()
        assert data is not None
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        assert len(metrics) > 6
        told = {value for metric in metrics for point in metric.data.data_points for value in point.attributes.values()}
        assert not told & ids


@contextmanager
def living(*sessions: tuple[str, str, int]) -> Iterator[None]:
    """Sessions that live: the provider, the phase and the depth of the mailbox of each."""

    def source(reading: Reading) -> Any:
        return lambda: reading

    sources = {source(Reading(*session)) for session in sessions}
    SOURCES.update(sources)
    try:
        yield
    finally:
        SOURCES.difference_update(sources)


def values(world: Any, name: str) -> dict[tuple[Any, ...], int]:
    return {tuple(attributes.values()): point.value for attributes, point in world.metric(name)}


def test_the_sessions_that_live_are_looked_at() -> None:
    claude, bedrock = "claude_managed_agents", "bedrock_agent_core"
    with traced() as world:
        world.attach()
        with living((claude, "live", 2), (claude, "live", 5), (claude, "reconnecting", 0), (bedrock, "live", 1)):
            assert values(world, "managed_agents.sessions") == {
                ("anthropic", "live"): 2,
                ("anthropic", "reconnecting"): 1,
                ("aws.bedrock", "live"): 1,
            }
            assert values(world, "managed_agents.session.mailbox_depth") == {("anthropic",): 7, ("aws.bedrock",): 1}
            assert values(world, "managed_agents.session.mailbox_depth.max") == {
                ("anthropic",): 5,
                ("aws.bedrock",): 1,
            }
        assert values(world, "managed_agents.sessions") == {}


def test_nobody_is_looked_at_once_it_is_detached_and_again_when_it_is_attached_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with traced() as world, traced() as other, living(("claude_managed_agents", "live", 3)):
        attachment = world.attach()
        other.attach()
        assert values(world, "managed_agents.sessions") == {("anthropic", "live"): 1}
        telemetry.detach(attachment)
        for name in ("managed_agents.sessions", "managed_agents.session.mailbox_depth.max"):
            assert values(world, name) == {}
        assert values(other, "managed_agents.sessions") == {("anthropic", "live"): 1}
        world.attach()
        assert values(world, "managed_agents.sessions") == {("anthropic", "live"): 1}
        assert values(world, "managed_agents.session.mailbox_depth") == {("anthropic",): 3}
    assert caplog.records == []
