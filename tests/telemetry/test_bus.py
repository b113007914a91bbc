"""The bus: who is told of what, in which order, with which tags; and that no listener can hurt whoever tells."""

from __future__ import annotations

import functools
import itertools
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule

from managed_agents_actors import ConfigurationError, telemetry
from managed_agents_actors.telemetry import _bus
from managed_agents_actors.telemetry._scope import Scope, standing

Event = tuple[str, Mapping[str, Any], Mapping[str, Any]]


def ear(heard: list[Event]) -> telemetry.Listener:
    """A listener that remembers what it is told."""
    return lambda *event: heard.append(event)


def failing(name: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    raise ValueError("a defect of the listener's")


def reports(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "telemetry_listener_detached" in record.getMessage()]


# --- who is told


def test_a_listener_is_told_until_it_is_detached() -> None:
    heard: list[Event] = []
    attachment = telemetry.attach(ear(heard), "test")
    telemetry.emit("test.one", {"n": 1}, {"k": "v"})
    assert telemetry.detach(attachment)
    telemetry.emit("test.two")
    assert heard == [("test.one", {"n": 1}, {"k": "v"})]
    assert not telemetry.detach(attachment)


def test_the_block_of_an_attachment_ends_it_even_when_it_fails() -> None:
    heard: list[Event] = []
    with pytest.raises(ValueError, match="out"), telemetry.attach(ear(heard), "test") as attachment:
        telemetry.emit("test.inside")
        raise ValueError("out")
    telemetry.emit("test.outside")
    assert [name for name, *_ in heard] == ["test.inside"]
    assert not telemetry.detach(attachment)


PARTS = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=4).map(tuple)


@given(prefixes=st.lists(PARTS, max_size=3), name=PARTS.filter(bool), dot=st.booleans())
def test_a_prefix_matches_whole_parts(prefixes: list[tuple[str, ...]], name: tuple[str, ...], dot: bool) -> None:
    heard: list[Event] = []
    given_prefix = tuple(".".join(prefix) + ("." if dot else "") for prefix in prefixes)
    with telemetry.attach(ear(heard), given_prefix):
        telemetry.emit(".".join(name))
    assert len(heard) == any(name[: len(prefix)] == prefix for prefix in prefixes)


@pytest.mark.parametrize(
    ("prefix", "told"),
    [("", "abc"), ("x.a", "a"), (("x.a", "x.c"), "ac"), (("x.a", ""), "abc"), ((), ""), ("x.", "abc"), ("X", "")],
)
def test_prefixes(prefix: Any, told: str) -> None:
    heard: list[Event] = []
    with telemetry.attach(ear(heard), prefix):
        for name in ("x.a", "x.b", "x.c"):
            telemetry.emit(name)
    assert "".join(name[-1] for name, *_ in heard) == told


def test_an_attachment_shows_what_it_hears_of() -> None:
    with telemetry.attach(failing, ("test.a", "test.b")) as attachment:
        assert repr(attachment) == f"<Attachment {failing!r} to 'test.a, test.b'>"


class AsyncCallable:
    async def __call__(self, name: str, measurements: Any, metadata: Any) -> None: ...


async def async_listener(name: str, measurements: Any, metadata: Any) -> None: ...


async def generating_listener(name: str, measurements: Any, metadata: Any) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    "listener",
    [async_listener, functools.partial(async_listener), generating_listener, AsyncCallable(), None, "print"],
    ids=["async", "partial", "generator", "callable", "none", "text"],
)
def test_what_cannot_listen_is_refused(listener: Any) -> None:
    before = _bus._routes.attached
    with pytest.raises(ConfigurationError, match="a listener must be a function"):
        telemetry.attach(listener)
    assert _bus._routes.attached == before


@pytest.mark.parametrize("prefix", [None, 1, ["test"], ("test", 1)], ids=repr)
def test_a_prefix_that_is_none_is_refused(prefix: Any) -> None:
    with pytest.raises(ConfigurationError, match="prefix= must be the beginning of events' names"):
        telemetry.attach(failing, prefix)


# --- what is told, and in which order


def test_listeners_are_told_in_the_order_in_which_they_came() -> None:
    order: list[str] = []

    def listener(mark: str) -> telemetry.Listener:
        return lambda name, *_: order.append(mark + name[-1])

    with (
        telemetry.attach(listener("a"), "test.1"),
        telemetry.attach(listener("b")),
        telemetry.attach(listener("c"), "test"),
    ):
        telemetry.emit("test.1")
        telemetry.emit("test.2")
    assert order == ["a1", "b1", "c1", "b2", "c2"]


def test_content_is_for_those_who_asked() -> None:
    reserved: list[Event] = []
    curious: list[Event] = []
    with telemetry.attach(ear(reserved), "test"), telemetry.attach(ear(curious), "test", content=True):
        telemetry.emit("test.said", {}, {"turn": 1}, content={"text": "hello"})
    assert reserved == [("test.said", {}, {"turn": 1})]
    assert curious == [("test.said", {}, {"turn": 1, "text": "hello"})]


def test_nothing_is_made_when_nobody_listens() -> None:
    unusable: Any = object()  # whoever looks into it fails
    with telemetry.attach(lambda *_: None, "test.heard"):
        telemetry.emit("test.unheard", unusable, unusable, content=unusable)
        assert not _bus.is_heard("test.unheard")
        with pytest.raises(TypeError, match="not a mapping"):
            telemetry.emit("test.heard", {}, unusable)


def test_the_events_own_metadata_wins_over_the_tags() -> None:
    heard: list[Event] = []
    with telemetry.attach(ear(heard), "test"), standing(Scope({"tenant": "t", "turn": 1})):
        telemetry.emit("test.tagged", {}, {"turn": 2})
        telemetry.emit("test.tagged")
    assert [metadata for *_, metadata in heard] == [{"tenant": "t", "turn": 2}, {"tenant": "t", "turn": 1}]


def test_whoever_owns_a_scope_may_add_tags_to_it() -> None:
    heard: list[Event] = []
    scope = Scope()
    with telemetry.attach(ear(heard), "test"), standing(scope):
        telemetry.emit("test.before")
        scope.tags = {"session_id": "s"}
        telemetry.emit("test.after")
    assert [metadata for *_, metadata in heard] == [{}, {"session_id": "s"}]


async def test_tags_follow_the_tasks_and_threads_that_a_task_starts() -> None:
    heard: list[Event] = []

    async def session(name: str) -> None:
        with standing(Scope({"session": name}, span_id=7)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(deeper, name)

    async def deeper(name: str) -> None:
        telemetry.emit("test.task", {}, {"of": name})
        await trio.to_thread.run_sync(telemetry.emit, "test.thread", {}, {"of": name})

    with telemetry.attach(ear(heard), "test"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session, "s1")
            nursery.start_soon(session, "s2")
        telemetry.emit("test.outside")
    assert sorted((name, metadata["of"]) for name, _, metadata in heard[:-1]) == [
        (f"test.{where}", session) for where, session in itertools.product(["task", "thread"], ["s1", "s2"])
    ]
    assert all(told == {"session": told["of"], "of": told["of"], "parent_id": 7} for *_, told in heard[:-1])
    assert heard[-1] == ("test.outside", {}, {})


# --- listeners that fail


def test_a_listener_that_fails_is_detached_and_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Event] = []
    with telemetry.attach(failing, "test") as attachment, telemetry.attach(ear(heard), "test"):
        telemetry.emit("test.one")
        telemetry.emit("test.two")
        assert not telemetry.detach(attachment)
    assert [name for name, *_ in heard] == ["test.one", "test.two"]
    (report,) = reports(caplog)
    assert report.levelno == logging.ERROR
    assert "listener='failing'" in report.getMessage()
    assert "telemetry_event='test.one'" in report.getMessage()
    assert report.exc_info is not None
    assert report.exc_info[2] is not None
    assert "a defect of the listener's" in caplog.text


def test_a_listener_that_fails_in_two_threads_at_once_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    both = threading.Barrier(2, timeout=30)

    def meet_and_fail(*_: Any) -> None:
        both.wait()
        raise ValueError("in both")

    with telemetry.attach(meet_and_fail, "test"):
        threads = [threading.Thread(target=telemetry.emit, args=("test.one",)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(reports(caplog)) == 1


def test_the_report_does_not_show_what_a_listener_holds(caplog: pytest.LogCaptureFixture) -> None:
    class Exporter:
        def __call__(self, *_: Any) -> None:
            raise ValueError("down")

        def __repr__(self) -> str:
            raise AssertionError("shown")

    with telemetry.attach(Exporter(), "test"):
        telemetry.emit("test.one")
    (report,) = reports(caplog)
    assert "Exporter'" in report.getMessage()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_wish_to_exit_comes_out_of_a_listener(error: type[BaseException]) -> None:
    def interrupted(*_: Any) -> None:
        raise error

    with telemetry.attach(interrupted, "test") as attachment:
        with pytest.raises(error):
            telemetry.emit("test.one")
        assert telemetry.detach(attachment)


# --- coming and going while events are told


def test_who_comes_while_an_event_is_told_is_told_of_the_next() -> None:
    late: list[Event] = []
    attached: list[telemetry.Attachment] = []

    def attaching(name: str, *_: Any) -> None:
        if not attached:
            attached.append(telemetry.attach(ear(late), "test"))

    with telemetry.attach(attaching, "test"):
        telemetry.emit("test.one")
        telemetry.emit("test.two")
    with attached[0]:
        assert [name for name, *_ in late] == ["test.two"]


def test_who_goes_while_an_event_is_told_is_told_of_no_other() -> None:
    heard: list[Event] = []

    def detaching(*event: Any) -> None:
        heard.append(event)
        assert telemetry.detach(attachment)

    with telemetry.attach(detaching, "test") as attachment:
        telemetry.emit("test.one")
        telemetry.emit("test.two")
    assert [name for name, *_ in heard] == ["test.one"]


def test_a_listener_may_tell_events_itself() -> None:
    heard: list[Event] = []

    def telling(name: str, *_: Any) -> None:
        if name == "test.outer":
            telemetry.emit("test.inner")

    with telemetry.attach(telling, "test"), telemetry.attach(ear(heard), "test"):
        telemetry.emit("test.outer")
    assert [name for name, *_ in heard] == ["test.inner", "test.outer"]


def test_threads_that_come_and_go_disturb_nobody() -> None:
    heard: list[int] = []
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            with telemetry.attach(lambda *_: None, "test"):
                telemetry.emit("test.elsewhere")

    threads = [threading.Thread(target=come_and_go) for _ in range(2)]
    before = _bus._routes.attached
    with telemetry.attach(lambda _, measurements, __: heard.append(measurements["n"]), "test.here"):
        for thread in threads:
            thread.start()
        for n in range(2_000):
            telemetry.emit("test.here", {"n": n})
        done.set()
        for thread in threads:
            thread.join()
    assert heard == list(range(2_000))
    assert _bus._routes.attached == before


def test_of_those_who_come_at_once_none_is_forgotten() -> None:
    before = _bus._routes.attached
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # the threads take turns as often as they can
    try:
        attached: list[telemetry.Attachment] = []
        come = [lambda: attached.extend(telemetry.attach(failing, "test") for _ in range(250)) for _ in range(4)]
        threads = [threading.Thread(target=each) for each in come]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert [telemetry.detach(each) for each in attached] == [True] * 1_000
    assert _bus._routes.attached == before


def test_names_without_end_do_not_fill_the_memory() -> None:
    heard: list[Event] = []
    with telemetry.attach(ear(heard), "test"):
        for n in range(2 * _bus.REMEMBERED):
            telemetry.emit(f"test.{n}")
            assert _bus.is_span_heard(f"test.{n}")
        assert len(heard) == 2 * _bus.REMEMBERED
        assert len(_bus._routes) <= _bus.REMEMBERED
        assert len(_bus._routes.spans) <= _bus.REMEMBERED


NAMES = st.sampled_from(["t.a", "t.a.x", "t.ab", "t.b"])
PREFIXES = st.sampled_from(["t", "t.a", "t.b", "t.a.x", ("t.a", "t.b"), ()])


class Comings(RuleBasedStateMachine):
    """Listeners come and go and fail; a list of who is there, in order, says who must be told."""

    attachments = Bundle("attachments")

    def __init__(self) -> None:
        super().__init__()
        self.there: list[telemetry.Attachment] = []
        self.told: list[telemetry.Attachment] = []
        self.seen: dict[telemetry.Attachment, list[dict[str, Any]]] = {}
        self.failing: set[telemetry.Attachment] = set()

    @rule(target=attachments, prefix=PREFIXES, content=st.booleans())
    def come(self, prefix: str | tuple[str, ...], content: bool) -> telemetry.Attachment:
        def listener(name: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
            self.told.append(attachment)
            self.seen[attachment] = [*self.seen.get(attachment, []), dict(metadata)]
            if attachment in self.failing:
                raise ValueError("told to fail")

        attachment = telemetry.attach(listener, prefix, content=content)
        self.there.append(attachment)
        return attachment

    @rule(attachment=consumes(attachments))
    def go(self, attachment: telemetry.Attachment) -> None:
        assert telemetry.detach(attachment) is (attachment in self.there)
        self.there = [each for each in self.there if each is not attachment]

    @rule(attachment=attachments)
    def will_fail(self, attachment: telemetry.Attachment) -> None:
        self.failing.add(attachment)

    @rule(name=NAMES)
    def tell(self, name: str) -> None:
        expected = [each for each in self.there if any(_is_within(name, prefix) for prefix in each.prefix)]
        self.told, self.seen = [], {}
        assert _bus.is_heard(name) is bool(expected)
        telemetry.emit(name, {}, {"k": 1}, content={"said": 2})
        assert self.told == expected
        for each in expected:
            assert self.seen[each] == [{"k": 1, "said": 2} if each.content else {"k": 1}]
        self.there = [each for each in self.there if each not in expected or each not in self.failing]

    def teardown(self) -> None:
        for attachment in self.there:
            telemetry.detach(attachment)


def _is_within(name: str, prefix: str) -> bool:
    parts, beginning = name.split("."), prefix.split(".")
    return parts[: len(beginning)] == beginning


TestComings = Comings.TestCase


# --- the headers by which a trace goes on

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _headers(given: Any) -> Callable[[], Any]:
    return lambda: given


def test_the_headers_of_a_trace_are_those_of_whoever_traces() -> None:
    assert _bus.trace_headers() == {}
    given = {"traceparent": PARENT, "tracestate": "a=b", "baggage": "user=secret", "authorization": "Bearer secret"}
    with telemetry.attach(lambda *_: None, "test", headers=_headers(given)):
        assert _bus.trace_headers() == {"traceparent": PARENT, "tracestate": "a=b"}
    assert _bus.trace_headers() == {}


@pytest.mark.parametrize(
    "value", [None, "", 7, b"00-x", "a\r\nx-evil: 1", "a\x00", "ä", "a\x7f"], ids=lambda value: ascii(value)
)
def test_a_header_that_cannot_be_sent_is_left_out_and_a_state_goes_with_its_parent_only(value: Any) -> None:
    state, parent = {"traceparent": PARENT, "tracestate": value}, {"traceparent": value, "tracestate": "a=b"}
    with telemetry.attach(lambda *_: None, "test", headers=_headers(parent)):
        assert _bus.trace_headers() == {}
        with telemetry.attach(lambda *_: None, "test", headers=_headers(state)):
            assert _bus.trace_headers() == {"traceparent": PARENT}


@pytest.mark.parametrize("given", [None, "traceparent"], ids=repr)
def test_a_source_of_headers_that_fails_is_detached(given: Any, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Event] = []
    with (
        telemetry.attach(ear(heard), "test", headers=_headers(given)) as attachment,
        telemetry.attach(lambda *_: None, "test", headers=_headers({"traceparent": PARENT})),
    ):
        assert _bus.trace_headers() == {"traceparent": PARENT}
        assert _bus.trace_headers() == {"traceparent": PARENT}
        telemetry.emit("test.one")
        assert not telemetry.detach(attachment)
    assert heard == []
    assert len(reports(caplog)) == 1
