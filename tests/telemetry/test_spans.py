"""Spans: each beginning that is told has one end that is told, with its duration, and knows what it is in."""

from __future__ import annotations

import contextvars
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from managed_agents_actors import telemetry
from managed_agents_actors.telemetry._scope import NO_TAGS, Scope, current_scope, standing
from managed_agents_actors.telemetry._spans import Span, current_time

Event = tuple[str, Mapping[str, Any], dict[str, Any]]


@pytest.fixture
def heard() -> Iterator[list[Event]]:
    """What is told of the test's own spans."""
    events: list[Event] = []
    with telemetry.attach(lambda *event: events.append(event), "test"):
        yield events


async def test_a_block_is_told_when_it_begins_and_when_it_ends(heard: Any, autojump_clock: Any) -> None:
    with telemetry.span("test.work", {"table": "customers"}) as told:
        await trio.sleep(1.5)
        told["rows"] = 3
    (start, stop) = heard
    span_id = start[2]["span_id"]
    assert start == ("test.work.start", {}, {"table": "customers", "span_id": span_id})
    assert stop == ("test.work.stop", {"duration": 1.5}, {"table": "customers", "span_id": span_id, "rows": 3})
    assert isinstance(span_id, int)


async def test_a_block_that_raises_is_told_by_the_type_of_what_it_raised(heard: Any, autojump_clock: Any) -> None:
    with pytest.raises(LookupError, match="secret"), telemetry.span("test.work") as told:
        await trio.sleep(2)
        told["rows"] = 0
        raise LookupError("a secret")
    name, measurements, metadata = heard[1]
    assert (name, measurements) == ("test.work.exception", {"duration": 2})
    assert metadata == {"rows": 0, "error_type": "LookupError", "span_id": metadata["span_id"]}


async def test_a_cancelled_block_has_stopped(heard: Any, autojump_clock: Any) -> None:
    with trio.move_on_after(3), telemetry.span("test.work"):
        await trio.sleep_forever()
    name, measurements, metadata = heard[1]
    assert (name, measurements) == ("test.work.stop", {"duration": 3})
    assert metadata == {"cancelled": True, "span_id": metadata["span_id"]}


async def test_a_cancelled_nursery_has_stopped_too(heard: Any, autojump_clock: Any) -> None:
    with trio.move_on_after(3), telemetry.span("test.work"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)
    assert [(name, told.get("cancelled")) for name, _, told in heard] == [
        ("test.work.start", None),
        ("test.work.stop", True),
    ]


@pytest.mark.parametrize(
    ("error", "what", "error_type"),
    [
        (ExceptionGroup("g", [ValueError()]), "exception", "ExceptionGroup"),
        (BaseExceptionGroup("g", [KeyboardInterrupt(), ValueError()]), "exception", "ExceptionGroup"),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), "stop", None),
        (GeneratorExit(), "stop", None),
        (KeyboardInterrupt(), "stop", None),
        (trio.TooSlowError(), "exception", "TooSlowError"),
    ],
    ids=["group", "mixed", "no_failure", "left", "interrupted", "too_slow"],
)
def test_a_failure_is_an_exception_and_all_else_an_end(heard: Any, error: Any, what: str, error_type: Any) -> None:
    with pytest.raises(type(error)), telemetry.span("test.work"):
        raise error
    name, _, metadata = heard[1]
    assert name == f"test.work.{what}"
    assert (metadata.get("error_type"), metadata.get("cancelled")) == (error_type, True if what == "stop" else None)


async def test_a_failure_on_the_way_out_of_a_cancelled_block_is_a_failure(heard: Any, autojump_clock: Any) -> None:
    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("on the way out")

    with pytest.RaisesGroup(ValueError), trio.move_on_after(1), telemetry.span("test.work"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_when_cancelled)
            nursery.start_soon(trio.sleep_forever)
    assert heard[1][0] == "test.work.exception"


def test_content_and_exceptions_are_for_those_who_asked(heard: Any) -> None:
    curious: list[Event] = []
    error = ValueError("a secret")
    with (
        telemetry.attach(lambda *event: curious.append(event), "test", content=True),
        pytest.raises(ValueError, match="a secret"),
        telemetry.span("test.work", content={"input": "said"}),
    ):
        raise error
    assert [sorted(told) for *_, told in heard] == [["span_id"], ["error_type", "span_id"]]
    assert curious[0][2]["input"] == "said"
    assert curious[1][2]["exception"] is error


# --- what is in what


def test_what_happens_in_a_block_is_told_as_in_it(heard: Any) -> None:
    with telemetry.span("test.outer"):
        telemetry.emit("test.before")
        with telemetry.span("test.inner"):
            telemetry.emit("test.inside")
        telemetry.emit("test.after")
    telemetry.emit("test.outside")
    ids = {name: told.get("span_id") for name, _, told in heard}
    parents = {name.removeprefix("test."): told.get("parent_id") for name, _, told in heard}
    outer, inner = ids["test.outer.start"], ids["test.inner.start"]
    assert parents == {
        "outer.start": None,
        "before": outer,
        "inner.start": outer,
        "inside": inner,
        "inner.stop": outer,
        "after": outer,
        "outer.stop": None,
        "outside": None,
    }


TREES = st.recursive(st.just(()), lambda deeper: st.lists(deeper, max_size=3).map(tuple), max_leaves=12)


@given(tree=TREES)
def test_spans_of_nested_tasks_and_threads_form_the_tree_that_ran(tree: Any) -> None:
    events: list[Event] = []

    async def work(branch: Any) -> None:
        with telemetry.span("test.work", {"size": len(branch)}):
            async with trio.open_nursery() as nursery:
                for each in branch:
                    nursery.start_soon(work, each)
            if len(branch) == 2:
                await trio.to_thread.run_sync(telemetry.emit, "test.thread")

    async def main() -> None:
        with standing(Scope({"session": "s"})):
            await work(tree)

    with telemetry.attach(lambda *event: events.append(event), "test"):
        trio.run(main)
    starts = {told["span_id"]: told for name, _, told in events if name == "test.work.start"}
    stops = {told["span_id"]: told for name, _, told in events if name == "test.work.stop"}
    assert stops == starts
    assert all(told["session"] == "s" for *_, told in events)

    def grown(span_id: int | None) -> Any:
        children = [each for each, told in starts.items() if told.get("parent_id") == span_id]
        return tuple(sorted(grown(each) for each in children))

    def shape(branch: Any) -> Any:
        return tuple(sorted(shape(each) for each in branch))

    assert grown(None) == (shape(tree),)
    in_threads = [told["parent_id"] for name, _, told in events if name == "test.thread"]
    assert sorted(in_threads) == sorted(each for each, told in starts.items() if told["size"] == 2)


async def test_a_block_in_a_thread_is_in_the_span_of_the_task(heard: Any) -> None:
    def in_thread() -> None:
        with telemetry.span("test.thread"):
            pass

    with telemetry.span("test.task"):
        await trio.to_thread.run_sync(in_thread)
        telemetry.emit("test.after")
    task = heard[0][2]["span_id"]
    assert [told.get("parent_id") for *_, told in heard] == [None, task, task, task, None]


def test_the_scope_of_a_span_wins_over_that_of_the_task(heard: Any) -> None:
    begun = Span.begin("test.turn", {"turn": 2}, scope=Scope({"session": "s", "turn": 1}, span_id=7))
    assert begun is not None
    begun.stop({"more": 1}, measurements={"tokens": 3})
    (start, stop) = heard
    assert start == ("test.turn.start", {}, {"session": "s", "turn": 2, "span_id": begun.id, "parent_id": 7})
    assert (stop[1]["tokens"], stop[2]) == (3, {**start[2], "more": 1})
    assert (begun.scope.tags, begun.scope.span_id) == ({"session": "s", "turn": 1}, begun.id)


# --- spans that nobody hears of, and those left elsewhere


def test_nothing_is_made_of_a_span_that_nobody_hears_of() -> None:
    unusable: Any = object()  # whoever looks into it fails
    before = current_scope()
    with telemetry.span("test.work", unusable, content=unusable) as told:
        assert current_scope() is before
        told["rows"] = 3
    assert Span.begin("test.work", unusable) is None
    with telemetry.attach(lambda *_: None, "test"), pytest.raises(TypeError, match="not a mapping"):
        Span.begin("test.work", unusable)


def test_a_span_that_began_unheard_tells_no_end() -> None:
    events: list[Event] = []
    with telemetry.span("test.work"):
        attachment = telemetry.attach(lambda *event: events.append(event), "test")
    with attachment:
        assert events == []
        with telemetry.span("test.work"):
            pass
    assert [name for name, *_ in events] == ["test.work.start", "test.work.stop"]


@pytest.mark.parametrize("ending", ["stop", "exception"])
def test_a_span_is_heard_of_by_those_who_hear_of_an_end_only(ending: str) -> None:
    events: list[Event] = []
    with telemetry.attach(lambda *event: events.append(event), f"test.work.{ending}"):
        with telemetry.span("test.work"):
            pass
        with pytest.raises(ValueError, match="out"), telemetry.span("test.work"):
            raise ValueError("out")
    ((name, measurements, _),) = events
    assert name == f"test.work.{ending}"
    assert measurements["duration"] >= 0


def test_a_listener_that_goes_meanwhile_leaves_the_block_as_it_was() -> None:
    before = current_scope()
    attachment = telemetry.attach(lambda *_: None, "test")
    with telemetry.span("test.work"):
        telemetry.detach(attachment)
    assert current_scope() is before


def test_a_span_may_be_left_in_another_context(heard: Any) -> None:
    def generator() -> Generator[None]:
        with telemetry.span("test.work"):
            yield

    work = generator()
    contextvars.copy_context().run(next, work)
    assert current_scope().span_id is None
    work.close()
    assert current_scope().span_id is None
    assert [(name, told.get("cancelled")) for name, _, told in heard] == [
        ("test.work.start", None),
        ("test.work.stop", True),
    ]


async def test_a_span_that_ends_in_a_thread_is_measured_by_its_own_clock(heard: Any, mock_clock: Any) -> None:
    begun = Span.begin("test.work")
    assert begun is not None
    mock_clock.jump(5)
    await trio.to_thread.run_sync(begun.stop)
    assert heard[1][1] == {"duration": 5}


def test_outside_of_trio_time_goes_on_as_well() -> None:
    assert current_time() <= current_time()


async def test_in_trio_time_is_the_clocks(mock_clock: trio.testing.MockClock) -> None:
    mock_clock.jump(5)
    assert current_time() == trio.current_time()


def test_a_block_may_be_used_again(heard: Any) -> None:
    block = telemetry.span("test.work")
    with block as told:
        told["first"] = True
    with block:
        pass
    ids = [told["span_id"] for *_, told in heard]
    assert ids[0] == ids[1] != ids[2] == ids[3]
    assert heard[3][2] == {"span_id": ids[3]}


def test_a_listener_that_fails_at_the_start_does_not_disturb_the_block(caplog: pytest.LogCaptureFixture) -> None:
    def failing(*_: Any) -> None:
        raise ValueError("a defect of the listener's")

    before = current_scope()
    with telemetry.attach(failing, "test"), telemetry.span("test.work") as told:
        told["rows"] = 1
    assert current_scope() is before
    assert caplog.text.count("telemetry_listener_detached") == 1


def test_no_tags_are_no_tags_for_good() -> None:
    with pytest.raises(TypeError):
        NO_TAGS["k"] = 1  # type: ignore[index]  # that is what must not be possible
