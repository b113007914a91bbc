"""Provisioning at any provider: one call that gives a handle to run sessions with, and one that puts it away.

Everything is checked before anything is sent, and one deadline bounds all that a call does. What is made, and how, is
the provider's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .._errors import ConfigurationError
from ..telemetry._scope import Scope, callers_tags, current_scope, standing
from ._cache import Cache
from ._harnesses import PROVISION_SECONDS
from ._order import Order, Removal
from ._progress import Course, OnProgress, check_limit
from ._specs import AgentSpec, EnvironmentSpec
from ._store import Store

__all__ = ["Provisioner", "provision", "teardown"]


class Provisioner(Protocol):
    """What a provider module may have beside its sessions: it can make what they use."""

    NAME: str

    def parse_provisioning(self, options: Mapping[str, Any], /, *, teardown: bool = False) -> Any:
        """Check the caller's provider options; nothing is sent.

        Args:
            options: The options.
            teardown: Whether something is to be put away, not made.

        Raises:
            TypeError: An option is unknown or a required one is missing; the message names it.
            ConfigurationError: A value cannot be used.
        """
        ...

    async def provision(self, order: Order, /) -> Any:
        """Make what is ordered, or find it, and give its handle: a frozen value with ``to_json()``.

        The deadline is kept from outside, by cancellation. What the call made is taken back when it does not end well.

        Raises:
            ProvisioningError: It cannot be made; made by ``order.course``, it says how far it came.
        """
        ...

    async def teardown(self, removal: Removal, /) -> None:
        """Forget what a handle names, and put it away, within ``removal.timeout``; twice is fine.

        Raises:
            ProvisioningError: Something of it could not be put away.
            StoreError: It could not be forgotten, and was not put away.
        """
        ...


async def provision(
    provider: Provisioner,
    spec: AgentSpec | Mapping[str, Any],
    *,
    environment: EnvironmentSpec | Mapping[str, Any] | None = None,
    name: str | None = None,
    store: Store | None = None,
    timeout: float = PROVISION_SECONDS,
    interval: float | None = None,
    on_progress: OnProgress | None = None,
    verify: bool = False,
    **provider_options: Any,
) -> Any:
    """Make what a spec describes, or find it, and give a handle: ``run_session(provider, **handle.options, …)``.

    Claude Managed Agents gets an agent and an environment, AgentCore a harness that can be invoked. They are named by
    their content, so the same spec gives the same ones, and by a store without a request. Tasks that want the same make
    it once. If the call fails or is cancelled, what it made is taken back, a creation that is under way included, which
    may take 30 s beyond ``timeout``; what it only found is left alone. Writing to the store is not cancelled, and takes
    5 s at most.

    Args:
        provider: A provider module.
        spec: The agent, or a mapping with the attributes of an :class:`AgentSpec`.
        environment: Where the agent's own tools run; a mapping is an :class:`EnvironmentSpec`, too.
        name: What the agent or harness is called, in place of the spec's name.
        store: Remembers the handles; by default this process does.
        timeout: The longest that all of it may take, in seconds: every wait, request, connection and repetition.
        interval: Seconds between two looks at what is waited for; by default a twelfth of ``timeout``, 0.05 at least
            and 5 at most.
        on_progress: Called with a :class:`Progress` at every look; may be async. If it fails, that is logged.
        verify: Whether to look if what the store remembers is still there and not put away; if not, it is made anew.
        **provider_options: The provider's own: ``client`` and ``model_config`` (``api_key``, ``base_url``, ``account``;
            of AgentCore ``region``, ``credentials``, ``endpoint_url``); of AgentCore ``execution_role_arn``.

    Returns:
        A :class:`ClaudeHandle` or a :class:`HarnessHandle`.

    Raises:
        TypeError: A provider option is unknown or missing.
        ConfigurationError: An argument cannot be used; nothing was sent.
        ProvisioningError: It could not be made, or not in time: ``context`` has ``phase``, ``id`` (the name while there
            is none), ``status``, ``elapsed`` and ``polls``; notes say what may be left behind.
        APIError: The provider refused.
        TransportError: The exchange failed; a note says if something may have been created.
    """
    _require(provider)
    checked = AgentSpec.of(spec)
    options = provider.parse_provisioning(provider_options)
    where = None if environment is None else EnvironmentSpec.of(environment)
    what = f"{checked.name if name is None else name} at {provider.NAME}"
    course = Course(what, timeout=check_limit(timeout), interval=interval, on_progress=on_progress)
    order = Order(
        spec=checked,
        environment=where,
        name=name,
        cache=Cache(store),
        course=course,
        options=options,
        verify=verify,
    )
    with standing(_scope(provider, provider_options)):
        return await course.within_deadline(lambda: provider.provision(order))


async def teardown(
    provider: Provisioner, handle: Any, *, store: Store | None = None, timeout: float = 60.0, **provider_options: Any
) -> None:
    """Put away what :func:`provision` gave; what is away already is fine.

    An agent is archived and its environment deleted, each whatever becomes of the other. An environment is kept, which
    is fine too, while the store knows of another agent that was provisioned with it, or a session that has not
    terminated uses it; one that cannot be deleted is archived. The deletion of a harness is begun; it takes minutes.

    The store forgets a handle before what it names is put away, so that no other task is given it.

    Args:
        provider: The provider module.
        handle: The handle, or its JSON form.
        store: Forgets the handle, and knows who else uses the environment; by default this process does.
        timeout: The longest that it may take, in seconds.
        **provider_options: As of :func:`provision`, but for the role.

    Raises:
        TypeError: A provider option is unknown.
        ConfigurationError: An argument cannot be used; nothing was sent.
        ProvisioningError: Something could not be put away; ``context`` says what, by ``agent`` and ``environment``, or
            ``harness``. What was certainly refused is remembered again. Try again with the handle.
        StoreError: The store could not say who uses the environment, and nothing was put away; or it could not forget
            something, and that was not put away. Try again.
        TransportError: The API key could not be had; nothing was put away.
    """
    _require(provider)
    options = provider.parse_provisioning(provider_options, teardown=True)
    removal = Removal(handle=handle, cache=Cache(store), timeout=check_limit(timeout), options=options)
    with standing(_scope(provider, provider_options)):
        await provider.teardown(removal)


def _scope(provider: Provisioner, options: Mapping[str, Any]) -> Scope:
    """Where a call stands: what is told of it carries the metadata of ``model_config``."""
    config = options.get("model_config")
    tags = config.get("metadata") if isinstance(config, Mapping) else None
    told = callers_tags(tags) if isinstance(tags, Mapping) else {}
    return Scope({**told, "provider": provider.NAME}, current_scope().span_id)


def _require(provider: Any) -> None:
    if all(callable(getattr(provider, name, None)) for name in ("parse_provisioning", "provision", "teardown")):
        return
    name = getattr(provider, "NAME", None) or f"a {type(provider).__name__}"
    raise ConfigurationError(f"{name} cannot provision: make what its sessions use otherwise, and give them its ids")
