"""A session's events as lines: for people what happened when, cut to the width there is; for programs JSON as it came.

Rendering decides nothing, and no event of whatever shape makes it fail. What an event means is the provider's to say.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from .._model import Event
from .._protocol.claude_events import classify
from .._protocol.facts import Answered, Called, Decided, Failed, Graded, PreviewText, Said, UserSpoke
from .words import BOLD, CYAN, DIM, GREEN, RED, YELLOW, called, named, painted, printable, said, tokens

__all__ = ["TextLines", "is_queued", "json_line"]

TIME: Final = len("HH:MM:SS")
TYPE: Final = 24  # columns; few types are longer, and those only move what follows
MAX_TYPE: Final = 48
MIN_ROOM: Final = 24  # columns for what follows, however narrow the terminal is
MAX_CHARS: Final = 10_000  # of a text; more is no reading matter, and JSON has all of it

# The colour of a type by how it begins; the first that fits counts.
COLOURS: Final = {
    "user.custom_tool_result": GREEN,
    "user.tool_": GREEN,
    "user.": BOLD,
    "agent.message": CYAN,
    "agent.": GREEN,
    "event_": CYAN,
    "session.error": RED,
    "session.status_": YELLOW,
    "session.deleted": YELLOW,
    "": DIM,
}

# Members that say nothing to people, or are shown in another way.
HIDDEN: Final = {"id", "type", "processed_at", "session_thread_id", "model_request_start_id"}


def json_line(event: Event) -> str:
    """The event as it came, in ASCII."""
    return json.dumps(event) + "\n"


class TextLines:
    """Lines for people: when, what, and the gist of it. The time is the event's own, in UTC.

    It remembers the names of the calls it was shown, to name them again where their results come.

    Args:
        colour: Whether to use colours.
        width: Gives the columns there are now.
    """

    def __init__(self, *, colour: bool, width: Callable[[], int]) -> None:
        self._colour = colour
        self._width = width
        self._names: dict[str, str] = {}

    def __call__(self, event: Event) -> str:
        """Give the lines of an event: what was said is wrapped, everything else is cut to one line."""
        time, kind = _time(event), _cut(str(event.get("type")), MAX_TYPE)
        indent = TIME + 2 + max(TYPE, len(kind)) + 2
        room = max(self._width() - indent, MIN_ROOM)
        gist = self._said(event)
        first, *rest = [_cut(self._done(event), room)] if gist is None else _wrapped(gist, room)
        head = f"{self._paint(f'{time:<{TIME}}', DIM)}  {self._paint(f'{kind:<{TYPE}}', _colour_of(kind))}  {first}"
        return "".join(f"{line.rstrip()}\n" for line in (head, *(" " * indent + line for line in rest)))

    def _paint(self, text: str, colour: str) -> str:
        return painted(text, colour) if self._colour else text

    def _said(self, event: Event) -> str | None:
        """What somebody says in an event, all of which is to be read; ``None`` if nobody says anything."""
        match classify(event):
            case Said(texts=texts):
                told = " ".join(texts)
            case UserSpoke(content=content):
                told = said(content)
            case PreviewText(text=told):
                pass
            case Failed(error=error):
                told = f"{error.type}: {error.message}" + (f" ({error.retry_status})" if error.retry_status else "")
            case _:
                return None
        return _thread(event) + told

    def _done(self, event: Event) -> str:
        """What else an event tells."""
        match classify(event):
            case Called(use=use):
                self._names[use.id] = use.name
                gated = " needs a confirmation" if use.permission == "ask" else ""
                told = called(use.name, use.input) + gated
            case Answered(tool_use_id=call_id, content=content, is_error=is_error):
                told = f"{self._name(call_id)}{' failed' if is_error else ''}: {said(content)}"
            case Decided(tool_use_id=call_id, verdict=verdict):
                told = f"{verdict} {self._name(call_id)}"
            case Graded(outcome=outcome):
                told = f"{outcome.result}: {outcome.explanation}" if outcome.explanation else outcome.result
            case _:
                told = ", ".join(self._members(event))
        return _thread(event) + told

    def _members(self, event: Event) -> Iterator[str]:
        """Why it stopped, what was spent, and whatever else an event has."""
        others: dict[str, Any] = {}
        for name, value in event.items():
            if name == "stop_reason" and isinstance(value, Mapping):
                yield self._stopped(value)
            elif name in ("usage", "model_usage") and isinstance(value, Mapping):
                yield tokens(value)
            elif name not in HIDDEN and value is not None and value is not False:
                others[name] = value
        if others:
            yield named(others)

    def _stopped(self, reason: Mapping[str, Any]) -> str:
        ids = reason.get("event_ids")
        waiting = f": {', '.join(map(self._name, ids))}" if isinstance(ids, list) and ids else ""
        return f"{reason.get('type')}{waiting}"

    def _name(self, call_id: Any) -> str:
        return self._names.get(str(call_id), str(call_id))


def _colour_of(kind: str) -> str:
    return next(colour for beginning, colour in COLOURS.items() if kind.startswith(beginning))


def _time(event: Event) -> str:
    """The time of day that the event tells; an input that nobody has begun on has none."""
    told = event.get("processed_at")
    if told is None:
        return "(queued)" if is_queued(event) else ""
    try:
        return datetime.fromisoformat(told).strftime("%H:%M:%S")
    except (TypeError, ValueError):
        return "?"


def is_queued(event: Event) -> bool:
    """Whether this is an input that the provider has taken, but not begun on."""
    mine = str(event.get("type")).startswith(("user.", "system."))
    return mine and event.get("processed_at", "") is None


def _thread(event: Event) -> str:
    thread = event.get("session_thread_id")
    return f"[{thread}] " if isinstance(thread, str) and thread else ""


def _wrapped(text: str, width: int) -> list[str]:
    more = len(text) - MAX_CHARS
    told = f" ... and {more} characters, which --json shows" if more > 0 else ""
    return textwrap.wrap(_plain(text) + told, width) or [""]


def _cut(text: str, width: int) -> str:
    shown = _plain(text)
    return shown if len(shown) <= width else f"{shown[: width - 3]}..."


def _plain(text: str) -> str:
    """As much of a text as is ever shown, with every white space as one space."""
    return printable(" ".join(text[:MAX_CHARS].split()))
