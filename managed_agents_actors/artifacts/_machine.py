"""Running a program in a session's machine: quoted safely, repeated when its answer was lost, its end judged.

Every program that is run here may run twice; see :mod:`._programs`. What it does is the store's business.
"""

from __future__ import annotations

import random
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import trio

from .._errors import (
    APIError,
    ArtifactError,
    ConfigurationError,
    OverloadedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    TransportError,
)
from .._http.checks import shown
from .._model import ReconnectPolicy
from .._protocol.outbox import judge
from ..agentcore import AgentCoreClient, CommandResult
from ._checks import check_text, check_whole_seconds

__all__ = ["Ended", "Machine"]

MAX_REPETITIONS: Final = 3  # of one command, in a row
BACKOFF: Final = ReconnectPolicy(initial=0.5, max=8.0)
MAX_STDERR_CHARS: Final = 500  # of what an error shows: the end of a traceback, where its reason is
TIMEOUT_SECONDS: Final = range(1, 3_601)  # InvokeAgentRuntimeCommand, request parameters
SESSION_ID_CHARS: Final = range(33, 101)  # the same


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended.

    Attributes:
        stdout: What it printed.
        exit_code: 0, or one that was expected.
        repeated: Whether it may have run before: at least one earlier attempt left that unclear.
    """

    stdout: str
    exit_code: int
    repeated: bool


class Machine:
    """The machine of one session.

    Args:
        client: Sends the commands.
        arn: The harness's or the runtime's ARN.
        session_id: The session.
        qualifier: The endpoint; ``None`` for the service's default.
        timeout: Seconds until the service ends a command.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    def __init__(
        self, client: AgentCoreClient, arn: str, session_id: str, *, qualifier: str | None, timeout: int
    ) -> None:
        if not isinstance(client, AgentCoreClient):
            raise ConfigurationError(f"client must be an AgentCoreClient, not a {type(client).__name__}")
        self._client = client
        self._arn = check_text("harness_arn", arn)
        self.session_id = _session_id(session_id)
        self._qualifier = None if qualifier is None else check_text("qualifier", qualifier)
        self._timeout = check_whole_seconds("timeout", timeout, TIMEOUT_SECONDS)

    async def run(self, program: str, *arguments: str, expected: Collection[int] = ()) -> Ended:
        """Run a program and wait for its end.

        Args:
            program: Its text.
            *arguments: What it finds in ``sys.argv``.
            expected: Exit statuses other than 0 that are no failure.

        Raises:
            ArtifactError: It failed, or did not end in time.
            APIError: The service refused; after :data:`MAX_REPETITIONS` repetitions, where those could help.
            TransportError: The exchange failed as often.
        """
        # Isolated: the directory that the command happens to start in may hold anything, a json.py of the agent's too.
        command = shlex.join(("python3", "-IS", "-c", program, *arguments))
        result, repeated = await self._repeat(command)
        if result.status == "TIMED_OUT":
            raise self._failure(result, f"did not end within {self._timeout} s")
        if result.exit_code != 0 and result.exit_code not in expected:
            raise self._failure(result, f"failed with exit status {result.exit_code}")
        return Ended(result.stdout, result.exit_code, repeated)

    async def _repeat(self, command: str) -> tuple[CommandResult, bool]:
        attempt, repeated = 1, False
        while True:
            try:
                result = await self._client.run_command(
                    self._arn, self.session_id, command, timeout=self._timeout, qualifier=self._qualifier
                )
                return result, repeated
            except (TransportError, RateLimitError, OverloadedError, ServerError) as error:
                if attempt > MAX_REPETITIONS or (isinstance(error, ProtocolError) and error.permanent):
                    raise
                # What was throttled, be it within the stream, or never left this process has not run.
                repeated = repeated or judge(error) == "unclear"
                retry_after = error.retry_after if isinstance(error, APIError) else None
            draw = random.random()  # noqa: S311 -- spreads repetitions, guards no secret
            await trio.sleep(BACKOFF.delay(attempt, draw=draw, retry_after=retry_after))
            attempt += 1

    def _failure(self, result: CommandResult, how: str) -> ArtifactError:
        stderr = result.stderr[-MAX_STDERR_CHARS:]
        told = stderr.strip() or "nothing"
        return ArtifactError(
            f"a command in the machine of session {self.session_id} {how}; its standard error says: {told}",
            exit_code=result.exit_code,
            stderr=stderr,
            timed_out=result.status == "TIMED_OUT",
        )


def _session_id(value: Any) -> str:
    if len(check_text("session_id", value)) not in SESSION_ID_CHARS:
        raise ConfigurationError(
            f"session_id must have {SESSION_ID_CHARS[0]} to {SESSION_ID_CHARS[-1]} characters, not {shown(value)}"
        )
    return str(value)
