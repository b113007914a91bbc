"""All that can be seen of what the library does: its events, its log, its spans and metrics, its errors and reprs.

What is looked for is found also where it is escaped, or where only a part of it is left.
"""

from __future__ import annotations

import io
import json
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

import structlog

from managed_agents_actors import telemetry
from managed_agents_actors.testing import run_in_virtual_time

from ..log_state import ROOT, fresh_process
from ..telemetry._traced import traced

# What is looked for of a secret: pieces of so many characters, of which one begins every few characters. A run of 15 of
# its characters holds one; fewer are left where a secret is cut off.
PIECE, STEP = 12, 4

_ESCAPES = dict.fromkeys(map(ord, "\\\"'/"))


@dataclass
class Observed:
    """What was seen, by where."""

    seen: dict[str, list[str]] = field(default_factory=dict)

    def note(self, place: str, *values: object) -> None:
        """Note how values are shown."""
        texts = self.seen.setdefault(place, [])
        for value in values:
            texts.extend([value] if isinstance(value, str) else {str(value), repr(value)})

    def note_error(self, error: BaseException) -> None:
        """Note an error: its text, what it holds, and its traceback, with its causes and notes."""
        result = getattr(error, "result", None)
        held = {name: value for name, value in vars(error).items() if value is not result}
        self.note("error", error, held, getattr(result, "error", None))
        self.note("traceback", "".join(traceback.format_exception(error)))

    def of(self, place: str) -> str:
        """Everything that was seen in a place."""
        return "\n".join(self.seen.get(place, ()))

    def showing(self, *secrets: str) -> list[str]:
        """The places in which a secret, or a part of it, can be seen, each with what it looks like there."""
        pieces = [piece for secret in secrets for piece in sorted(_pieces(secret))]
        found = []
        for place in self.seen:
            text = _bare(self.of(place))
            at = next((at for piece in pieces if (at := text.find(piece)) >= 0), None)
            if at is not None:
                found.append(f"{place}: …{text[max(0, at - 60) : at + 60]}…")
        return found


def _bare(text: str) -> str:
    """A text without what escaping puts into it, backslashes and what they are put before, and in small letters."""
    return text.translate(_ESCAPES).lower()


def _pieces(secret: str) -> set[str]:
    """What is to be seen of a secret if a part of it is seen, however that is escaped."""
    plain = (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1])
    forms = {_bare(shown) for form in plain for shown in (form, quote(form, safe=""), quote(form))}
    return {form[at : at + PIECE] for form in forms for at in range(0, max(1, len(form) - PIECE + 1), STEP)}


# --- the log, in each way in which an application may have it written


@contextmanager
def _standard(*, content: bool) -> Iterator[io.StringIO]:
    """The standard logging, at its most talkative, of this library and of all others."""
    output = io.StringIO()
    ROOT.addHandler(logging.StreamHandler(output))
    ROOT.setLevel(logging.DEBUG)
    telemetry.log_events("debug", content=content)
    yield output


@contextmanager
def _structlog(*, content: bool) -> Iterator[io.StringIO]:
    """structlog, configured by the application: lines of JSON, and tracebacks with the values of variables."""
    output = io.StringIO()
    render = structlog.processors
    structlog.configure(
        processors=[render.add_log_level, render.dict_tracebacks, render.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(output),
    )
    telemetry.log_events("debug", content=content)
    yield output


@contextmanager
def _ours(*, content: bool) -> Iterator[io.StringIO]:
    """What this library writes for an application that has configured nothing."""
    output = io.StringIO()
    assert telemetry.configure_logging("debug", json=True, content=content, stream=output)
    yield output


Chain = Callable[..., AbstractContextManager[io.StringIO]]
CHAINS: Mapping[str, Chain] = {"standard log": _standard, "structlog": _structlog, "own log": _ours}


@contextmanager
def _logging(name: str, observed: Observed, *, content: bool) -> Iterator[None]:
    """Have the log written in one way; the test runner's own handlers are put aside meanwhile."""
    with fresh_process(), CHAINS[name](content=content) as output:
        yield
        observed.note(name, output.getvalue())


# --- all of it


@contextmanager
def _listening(observed: Observed, *, content: bool) -> Iterator[None]:
    """Hear every event, as any listener and as OpenTelemetry."""
    with (
        telemetry.attach(lambda *event: observed.note("event", event), content=content),
        traced() as world,
        world.attach(content=content),
    ):
        yield
        for span in world.exporter.get_finished_spans():
            observed.note("span", span.to_json())
        metrics = world.reader.get_metrics_data()
        observed.note("metric", metrics.to_json() if metrics else "")


def observe(act: Callable[[Observed], Awaitable[None]], *, log: str, content: bool = False) -> Observed:
    """Do something in virtual time, with the log written in one of the ways, and give all that could be seen of it."""
    observed = Observed()
    with _logging(log, observed, content=content), _listening(observed, content=content):
        run_in_virtual_time(act, observed)
    return observed
