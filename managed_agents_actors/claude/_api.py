"""What every resource of a client shares: its settings, its headers, its calls.

Resources say which endpoint and whether a call may be repeated; they never build a header or touch HTTP.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from .._errors import ConfigurationError, TransportError
from .._http.credentials import Credential, Outgoing
from .._http.exchange import Call, Exchange
from .._http.redaction import secrets_in
from .._protocol.codec import encode_json, has_lone_surrogate
from ._checks import check_header

__all__ = ["Api", "ApiKey", "Authenticator"]

ApiKey: TypeAlias = str | Callable[[], str | Awaitable[str]]

AUTH_SCHEMES: Final = ("x-api-key", "bearer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticator:
    """Gives each attempt its credential; a callable key is asked every time, and again after a 401."""

    api_key: ApiKey = field(repr=False)
    scheme: str

    def __post_init__(self) -> None:
        if self.scheme not in AUTH_SCHEMES:
            raise ConfigurationError(f"auth_scheme must be one of {AUTH_SCHEMES}, not {self.scheme!r}")
        if not callable(self.api_key):
            _check_key(self.api_key)

    async def __call__(self, _: Outgoing) -> Credential:
        """Give the headers for one attempt."""
        key = await self.current_key()
        header = {"authorization": f"Bearer {key}"} if self.scheme == "bearer" else {"x-api-key": key}
        return Credential(headers=header, secrets=(key,))

    async def current_key(self) -> str:
        """Give the key, or ask for it.

        Raises:
            ConfigurationError: It can be none.
            TransportError: It could not be asked for; nothing was sent.
        """
        key: Any = self.api_key
        if callable(key):
            try:
                key = key()
                if inspect.isawaitable(key):
                    key = await key
            except Exception as exc:
                # Whatever it asks may be out of reach for a while; nothing was sent, so a session may try again.
                raise TransportError(f"api_key= failed with {type(exc).__name__}", request_sent=False) from exc
            _check_key(key)
        found: str = key
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """One client's settings and its way to make calls. Times are in seconds.

    Attributes:
        exchange: Sends the calls.
        anthropic_version: The ``anthropic-version`` header.
        beta: The beta value of every endpoint but files.
        files_beta: A beta value for the files endpoints, which need none; ``None`` sends none.
        timeout: For a whole call.
        idle_timeout: The longest silence of an event stream.
    """

    exchange: Exchange
    anthropic_version: str
    beta: str
    files_beta: str | None
    timeout: float
    idle_timeout: float

    def __post_init__(self) -> None:
        check_header("anthropic_version", self.anthropic_version)
        check_header("beta", self.beta)
        if self.files_beta is not None:
            check_header("files_beta", self.files_beta)

    def call(self, method: str, *path: str, betas: tuple[str | None, ...] | None = None, **options: Any) -> Call:
        """Describe a call under ``/v1``, with the headers every request carries.

        Args:
            method: The HTTP method.
            path: The path's segments after the version.
            betas: The beta values instead of the client's; those that are ``None`` are left out.
            options: Further attributes of the call; ``headers`` are added to ours.
        """
        values = [value for value in ((self.beta,) if betas is None else betas) if value]
        headers = {"anthropic-version": self.anthropic_version, "user-agent": "managed-agents-actors"}
        if values:
            headers["anthropic-beta"] = ",".join(values)
        headers |= options.pop("headers", {})
        return Call(method=method, path=("v1", *path), headers=headers, **{"timeout": self.timeout, **options})

    async def get(self, *path: str, query: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """GET an object."""
        return await self.exchange.json(self.call("GET", *path, query=query, idempotent=True, **options))

    async def post(self, *path: str, body: Mapping[str, Any], idempotent: bool, retry: bool = True) -> dict[str, Any]:
        """POST an object; some servers answer an accepted one with nothing, which is ``{}``."""
        call = self.call(
            "POST",
            *path,
            body=_encoded(body),
            secrets=secrets_in(body),
            headers={"content-type": "application/json"},
            idempotent=idempotent,
            retry=retry,
        )
        return await self.exchange.json(call, may_be_empty=True)

    async def delete(self, *path: str, **options: Any) -> dict[str, Any]:
        """DELETE an object. Repeated after an answer was lost, it may find the object already gone."""
        call = self.call("DELETE", *path, idempotent=True, **options)
        return await self.exchange.json(call, may_be_empty=True)


def _encoded(body: Mapping[str, Any]) -> bytes:
    """Encode a request's body, and refuse what the provider would."""
    try:
        encoded = encode_json(body)
    except ValueError as exc:
        raise ConfigurationError(f"the request's body is {exc}; nothing was sent") from exc
    if b"\\ud" in encoded and has_lone_surrogate(body):
        raise ConfigurationError(
            "the request's body holds half a surrogate pair (cut UTF-16, or a file name that is not Unicode), which"
            " the provider refuses; nothing was sent"
        )
    return encoded


def _check_key(key: object) -> None:
    """Refuse what cannot be a header's value, without showing it."""
    if not isinstance(key, str) or not key:
        seen = "an empty one" if key == "" else f"a {type(key).__name__}"
        raise ConfigurationError(f"api_key must be a non-empty string, or a callable that gives one, not {seen}")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("api_key has spaces, line ends or other characters no key has; was it read whole?")
