"""Everything the simulated AgentCore remembers: harnesses with their versions and endpoints, and runtime sessions.

A resource's next status is due at a time of trio's clock and taken when somebody looks: nothing runs in between. What
a request does to the world is its endpoint's file.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import trio

from .._errors import ConfigurationError
from ._agentcore_api import not_found
from ._agentcore_session import RuntimeSession
from ._agentcore_state import SessionOptions
from ._api import Clock, Ids, Reply
from ._background import Background
from ._given import require_number, require_one_of

__all__ = [
    "DEFAULT_ENDPOINT",
    "FALLIBLE",
    "AgentCoreWorld",
    "Lifecycle",
    "StoredEndpoint",
    "StoredHarness",
    "StoredVersion",
    "checked_times",
]

Json: TypeAlias = dict[str, Any]

DEFAULT_ENDPOINT = "DEFAULT"
ACCOUNT = "123456789012"
# Seconds that each change takes, unless the simulator is told otherwise. Measured at the service: 11 s to create, 151 s
# until the DEFAULT endpoint is ready.
TIMES: Mapping[str, float] = {"create": 0.0, "visible": 0.0, "endpoint": 0.0, "update": 0.0, "delete": 0.0}
# The operations whose change can fail after it was accepted.
FALLIBLE = frozenset(
    f"{verb}_{resource}" for verb in ("create", "update", "delete") for resource in ("harness", "harness_endpoint")
)


def checked_times(times: Mapping[str, float] | None) -> Mapping[str, float]:
    """The seconds that each change takes.

    Raises:
        ConfigurationError: There is no such change, or it takes no such time.
    """
    if times is not None and not isinstance(times, Mapping):
        raise ConfigurationError(f"lifecycle= must be a mapping of {', '.join(sorted(TIMES))} to seconds")
    for name, seconds in (times or {}).items():
        require_one_of("lifecycle=: each name", name, TIMES)
        require_number(f"lifecycle=: {name}", seconds, least=0)
    return {**TIMES, **(times or {})}


@dataclass(slots=True, kw_only=True)
class Lifecycle:
    """What a resource is, and what it is about to become.

    Attributes:
        created_at: When it was made.
        updated_at: When it last changed.
        status: As it was last settled.
        failure: Why it failed, if it did.
    """

    created_at: str
    updated_at: str
    status: str = "READY"
    failure: str | None = None
    _due: float | None = field(default=None, init=False)
    _outcome: str | None = field(default=None, init=False)
    _done: Callable[[], object] | None = field(default=None, init=False)

    def begin(
        self, verb: str, seconds: float, now: str, *, failing: str | None, done: Callable[[], object] | None = None
    ) -> None:
        """Start to change.

        Args:
            verb: ``"CREAT"``, ``"UPDAT"`` or ``"DELET"``: what its statuses begin with.
            seconds: How long it takes.
            now: The time.
            failing: Why it will fail; ``None`` if it will not.
            done: Called once it succeeded.
        """
        self.status, self.updated_at, self.failure = f"{verb}ING", now, None
        self._due, self._outcome, self._done = trio.current_time() + seconds, failing, done

    def settle(self, now: str, *, at_once: bool = False) -> None:
        """Take the change that is due, if one is; at once, whether it is due or not."""
        if self._due is None or (trio.current_time() < self._due and not at_once):
            return
        self._due, self.updated_at = None, now
        if self._outcome is not None:
            self.status, self.failure = self.status.removesuffix("ING") + "E_FAILED", self._outcome
            return
        self.status = "READY"
        if self._done is not None:
            self._done()

    def view(self) -> Json:
        """Its members in the API's objects."""
        failure = {} if self.failure is None else {"failureReason": self.failure}
        return {"status": self.status, "createdAt": self.created_at, "updatedAt": self.updated_at, **failure}


@dataclass(slots=True, kw_only=True)
class StoredEndpoint:
    """An endpoint of a harness.

    Attributes:
        name: Its name.
        number: Its place in the order in which endpoints were made.
        arn: Its ARN.
        life: Its status.
        target: The version it is to serve.
        live: The version it serves; ``None`` before it is ready.
        description: What its maker says of it.
        visible_from: The time from which it can be seen.
        tags: Its tags.
    """

    name: str
    number: int
    arn: str
    life: Lifecycle
    target: int
    live: int | None = None
    description: str | None = None
    visible_from: float = float("-inf")
    tags: dict[str, str] = field(default_factory=dict)

    def go_live(self) -> None:
        """Serve the target from now on."""
        self.live = self.target

    @property
    def visible(self) -> bool:
        """Whether it can be seen by now."""
        return trio.current_time() >= self.visible_from


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """A version of a harness.

    Attributes:
        settings: Its configuration.
        life: Its status, which a later change of the harness leaves as it is.
    """

    settings: Json
    life: Lifecycle


@dataclass(slots=True, kw_only=True)
class StoredHarness:
    """A harness.

    Attributes:
        id: Its id.
        number: Its place in the order in which harnesses were made.
        name: Its name.
        arn: Its ARN.
        runtime_arn: The ARN of the runtime behind it.
        life: Its status.
        versions: Each version, the oldest first; the first is version 1.
        endpoints: Its endpoints by name.
        tags: Its tags.
    """

    id: str
    number: int
    name: str
    arn: str
    runtime_arn: str
    life: Lifecycle
    versions: list[StoredVersion]
    endpoints: dict[str, StoredEndpoint] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def settle(self, now: str, *, at_once: bool = False) -> None:
        """Take every change of it that is due; at once, whatever is under way."""
        versions, endpoints = self.versions, self.endpoints.values()
        for life in [self.life, *(each.life for each in versions), *(each.life for each in endpoints)]:
            life.settle(now, at_once=at_once)
        if at_once:
            for endpoint in self.endpoints.values():
                endpoint.visible_from = float("-inf")

    @property
    def latest(self) -> int:
        """The number of its latest version."""
        return len(self.versions)


class AgentCoreWorld:
    """The state behind one simulator.

    Attributes:
        region: Where it is.
        clock: Tells the time in timestamps.
        ids: Makes ids.
        background: Where turns and commands run.
        options: What every runtime session runs with.
        times: The seconds that each change of a resource takes.
        harnesses: By id; one that was deleted is gone.
        sessions: The runtime sessions by harness and id, those that are over included.
        answers: What was answered under each client token, and to which parameters.
        failures: Why the next changes will fail, by operation.
    """

    def __init__(
        self, *, region: str, background: Background, options: SessionOptions, times: Mapping[str, float]
    ) -> None:
        self.region = region
        self.clock = Clock()
        self.ids = Ids()
        self.background = background
        self.options = options
        self.times = times
        self.harnesses: dict[str, StoredHarness] = {}
        self.sessions: dict[tuple[str, str], RuntimeSession] = {}
        self.answers: dict[tuple[str, str], tuple[Json, Reply]] = {}
        self.failures: defaultdict[str, deque[str]] = defaultdict(deque)

    def settle(self) -> None:
        """Let every change that is due happen."""
        for harness in list(self.harnesses.values()):
            harness.settle(self.clock.now())

    def take_failure(self, operation: str) -> str | None:
        """Why the change that begins now will fail; ``None`` if it will not."""
        return self.failures[operation].popleft() if self.failures[operation] else None

    def arn(self, resource: str) -> str:
        """The ARN of a resource of the one account there is."""
        return f"arn:aws:bedrock-agentcore:{self.region}:{ACCOUNT}:{resource}"

    def harness(self, harness_id: str) -> StoredHarness:
        """A harness.

        Raises:
            ServiceRefusal: There is none with this id; 404.
        """
        if harness_id not in self.harnesses:
            raise not_found(f"Harness {harness_id}")
        return self.harnesses[harness_id]

    def harness_by_arn(self, arn: str) -> StoredHarness:
        """The harness with this ARN, or with the ARN of its runtime.

        Raises:
            ServiceRefusal: There is none; 404.
        """
        for harness in self.harnesses.values():
            if arn in {harness.arn, harness.runtime_arn}:
                return harness
        raise not_found(f"Resource {arn}")

    def tags(self, arn: str) -> dict[str, str]:
        """The tags of the harness, or the endpoint, with this ARN.

        Raises:
            ServiceRefusal: There is none; 404.
        """
        for harness in self.harnesses.values():
            seen = [endpoint for endpoint in harness.endpoints.values() if endpoint.visible]
            tags = {harness.arn: harness.tags, **{endpoint.arn: endpoint.tags for endpoint in seen}}
            if arn in tags:
                return tags[arn]
        raise not_found(f"Resource {arn}")

    def endpoint(self, harness: StoredHarness, name: str) -> StoredEndpoint:
        """An endpoint of a harness.

        Raises:
            ServiceRefusal: There is none with this name, or it cannot be seen yet; 404.
        """
        endpoint = harness.endpoints.get(name)
        if endpoint is None or not endpoint.visible:
            raise not_found(f"Endpoint {name} of harness {harness.id}")
        return endpoint

    def new_endpoint(self, harness: StoredHarness, name: str, *, target: int) -> StoredEndpoint:
        """Make an endpoint, about to serve a version; what comes of that is for the caller to begin."""
        now, number = self.clock.now(), int(self.ids.new("endpoint").removeprefix("endpoint_"))
        life, arn = Lifecycle(created_at=now, updated_at=now), f"{harness.arn}/harness-endpoint/{name}"
        endpoint = harness.endpoints[name] = StoredEndpoint(name=name, number=number, arn=arn, life=life, target=target)
        return endpoint

    def open_session(self, harness: StoredHarness, session_id: str) -> RuntimeSession:
        """A runtime session of a harness; the first use of its id makes it."""
        key = (harness.id, session_id)
        if key not in self.sessions:
            self.sessions[key] = RuntimeSession(session_id, self.options, ids=self.ids, background=self.background)
        return self.sessions[key]

    def find_session(self, session_id: str) -> RuntimeSession | None:
        """The runtime session with this id, of whichever harness; the latest if there are several."""
        found = [session for (_, name), session in self.sessions.items() if name == session_id]
        return found[-1] if found else None

    def remove_harness(self, harness: StoredHarness) -> None:
        """The harness is gone, and whatever ran in it."""
        self.harnesses.pop(harness.id, None)
        for (harness_id, _), session in self.sessions.items():
            if harness_id == harness.id:
                session.stop()
