"""What every provider module must do, as tests: subclass, say where its sessions run, run the class with pytest.

The library's own providers are held to the same class. A test is a plain method, in a trio and a virtual time of its
own: no plugin is needed. A failed expectation is an ``AssertionError`` that says what was expected.
"""

from __future__ import annotations

from ._provider_cancellation import CancellationLaws
from ._provider_crashes import CrashLaws
from ._provider_limits import LimitLaws
from ._provider_live import EndingLaws, InterruptLaws, LiveLaws
from ._provider_module import ModuleLaws
from ._provider_runs import RequestLaws, ResumeLaws
from ._provider_tools import JournalLaws, ToolLaws

__all__ = ["ProviderSuite"]


class ProviderSuite(
    RequestLaws,
    ResumeLaws,
    ToolLaws,
    JournalLaws,
    LiveLaws,
    InterruptLaws,
    EndingLaws,
    LimitLaws,
    ModuleLaws,
    CrashLaws,
    CancellationLaws,
):
    """The laws of a provider, for a subclass that opens a place of it: a simulator, with a client of it.

    class TestMyProvider(ProviderSuite):
        @asynccontextmanager
        async def open_place(self, script, *, faults=None):
            async with open_my_simulator(script) as simulator, simulator.client() as client:
                yield Place(provider=my_provider, options=lambda: {"client": client}, ...)
    """
