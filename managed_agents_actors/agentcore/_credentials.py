"""Whose keys sign a request, and the signature of each attempt. No waiting for credentials on the event loop.

Credentials that cannot run out are asked for once. Those that can are asked for again, in a thread, when their end is
near or when the server refused them; one task asks, whatever the number of calls, and all who waited have its outcome.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from .._errors import ConfigurationError, TransportError
from .._http.credentials import Credential, Outgoing
from ._loading import LARGE_BYTES, loaded, run_in_thread

__all__ = ["CredentialSource", "Keys", "Signer"]

# Of one client: when one hangs in a process or on the network, another attempt may still succeed.
THREADS: Final = 2

# With less time left than this, credentials are not used while others are asked for. Source: botocore's credentials.
MANDATORY_REFRESH_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class Keys:
    """What one signature is made with."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("access_key", "secret_key"):
            _check_key(name, getattr(self, name))
        if self.token is not None:
            _check_key("token", self.token)

    @classmethod
    def of(cls, given: Any) -> Keys:
        """Take over what has ``access_key``, ``secret_key`` and ``token``, or is a sequence of two or three."""
        values: Sequence[Any]
        if hasattr(given, "access_key"):  # also of a tuple that has names
            values = [getattr(given, name, None) for name in ("access_key", "secret_key", "token")]
        elif isinstance(given, Sequence) and not isinstance(given, str | bytes) and len(given) in (2, 3):
            values = [*given, None][:3]
        else:
            raise ConfigurationError(
                "credentials= must be botocore's credentials, or access_key, secret_key and token as a tuple or as an"
                f" object's attributes, not a {type(given).__name__}"
            )
        access_key, secret_key, token = values
        return cls(access_key, secret_key, token or None)

    @property
    def key(self) -> tuple[str, ...]:
        """What tells one from another."""
        return (self.access_key, self.secret_key, self.token or "")


class _Asking:
    """Credentials that are being asked for, and what came of it: keys, an error or, cut short, neither."""

    def __init__(self, refused: tuple[str, ...]) -> None:
        self.refused = refused
        self.over = trio.Event()
        self.keys: Keys | None = None
        self.error: ConfigurationError | TransportError | None = None


class CredentialSource:
    """Gives the current keys.

    Args:
        given: The caller's credentials, or ``None`` for botocore's provider chain.
        profile: The profile of that chain.
        region: Where the chain assumes roles.
    """

    def __init__(self, given: Any, *, profile: str | None, region: str) -> None:
        if given is not None and profile is not None:
            raise ConfigurationError("give credentials= or profile=, not both: each decides who signs")
        if not isinstance(profile, str | None) or profile == "":
            raise ConfigurationError("profile= must be the name of a profile of the AWS configuration files")
        self._provider: Any = given if hasattr(given, "get_frozen_credentials") else None
        self._fixed = Keys.of(given) if given is not None and self._provider is None else None
        self._is_chain = given is None
        self._find_again = functools.partial(_find, profile, region)
        self._keys: Keys | None = None
        self._asking: _Asking | None = None
        self._limiter = trio.CapacityLimiter(THREADS)

    def __repr__(self) -> str:
        return f"<CredentialSource: {'provider chain' if self._is_chain else 'given'}>"

    async def keys(self, *, refused: tuple[str, ...] = ()) -> Keys:
        """Wait for keys that are not about to run out.

        Args:
            refused: The keys the service refused: others are given in their place, if there are others.

        Raises:
            ConfigurationError: There are no credentials.
            TransportError: They could not be fetched; nothing was sent.
        """
        if self._fixed is not None:
            return self._fixed
        while True:
            current = await self._at_hand()
            if current is not None and current.key != refused:
                return current
            asking = self._asking
            if asking is None:
                return await self._ask(refused, again=current is not None and self._is_chain)
            await asking.over.wait()
            if asking.error is not None:
                raise _same(asking.error) from asking.error.__cause__
            # Keys that were refused serve nobody, unless others were asked for and these are all there are.
            if asking.keys is not None and (asking.keys.key != refused or asking.refused == refused):
                return asking.keys

    async def _at_hand(self) -> Keys | None:
        """The keys that need no waiting; ``None`` if there are none."""
        provider = self._provider
        if provider is None:
            return None
        if (await loaded()).is_plain(provider):
            return Keys.of(provider.get_frozen_credentials())
        refresh_needed: Callable[..., bool] | None = getattr(provider, "refresh_needed", None)
        if self._keys is None or refresh_needed is None:
            return None
        if not refresh_needed():
            return self._keys
        # Another task is asking already, and the old ones will do until it has an answer.
        return self._keys if self._asking is not None and not refresh_needed(MANDATORY_REFRESH_SECONDS) else None

    async def _ask(self, refused: tuple[str, ...], *, again: bool) -> Keys:
        """Ask, for all who wait meanwhile. Cut short, it has no outcome, and one of them asks."""
        self._asking = asking = _Asking(refused)
        try:
            asking.keys = await self._fetch(again=again)
            return asking.keys
        except (ConfigurationError, TransportError) as exc:
            asking.error = exc
            raise
        finally:
            self._asking = None
            asking.over.set()

    async def _fetch(self, *, again: bool) -> Keys:
        """Ask the provider, or look for another one, in a thread."""
        aws = await loaded()
        provider = None if again else self._provider

        def ask() -> tuple[Any, Any]:
            found = self._find_again(aws) if provider is None else provider
            return found, aws.freeze(found)

        try:
            found, frozen = await trio.to_thread.run_sync(ask, limiter=self._limiter, abandon_on_cancel=True)
        except ConfigurationError:
            raise
        except Exception as exc:
            # Whatever it asks may be out of reach for a while; nothing was sent, so a session may try again.
            raise TransportError(
                f"the AWS credentials could not be fetched: {type(exc).__name__}", request_sent=False
            ) from exc
        self._provider, self._keys = found, Keys.of(frozen)
        return self._keys


class Signer:
    """Signs each attempt over the bytes that will be sent."""

    def __init__(self, source: CredentialSource, region: str) -> None:
        self._source = source
        self._region = region

    async def __call__(self, outgoing: Outgoing) -> Credential:
        """Give the headers of one attempt."""
        aws = await loaded()
        keys = await self._source.keys(refused=outgoing.refused.key if outgoing.refused else ())
        sign = functools.partial(aws.sign, keys=keys, region=self._region)
        request = (outgoing.method, outgoing.url, outgoing.headers, outgoing.body)
        large = outgoing.body is not None and len(outgoing.body) > LARGE_BYTES
        headers = await run_in_thread(sign, *request) if large else sign(*request)
        signature = headers["authorization"].rpartition("Signature=")[2]
        token = (keys.token,) if keys.token else ()
        return Credential(headers=headers, secrets=(keys.secret_key, signature, *token), key=keys.key)


def _same(error: ConfigurationError | TransportError) -> ConfigurationError | TransportError:
    """The error for another task: one exception cannot be raised in two."""
    if isinstance(error, TransportError):
        return TransportError(str(error), request_sent=error.request_sent)
    return ConfigurationError(str(error))


def _find(profile: str | None, region: str, aws: Any) -> Any:
    return aws.find_credentials(profile, region)


def _check_key(name: str, value: object) -> None:
    """Refuse what cannot be signed with, without showing it."""
    if not isinstance(value, str) or not value:
        seen = "an empty one" if value == "" else f"a {type(value).__name__}"
        raise ConfigurationError(f"the credentials' {name} must be a non-empty string, not {seen}")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigurationError(
            f"the credentials' {name} has spaces, line ends or other characters no key has; was it read whole?"
        )
