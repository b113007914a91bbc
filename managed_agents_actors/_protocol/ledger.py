"""What one request has produced so far, and nothing about how it goes on: text, usage, calls, events, turns.

Every piece of text is appended once and handed back as a delta at the same moment, so the deltas of a request
concatenate to exactly its text. Appending is constant work; only a snapshot touches everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from .._model import Event, OutcomeResult, ResultError, SessionResult, Terminal, ToolUse, TurnResult, Usage
from .facts import Answered, Called, Fact, Graded, PreviewText, Restarted, Running, Said, Spent, UserSpoke

# Text blocks and messages are set apart by a line break, in the text and in the deltas alike.
_SEPARATOR = "\n"


def _count(usage: Mapping[str, Any], key: str) -> int:
    value = usage.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _plus(before: Usage, spent: Mapping[str, Any]) -> Usage:
    return Usage(
        input_tokens=before.input_tokens + _count(spent, "input_tokens"),
        output_tokens=before.output_tokens + _count(spent, "output_tokens"),
        cache_read_input_tokens=before.cache_read_input_tokens + _count(spent, "cache_read_input_tokens"),
        cache_creation_input_tokens=before.cache_creation_input_tokens + _count(spent, "cache_creation_input_tokens"),
    )


# What the agent said is kept as bare texts: there is much of it, and the garbage collector need not look at those.
_Line: TypeAlias = tuple[str, ...] | Called | Answered | UserSpoke


def _message(line: _Line) -> Mapping[str, Any]:
    """A line as it stands in a transcript; one without content stands in none."""
    match line:
        case tuple(texts):
            return {"role": "assistant", "content": [{"type": "text", "text": text} for text in texts]}
        case Called(use=use):
            called = {"type": "tool_use", "id": use.id, "name": use.name, "input": use.input}
            return {"role": "assistant", "content": [called]}
        case Answered(tool_use_id=call_id, content=content, is_error=is_error):
            answer = {"type": "tool_result", "tool_use_id": call_id, "content": list(content), "is_error": is_error}
            return {"role": "user", "content": [answer]}
        case UserSpoke(content=content):
            return {"role": "user", "content": list(content)}


class _Preview:
    """An assistant message that is being written.

    Attributes:
        index: The block at which it stands.
        shown: What has been shown of it, separators included.
        length: The characters shown, without separators.
        received: The characters received since it last started: a provider may begin it anew on the next stream.
    """

    __slots__ = ("index", "length", "received", "shown")

    def __init__(self, index: int) -> None:
        self.index = index
        self.shown: list[str] = []
        self.length = 0
        self.received = 0


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far an account had come when the session last began to run."""

    events: int = 0
    pieces: int = 0
    turn_begins: int | None = None
    usage: int = 0
    custom: int = 0
    server: int = 0
    transcript: int = 0


class Ledger:
    """The account of one request."""

    __slots__ = (
        "_custom",
        "_events",
        "_hidden",
        "_last_turn",
        "_mark",
        "_pieces",
        "_previews",
        "_raw_usage",
        "_server",
        "_spent",
        "_transcript",
        "_turn_begins",
        "_turn_calls",
        "outcome",
        "turns",
    )

    def __init__(self) -> None:
        self.turns = 0
        self.outcome: OutcomeResult | None = None
        self._events: list[Event] = []
        self._hidden: list[object] = []
        self._mark = _Mark()
        self._pieces: list[str] = []
        self._turn_begins: int | None = None
        self._last_turn: tuple[int, int] = (0, 0)
        self._turn_calls: tuple[int, int] = (0, 0)
        self._raw_usage: list[Mapping[str, Any]] = []
        self._spent: list[Usage] = []  # after each entry, so that a turn costs no more the longer the request is
        self._custom: list[ToolUse] = []
        self._server: list[ToolUse] = []
        self._previews: dict[str, _Preview] = {}
        self._transcript: list[_Line] = []

    @property
    def usage(self) -> Usage:
        """Usage so far."""
        return replace(self.spent, raw=tuple(self._raw_usage))

    @property
    def spent(self) -> Usage:
        """The counts of the usage so far, without what the provider told of it."""
        return self._spent[-1] if self._spent else Usage()

    @property
    def custom_tool_names(self) -> frozenset[str]:
        """The names of the custom tools that were called."""
        return frozenset(use.name for use in self._custom)

    @property
    def turn_calls(self) -> tuple[ToolUse, ...]:
        """The custom calls of the turn that was counted last."""
        begins, ends = self._turn_calls
        return tuple(self._custom[begins:ends])

    @property
    def event_ids(self) -> list[object]:
        """The ids of the events that it is made of, in order; ``None`` for one that has none."""
        return [*self._hidden, *(event.get("id") for event in self._events)]

    def record(self, event: Event) -> None:
        """Keep a raw event."""
        self._events.append(event)

    def record_hidden(self, event_id: object) -> None:
        """Know of an input that the provider itself has no event for."""
        self._hidden.append(event_id)

    def absorb(self, event: Event, fact: Fact) -> str:
        """Account for one new fact; return the text it adds, which is the delta to show."""
        match fact:
            case Said(texts=texts):
                self._transcript.append(texts)
                return self._say(event.get("id"), texts)
            case PreviewText():
                return self._preview(fact)
            case Called(use=use):
                (self._custom if use.kind == "custom" else self._server).append(use)
                self._transcript.append(fact)
            case Answered() | UserSpoke():
                self._transcript.append(fact)
            case Spent(usage=usage, raw=raw):
                self._spend(usage, usage if raw is None else raw)
            case Running():
                self._set_mark()
            case Restarted():
                self._rewind()
            case Graded(outcome=outcome, usage=usage):
                self.outcome = outcome
                if usage is not None:
                    self._spend(usage, usage)
            case _:
                pass
        return ""

    def _spend(self, usage: Mapping[str, Any], raw: Mapping[str, Any]) -> None:
        self._spent.append(_plus(self.spent, usage))
        self._raw_usage.append(raw)

    def _set_mark(self) -> None:
        self._mark = _Mark(
            events=len(self._events),
            pieces=len(self._pieces),
            turn_begins=self._turn_begins,
            usage=len(self._spent),
            custom=len(self._custom),
            server=len(self._server),
            transcript=len(self._transcript),
        )

    def _rewind(self) -> None:
        mark = self._mark
        del self._events[mark.events :]
        del self._pieces[mark.pieces :]
        del self._raw_usage[mark.usage :]
        del self._spent[mark.usage :]
        del self._custom[mark.custom :]
        del self._server[mark.server :]
        del self._transcript[mark.transcript :]
        self._turn_begins = mark.turn_begins
        self._previews.clear()

    def go_on_with(self, earlier: Ledger) -> None:
        """Take over the messages that were being written when an earlier account of the same request broke off."""
        for event_id, preview in earlier._previews.items():
            if event_id in self._previews:
                continue  # a provider whose log keeps the pieces has shown them again
            self._append("".join(preview.shown), apart=True)
            preview.received = 0
            self._previews[event_id] = preview

    def end_turn(self) -> None:
        """Count a turn; what is said from here on belongs to the next one."""
        self.turns += 1
        begins = len(self._pieces) if self._turn_begins is None else self._turn_begins
        self._last_turn = (begins, len(self._pieces))
        self._turn_begins = None
        self._turn_calls = (self._turn_calls[1], len(self._custom))

    def turn_result(self, session_id: str, terminal: Terminal, stop_reason: Any) -> TurnResult:
        """What a turn guard is shown."""
        return TurnResult(
            turns=self.turns,
            usage=self.usage,
            session_id=session_id,
            terminal=terminal,
            stop_reason=stop_reason,
            text="".join(self._pieces),
            custom_tool_uses=tuple(self._custom),
        )

    def result(
        self,
        session_id: str | None,
        terminal: Terminal,
        stop_reason: Any,
        *,
        error: ResultError | None = None,
        resumable: bool = True,
    ) -> SessionResult:
        """The request's result as it stands."""
        begins, ends = self._last_turn
        if self._turn_begins is not None:
            begins, ends = self._turn_begins, len(self._pieces)
        return SessionResult(
            terminal=terminal,
            stop_reason=stop_reason,
            session_id=session_id,
            text="".join(self._pieces),
            last_text="".join(self._pieces[begins:ends]),
            usage=self.usage,
            turns=self.turns,
            custom_tool_uses=tuple(self._custom),
            server_tool_uses=tuple(self._server),
            events=tuple(self._events),
            transcript=tuple([message for line in self._transcript if (message := _message(line))["content"]]),
            outcome=self.outcome,
            error=error,
            resumable=resumable,
        )

    def _append(self, text: str, *, apart: bool) -> str:
        pieces = self._pieces
        apart = apart and bool(pieces)
        if apart:
            pieces.append(_SEPARATOR)
        if self._turn_begins is None:
            self._turn_begins = len(pieces)
        pieces.append(text)
        return _SEPARATOR + text if apart else text

    def _preview(self, fact: PreviewText) -> str:
        preview = self._previews.get(fact.event_id)
        if fact.starts and preview is not None:
            preview.received = 0
        known = 0 if preview is None else preview.length - preview.received
        text = fact.text[max(0, known) :]
        if preview is None and text:
            preview = self._previews[fact.event_id] = _Preview(fact.index)
        if preview is None:
            return ""
        preview.received += len(fact.text)
        if not text:
            return ""
        apart = bool(preview.shown) and fact.index != preview.index
        preview.index = fact.index
        preview.shown += [_SEPARATOR, text] if apart else [text]
        preview.length += len(text)
        return self._append(text, apart=apart or preview.length == len(text))

    def _say(self, event_id: object, texts: tuple[str, ...]) -> str:
        whole = texts[0] if len(texts) == 1 else _SEPARATOR.join(texts)
        preview = self._previews.pop(event_id, None) if self._previews and isinstance(event_id, str) else None
        if preview is None:
            return self._append(whole, apart=True) if whole else ""
        # A preview is a prefix of its message; what was shown stays shown, and only the rest is new.
        shown = "".join(preview.shown)
        rest = whole[len(shown) :] if whole.startswith(shown) else _SEPARATOR + whole
        return self._append(rest, apart=False) if rest else ""
