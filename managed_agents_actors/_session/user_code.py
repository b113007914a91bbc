"""The one way in which a session runs its user's code: handlers, policies, guards and observers.

Asynchronous functions run here, synchronous ones in worker threads. Whatever comes out is a plain ``Exception``, a
cancellation of ours, or a wish to exit: never a group that hides one of them, and never another base exception.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import trio

from ..actors import sole_failure
from .threads import tool_threads


class UserFunction:
    """A function of the user's, to be called wherever it belongs; that is found out once.

    Awaiting a call gives what the function gives, or raises what it raised; the only failure of a group comes out of
    it.
    """

    __slots__ = ("_function", "_is_async")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._is_async = _is_async(function)

    async def __call__(self, *args: Any) -> Any:
        """Call it, and wait for what it gives."""
        try:
            return await (self._function(*args) if self._is_async else self._in_thread(*args))
        except BaseExceptionGroup as group:
            cancelled, failed = group.split(trio.Cancelled)
            if failed is None or (cancelled is not None and isinstance(failed, ExceptionGroup)):
                # It was cancelled; that it also failed on the way out concerns nobody any more.
                raise (cancelled or group) from None
            failure = sole_failure(group)
            raise failure if failure is not None else group from None
        except (Exception, trio.Cancelled, KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            # Another framework's cancellation, a test runner's outcome: to a session it is a failure like any other.
            raise RuntimeError(f"{type(error).__name__} was raised") from error

    async def _in_thread(self, *args: Any) -> Any:
        def boxed() -> tuple[Any]:
            # A lambda or a plain decorator may hide an async function, and trio lets no bare coroutine out of a thread.
            return (self._function(*args),)

        # A thread cannot be stopped; on cancellation it is left to finish alone, so that the session is not held up.
        (found,) = await trio.to_thread.run_sync(boxed, abandon_on_cancel=True, limiter=tool_threads())
        return await found if inspect.isawaitable(found) else found


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    called = getattr(function, "__call__", None)  # noqa: B004 -- the bound method itself is wanted, not callability
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
