"""What goes to the provider, exactly as it stands on the wire."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from managed_agents_actors import ConfigurationError, Outcome
from managed_agents_actors._protocol import claude_inputs
from managed_agents_actors._protocol.codec import encode_json
from managed_agents_actors._protocol.content import same_content

BLOCK = {"type": "text", "text": "hi"}
IMAGE = {"type": "image", "source": {"type": "file", "file_id": "file_1"}}


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        (claude_inputs.user_message("hi"), {"type": "user.message", "content": [BLOCK]}),
        (claude_inputs.user_message([BLOCK, IMAGE]), {"type": "user.message", "content": [BLOCK, IMAGE]}),
        (claude_inputs.interrupt(), {"type": "user.interrupt"}),
        (claude_inputs.interrupt("sthr_1"), {"type": "user.interrupt", "session_thread_id": "sthr_1"}),
        (
            claude_inputs.tool_confirmation("c1", "allow"),
            {"type": "user.tool_confirmation", "tool_use_id": "c1", "result": "allow"},
        ),
        (
            claude_inputs.tool_confirmation("c1", "deny", "no"),
            {"type": "user.tool_confirmation", "tool_use_id": "c1", "result": "deny", "deny_message": "no"},
        ),
        (
            claude_inputs.custom_tool_result("c1", [BLOCK]),
            {"type": "user.custom_tool_result", "custom_tool_use_id": "c1", "content": [BLOCK], "is_error": False},
        ),
        (
            claude_inputs.custom_tool_result("c1", [], is_error=True),
            {"type": "user.custom_tool_result", "custom_tool_use_id": "c1", "content": [], "is_error": True},
        ),
        (
            claude_inputs.tool_result("c1", [BLOCK]),
            {"type": "user.tool_result", "tool_use_id": "c1", "content": [BLOCK], "is_error": False},
        ),
        (
            claude_inputs.define_outcome(Outcome(description="win", rubric="was it won?")),
            {
                "type": "user.define_outcome",
                "description": "win",
                "rubric": {"type": "text", "content": "was it won?"},
            },
        ),
        (
            claude_inputs.define_outcome(
                Outcome(description="win", rubric={"type": "file", "file_id": "file_1"}, max_iterations=3)
            ),
            {
                "type": "user.define_outcome",
                "description": "win",
                "rubric": {"type": "file", "file_id": "file_1"},
                "max_iterations": 3,
            },
        ),
        (
            claude_inputs.system_message("a", "b"),
            {"type": "system.message", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ),
    ],
)
def test_every_input_has_its_exact_wire_form(event: Any, wire: Any) -> None:
    assert event == wire
    assert encode_json(event)


@pytest.mark.parametrize("content", ["", [], (), None, 7, b"hi", {"type": "text"}, ["hi"], [{}], [{"type": 7}]])
def test_content_that_cannot_be_sent_is_refused(content: Any) -> None:
    with pytest.raises(ConfigurationError):
        claude_inputs.user_message(content)


def test_a_confirmation_is_one_of_two_and_its_message_goes_with_a_denial_only() -> None:
    with pytest.raises(ConfigurationError, match="maybe"):
        claude_inputs.tool_confirmation("c1", "maybe")  # type: ignore[arg-type]  # the mistake that is tested
    with pytest.raises(ConfigurationError, match="denial"):
        claude_inputs.tool_confirmation("c1", "allow", "go on")


@pytest.mark.parametrize("count", [0, claude_inputs.MAX_SYSTEM_BLOCKS + 1])
def test_a_system_message_has_a_bounded_number_of_texts(count: int) -> None:
    with pytest.raises(ConfigurationError, match=str(count)):
        claude_inputs.system_message(*["x"] * count)
    assert len(claude_inputs.system_message(*["x"] * claude_inputs.MAX_SYSTEM_BLOCKS)["content"]) == 1000


def test_what_was_built_does_not_change_with_the_callers_blocks() -> None:
    block = dict(BLOCK)
    event = claude_inputs.user_message([block])
    block["text"] = "changed"
    assert event["content"] == [BLOCK]


blocks = st.dictionaries(st.sampled_from(["type", "text", "a", "b"]), st.text(max_size=3), min_size=1)


@given(st.lists(blocks, max_size=4), st.dictionaries(st.sampled_from(["x", "y"]), st.none(), max_size=2))
def test_a_log_shows_what_was_sent_with_fields_of_its_own(sent: list[dict[str, str]], added: dict[str, None]) -> None:
    assert same_content(sent, tuple({**block, **added} for block in sent))
    assert not same_content(sent, (*sent, BLOCK))
