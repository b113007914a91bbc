"""A shell command in a session's machine: its output as it comes, its end as a value."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import trio

from .._errors import TruncatedStream
from .._http.errors import unusable
from ._stream import HarnessStream

__all__ = ["CommandResult", "OnOutput", "read_command"]

OutputName: TypeAlias = Literal["stdout", "stderr"]
OnOutput: TypeAlias = Callable[[OutputName, str], object | Awaitable[object]]

OUTPUTS: Final[tuple[OutputName, ...]] = ("stdout", "stderr")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """How a command ended.

    Attributes:
        stdout: Its standard output.
        stderr: Its standard error.
        exit_code: Its exit code; a command that failed is a result, -1 is a failure of the platform.
        status: ``"COMPLETED"`` or ``"TIMED_OUT"``.
    """

    stdout: str
    stderr: str
    exit_code: int
    status: str


async def read_command(stream: HarnessStream, on_output: OnOutput | None) -> CommandResult:
    """Read a command's events to its end. What becomes of the stream after that changes nothing.

    Raises:
        ProtocolError: The end is not of its documented form.
        TruncatedStream: The stream ended before the command's end was told.
    """
    outputs: dict[OutputName, list[str]] = {"stdout": [], "stderr": []}
    while True:
        try:
            batch = await stream.receive_batch()
        except trio.EndOfChannel:
            raise TruncatedStream(
                "the command's stream ended without its exit code; whether it still runs is unknown"
            ) from None
        for event in batch:
            chunk = _chunk(event)
            for name in OUTPUTS:
                text = _member(chunk, "contentDelta").get(name)
                if isinstance(text, str) and text:
                    outputs[name].append(text)
                    await _tell(on_output, name, text)
            if "contentStop" in chunk:
                return _result(outputs, _member(chunk, "contentStop"))


def _result(outputs: Mapping[OutputName, list[str]], ended: Mapping[str, Any]) -> CommandResult:
    code, status = ended.get("exitCode"), ended.get("status")
    if not isinstance(code, int) or isinstance(code, bool) or not isinstance(status, str):
        raise unusable("the end of the command has no exit code or no status", ascii(ended).encode())
    return CommandResult(
        stdout="".join(outputs["stdout"]), stderr="".join(outputs["stderr"]), exit_code=code, status=status
    )


async def _tell(on_output: OnOutput | None, name: OutputName, text: str) -> None:
    if on_output is None:
        return
    told = on_output(name, text)
    if inspect.isawaitable(told):
        await told


def _chunk(event: dict[str, Any]) -> dict[str, Any]:
    """What an event tells, by name: its payload; or what that wraps once more; or itself, named for what it tells."""
    payload = _member(event, "chunk")
    return _member(payload, "chunk") or payload or event


def _member(value: dict[str, Any], name: str) -> dict[str, Any]:
    member = value.get(name)
    return member if isinstance(member, dict) else {}
