"""The log: a line goes where the application says at the time, holds no secret, and cannot fail whoever writes it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from managed_agents_actors import telemetry
from managed_agents_actors.telemetry._log import LOGGER_NAME, RECORD_VALUES, TAKEN, write
from managed_agents_actors.telemetry._scope import Scope, standing

SECRET = "sk-ant-api03-" + "x" * 40


@pytest.fixture
def captured() -> Iterator[structlog.testing.LogCapture]:
    """What structlog is told, as an application has configured it."""
    capture = structlog.testing.LogCapture()
    structlog.configure(processors=[capture])
    yield capture
    structlog.reset_defaults()


@pytest.fixture
def reset() -> Iterator[None]:
    """Let the test configure structlog."""
    yield
    structlog.reset_defaults()


# --- where a line goes


def test_without_structlog_a_line_goes_to_the_standard_logger(caplog: pytest.LogCaptureFixture) -> None:
    telemetry.get_logger(provider="p").warning("broken", what="it", number=1)
    (record,) = caplog.records
    assert (record.name, record.levelname) == (LOGGER_NAME, "WARNING")
    assert record.getMessage() == "event='broken' provider='p' what='it' number=1"
    assert getattr(record, RECORD_VALUES) == {"event": "broken", "provider": "p", "what": "it", "number": 1}


def test_with_structlog_a_line_goes_to_it_alone(captured: Any, caplog: pytest.LogCaptureFixture) -> None:
    telemetry.get_logger(provider="p").warning("broken", what="it")
    assert captured.entries == [{"event": "broken", "log_level": "warning", "provider": "p", "what": "it"}]
    assert caplog.records == []


def test_a_logger_that_was_made_before_goes_where_structlog_is_configured_to_go(
    reset: None, caplog: pytest.LogCaptureFixture
) -> None:
    log = telemetry.get_logger(provider="p")
    log.warning("before")
    first, second = structlog.testing.LogCapture(), structlog.testing.LogCapture()
    structlog.configure(processors=[first], cache_logger_on_first_use=True)
    log.warning("configured")
    structlog.configure(processors=[second])
    log.bind(more=1).warning("reconfigured")
    structlog.reset_defaults()
    log.warning("after")
    assert [each["event"] for each in first.entries] == ["configured"]
    assert second.entries == [{"event": "reconfigured", "log_level": "warning", "provider": "p", "more": 1}]
    assert [each.getMessage().split()[0] for each in caplog.records] == ["event='before'", "event='after'"]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_a_line_has_the_level_at_which_it_is_told(level: str, captured: Any) -> None:
    getattr(telemetry.get_logger(), level)("it_happened")
    assert captured.entries == [{"event": "it_happened", "log_level": level}]


@pytest.mark.parametrize("configured", [False, True], ids=["standard", "structlog"])
def test_a_traceback_is_a_text_for_structlog_and_for_the_standard_logging_to_render(
    configured: bool, reset: None, caplog: pytest.LogCaptureFixture
) -> None:
    capture = structlog.testing.LogCapture()
    if configured:
        structlog.configure(processors=[capture])
    error = ValueError("why")
    telemetry.get_logger().error("broken", exc_info=error)
    if configured:
        assert capture.entries == [{"event": "broken", "log_level": "error", "exception": "ValueError: why"}]
    else:
        assert caplog.records[0].exc_info == (ValueError, error, None)


def test_no_renderer_of_structlog_sees_the_variables_of_a_traceback(reset: None) -> None:
    output: list[Any] = []

    def failing() -> None:
        credential = "hunter2hunter2"
        raise ValueError(f"{len(credential)}: sk-ant-api03-{'Q' * 40}")

    structlog.configure(processors=[structlog.processors.dict_tracebacks, lambda *line: output.append(line[2]) or ""])
    try:
        failing()
    except ValueError as error:
        telemetry.get_logger().error("broken", exc_info=error)
    (line,) = output
    assert 'raise ValueError(f"{len(credential)}' in line["exception"]
    assert "hunter2" not in repr(line)
    assert "QQQQQ" not in repr(line)


# --- what a line says


def test_a_line_has_the_tags_of_the_task_and_what_is_said_wins(captured: Any) -> None:
    log = telemetry.get_logger(provider="bound", a="bound", b="bound")
    with standing(Scope({"tenant": "t", "provider": "tag", "a": "tag", "b": "tag"})):
        log.info("it_happened", b="said")
    (entry,) = captured.entries
    assert entry == {
        "event": "it_happened",
        "log_level": "info",
        "tenant": "t",
        "provider": "bound",
        "a": "bound",
        "b": "said",
    }


def test_no_value_shows_a_secret(captured: Any) -> None:
    with standing(Scope({"tag": f"the key {SECRET}"})):
        telemetry.get_logger(bound=f"bound {SECRET}").info("it_happened", said={"deep": [f"the key {SECRET}"]})
    (entry,) = captured.entries
    assert sorted(entry) == ["bound", "event", "log_level", "said", "tag"]
    assert "the key" in entry["tag"]
    assert SECRET not in repr(entry)


def render_to_standard_logging() -> None:
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def render_as_json() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper("iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
            lambda *line: ((line[-1],), {}),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def render_generically() -> None:
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer()],
        wrapper_class=structlog.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


NAMES = st.sampled_from(sorted(TAKEN)) | st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda deeper: st.lists(deeper, max_size=2) | st.dictionaries(st.text(max_size=4), deeper, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize(
    "configure", [lambda: None, render_to_standard_logging, render_as_json, render_generically], ids=range(4)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(tags=st.dictionaries(NAMES, VALUES, max_size=5))
def test_no_name_of_a_tag_costs_the_line(
    configure: Any, reset: None, caplog: pytest.LogCaptureFixture, tags: dict[str, Any]
) -> None:
    caplog.clear()
    configure()
    with standing(Scope(tags)):
        telemetry.get_logger().error("broken", exc_info=ValueError("why"))
    (record,) = caplog.records
    assert "broken" in record.getMessage()
    assert record.levelname == "ERROR"


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_what_is_said_may_have_any_name(level: str, captured: Any) -> None:
    getattr(telemetry.get_logger().bind(self=1), level)("it_happened", event=2, level=3)
    assert captured.entries == [{"event": "it_happened", "log_level": level, "self_": 1, "event_": 2, "level_": 3}]


@pytest.mark.parametrize("name", sorted(TAKEN))
def test_a_tag_whose_name_is_taken_gets_another(name: str, captured: Any) -> None:
    with standing(Scope({name: "tag"})):
        telemetry.get_logger().info("it_happened")
    assert captured.entries == [{"event": "it_happened", "log_level": "info", f"{name}_": "tag"}]


def test_a_name_that_is_no_text_costs_no_line(captured: Any) -> None:
    tags: Any = {7: "seven"}
    with standing(Scope(tags)):
        telemetry.get_logger().info("it_happened")
    assert captured.entries == [{"event": "it_happened", "log_level": "info", "7": "seven"}]


def test_a_value_that_cannot_be_shown_costs_no_line(captured: Any) -> None:
    class Unreadable:
        def __repr__(self) -> str:
            raise ValueError("a defect of the tag's")

    telemetry.get_logger().info("it_happened", what=Unreadable(), other=1)
    (entry,) = captured.entries
    assert entry["other"] == 1
    assert "unreadable" in entry["what"]


def test_the_name_of_a_tag_starts_no_new_line(captured: Any) -> None:
    with standing(Scope({"a\nb\x1b": 1})):
        telemetry.get_logger().info("it_happened")
    assert captured.entries == [{"event": "it_happened", "log_level": "info", r"a\nb\x1b": 1}]


# --- what it costs


FILTERS: dict[str, dict[str, Any]] = {
    "filtering": {"wrapper_class": structlog.make_filtering_bound_logger(logging.WARNING)},
    "standard": {
        "wrapper_class": structlog.stdlib.BoundLogger,
        "logger_factory": structlog.stdlib.LoggerFactory(),
    },
}


@pytest.mark.parametrize("kind", [None, *FILTERS])
def test_a_line_that_goes_nowhere_is_not_made(kind: str | None, reset: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    if kind is not None:
        structlog.configure(processors=[structlog.testing.LogCapture()], **FILTERS[kind])
    made: list[str] = []

    def values(level: str) -> Mapping[str, Any]:
        made.append(level)
        return {}

    for level in ("debug", "info", "warning", "error"):
        write(level, "it_happened", lambda level=level: values(level))  # type: ignore[misc]  # bound, not shared
    assert made == ["warning", "error"]


@pytest.mark.parametrize("wrapper", [structlog.stdlib.BoundLogger, structlog.BoundLogger], ids=["standard", "generic"])
def test_a_logger_that_cannot_tell_what_it_takes_gets_every_line(wrapper: Any, reset: None) -> None:
    output = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer()],
        wrapper_class=wrapper,
        logger_factory=structlog.PrintLoggerFactory(output),
    )
    telemetry.get_logger().debug("it_happened", k=1)
    assert output.getvalue() == "k=1 event='it_happened'\n"


# --- what fails


def test_logging_never_fails_whoever_writes(reset: None) -> None:
    closed = io.StringIO()
    closed.close()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(closed))
    telemetry.get_logger().error("lost")

    tried: list[Any] = []

    def broken(*line: Any) -> Any:
        tried.append(line)
        raise ValueError("a defect of the processor's")

    structlog.configure(processors=[broken])
    telemetry.get_logger().error("lost", exc_info=ValueError("why"))
    assert len(tried) == 1
