"""The command API's part: a command's run, by the simulator's shell or the test's own function, and what is streamed.

What a command has written is streamed when it has ended; of one whose time is up, nothing is. How soon the service
streams it, and what it keeps of one that timed out, is not documented.

Source: Amazon Bedrock AgentCore API reference, InvokeAgentRuntimeCommand.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from itertools import zip_longest
from typing import Any, TypeAlias

import trio

from ._agentcore_session import RuntimeSession, push_exception
from ._agentcore_shell import Outcome, run_in_shell
from ._agentcore_state import MicroVM
from ._aws_frames import event_frame
from ._feed import Feed
from ._stream_faults import Frame

__all__ = ["CommandFunction", "Outcome", "run_command"]

# The text of a command to what it wrote to stdout, to stderr, and its exit code.
CommandFunction: TypeAlias = Callable[[str], Outcome | Awaitable[Outcome]]

# The service bounds an event at 64 KiB; pieces this small show a client that output comes in several.
PIECE_CHARS = 1000
# What the exit code is when there is none.
NO_EXIT_CODE = -1


async def run_command(
    function: CommandFunction | None, session: RuntimeSession, vm: MicroVM, command: str, timeout: float, feed: Feed
) -> None:
    """Run a command and stream what comes of it."""
    _push(feed, "contentStart", {})
    scope = session.commands[feed] = trio.CancelScope(deadline=trio.current_time() + timeout)
    try:
        with scope:
            outcome = await run_in_shell(command, vm.files) if function is None else await _call(function, command)
    except Exception:
        push_exception(feed, "internalServerException", "the command function of the simulator failed")
        feed.end()
        raise
    finally:
        session.commands.pop(feed, None)
        vm.active = trio.current_time()
    if scope.cancelled_caught:
        _push(feed, "contentStop", {"exitCode": NO_EXIT_CODE, "status": "TIMED_OUT"})
    else:
        _push_outcome(feed, outcome)
    feed.end()


def _push_outcome(feed: Feed, outcome: Outcome) -> None:
    stdout, stderr, exit_code = outcome
    for written, complained in zip_longest(_pieces(stdout), _pieces(stderr)):
        pieces = {"stdout": written, "stderr": complained}
        _push(feed, "contentDelta", {name: piece for name, piece in pieces.items() if piece})
    _push(feed, "contentStop", {"exitCode": exit_code, "status": "COMPLETED"})


async def _call(function: CommandFunction, command: str) -> Outcome:
    outcome: Any = function(command)
    stdout, stderr, exit_code = await outcome if inspect.isawaitable(outcome) else outcome
    return stdout, stderr, exit_code


def _pieces(text: str) -> list[str]:
    """The text in pieces: lines, and no more than so many characters of one."""
    return [
        line[at : at + PIECE_CHARS]
        for line in text.splitlines(keepends=True)
        for at in range(0, len(line), PIECE_CHARS)
    ]


def _push(feed: Feed, kind: str, members: dict[str, Any]) -> None:
    feed.push(Frame(event_frame("chunk", {kind: members}), "chunk"))
