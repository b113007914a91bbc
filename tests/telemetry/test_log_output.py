"""The default output: lines on standard error for who has configured nothing, and nothing overridden for who has."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st

from managed_agents_actors import ConfigurationError, telemetry
from managed_agents_actors.telemetry import _bus, _log_output
from managed_agents_actors.telemetry._log import LOGGER_NAME, TAKEN
from managed_agents_actors.telemetry._scope import Scope, standing

from ..log_state import LOGGER, ROOT, fresh_process

SECRET = "sk-ant-api03-" + "x" * 40


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def opened(resumed: bool = False) -> None:
    telemetry.emit("managed_agents.session.opened", metadata={"session_id": "s", "resumed": resumed})


def failure() -> ValueError:
    with pytest.raises(ValueError, match="refused") as caught:
        raise ValueError(f"refused {SECRET}")
    return caught.value


# --- what is written


def test_readable_lines() -> None:
    output = io.StringIO()
    with fresh_process():
        assert telemetry.configure_logging(stream=output)
        opened()
        telemetry.get_logger(provider="p").info("told", text="two\nlines \x1b[31m")
        telemetry.get_logger().debug("not_told")
    first, second = output.getvalue().splitlines()
    when, level, event, logger, *values = first.split()
    assert when.endswith("Z")
    assert (level, event) == ("[info", "]")
    assert [logger, *values] == ["session.opened", "[managed_agents_actors]", "session_id='s'", "resumed=False"]
    assert second.endswith(r"provider='p' text='two\nlines \x1b[31m'")


def test_lines_of_json() -> None:
    output = io.StringIO()
    with fresh_process():
        assert telemetry.configure_logging(json=True, stream=output)
        opened()
        telemetry.get_logger().warning("told", what={"deep": [1, None]})
    first, second = (json.loads(line) for line in output.getvalue().splitlines())
    assert list(first) == ["timestamp", "level", "logger", "event", "session_id", "resumed"]
    del first["timestamp"], second["timestamp"]
    assert first == {
        "level": "info",
        "logger": LOGGER_NAME,
        "event": "session.opened",
        "session_id": "s",
        "resumed": False,
    }
    assert second == {"level": "warning", "logger": LOGGER_NAME, "event": "told", "what": {"deep": [1, None]}}


@pytest.mark.parametrize("as_json", [False, True], ids=["readable", "json"])
def test_a_traceback_is_written_without_its_secrets(as_json: bool) -> None:
    output = io.StringIO()
    with fresh_process():
        telemetry.configure_logging(json=as_json, stream=output)
        error = ExceptionGroup("both", [failure(), KeyError(SECRET)])
        telemetry.get_logger().error("broken", exc_info=error)
    text = json.loads(output.getvalue())["exception"] if as_json else output.getvalue()
    assert "Traceback (most recent call last):" in text
    assert "in failure" in text
    assert "ValueError: refused" in text
    assert SECRET not in text


def test_what_others_write_to_the_librarys_logger_is_written_too() -> None:
    output = io.StringIO()
    with fresh_process():
        telemetry.configure_logging(json=True, stream=output)
        logging.getLogger(f"{LOGGER_NAME}.plugin").warning("refused %s", SECRET)
    line = json.loads(output.getvalue())
    assert (line["logger"], line["level"]) == (f"{LOGGER_NAME}.plugin", "warning")
    assert line["event"].startswith("refused ")
    assert SECRET not in line["event"]


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """The process environment with these variables in place of what speaks of terminals, put back afterwards."""
    before = dict(os.environ)
    for name in ("NO_COLOR", "TERM"):
        os.environ.pop(name, None)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.parametrize(
    ("stream", "variables", "is_colourful"),
    [
        (Terminal, {}, True),
        (Terminal, {"NO_COLOR": "", "TERM": "xterm"}, True),
        (Terminal, {"NO_COLOR": "1"}, False),
        (Terminal, {"TERM": "dumb"}, False),
        (io.StringIO, {}, False),
    ],
    ids=["terminal", "xterm", "no_color", "dumb", "file"],
)
def test_colours_are_for_terminals(stream: Any, variables: dict[str, str], is_colourful: bool) -> None:
    output = stream()
    with environment(variables), fresh_process():
        telemetry.configure_logging(stream=output)
        opened()
    assert ("\x1b[" in output.getvalue()) is is_colourful


@pytest.mark.parametrize(
    ("level", "told"), [("debug", "diwe"), ("info", "iwe"), ("warning", "we"), ("error", "e"), ("off", "")]
)
def test_levels(level: Any, told: str) -> None:
    output = io.StringIO()
    with fresh_process():
        assert telemetry.configure_logging(level, json=True, stream=output)
        for each in ("debug", "info", "warning", "error"):
            getattr(telemetry.get_logger(), each)("diagnosis")
        opened()
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    assert "".join(line["level"][0] for line in lines if line["event"] == "diagnosis") == told
    assert any(line["event"] == "session.opened" for line in lines) is ("i" in told)


def test_content_is_written_if_asked_for() -> None:
    output = io.StringIO()
    with fresh_process():
        for content in (False, True):
            telemetry.configure_logging(content=content, json=True, stream=output)
            telemetry.emit("managed_agents.session.terminal", content={"text": "hello"})
    assert [json.loads(line).get("text") for line in output.getvalue().splitlines()] == [None, "hello"]


NAMES = st.sampled_from(sorted(TAKEN)) | st.text(max_size=8)
VALUES = st.recursive(
    st.text(max_size=8) | st.floats() | st.binary(max_size=4) | st.sampled_from([None, {1, 2}]),
    lambda deeper: st.lists(deeper, max_size=2) | st.dictionaries(st.none() | st.tuples() | NAMES, deeper, max_size=2),
    max_leaves=4,
)


@example(tags={"number": math.nan}, as_json=True)
@example(tags={"keys": {(): 1}}, as_json=True)
@given(tags=st.dictionaries(NAMES, VALUES, max_size=4), as_json=st.booleans())
def test_no_tag_costs_the_line_or_makes_it_two(tags: dict[str, Any], as_json: bool) -> None:
    output = io.StringIO()
    with fresh_process(), standing(Scope(tags)):
        telemetry.configure_logging(json=as_json, stream=output)
        telemetry.get_logger().error("broken")
    (line,) = output.getvalue().splitlines()
    assert "broken" in line
    if as_json:
        assert json.loads(line, parse_constant=pytest.fail)["event"] == "broken"


# --- what is left as it is


def test_nothing_but_the_librarys_logger_is_touched() -> None:
    with fresh_process():
        telemetry.configure_logging(stream=io.StringIO())
        assert not structlog.is_configured()
        assert ROOT.handlers == []
        assert LOGGER.propagate


def test_it_replaces_what_it_has_configured_before() -> None:
    first, second = io.StringIO(), io.StringIO()
    with fresh_process():
        level, handlers = LOGGER.level, LOGGER.handlers[:]
        telemetry.configure_logging("debug", stream=first)
        telemetry.configure_logging("info", json=True, stream=second)
        telemetry.get_logger().debug("not_told")
        opened()
        assert len(LOGGER.handlers) == len(handlers) + 1
        _log_output._withdraw()
        assert (LOGGER.level, LOGGER.handlers) == (level, handlers)
    assert first.getvalue() == ""
    assert json.loads(second.getvalue())["event"] == "session.opened"


@contextmanager
def structlog_configured() -> Iterator[io.StringIO]:
    output = io.StringIO()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(output))
    yield output
    structlog.reset_defaults()


@contextmanager
def handler_on(logger: logging.Logger) -> Iterator[io.StringIO]:
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    logger.addHandler(handler)
    yield output
    logger.removeHandler(handler)


APPLICATIONS: dict[str, Any] = {
    "structlog": structlog_configured,
    "root": lambda: handler_on(ROOT),
    "logger": lambda: handler_on(LOGGER),
}


@pytest.mark.parametrize("application", APPLICATIONS)
def test_an_application_that_has_configured_its_own_keeps_it(application: str) -> None:
    ours = io.StringIO()
    with fresh_process(), APPLICATIONS[application]() as theirs:
        LOGGER.setLevel(logging.INFO)
        handlers = LOGGER.handlers[:]
        assert not telemetry.configure_logging("debug", stream=ours)
        assert (LOGGER.level, LOGGER.handlers) == (logging.INFO, handlers)
        opened()
        assert _bus.is_heard("managed_agents.turn.start")
    assert ours.getvalue() == ""
    assert theirs.getvalue().count("session.opened") == 1


@pytest.mark.parametrize("application", APPLICATIONS)
def test_an_application_that_configures_its_own_later_has_it_alone(application: str) -> None:
    ours = io.StringIO()
    with fresh_process():
        level, handlers = LOGGER.level, LOGGER.handlers[:]
        assert telemetry.configure_logging("debug", json=True, stream=ours)
        with APPLICATIONS[application]() as theirs:
            telemetry.get_logger().warning("told_to_the_application")
            assert LOGGER.level == level
            assert not [handler for handler in handlers if handler not in LOGGER.handlers]
        telemetry.get_logger().warning("told_to_nobody")
    assert ours.getvalue() == ""
    assert theirs.getvalue().count("told_to_the_application") == 1


def test_the_levels_of_an_application_count_also_when_it_comes_later() -> None:
    with fresh_process():
        assert telemetry.configure_logging("debug", stream=io.StringIO())
        with handler_on(ROOT) as theirs:  # whose level is WARNING
            opened()
            telemetry.emit("managed_agents.turn.start")
        assert theirs.getvalue() == ""
        assert telemetry.configure_logging("off", stream=io.StringIO())
        with handler_on(ROOT) as theirs:
            telemetry.get_logger().error("broken")
        assert theirs.getvalue().count("broken") == 1


def test_the_level_that_an_application_gave_our_logger_is_kept() -> None:
    output = io.StringIO()
    with fresh_process():
        LOGGER.setLevel(logging.ERROR)
        assert telemetry.configure_logging("debug", stream=output)
        assert LOGGER.level == logging.ERROR
        telemetry.get_logger().warning("quiet")
        telemetry.get_logger().error("loud")
    assert ("quiet" in output.getvalue(), "loud" in output.getvalue()) == (False, True)


def test_once_the_application_has_its_own_another_call_withdraws() -> None:
    with fresh_process():
        level, handlers = LOGGER.level, LOGGER.handlers[:]
        assert telemetry.configure_logging("debug", stream=io.StringIO())
        with handler_on(ROOT):
            assert not telemetry.configure_logging()
            assert (LOGGER.level, LOGGER.handlers) == (level, handlers)


def test_a_handler_that_writes_nothing_is_no_configuration() -> None:
    with fresh_process():
        ROOT.addHandler(logging.NullHandler())
        assert telemetry.configure_logging(stream=io.StringIO())


def test_what_is_no_level_is_refused_and_changes_nothing() -> None:
    output = io.StringIO()
    with fresh_process():
        telemetry.configure_logging(json=True, stream=output)
        with pytest.raises(ConfigurationError, match="level= must be one of"):
            telemetry.configure_logging("loud")  # type: ignore[arg-type]  # that is the point
        opened()
    assert json.loads(output.getvalue())["event"] == "session.opened"


# --- a process of its own

PROGRAM = """
from managed_agents_actors import telemetry
{configure}
telemetry.emit("managed_agents.session.opened", metadata={{"resumed": False}})
telemetry.get_logger().error("broken", exc_info=ValueError("why"))
"""


def run(configure: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(configure=configure)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)


def test_a_process_that_configures_nothing_is_not_written_to() -> None:
    done = run("")
    assert (done.stdout, done.stderr) == ("", "")


def test_an_application_with_logging_of_its_own_is_told_from_the_start() -> None:
    done = run("import logging; logging.basicConfig(level=logging.INFO)")
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"INFO:{LOGGER_NAME}:event='session.opened' resumed=False",
        f"ERROR:{LOGGER_NAME}:event='broken'",
        "ValueError: why",
    ]


def test_a_script_gets_its_lines_on_standard_error() -> None:
    done = run("assert telemetry.configure_logging(json=True)")
    assert done.stdout == ""
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["session.opened", "broken"]
