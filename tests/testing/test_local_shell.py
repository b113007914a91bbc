"""Commands that a real shell runs: output, directory, environment, and nothing that outlives its command."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from managed_agents_actors import _errors as errors
from managed_agents_actors.testing import local_shell, open_agentcore_simulator

SESSION = "session-of-the-tests-0000000000000000"
DEADLINE = 60.0  # real seconds: far more than any of the commands takes


async def test_output_error_and_exit_code_are_the_commands(tmp_path: Path) -> None:
    shell = local_shell(tmp_path)
    assert await shell("echo out; echo 'it''s' >&2; printf ü; exit 7") == ("out\nü", "its\n", 7)
    assert await shell("cat") == ("", "", 0)
    assert await shell("printf '\\377'") == ("\N{REPLACEMENT CHARACTER}", "", 0)
    assert (await shell("no-such-command"))[2] == 127
    assert await shell("kill -9 $$") == ("", "", -9)


async def test_a_command_starts_in_the_directory_with_little_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    shell = local_shell(tmp_path / "folder")
    os.environ["MAA_TEST_SECRET"] = "secret"
    try:
        stdout, _, _ = await shell("pwd; echo $HOME; env; python3 -c 'print(1)'")
    finally:
        del os.environ["MAA_TEST_SECRET"]
    lines = stdout.splitlines()
    assert lines[:2] == [str(tmp_path / "folder")] * 2
    assert lines[-1] == "1"
    assert "secret" not in stdout


async def test_much_output_comes_whole(tmp_path: Path) -> None:
    stdout, stderr, code = await local_shell(tmp_path)("yes | head -c 1000000; yes no | head -c 1000000 >&2")
    assert (len(stdout), len(stderr), code) == (1_000_000, 1_000_000, 0)


def told(pid_file: Path) -> int | None:
    """The id that a command has written, if it has."""
    text = pid_file.read_text() if pid_file.exists() else ""
    return int(text) if text.endswith("\n") else None


async def alive(pid_file: Path) -> int:
    """Wait until a command has told the id of a process."""
    with trio.fail_after(DEADLINE):
        while (pid := told(pid_file)) is None:
            await trio.lowlevel.checkpoint()
    return pid


def is_running(pid: int) -> bool:
    """Whether a process runs; one that was killed and not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def gone(pid: int) -> None:
    try:
        with trio.fail_after(DEADLINE):
            while is_running(pid):
                await trio.lowlevel.checkpoint()
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes as Linux shows them")
@pytest.mark.parametrize(
    "command",
    ["sleep 1000 & echo $! > pid; wait", "echo $$ > pid; exec sleep 1000"],
    ids=["waiting", "itself"],
)
async def test_a_cancelled_command_is_killed_with_all_it_has_started(tmp_path: Path, command: str) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(local_shell(tmp_path), command)
        pid = await alive(tmp_path / "pid")
        assert is_running(pid)
        nursery.cancel_scope.cancel()
    await gone(pid)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes as Linux shows them")
@pytest.mark.parametrize("output", ["", ">/dev/null 2>&1"], ids=["holding its output", "holding nothing"])
async def test_what_a_command_leaves_running_is_killed_at_its_end(tmp_path: Path, output: str) -> None:
    with trio.fail_after(DEADLINE):
        outcome = await local_shell(tmp_path)(f"sleep 1000 {output} & echo $! > pid; echo out; echo err >&2; exit 3")
    assert outcome == ("out\n", "err\n", 3)
    await gone(await alive(tmp_path / "pid"))


@pytest.mark.skipif(shutil.which("setsid") is None, reason="a process leaves its group by setsid")
@pytest.mark.parametrize("left", ["sleep 1000", "yes"])
async def test_what_has_left_the_group_of_a_command_is_not_waited_for(tmp_path: Path, left: str) -> None:
    command = f"setsid sh -c 'echo $$ > pid; exec {left}' & until [ -s pid ]; do :; done"
    try:
        with trio.fail_after(DEADLINE):
            stdout, stderr, exit_code = await local_shell(tmp_path)(command)
    finally:
        os.kill(await alive(tmp_path / "pid"), signal.SIGKILL)
    assert (stdout.strip("y\n"), stderr, exit_code) == ("", "", 0)


WRITE_MUCH = """
import fcntl, os
fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)
os.write(1, bytes(500_000))
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes as Linux shows them")
async def test_what_a_command_has_written_when_it_ends_is_kept(tmp_path: Path) -> None:
    outcomes: list[tuple[str, str, int]] = []
    (tmp_path / "write.py").write_text(WRITE_MUCH)

    async def run(command: str) -> None:
        outcomes.append(await local_shell(tmp_path)(command))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, "sleep 1000 & echo $$ > pid; until [ -e go ]; do :; done; exec python3 write.py")
        pid = await alive(tmp_path / "pid")
        (tmp_path / "go").touch()
        # Nothing is read until it has ended, for this keeps every task from running.
        give_up = time.monotonic() + DEADLINE
        while is_running(pid):
            assert time.monotonic() < give_up
    assert outcomes == [("\0" * 500_000, "", 0)]


async def test_a_session_that_is_stopped_takes_its_commands_along(tmp_path: Path) -> None:
    async with (
        open_agentcore_simulator(transport="memory", commands=local_shell(tmp_path)) as simulator,
        simulator.client() as client,
        trio.open_nursery() as nursery,
    ):

        async def run() -> None:
            with pytest.raises(errors.TruncatedStream):
                await client.run_command(simulator.harness_arn, SESSION, "echo $$ > pid; exec sleep 1000")

        nursery.start_soon(run)
        pid = await alive(tmp_path / "pid")
        simulator.stop_session(SESSION)
        await gone(pid)


async def test_virtual_time_stands_still_while_commands_run(tmp_path: Path, autojump_clock: MockClock) -> None:
    shell = local_shell(tmp_path)

    async def run(command: str) -> None:
        assert await shell(command) == ("", "", 0)

    with trio.move_on_after(0.001) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "sleep 0.2")
            nursery.start_soon(run, "sleep 0.1")
    assert not scope.cancelled_caught
    assert (trio.current_time(), autojump_clock.autojump_threshold) == (0, 0)
    await trio.sleep(1_000)
    assert trio.current_time() == 1_000


@pytest.mark.parametrize("root", ["", "absent", None, 5, Path])
def test_only_a_directory_that_exists_will_do(tmp_path: Path, root: Any) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.ConfigurationError, match="directory"):
        local_shell(tmp_path / "file" if root == "" else tmp_path / root if root == "absent" else root)
