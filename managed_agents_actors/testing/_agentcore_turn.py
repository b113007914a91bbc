"""The agent's side of a turn: each step becomes the events of a harness's message, in the order the service sends them.

A turn goes on over the invocations that its hand-offs divide it into. One that is over, stopped or undone writes
nothing any more: its task is cancelled.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar, cast

import trio

from .._errors import ConfigurationError
from ._agentcore_message import MessageWriter
from ._agentcore_resume import text_of
from ._agentcore_round import ToolRound
from ._script import Call, ToolAnswer

if TYPE_CHECKING:
    from ._agentcore_session import RuntimeSession
    from ._agentcore_state import Suspended

__all__ = ["USAGE_NAMES", "HarnessTurn"]

Json: TypeAlias = dict[str, Any]
T = TypeVar("T")

OVER_ITERATIONS = "max_iterations_exceeded"
OVER_TOKENS = "max_output_tokens_exceeded"
# What scripts call the tokens of a model request, and what the service does.
USAGE_NAMES = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "cache_read_input_tokens": "cacheReadInputTokens",
    "cache_creation_input_tokens": "cacheWriteInputTokens",
}
# The model's own failures come as the text of the client that called it.
MODEL_ERRORS = {
    "model_overloaded_error": "ServiceUnavailableException",
    "model_rate_limited_error": "ThrottlingException",
}
THROTTLED = "Too many requests, please wait before trying again"


class HarnessTurn:
    """The turn an agent plays; see :class:`~managed_agents_actors.testing.Turn` for what each step means.

    Attributes:
        scope: Cancelled when the turn is over before its agent is; its deadline is the invocation's.
        past: What each step gave, as far as the turn has come.
        began_at: How many messages the conversation had before it.
        stop_reason: How it ends, once that is decided.
        failure: The type and message of the exception it ends in.
        terminal: Whether that ends the session's microVM too.
    """

    def __init__(
        self,
        session: RuntimeSession,
        *,
        number: int,
        inputs: tuple[Mapping[str, Any], ...],
        began_at: int,
        again: Suspended | None = None,
    ) -> None:
        self.number = number
        self.session_id = session.id
        self.inputs = inputs
        self.text = text_of(inputs)
        self.scope = trio.CancelScope()
        self.past: list[Any] = [] if again is None else list(again.past)
        self.began_at = began_at
        self.stop_reason: str | None = None
        self.failure: tuple[str, str] | None = None
        self.terminal = False
        self._session = session
        self._to_replay = deque(self.past)
        self._round = None if again is None else again.round
        self._usage = dict(session.options.usage)
        self._message: MessageWriter | None = None
        self._message_began = 0.0

    async def say(self, text: str, *, chunks: Sequence[str] | None = None, pace: float = 0.0) -> None:
        """Text of the assistant's message, in pieces."""

        async def perform() -> None:
            message = await self._open_message()
            for chunk in re.findall(r"\S+\s*|\s+", text) if chunks is None else chunks:
                message.add_text(chunk)
                if pace:
                    await trio.sleep(pace)
            message.end_text()

        await self._step(perform)

    async def think(self) -> None:
        """A reasoning block."""

        async def perform() -> None:
            (await self._open_message()).add_reasoning("Let me think.", "simulated-signature")

        await self._step(perform)

    async def call_tools(self, *calls: Call | tuple[str, Mapping[str, Any]]) -> list[ToolAnswer]:
        """Call tools in one model response and wait until all are answered."""
        made = [call if isinstance(call, Call) else Call(name=call[0], input=call[1]) for call in calls]

        async def perform() -> list[ToolAnswer]:
            calls, self._round = self._round, None
            announced = calls is None
            if calls is None:
                self._session.require_tools([call.name for call in made if call.kind == "custom"])
                named = {self._session.ids.new("tooluse"): call for call in made}
                calls = ToolRound(named, order=self._session.options.order)
                await self._announce(calls)
            while calls.group():
                if not announced:
                    self._announce_again(calls)
                announced = False
                self._session.hand_off(self, calls)
                await calls.wait_settled()
            self._show_results(calls)
            return [calls.answers[use_id] for use_id in calls.calls]

        return await self._step(perform) if made else []

    async def fail(self, error_type: str, retry_status: str = "exhausted", message: str = "simulated") -> None:
        """An exception within the stream, which ends the turn; one that is retried is seen by nobody."""
        await trio.lowlevel.checkpoint()
        if retry_status == "retrying":
            return
        self.terminal = retry_status == "terminal"
        self.failure = _exception(error_type, message)
        await self._over()

    async def wait(self, seconds: float) -> None:
        """Let time pass."""

        async def perform() -> None:
            await trio.sleep(seconds)

        await self._step(perform)

    async def grade(self, result: str = "satisfied", explanation: str = "") -> None:
        """Nothing that exists here.

        Raises:
            ConfigurationError: Always.
        """
        await trio.lowlevel.checkpoint()
        raise ConfigurationError(f"grade({result!r}, {explanation!r}): AgentCore has no outcomes to grade")

    async def write_output(self, name: str, content: bytes, *, mime_type: str = "text/plain") -> None:  # noqa: ARG002 - the form of a turn
        """Nothing that exists here.

        Raises:
            ConfigurationError: Always.
        """
        await trio.lowlevel.checkpoint()
        raise ConfigurationError(f"write_output({name!r}): AgentCore gives no files out; commands read its machine's")

    async def read_file(self, path: str) -> bytes:
        """Nothing that exists here.

        Raises:
            ConfigurationError: Always.
        """
        await trio.lowlevel.checkpoint()
        raise ConfigurationError(f"read_file({path!r}): AgentCore mounts no files that were uploaded")

    async def end(self, reason: str | Mapping[str, Any] = "end_turn") -> None:
        """End the turn here with this stop reason."""
        await trio.lowlevel.checkpoint()
        self.stop_reason = reason if isinstance(reason, str) else str(reason["type"])
        await self._over()

    async def emit(self, event: Mapping[str, Any]) -> None:
        """Any event: ``{"hookEvent": {...}}``, or its members with its ``type``."""

        async def perform() -> None:
            kind = event.get("type", next(iter(event), ""))
            payload = event[kind] if kind in event else {name: event[name] for name in event if name != "type"}
            if not isinstance(kind, str) or not isinstance(payload, Mapping):
                raise ConfigurationError(f"emit: an event is its type and its members, not {event!r}")
            self._session.push(kind, payload)

        await self._step(perform)

    async def spend(self, **usage: int) -> None:
        """Set what each model request from here on reports as its usage."""
        await trio.lowlevel.checkpoint()
        unknown = usage.keys() - USAGE_NAMES.keys()
        if unknown:
            raise ConfigurationError(f"spend: no tokens {sorted(unknown)}; there are: {', '.join(USAGE_NAMES)}")
        self._usage |= usage

    def close(self, *, timed_out: bool) -> None:
        """The agent is done, or its time is over: end its last message."""
        reason = "timeout_exceeded" if timed_out else self.stop_reason or "end_turn"
        if self._message is not None:
            self._end_message(reason)
        elif timed_out or self.stop_reason == OVER_ITERATIONS:
            # No model was asked: there is nothing to account for.
            MessageWriter("assistant", self._session.push).end(reason)
        elif self.stop_reason != OVER_TOKENS:
            self._start_message()
            self._end_message(reason)

    async def _step(self, perform: Callable[[], Awaitable[T]]) -> T:
        """Perform a step, or give again what it gave when the turn was played before."""
        await trio.lowlevel.checkpoint()
        if self._to_replay:
            return cast("T", self._to_replay.popleft())
        given = await perform()
        self.past.append(given)
        return given

    async def _open_message(self) -> MessageWriter:
        """The assistant's message in progress; a new one is another model request."""
        if self._message is not None:
            return self._message
        invocation = self._session.invocation
        if invocation is not None:
            if invocation.iterations >= invocation.limits.max_iterations:
                self.stop_reason = OVER_ITERATIONS
                await self._over()
            invocation.iterations += 1
        return self._start_message()

    def _start_message(self) -> MessageWriter:
        self._message_began = trio.current_time()
        self._message = MessageWriter("assistant", self._session.push)
        return self._message

    def _end_message(self, reason: str, *, keep: bool = True) -> str:
        """End the message: for this reason, or because the invocation's tokens are spent; gives the reason."""
        message, self._message = self._message, None
        if message is None:
            return reason
        invocation = self._session.invocation
        if invocation is not None:
            invocation.output_tokens += self._usage["output_tokens"]
            most = invocation.limits.max_tokens
            if most is not None and invocation.output_tokens > most:
                reason = OVER_TOKENS
        finished = message.end(reason)
        if finished["content"] and keep:
            self._session.keep(finished)
        usage = {USAGE_NAMES[name]: count for name, count in self._usage.items()}
        usage["totalTokens"] = usage["inputTokens"] + usage["outputTokens"]
        latency = round((trio.current_time() - self._message_began) * 1000)
        self._session.push("metadata", {"usage": usage, "metrics": {"latencyMs": latency}})
        return reason

    async def _announce(self, calls: ToolRound) -> None:
        message = await self._open_message()
        for use_id, call in calls.calls.items():
            message.add_tool_use(use_id, call)
        left_to_client = self._session.options.contract == "echo" and bool(calls.group())
        reason = self._end_message("tool_use", keep=not left_to_client)
        if reason != "tool_use":
            self.stop_reason = reason
            await self._over()

    def _announce_again(self, calls: ToolRound) -> None:
        """Hand the next call of the same response off: it is shown once more, and no model was asked."""
        message = MessageWriter("assistant", self._session.push)
        for use_id in calls.group():
            message.add_tool_use(use_id, calls.calls[use_id])
        message.end("tool_use")

    def _show_results(self, calls: ToolRound) -> None:
        """The results as a user's message; where the client brings whole messages, only the service's own."""
        echo = self._session.options.contract == "echo"
        shown = [use_id for use_id, call in calls.calls.items() if not (echo and call.kind == "custom")]
        if not shown:
            return
        message = MessageWriter("user", self._session.push)
        for use_id in shown:
            answer = calls.answers[use_id]
            message.add_tool_result(use_id, answer.content, is_error=answer.is_error)
        self._session.keep(message.end("tool_result"))

    async def _over(self) -> NoReturn:
        self.scope.cancel()
        await trio.sleep_forever()


def _exception(error_type: str, message: str) -> tuple[str, str]:
    """The type and message of an exception; what is called as Claude calls it is an error of the model."""
    if "_" not in error_type:
        return error_type, message
    code = MODEL_ERRORS.get(error_type, "ModelErrorException")
    detail = f"{THROTTLED}: {message}" if code != "ModelErrorException" else message
    return "runtimeClientError", f"An error occurred ({code}) when calling the ConverseStream operation: {detail}"
