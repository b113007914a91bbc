"""The default sink: which events become lines, at which level, and what a line says of its event."""

from __future__ import annotations

import logging
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog

from managed_agents_actors import ConfigurationError, telemetry
from managed_agents_actors.telemetry import _bus
from managed_agents_actors.telemetry._log_sink import EVENT_LEVELS
from managed_agents_actors.telemetry._scope import Scope, standing

Lines = list[MutableMapping[str, Any]]
SECRET = "sk-ant-api03-" + "x" * 40
RANKS = ("debug", "info", "warning", "error", "off")


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The lines, as an application's structlog is told them; the sink is the default one again afterwards."""
    capture = structlog.testing.LogCapture()
    structlog.configure(processors=[capture])
    yield capture.entries
    structlog.reset_defaults()
    telemetry.log_events()


def tell(name: str, measurements: Any = None, **metadata: Any) -> None:
    telemetry.emit(f"managed_agents.{name}", measurements or {}, metadata)


# --- which events become lines

# What is told, and the level of its line.
LEVELS: list[tuple[str, dict[str, Any], str]] = [
    ("session.opened", {"resumed": False}, "info"),
    ("session.closed", {}, "info"),
    ("session.closed", {"error_type": "SessionGone"}, "warning"),
    ("session.terminal", {"terminal": "end_turn"}, "info"),
    ("session.terminal", {"cancelled": True}, "info"),
    ("session.terminal", {"error_type": "SessionTimeout"}, "warning"),
    ("stream.reconnecting", {"error_type": "StreamLost"}, "info"),
    ("stream.reconnecting", {"error_type": None}, "info"),
    ("stream.error", {"error_type": "StreamLost"}, "debug"),
    ("journal.replayed", {"tool": "t"}, "info"),
    ("agent_core.provision.stop", {"result": "ok"}, "info"),
    ("agent_core.provision.exception", {"error_type": "ProvisioningError"}, "warning"),
    ("tool.exception", {"error_type": "KeyError"}, "debug"),
    ("supervisor.child_restarted", {"child": "c"}, "warning"),
    ("supervisor.intensity_exceeded", {"child": "c"}, "error"),
]
ORDINARY = sorted(set(telemetry.EVENT_NAMES) - EVENT_LEVELS.keys())
LEVELS += [(name.removeprefix("managed_agents."), {"error_type": "E"}, "debug") for name in ORDINARY]


@pytest.mark.parametrize("chosen", RANKS)
def test_an_event_is_a_line_from_its_level_on(chosen: Any, lines: Lines) -> None:
    telemetry.log_events(chosen)
    for name, metadata, level in LEVELS:
        lines.clear()
        tell(name, **metadata)
        told = [(line["event"], line["log_level"]) for line in lines]
        is_line = RANKS.index(level) >= RANKS.index(chosen)
        assert told == ([(name, level)] if is_line else []), (name, metadata)
        could_be = any(RANKS.index(each) >= RANKS.index(chosen) for other, _, each in LEVELS if other == name)
        assert _bus.is_heard(f"managed_agents.{name}") is could_be


def test_every_event_with_a_level_is_an_event() -> None:
    assert set(EVENT_LEVELS) < set(telemetry.EVENT_NAMES)


@pytest.mark.parametrize("name", ORDINARY)
def test_by_default_what_is_ordinary_has_no_listener(name: str) -> None:
    assert not _bus.is_heard(name)


def test_by_default_what_is_rare_becomes_a_line(lines: Lines) -> None:
    tell("session.opened", resumed=False)
    assert lines == [{"event": "session.opened", "log_level": "info", "resumed": False}]


def test_your_own_events_are_lines_at_debug(lines: Lines) -> None:
    telemetry.emit("myapp.lookup.stop")
    telemetry.log_events("debug")
    telemetry.emit("myapp.lookup.stop", {"duration": 1.0}, {"table": "customers"})
    assert lines == [{"event": "myapp.lookup.stop", "log_level": "debug", "table": "customers", "duration": 1.0}]


def test_a_choice_replaces_the_one_before(lines: Lines) -> None:
    before = _bus._routes.attached
    levels: list[Any] = ["debug", "info", "info"]
    for level in levels:
        telemetry.log_events(level)
    tell("session.opened", resumed=True)
    assert len(lines) == 1
    assert len(_bus._routes.attached) == len(before)
    telemetry.log_events("off")
    assert len(_bus._routes.attached) == len(before) - 1


@pytest.mark.parametrize("level", ["INFO", "critical", 20, None, ""], ids=repr)
def test_what_is_no_level_is_refused_and_changes_nothing(level: Any) -> None:
    before = _bus._routes.attached
    with pytest.raises(ConfigurationError, match="level= must be one of debug, info, warning, error, off, not"):
        telemetry.log_events(level)
    assert _bus._routes.attached == before


# --- what a line says


def test_a_line_says_tags_metadata_and_measurements(lines: Lines) -> None:
    with standing(Scope({"tenant": "t", "session_id": "s", "level": "gold"}, span_id=7)):
        tell("stream.reconnecting", {"delay": 1 / 3}, attempt=2, error_type=None, reason="the stream ended")
    assert lines == [
        {
            "event": "stream.reconnecting",
            "log_level": "info",
            "tenant": "t",
            "session_id": "s",
            "level_": "gold",
            "attempt": 2,
            "error_type": None,
            "reason": "the stream ended",
            "delay": 0.333333,
        }
    ]


def test_the_numbers_of_spans_are_in_the_lines_of_debug_only(lines: Lines) -> None:
    telemetry.log_events("debug")
    with telemetry.span("managed_agents.tool", {"tool": "t"}):
        tell("journal.replayed", tool="t")
    start, replayed, stop = lines
    assert start["span_id"] == stop["span_id"]
    assert replayed == {"event": "journal.replayed", "log_level": "info", "tool": "t"}


def test_no_line_shows_a_secret(lines: Lines) -> None:
    with standing(Scope({"tenant": f"t {SECRET}"})):
        tell("stream.reconnecting", {"delay": 1}, reason=f"refused {SECRET}", deep={"a": [SECRET]})
    (line,) = lines
    assert "refused" in line["reason"]
    assert SECRET not in repr(line)


def test_content_is_in_no_line_unless_asked_for(lines: Lines) -> None:
    def tell_all() -> None:
        telemetry.emit("managed_agents.session.terminal", metadata={"turn": 1}, content={"text": f"hello {SECRET}"})

    tell_all()
    telemetry.log_events("debug")
    tell_all()
    telemetry.log_events(content=True)
    tell_all()
    assert ["text" in line for line in lines] == [False, False, True]
    assert "hello" in lines[2]["text"]
    assert SECRET not in repr(lines)


def test_the_traceback_of_a_tool_is_content(lines: Lines) -> None:
    def run_tool() -> None:
        with pytest.raises(LookupError, match="private"), telemetry.span("managed_agents.tool", {"tool": "t"}):
            raise LookupError("private")

    telemetry.log_events("debug")
    run_tool()
    telemetry.log_events("debug", content=True)
    run_tool()
    lines[:] = [line for line in lines if line["event"] == "tool.exception"]
    for line in lines:
        del line["span_id"]
    reserved, curious = lines
    assert (reserved["event"], reserved["log_level"], reserved["error_type"]) == (
        "tool.exception",
        "debug",
        "LookupError",
    )
    assert "private" not in repr(reserved)
    assert 'raise LookupError("private")' in curious.pop("exception")
    assert curious.keys() == reserved.keys()


@pytest.mark.parametrize(("name", "shown"), [("exception", "exception_"), ("error", "error")])
def test_a_tag_that_is_called_as_what_an_event_tells_is_a_tag(name: str, shown: str, lines: Lines) -> None:
    with standing(Scope({name: "crashed"})):
        tell("session.closed")
    assert lines == [{"event": "session.closed", "log_level": "info", shown: "crashed"}]


def test_a_later_configuration_of_structlog_is_respected(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tell("session.opened", resumed=False)
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("INFO", "event='session.opened' resumed=False")
    capture = structlog.testing.LogCapture()
    try:
        structlog.configure(processors=[capture])
        tell("session.opened", resumed=True)
    finally:
        structlog.reset_defaults()
    assert capture.entries == [{"event": "session.opened", "log_level": "info", "resumed": True}]
    assert len(caplog.records) == 1


def test_a_broken_log_does_not_cost_the_sink() -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("a defect of the processor's")

    before = _bus._routes.attached
    try:
        structlog.configure(processors=[broken])
        tell("session.opened", resumed=True)
    finally:
        structlog.reset_defaults()
    assert _bus._routes.attached == before
