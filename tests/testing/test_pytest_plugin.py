"""The pytest plugin, as a project that has the library installed meets it: each test runs a pytest of its own."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

pytest_plugins = "pytester"

HEAD = """
import pytest
import trio
import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import DropStream, Fault, RecordingHandler, call_tool, say, wait


async def ask(simulator, handler):
    async with simulator.client() as client:
        return await maa.run_session(
            claude_managed_agents,
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
            handler=handler,
            prompt="Hello",
        )
"""
INI = "[pytest]\nfilterwarnings = error\naddopts = --strict-markers -p no:cacheprovider\n"

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Runs a test module in a fresh pytest, in which every warning is an error."""

    def run_pytest(source: str, *options: str, ini: str = INI) -> pytest.RunResult:
        pytester.makefile(".ini", pytest=ini)
        pytester.makepyfile(source)
        return pytester.runpytest_subprocess(*options)

    return run_pytest


@pytest.mark.parametrize("ini", [INI, INI + "trio_mode = true\n"], ids=["strict mode", "trio mode"])
def test_the_simulator_is_scripted_and_runs_in_virtual_time(run: Run, ini: str) -> None:
    source = """
@pytest.mark.claude_simulator([call_tool("look"), wait(500), say("Done.")])
async def test_it(claude_simulator):
    handler = RecordingHandler()
    assert (await ask(claude_simulator, handler)).text == "Done."
    assert [call.name for call in handler.calls] == ["look"]
    assert trio.current_time() == 500


async def test_without_a_script_it_echoes(claude_simulator):
    assert (await ask(claude_simulator, RecordingHandler())).text == "Hello"


@pytest.mark.trio
@pytest.mark.claude_simulator(transport="loopback", api_key="another")
async def test_on_real_sockets(claude_simulator):
    assert claude_simulator.base_url.startswith("http://127.0.0.1:")
    assert claude_simulator.api_key == "another"
    assert (await ask(claude_simulator, RecordingHandler())).text == "Hello"
"""
    run(HEAD + source, ini=ini).assert_outcomes(passed=3)


def test_the_simulator_plays_the_tests_fault_plan(run: Run) -> None:
    source = """
@pytest.mark.fault_plan(Fault(on="stream", action=DropStream(after_events=4)))
async def test_it(claude_simulator, fault_plan):
    assert (await ask(claude_simulator, RecordingHandler())).text == "Hello"
    assert [fired.fault.action for fired in fault_plan.fired] == [DropStream(after_events=4)]


@pytest.mark.fault_plan(faults=7, kinds=[DropStream])
def test_a_random_plan(fault_plan, fault_seed):
    assert [type(fault.action) for fault in fault_plan.faults] == [DropStream] * 7
    assert fault_plan.seed == fault_seed
"""
    run(HEAD + source).assert_outcomes(passed=2)


def test_a_failure_shows_the_plan_and_the_seed_that_makes_it_again(run: Run) -> None:
    source = """
async def test_it(claude_simulator, fault_plan):
    await ask(claude_simulator, RecordingHandler())
    assert False, fault_plan
"""
    first = run(HEAD + source)
    first.assert_outcomes(failed=1)
    printed = first.stdout.str()
    seed = re.search(r"run it again with --fault-seed=(\d+)", printed)
    assert seed is not None
    plan = re.search(r"^FaultPlan\(\[.*\], seed=\d+\)$", printed, re.MULTILINE)
    assert plan is not None
    assert f"seed={seed[1]})" in plan[0]
    assert re.search(r"^took effect:\n  (nothing|request \d+ of Fault\()", printed, re.MULTILINE)
    again = run(HEAD + source, f"--fault-seed={seed[1]}").stdout.str()
    assert plan[0] in again.splitlines()
    other = run(HEAD + source, f"--fault-seed={int(seed[1]) + 1}").stdout.str()
    assert plan[0] not in other.splitlines()


def test_a_test_that_passes_shows_nothing(run: Run) -> None:
    printed = run("def test_it(fault_plan):\n    pass\n", "-rA").stdout.str()
    assert "1 passed" in printed
    assert "FaultPlan" not in printed


def test_a_hanging_test_is_given_up_in_virtual_time(run: Run) -> None:
    source = """
@pytest.mark.claude_simulator([wait(10**9)])
async def test_it(claude_simulator):
    await ask(claude_simulator, RecordingHandler())
"""
    ended = run(HEAD.replace('prompt="Hello",', 'prompt="Hello", timeout=None,') + source)
    ended.assert_outcomes(failed=1)
    printed = ended.stdout.str()
    assert "TooSlowError: it went on after 86400 virtual seconds" in printed
    assert re.search(r"^run it again with --fault-seed=\d+$", printed, re.MULTILINE)


@pytest.mark.parametrize(
    ("markers", "message"),
    [
        (
            "fault_plan(DROP, faults=8, kinds=[])",
            "fault_plan takes faults, or the options of a random plan (faults, kinds)",
        ),
        ("claude_simulator([say('a')], [say('b')])", "claude_simulator takes one script"),
        ("claude_simulator([say('a')], script=[say('b')])", "claude_simulator takes one script"),
        ("claude_simulator(faults=FaultPlan())", "only one plan is played"),
        ("claude_simulator(transport='quantum')", "transport= must be one of 'loopback', 'memory', not 'quantum'"),
        ("claude_simulator(nonsense=3)", "unexpected keyword argument 'nonsense'"),
        ("fault_plan(nonsense=3)", "unexpected keyword argument 'nonsense'"),
    ],
)
def test_a_marker_with_a_mistake_is_refused(run: Run, markers: str, message: str) -> None:
    source = f"""
from managed_agents_actors.testing import FaultPlan

DROP = Fault(on="stream", action=DropStream())


@pytest.mark.{markers}
async def test_it(claude_simulator, fault_plan):
    print("not " + "reached")
"""
    ended = run(HEAD + source, "--show-capture=all", "-rA")
    assert ended.ret == pytest.ExitCode.TESTS_FAILED
    assert message in ended.stdout.str()
    assert "not reached" not in ended.stdout.str()


def test_a_failure_shows_the_plan_of_the_simulators_marker(run: Run) -> None:
    source = """
from managed_agents_actors.testing import FaultPlan


@pytest.mark.claude_simulator(faults=FaultPlan([Fault(on="stream", action=DropStream(after_events=4))]))
async def test_it(claude_simulator):
    assert (await ask(claude_simulator, RecordingHandler())).text == "another"
"""
    printed = run(HEAD + source).stdout.str()
    assert "\nFaultPlan([Fault(on='stream', action=DropStream(after_events=4))])\n" in printed
    assert "find_shortest_plan leaves out what is not to blame" in printed


def test_a_clock_of_the_tests_own_is_kept(run: Run) -> None:
    source = """
async def test_it(claude_simulator, mock_clock):
    assert trio.current_time() == 0
    mock_clock.jump(5)
    assert trio.current_time() == 5
"""
    run(HEAD + source).assert_outcomes(passed=1)


def test_without_a_runner_of_trio_tests_it_says_what_to_install(run: Run) -> None:
    source = "async def test_it(claude_simulator):\n    pass\n"
    ended = run(source, "-p", "no:trio", "-p", "no:anyio")
    ended.assert_outcomes(errors=1)
    assert "claude_simulator needs a runner of trio tests: pip install pytest-trio" in ended.stdout.str()


def test_anyios_runner_serves_too_on_trio_only(run: Run) -> None:
    source = """
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio", "asyncio"])
async def test_it(claude_simulator, anyio_backend):
    assert (await ask(claude_simulator, RecordingHandler())).text == "Hello"
"""
    ended = run(HEAD + source, "-p", "no:trio")
    ended.assert_outcomes(passed=1, errors=1)
    assert "claude_simulator runs on trio, and this test on asyncio" in ended.stdout.str()


def test_nothing_heavy_is_loaded_before_a_fixture_is_used(run: Run) -> None:
    source = """
import sys


def test_it(fault_seed):
    heavy = {"trio", "httpx", "h11", "structlog", "managed_agents_actors"}
    assert "_managed_agents_actors_pytest" in sys.modules
    assert not heavy & set(sys.modules)
"""
    others = [option for name in ("trio", "anyio", "hypothesispytest") for option in ("-p", f"no:{name}")]
    run(source, *others).assert_outcomes(passed=1)


def test_the_markers_are_documented(run: Run) -> None:
    printed = run("", "--markers").stdout.str()
    assert "@pytest.mark.claude_simulator(script, **options)" in printed
    assert "@pytest.mark.fault_plan(*faults, **options)" in printed
