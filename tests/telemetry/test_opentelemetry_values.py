"""What the attributes may hold: what was said only if asked for, tags as they are, and never a secret."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.trace import StatusCode

from managed_agents_actors import telemetry
from managed_agents_actors.telemetry._otel_values import MAX_CONTENT_BYTES, attribute_values, content_json

from ._traced import CLAUDE, Traced, new_number, tool, traced

SECRET = "-".join(("sk", "ant", "abc123" * 6))
SAID = "the customer's address"
BLOCKS = [{"type": "text", "text": SAID}]


def tell_everything(world: Traced) -> None:
    """A request, a tool and its exception, and an event of the stream, each with what was said."""
    request, run, failed = new_number(), new_number(), new_number()
    about = {**CLAUDE, "span_id": request}
    telemetry.emit("managed_agents.session.request_started", {}, about, content={"input": BLOCKS})
    within = {**CLAUDE, "parent_id": request, "tool": "lookup"}
    telemetry.emit("managed_agents.tool.start", {}, {**within, "span_id": run}, content={"input": {"who": SAID}})
    telemetry.emit("managed_agents.tool.stop", {}, {**within, "span_id": run}, content={"output": BLOCKS})
    within["tool"] = "store"
    telemetry.emit("managed_agents.tool.start", {}, {**within, "span_id": failed})
    exception = {"exception": LookupError(SAID)}
    telemetry.emit("managed_agents.tool.exception", {}, {**within, "span_id": failed}, content=exception)
    telemetry.emit("managed_agents.stream.event", {}, within, content={"event": {"text": SAID}})
    ended = {**about, "terminal": "end_turn", "stop_reason": "end_turn"}
    telemetry.emit("managed_agents.session.terminal", {}, ended, content={"text": SAID})


def everything_told(world: Traced) -> str:
    return "".join(span.to_json() for span in world.exporter.get_finished_spans())


def test_tel_03_what_was_said_is_not_told() -> None:
    with traced() as world:
        world.attach()
        tell_everything(world)
        assert len(world.names) == 3
        assert SAID not in everything_told(world)


def test_tel_03_what_was_said_is_not_told_even_if_events_carry_it_to_everybody() -> None:
    with traced() as world:
        world.attach()
        said = {"input": SAID, "output": SAID, "text": SAID, "event": SAID, "exception": LookupError(SAID)}
        for name in telemetry.EVENT_NAMES:
            telemetry.emit(name, {}, {**CLAUDE, **said, "span_id": 5, "parent_id": 5})
        assert len(world.names) == 5
        assert SAID not in everything_told(world)


def test_what_was_said_is_told_if_asked_for() -> None:
    with traced() as world:
        world.attach(content=True)
        tell_everything(world)
        request = world.span("invoke_agent").attributes or {}
        assert json.loads(str(request["gen_ai.input.messages"])) == [
            {"role": "user", "parts": [{"type": "text", "content": SAID}]}
        ]
        assert json.loads(str(request["gen_ai.output.messages"])) == [
            {"role": "assistant", "parts": [{"type": "text", "content": SAID}], "finish_reason": "stop"}
        ]
        run = world.span("execute_tool lookup").attributes or {}
        assert json.loads(str(run["gen_ai.tool.call.arguments"])) == {"who": SAID}
        assert json.loads(str(run["gen_ai.tool.call.result"])) == BLOCKS
        failed = world.span("execute_tool store")
        (event,) = failed.events
        assert event.name == "exception"
        assert dict(event.attributes or {}) == {"exception.type": "LookupError", "exception.message": SAID}
        assert (failed.attributes or {})["error.type"] == "_OTHER"
        assert failed.status.status_code is StatusCode.ERROR
        assert failed.status.description is None


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        ("hello", [{"type": "text", "content": "hello"}]),
        ([{"text": "of AgentCore"}], [{"type": "text", "content": "of AgentCore"}]),
        ([{"type": "image", "source": {"data": "aGVsbG8="}}], [{"type": "image"}]),
        ([{"image": {"bytes": b"hello"}}], [{"type": "image"}]),
        (["one", {}], [{"type": "text", "content": "one"}, {"type": "unknown"}]),
        (
            {"description": "Tidy up", "type": "ours"},
            [{"description": "Tidy up", "type": "outcome"}],
        ),
        (7, None),
    ],
    ids=["text", "other blocks", "image", "other image", "strange", "outcome", "nothing"],
)
def test_the_forms_of_what_a_request_begins_with(said: Any, parts: Any) -> None:
    with traced() as world:
        world.attach(content=True)
        number = new_number()
        telemetry.emit("managed_agents.session.request_started", {}, {"span_id": number}, content={"input": said})
        telemetry.emit("managed_agents.session.terminal", {}, {"span_id": number})
        told = (world.span("invoke_agent").attributes or {}).get("gen_ai.input.messages")
        assert (told and json.loads(str(told))) == (parts and [{"role": "user", "parts": parts}])


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        ({"stop_reason": "max_tokens"}, "max_tokens"),
        ({"terminal": "requires_action"}, "requires_action"),
        ({"error_type": "StreamLost"}, "error"),
    ],
    ids=str,
)
def test_why_an_answer_ended(ended: dict[str, Any], reason: str) -> None:
    with traced() as world:
        world.attach(content=True)
        number = new_number()
        telemetry.emit("managed_agents.session.request_started", {}, {"span_id": number})
        telemetry.emit("managed_agents.session.terminal", {}, {**ended, "span_id": number}, content={"text": ""})
        told = json.loads(str((world.span("invoke_agent").attributes or {})["gen_ai.output.messages"]))
        assert told[0]["finish_reason"] == reason


def test_secrets_are_taken_out_of_everything() -> None:
    with traced() as world:
        world.attach(content=True)
        tags = {**CLAUDE, "note": f"with {SECRET}", "api_key": "hunter2-hunter2", "nested": {"password": "hunter2-h"}}
        with tool(new_number(), tags=tags) as told:
            telemetry.emit("managed_agents.stream.error", {}, {"reason": f"refused {SECRET}"})
            told["error_type"] = SECRET
        with pytest.raises(ValueError, match="key"), telemetry.span("myapp.call", {"with": SECRET}) as told:
            told["headers"] = {"Authorization": f"Bearer {SECRET}"}
            raise ValueError(f"a bad key: {SECRET}")
        number = new_number()
        started = {"input": [{"type": "text", "text": f"my key is {SECRET}"}]}
        telemetry.emit("managed_agents.session.request_started", {}, {"span_id": number}, content=started)
        telemetry.emit("managed_agents.session.terminal", {}, {"span_id": number}, content={"text": SECRET})
        told_of = everything_told(world)
        assert len(world.names) == 3
        assert told_of.count("[redacted]") == 10
        assert SECRET not in told_of
        assert "hunter2" not in told_of


def test_tags_are_told_under_their_own_names_and_the_librarys_own_win() -> None:
    tags = {
        "customer": "acme",
        "tiers": ["gold", "silver"],
        "sizes": (1, 2),
        "mixed": ["gold", 1],
        "none": None,
        "route": {"region": "eu"},
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "claude-sonnet-5",
        "service": "billing",
        "tool": "tagged",
        "": "nameless",
        7: "no name",
    }
    with traced() as world:
        world.attach()
        with tool(new_number(), tags=tags):
            pass
        attributes = dict(world.span("execute_tool lookup").attributes or {})
        own = {name: value for name, value in attributes.items() if not name.startswith(("gen_ai.t", "managed_agents"))}
        assert own == {
            "customer": "acme",
            "tiers": ("gold", "silver"),
            "sizes": (1, 2),
            "mixed": "['gold', 1]",
            "route": "{'region': 'eu'}",
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.request.model": "claude-sonnet-5",
            "service": "billing",
        }
        assert attributes["gen_ai.tool.name"] == "lookup"


def test_what_no_exporter_could_encode_is_told_as_text() -> None:
    values = attribute_values({"big": 2**63, "low": -(2**63), "half": "a\ud800b", "bytes": b"x", "list": [0, 2**63]})
    assert values == {"big": str(2**63), "low": -(2**63), "half": "a?b", "bytes": "b'x'", "list": f"[0, {2**63}]"}


def test_what_is_too_long_is_cut_and_stays_json() -> None:
    told = content_json({"short": "kept", "long": "é" * MAX_CONTENT_BYTES, "many": ["x" * 100] * 10_000})
    assert told is not None
    assert len(told.encode()) <= MAX_CONTENT_BYTES
    value = json.loads(told)
    assert value["short"] == "kept"
    assert value["long"].startswith("éé")
    assert value["long"].endswith("…")
    assert value["many"][0] == "x" * 100


def test_a_secret_is_not_cut_in_half() -> None:
    told = content_json("x" * (MAX_CONTENT_BYTES // 4 - 20) + " " + SECRET + " " + "y" * MAX_CONTENT_BYTES)
    assert told is not None
    assert "sk-ant" not in told


def test_what_cannot_be_cut_to_fit_is_left_out() -> None:
    assert content_json({"k" * 2 * MAX_CONTENT_BYTES: 1}) == "{}"
    assert content_json({("a", "tuple"): 1}) is None
    held: list[Any] = []
    held.append(held)
    assert content_json(held) is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=30)
@given(JSON, st.integers(1, 400))
def test_whatever_is_said_is_told_as_json_of_a_bounded_size(value: Any, times: int) -> None:
    told = content_json([value] * times + ["x" * times * 400])
    assert told is not None
    assert len(told.encode()) <= MAX_CONTENT_BYTES
    json.loads(told)
