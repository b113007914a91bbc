"""The shell of the AgentCore simulator's microVM: what it plays, and that it never gives what no shell would."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from managed_agents_actors.testing import run_in_virtual_time
from managed_agents_actors.testing._agentcore_shell import UNPLAYABLE, run_in_shell

from ._agentcore import SESSION


async def run(*commands: str) -> list[tuple[str, str, int]]:
    """What each of the commands gives, one after the other, in one machine."""
    files: dict[str, str] = {}
    return [await run_in_shell(command, files) for command in commands]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("", ("", "", 0)),
        ("   ", ("", "", 0)),
        ("true and more", ("", "", 0)),
        ("false", ("", "", 1)),
        ("echo", ("\n", "", 0)),
        ("echo  two   words ", ("two words\n", "", 0)),
        ("echo -n words", ("words", "", 0)),
        ("echo 'a > b' \"c; d\" e\\ f", ("a > b c; d e f\n", "", 0)),
        ('echo \'$HOME\' "a \\" b" \\$x', ('$HOME a " b $x\n', "", 0)),
        ("echo ''", ("\n", "", 0)),
        ("exit", ("", "", 0)),
        ("exit 7", ("", "", 7)),
        ("exit 256", ("", "", 0)),
        ("exit 300", ("", "", 44)),
        ("exit -1", ("", "", 255)),
        ("exit abc", ("", "sh: exit: abc: numeric argument required\n", 2)),
        ("exit 1 2", ("", "sh: exit: too many arguments\n", 1)),
        ("sleep", ("", "sleep: missing operand\n", 1)),
        ("sleep soon", ("", "sleep: invalid time interval: soon\n", 1)),
        ("sleep 1 -1", ("", "sleep: invalid time interval: 1 -1\n", 1)),
        ("cat", ("", "", 0)),
        ("cat nope", ("", "cat: nope: No such file or directory\n", 1)),
        ("nonsense 1", ("", "sh: nonsense: command not found\n", 127)),
    ],
)
async def test_a_command_gives_what_a_shell_gives(command: str, expected: tuple[str, str, int]) -> None:
    assert await run(command) == [expected]


async def test_output_goes_into_a_file_and_comes_out_of_it() -> None:
    commands = ("echo one > 'a file'", "echo -n two>b", "cat 'a file' b nope", "> b", "cat b")
    assert await run(*commands) == [
        ("", "", 0),
        ("", "", 0),
        ("one\ntwo", "cat: nope: No such file or directory\n", 1),
        ("", "", 0),
        ("", "", 0),
    ]


@pytest.mark.parametrize(
    ("command", "seconds"),
    [("sleep 5", 5), ("sleep 5s", 5), ("sleep 0.5m", 30), ("sleep .5h 1d", 88_200), ("sleep 2.", 2)],
)
async def test_a_sleep_lasts_as_long_as_it_says(autojump_clock: MockClock, command: str, seconds: float) -> None:
    began = trio.current_time()
    assert await run(command) == [("", "", 0)]
    assert trio.current_time() - began == pytest.approx(seconds)


@pytest.mark.parametrize(
    "command",
    [
        "echo a; echo b",
        "echo a && echo b",
        "echo a || echo b",
        "echo a | cat",
        "echo a &",
        "echo a >> f",
        "echo a 2> f",
        "echo a 1>&2",
        "echo a > f > g",
        "echo a > f b",
        "echo a >",
        "cat < f",
        "cat <<END",
        "echo $HOME",
        'echo "$HOME"',
        'echo "`pwd`"',
        "echo `pwd`",
        "echo (a)",
        "echo *",
        "echo ?",
        "echo [a]",
        "echo ~",
        "echo a # b",
        "echo 'open",
        'echo "open',
        "echo a\\",
        "echo a\necho b",
    ],
)
async def test_what_it_cannot_play_is_refused_and_does_nothing(command: str) -> None:
    assert await run("echo kept > f", command, "cat f") == [("", "", 0), ("", UNPLAYABLE, 2), ("kept\n", "", 0)]


@given(st.text("abe 'c\"h\\o>$;0129.-\n", max_size=12) | st.text(max_size=12))
def test_no_command_breaks_it(words: str) -> None:
    for command in (words, f"echo {words}", f"exit {words}", f"sleep {words}", f"cat {words}"):
        ((stdout, _, exit_code),) = run_in_virtual_time(run, command)
        assert 0 <= exit_code < 256
        assert not stdout or command.startswith(("echo", words))


async def test_a_command_with_a_defect_leaves_the_simulator_as_it_is(aws: Any, autojump_clock: MockClock) -> None:
    target = {"runtimeSessionId": SESSION}
    async with aws() as client:
        target["agentRuntimeArn"] = client.simulator.harness_arn
        codes = []
        for command in ("sleep 5x", "exit abc", "  ", "echo a; echo b", "true"):
            await client.start("invoke_agent_runtime_command", **target, body={"command": command})
            codes.append((await client.rest())[-1][1]["contentStop"]["exitCode"])
        assert codes == [1, 2, 0, 2, 0]
