"""The pytest plugin: fixtures that hand out a simulator and a fault plan, in virtual time.

It lives beside the package, as pytest loads it at every start: nothing of the package, of trio or of HTTP is imported
before a fixture is used.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from managed_agents_actors.testing import ClaudeSimulator, FaultPlan

MARKERS = (
    "claude_simulator(script, **options): what the claude_simulator fixture is opened with",
    "fault_plan(*faults, **options): the faults of the fault_plan fixture, or the options of a random plan",
)
SEED = pytest.StashKey[int]()
# The plan of a test that has one; None for a test that only runs in virtual time.
PLAN = pytest.StashKey["FaultPlan | None"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--fault-seed``."""
    group = parser.getgroup("managed-agents-actors")
    group.addoption("--fault-seed", type=int, metavar="N", help="seed of random fault plans and of virtual time")


def pytest_configure(config: pytest.Config) -> None:
    """Announce the markers and choose the seed."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    given = config.getoption("--fault-seed")
    config.stash[SEED] = int.from_bytes(os.urandom(3), "big") if given is None else given


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let pytest-trio run the tests of simulators in virtual time, unless they ask for real sockets or another run."""
    if not config.pluginmanager.hasplugin("trio"):
        return
    run = _virtual_run(config.stash[SEED])
    for item in items:
        names = getattr(item, "fixturenames", ())
        if "claude_simulator" not in names or "anyio_backend" in names:
            continue
        if not _on_sockets(item) and not any("run" in marker.kwargs for marker in item.iter_markers("trio")):
            item.add_marker(pytest.mark.trio(run=run), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the plan of a test that failed, and how to have it again."""
    report: Any = yield
    if report.failed and PLAN in item.stash:
        report.sections.append(("fault plan", "\n".join(_told(item.config.stash[SEED], item.stash[PLAN]))))
    return report  # type: ignore[no-any-return]  # the hook's result is not typed


@pytest.fixture
def fault_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run of pytest: ``--fault-seed``, or a new one."""
    return request.config.stash[SEED]


@pytest.fixture
def fault_plan(request: pytest.FixtureRequest, fault_seed: int) -> FaultPlan:
    """The faults of the ``fault_plan`` marker, or random ones; a failing test prints them."""
    from managed_agents_actors.testing import FaultPlan

    faults, options = _marked(request, "fault_plan")
    if faults and options:
        given = ", ".join(options)
        raise _misuse(f"fault_plan takes faults, or the options of a random plan ({given}), not both")
    plan = FaultPlan(faults) if faults else FaultPlan.random(fault_seed, **options)
    request.node.stash[PLAN] = plan
    return plan


@pytest.fixture
def claude_simulator_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What ``claude_simulator`` is opened with: its marker's arguments, in memory, and the test's ``fault_plan``."""
    _require_trio(request)
    scripts, options = _marked(request, "claude_simulator")
    if len(scripts) + ("script" in options) > 1:
        raise _misuse("claude_simulator takes one script: a list of steps, or a list of such lists, one for each turn")
    if scripts:
        options["script"] = scripts[0]
    if "fault_plan" in request.fixturenames:
        if "faults" in options:
            raise _misuse("claude_simulator has faults= and the test the fixture fault_plan: only one plan is played")
        options["faults"] = request.getfixturevalue("fault_plan")
    request.node.stash[PLAN] = options.get("faults")
    return {"transport": "memory", **options}


@pytest.fixture
async def claude_simulator(claude_simulator_options: dict[str, Any]) -> AsyncIterator[ClaudeSimulator]:
    """A simulator of Claude Managed Agents, in memory and in virtual time unless its marker says otherwise."""
    from managed_agents_actors.testing import open_claude_simulator

    async with open_claude_simulator(**claude_simulator_options) as simulator:
        yield simulator


def _virtual_run(seed: int) -> Callable[..., Any]:
    """A ``trio.run`` on a clock that skips every wait, whose order of tasks follows from the seed."""

    def run(function: Any, *, clock: Any = None, instruments: Any = ()) -> Any:
        import trio
        from trio.testing import MockClock

        from managed_agents_actors.testing._virtual_time import deterministic_schedule, within_patience

        with deterministic_schedule(seed):
            return trio.run(
                within_patience, function, clock=clock or MockClock(autojump_threshold=0), instruments=instruments
            )

    return run


def _marked(request: pytest.FixtureRequest, name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a test's marker; none without one."""
    marker = request.node.get_closest_marker(name)
    return (marker.args, dict(marker.kwargs)) if marker is not None else ((), {})


def _misuse(message: str) -> Exception:
    from managed_agents_actors import ConfigurationError

    return ConfigurationError(message)


def _told(seed: int, plan: FaultPlan | None) -> Iterator[str]:
    yield f"run it again with --fault-seed={seed}"
    if plan is None:
        return
    yield repr(plan)
    yield "took effect:"
    yield from [f"  request {fired.occurrence} of {fired.fault!r}" for fired in plan.fired] or ["  nothing"]
    yield "find_shortest_plan leaves out what is not to blame"


def _on_sockets(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("claude_simulator")
    return marker is not None and marker.kwargs.get("transport") == "loopback"


def _require_trio(request: pytest.FixtureRequest) -> None:
    """Say what is missing when nothing runs this test under trio."""
    if "anyio_backend" in request.fixturenames:
        backend = request.getfixturevalue("anyio_backend")
        name = backend if isinstance(backend, str) else backend[0]
        if name != "trio":
            pytest.fail(
                f"claude_simulator runs on trio, and this test on {name}: parametrize anyio_backend with 'trio'"
            )
    elif not request.config.pluginmanager.hasplugin("trio"):
        pytest.fail("claude_simulator needs a runner of trio tests: pip install pytest-trio")
