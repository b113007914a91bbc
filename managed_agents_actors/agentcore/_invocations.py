"""Invoking a harness, running a command beside it, ending its session: the data plane, by boto3's names.

Nothing that starts work is ever repeated: the service has no token that would keep a repetition from doing it twice.

Source: Bedrock AgentCore data plane API reference, InvokeHarness, InvokeAgentRuntimeCommand, StopRuntimeSession.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from .._errors import ConfigurationError
from ._api import Api
from ._command import CommandResult, OnOutput, read_command
from ._stream import HarnessStream

__all__ = ["Invocations"]

MAX_COMMAND_SECONDS: Final = 3600  # the service's own limit
MACHINE_START_SECONDS: Final = 60.0  # a silent command is silent for its whole time, after its machine has started


class Invocations:
    """The operations on a harness's sessions."""

    _api: Api

    def invoke_harness(
        self, *, idle_timeout: float | None = None, **parameters: Any
    ) -> AbstractAsyncContextManager[HarnessStream]:
        """Run one turn: ``async with client.invoke_harness(...) as stream``. Entering waits until it has begun.

        A turn whose stream is left or lost runs on, and is billed, until it ends or its session is stopped.

        Args:
            idle_timeout: The longest silence in seconds, the machine's start included; default: the client's. It
                must outlast the slowest tool and hook.
            **parameters: boto3's; ``harnessArn``, ``runtimeSessionId`` (33 to 100 characters) and ``messages`` are
                required. ``tools`` and ``allowedTools`` replace the harness's own.

        Raises:
            ConfigurationError: The parameters are not what the operation takes; nothing was sent.
            APIError: The service refused.
            TransportError: The exchange failed, or nothing was answered in time.
        """
        return self._api.stream("InvokeHarness", parameters, idle_timeout=idle_timeout)

    def invoke_agent_runtime_command(
        self, *, idle_timeout: float | None = None, **parameters: Any
    ) -> AbstractAsyncContextManager[HarnessStream]:
        """Run a shell command in a session's machine and read its events; :meth:`run_command` puts them together.

        Args:
            idle_timeout: The longest silence in seconds; default: the client's. A command may be silent for as long
                as it runs.
            **parameters: boto3's; ``agentRuntimeArn``, which may be a harness's ARN, and ``body`` are required.
                Without ``runtimeSessionId`` (33 to 100 characters) it runs in a new session.

        Raises:
            ConfigurationError: The parameters are not what the operation takes; nothing was sent.
            APIError: The service refused.
            TransportError: The exchange failed, or nothing was answered in time.
        """
        return self._api.stream("InvokeAgentRuntimeCommand", parameters, idle_timeout=idle_timeout)

    async def run_command(
        self,
        arn: str,
        session_id: str,
        command: str,
        *,
        timeout: int = 300,
        qualifier: str | None = None,
        on_output: OnOutput | None = None,
    ) -> CommandResult:
        """Run a shell command, as root, in a session's machine, and wait for its end. It is never repeated.

        It counts as activity of the session, and starts a machine if there is none.

        Args:
            arn: The harness's or the runtime's ARN.
            session_id: The session: 33 to 100 characters.
            command: The command, up to 65 536 characters.
            timeout: Seconds until the service ends it, 1 to 3600.
            qualifier: The endpoint; default: ``DEFAULT``.
            on_output: Called with ``"stdout"`` or ``"stderr"`` and each piece of text as it comes; may be async.

        Raises:
            ConfigurationError: An argument is not what the operation takes; nothing was sent.
            APIError: The service refused, or reported that it could not run the command.
            TruncatedStream: The stream ended before the command's end was told. What becomes of it afterwards is
                of no interest.
            TransportError: The exchange failed.
        """
        if not isinstance(timeout, int) or isinstance(timeout, bool) or not 1 <= timeout <= MAX_COMMAND_SECONDS:
            raise ConfigurationError(f"timeout must be a whole number of seconds from 1 to {MAX_COMMAND_SECONDS}")
        parameters: dict[str, Any] = {} if qualifier is None else {"qualifier": qualifier}
        async with self.invoke_agent_runtime_command(
            idle_timeout=timeout + MACHINE_START_SECONDS,
            agentRuntimeArn=arn,
            runtimeSessionId=session_id,
            body={"command": command, "timeout": timeout},
            **parameters,
        ) as stream:
            return await read_command(stream, on_output)

    async def stop_runtime_session(self, **parameters: Any) -> dict[str, Any]:
        """End a session at once, its running turn and its machine included: ``agentRuntimeArn``, ``runtimeSessionId``.

        Raises:
            ConfigurationError: The parameters are not what the operation takes; nothing was sent.
            NotFoundError: The session has ended already.
            APIError: The service refused.
            TransportError: The exchange failed, or did not end in time.
        """
        return await self._api.request("data", "StopRuntimeSession", parameters)
