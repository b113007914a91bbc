"""What messages a model can be sent at all, whatever the session waits for. Pure.

The rules are those of Converse, which the harness hands its messages on to. That they are looked at before the
invocation, and what breaks one is refused with 400, is the simulator's choice. Whether calls and results belong
together is another matter: it is judged within the stream.

Source: Amazon Bedrock API reference, Converse, messages; for results beside other content, Amazon Bedrock AgentCore
developer guide, harness, inline functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from ._agentcore_api import ServiceRefusal, invalid

__all__ = ["require_conversation"]

Json: TypeAlias = Mapping[str, Any]

# The blocks that only one side's messages hold.
SIDES = {"toolUse": "assistant", "toolResult": "user"}


def require_conversation(messages: Sequence[Json]) -> None:
    """Let messages pass that a model could be sent after others.

    Raises:
        ServiceRefusal: They could not; 400.
    """
    if not messages or messages[-1]["role"] != "user":
        raise _refuse("messages", "A conversation must end with a user message.")
    for n, message in enumerate(messages):
        _require_message(f"messages.{n}", message)
    for n, (message, following) in enumerate(pairwise(messages), 1):
        if message["role"] == following["role"]:
            raise _refuse(f"messages.{n}.role", "A conversation must alternate between user and assistant roles.")
        called = [block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block]
        if called and "toolResult" not in _kinds(following):
            ids = ", ".join(called)
            raise _refuse(f"messages.{n}.content", f"Expected toolResult blocks for the following Ids: {ids}")


def _require_message(path: str, message: Json) -> None:
    if not message["content"]:
        raise _refuse(f"{path}.content", "The content field is empty. Add a ContentBlock object to it.")
    kinds = _kinds(message)
    if "" in kinds:
        raise _refuse(f"{path}.content", "A ContentBlock object must set one of its members.")
    for kind, role in SIDES.items():
        if kind in kinds and message["role"] != role:
            raise _refuse(f"{path}.content", f"A message of the role {message['role']} cannot hold {kind}.")
    if "toolResult" in kinds and len(kinds) > 1:
        raise _refuse(f"{path}.content", "A message with a toolResult cannot hold other content.")


def _kinds(message: Json) -> set[str]:
    """The members that its blocks set; the empty name stands for a block without any."""
    return {next(iter(block), "") for block in message["content"]}


def _refuse(path: str, problem: str) -> ServiceRefusal:
    return invalid(f"{path}: {problem}", fields=[(path, problem)])
