"""What could be seen of a case of AgentCore from outside: every exchange on the wire, and what its users were told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import managed_agents_actors as maa
from managed_agents_actors.testing import RecordedRequest

from .harness_case import HarnessTalk
from .record import Event, Execution

# How an exchange ended for the client: in good order; torn; too silent; without an answer; or because it was closed.
End: TypeAlias = Literal["clean", "torn", "silent", "unanswered", "left"]


@dataclass(eq=False)
class Attempt:
    """One invocation on the wire, as the client's side of the connection saw it.

    Attributes:
        messages: What it told the harness.
        life: The number of the stretch in which its session was held then.
        terminals: How many terminals that stretch had announced when it was sent.
        status: The answer's status, if there was one.
        code: The name of the refusal.
        data: The body, as far as it came.
        end: How it ended.
        over: Whether another terminal had been announced by then.
    """

    messages: list[dict[str, Any]]
    life: int
    terminals: int
    status: int | None = None
    code: str = ""
    data: bytearray = field(default_factory=bytearray)
    end: End = "left"
    over: bool = False

    @property
    def was_left(self) -> bool:
        """Whether its request was over before it was: then it is followed to its end, but not shown."""
        return self.over or self.end == "left"

    @property
    def text(self) -> str | None:
        """The message that it brings; `None` if it brings results."""
        texts = [block["text"] for block in self.messages[-1]["content"] if "text" in block]
        return "".join(texts) if texts else None

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """The results that it brings, by call."""
        blocks = [block["toolResult"] for block in self.messages[-1]["content"] if "toolResult" in block]
        return {block["toolUseId"]: block for block in blocks}

    @cached_property
    def heard(self) -> Heard:
        """The body, read by AWS's own decoder."""
        return Heard.of(bytes(self.data)) if self.status == 200 else Heard()


@dataclass
class Heard:
    """What a stream carried.

    Attributes:
        events: In the shape that the library gives them, without ids.
        thrown: The type of the exception that it ended in.
        is_damaged: Whether it went on with something that is no frame.
        is_cut: Whether it stopped within a frame.
    """

    events: list[Event] = field(default_factory=list)
    thrown: str | None = None
    is_damaged: bool = False
    is_cut: bool = False

    @classmethod
    def of(cls, data: bytes) -> Heard:
        from .harness_tap import read_frames

        return read_frames(data)

    @property
    def stops(self) -> int:
        """How many messages were complete."""
        return sum(event["type"] == "messageStop" for event in self.events)

    def messages(self) -> Iterator[Message]:
        """The messages, the last perhaps unfinished."""
        message: Message | None = None
        for event in self.events:
            if event["type"] == "messageStart":
                if message is not None:
                    yield message
                message = Message(event["messageStart"]["role"])
            elif message is not None:
                message.add(event)
        if message is not None:
            yield message

    @property
    def last(self) -> Message:
        """The last message; one of nobody's if there is none."""
        return ([Message("nobody"), *self.messages()])[-1]


@dataclass
class Message:
    """A message of a stream.

    Attributes:
        stop: What it stopped with, once it did.
        calls: The beginnings of its tool blocks, by call.
    """

    role: str
    stop: str | None = None
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        payload = event[event["type"]]
        match event["type"]:
            case "messageStop":
                self.stop = payload["stopReason"]
            case "contentBlockStart" if "toolUse" in payload["start"]:
                self.calls[payload["start"]["toolUse"]["toolUseId"]] = payload["start"]["toolUse"]
            case "contentBlockDelta" if "text" in payload["delta"]:
                index = payload["contentBlockIndex"]
                self.texts[index] = self.texts.get(index, "") + payload["delta"]["text"]

    @property
    def handed_off(self) -> list[str]:
        """The calls that are the client's, if the harness waits for them once this was the last message."""
        if self.role != "assistant" or self.stop != "tool_use":
            return []
        return [call_id for call_id, use in self.calls.items() if use["type"] == "tool_use"]


@dataclass
class Outcome:
    """What came of a message: a result, or an error."""

    message: str
    result: maa.SessionResult | None = None
    error: Exception | None = None

    @property
    def cause(self) -> Exception | None:
        """The error, or what a session's failure was caused by."""
        cause = self.error.__cause__ if isinstance(self.error, maa.SessionError) else None
        return cause if isinstance(cause, Exception) else self.error


@dataclass
class HarnessLife:
    """One stretch in which a session was held: by one handler, from its opening to its end.

    Attributes:
        outcomes: What came of each message, in order.
        notified: What the `notify=` channel was told.
        subscribed: What a subscriber was told; `None` without one.
        executions: The runs of tools.
        seen: What the handler was shown: events, deltas, and what was taken back.
        read: What a live reader got; `None` without one.
        ended: What the session itself ended with.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    notified: list[maa.SessionResult] = field(default_factory=list)
    subscribed: list[maa.SessionResult] | None = None
    executions: list[Execution] = field(default_factory=list)
    seen: list[Event] = field(default_factory=list)
    read: list[Event] | None = None
    ended: Exception | None = None


@dataclass
class HeldHarness:
    """A session of a harness, over.

    Attributes:
        session_id: Its id.
        talk: How it was to be held, and what its agent was to do.
        lives: In order.
        attempts: The invocations, in order.
        conversation: What the harness holds of it in the end.
        stops: How often the end of its machine was asked for.
    """

    session_id: str
    talk: HarnessTalk
    lives: list[HarnessLife] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    conversation: tuple[dict[str, Any], ...] = ()
    stops: int = 0


@dataclass
class HarnessRecord:
    """A case, over.

    Attributes:
        sessions: In the order of the case's conversations.
        requests: The server's wire log.
        may_end_with: What the faults that took effect, and the script, may end a request with.
        may_lose_machines: Whether a machine may have been lost, and its conversation with it.
        crashes: How many crashes of actors were injected.
        hung: Whether it was given up in virtual time.
        escaped: What came out of it altogether.
        noise: Warnings, unraisable exceptions and lines of the library's log that tell of an error.
        open_bodies: Streams that nobody had closed at the end.
        tasks_left: Tasks that ran on after everything was closed.
    """

    sessions: list[HeldHarness] = field(default_factory=list)
    requests: tuple[RecordedRequest, ...] = ()
    may_end_with: tuple[type[Exception], ...] = ()
    may_lose_machines: bool = False
    crashes: int = 0
    hung: bool = False
    escaped: BaseException | None = None
    noise: list[str] = field(default_factory=list)
    open_bodies: int = 0
    tasks_left: int = 0
