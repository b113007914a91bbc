"""What the commands for agents, environments and harnesses do: a client, a store, one call of the library, an answer.

An answer is a value that JSON can hold. What can be checked without the provider is checked before the store is opened.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from .. import provisioning
from .._errors import ConfigurationError
from ..agentcore import AgentCoreClient
from ..agentcore._waits import ABSENT, READY
from ..claude import ClaudeClient
from ..provisioning import Bootstrap, Progress, Store
from ..provisioning._cache import Cache
from ..provisioning._environments import UNNAMED
from ..provisioning._harness import account_of, check_role, place_of
from ..provisioning._harnesses import PROVISION_SECONDS
from ..provisioning._progress import check_limit
from ..provisioning._wanted import ENVIRONMENTS, Wanted, wanted_agent, wanted_environment, wanted_harness
from .dry_run import find_status, outlook
from .spec_file import AgentFile, naming, read_agent_file, read_environment_file
from .store_file import check_is_there, open_store

__all__ = ["Build", "perform", "read_build"]

Answer: TypeAlias = dict[str, Any]
Client: TypeAlias = ClaudeClient | AgentCoreClient
Tell: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What is to be there.

    Attributes:
        wanted: Its name, and the request that makes it.
        ensure: Makes it, or finds it; takes ``client=``, ``store=`` and ``verify=``.
        bootstrap: How its machine comes by the runtimes it declares, if it is an environment that declares some.
    """

    wanted: Wanted[Any]
    ensure: Callable[..., Awaitable[Any]]
    bootstrap: Bootstrap | None = None


@dataclass(frozen=True, slots=True)
class _Calls:
    """The library's calls for one kind of thing."""

    tag: Callable[..., Awaitable[None]]
    resolve: Callable[..., Awaitable[Any]]
    list: Callable[..., Awaitable[list[provisioning.Version]]]
    prune: Callable[..., Awaitable[provisioning.Pruned]]


CALLS: Final[Mapping[str, _Calls]] = {
    "agent": _Calls(
        provisioning.tag_agent, provisioning.resolve_agent, provisioning.list_agents, provisioning.prune_agents
    ),
    "environment": _Calls(
        provisioning.tag_environment,
        provisioning.resolve_environment,
        provisioning.list_environments,
        provisioning.prune_environments,
    ),
    "harness": _Calls(
        provisioning.tag_harness,
        provisioning.resolve_harness,
        provisioning.list_harnesses,
        provisioning.prune_harnesses,
    ),
}


def read_build(options: Namespace, tell: Tell) -> Build:
    """Read what is to be there from the file that the command line names.

    Args:
        options: The command line.
        tell: Is told how far a long building has come.

    Raises:
        ConfigurationError: The file cannot be read, or what it says cannot be used.
    """
    path = Path(options.file)
    if options.kind == "environment":
        return _environment_build(path, options.name)
    file = read_agent_file(path)
    spec = file.spec
    if options.with_runtimes:
        if file.environment is None:
            raise ConfigurationError(f"--with-runtimes needs to know of runtimes: {path} has no environment")
        spec = spec.with_runtimes(file.environment)
    if options.kind == "agent":
        with naming(path):
            wanted: Wanted[Any] = wanted_agent(spec, options.name)
        return Build(wanted=wanted, ensure=partial(provisioning.ensure_agent, spec=spec, name=options.name))
    role = _role(options, path, file)
    with naming(path):
        wanted = wanted_harness(spec, file.environment, role, options.name)
    make = partial(
        provisioning.ensure_harness,
        spec=spec,
        execution_role_arn=role,
        environment=file.environment,
        name=options.name,
        timeout=check_limit(PROVISION_SECONDS if options.timeout is None else options.timeout, "--timeout"),
        on_progress=partial(_tell_progress, tell),
    )
    return Build(wanted=wanted, ensure=make)


def _role(options: Namespace, path: Path, file: AgentFile) -> str:
    if options.execution_role_arn is not None:
        return check_role(options.execution_role_arn)
    if file.execution_role_arn is None:
        raise ConfigurationError(f"a harness needs a role: --execution-role-arn, or execution_role_arn in {path}")
    with naming(path):
        return check_role(file.execution_role_arn)


def _environment_build(path: Path, given_name: str | None) -> Build:
    spec = read_environment_file(path)
    name = spec.name or UNNAMED if given_name is None else given_name
    with naming(path):
        wanted = wanted_environment(spec, name)
    make = partial(provisioning.ensure_environment, spec=spec, name=name)
    return Build(wanted=wanted, ensure=make, bootstrap=spec.bootstrap)


async def perform(options: Namespace, build: Build | None, store_path: Path, tell: Tell) -> Answer:
    """Do what the command line says.

    Args:
        options: The command line.
        build: What is to be there, if the command is ``ensure``.
        store_path: Where the store is.
        tell: Is told what goes less well than it might.

    Returns:
        The answer; which members it has is in the documentation of the command.

    Raises:
        ConfigurationError: The command line cannot be used; nothing was sent.
        ManagedAgentsError: The provider or the store refused.
    """
    calls = CALLS[options.kind]
    head = {"command": options.verb, "kind": options.kind}
    dry_run = getattr(options, "dry_run", False)
    # The tags of harnesses are an account's, which a role tells.
    role = {name: value for name, value in vars(options).items() if name == "execution_role_arn"}
    if options.verb == "prune":
        check_is_there(store_path)
    async with (
        _open_client(options) as client,
        open_store(store_path, only_read=dry_run or options.verb in ("list", "resolve")) as store,
    ):
        if build is not None:
            return {**head, **await _ensure(build, client, store, tell, dry_run=dry_run, verify=options.verify)}
        match options.verb:
            case "list":
                versions = await calls.list(client, options.base, store=store)
                return {**head, "base": options.base, "versions": [_shown(version) for version in versions]}
            case "tag":
                await calls.tag(client, options.base, options.tag, options.digest, store=store, **role)
                return {**head, "base": options.base, "tag": options.tag, "digest": options.digest}
            case "resolve":
                handle = await calls.resolve(client, options.reference, store=store, **role)
                found = {"name": handle.name, "digest": handle.digest, "handle": handle.to_json()}
                return {**head, "reference": options.reference, **found}
            case _:
                pruned = await calls.prune(client, options.base, keep=options.keep, store=store, dry_run=dry_run)
                return {**head, "base": options.base, "dry_run": dry_run, **asdict(pruned)}


async def _ensure(build: Build, client: Client, store: Store, tell: Tell, *, dry_run: bool, verify: bool) -> Answer:
    wanted = build.wanted
    handle = None if dry_run else await build.ensure(client=client, store=store, verify=verify)
    kept = await Cache(store).find(wanted.key(await _place(client, wanted)), wanted.name, wanted.kind.handle)
    answer = {
        "name": wanted.name,
        "digest": wanted.digest,
        "dry_run": dry_run,
        "tracked": kept is not None,
        "handle": None if handle is None else handle.to_json(),
    }
    if wanted.kind is ENVIRONMENTS:
        answer["bootstrap"] = None if build.bootstrap is None else asdict(build.bootstrap)
    if dry_run:
        status = await find_status(client, wanted)
        told = outlook(status, is_tracked=kept is not None, verify=verify)
        answer |= {"exists": status is not None, "status": status, "outlook": told}
    elif kept is None:
        tell(f"the store could not keep {wanted.name}; run this again before it is tagged")
    return answer


async def _place(client: Client, wanted: Wanted[Any]) -> str:
    if isinstance(client, AgentCoreClient):
        return place_of(client, account_of(wanted.body["executionRoleArn"]))
    return await client.account_digest()


@asynccontextmanager
async def _open_client(options: Namespace) -> AsyncIterator[Client]:
    if options.kind == "harness":
        async with AgentCoreClient(region=options.region, endpoint_url=options.endpoint_url) as client:
            yield client
    else:
        async with ClaudeClient(base_url=options.base_url, account=options.account) as claude:
            yield claude


def _shown(version: provisioning.Version) -> Answer:
    return {
        "name": version.name,
        "id": version.id,
        "digest": version.digest,
        "created_at": version.created_at.isoformat(),
        "tags": list(version.tags),
        "tracked": version.is_tracked,
    }


def _tell_progress(tell: Tell, progress: Progress) -> None:
    if progress.status in (READY, ABSENT):
        return  # that is what was waited for
    status = progress.status or "not seen yet"
    tell(f"waiting for {progress.id} ({progress.phase}): {status}, {progress.elapsed:.0f} s")
