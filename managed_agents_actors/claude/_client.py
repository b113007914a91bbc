"""The client: settings in, resources out. It holds no session and no event."""

from __future__ import annotations

import hashlib
import re
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import trio

from .._config import given, setting
from .._http.checks import check_retries, check_seconds
from .._http.exchange import Exchange
from .._http.retry import RetryPolicy
from .._http.sender import HTTPClient, HTTPTransport, Sender
from .._http.url import DEFAULT_PORTS, base_url_of
from ._api import Api, ApiKey, Authenticator
from ._checks import check_text
from ._files import Files
from ._resources import Agents, Environments, Sessions

__all__ = ["ClaudeClient"]

PORT: Final = re.compile(r":[0-9]*\Z")
ACCOUNT_CHARS: Final = 16  # 64 bits tell apart whatever accounts one application has, and give no key away


class ClaudeClient:
    """A client of the Claude Managed Agents API, grouped as the official SDK groups it.

    Use it with ``async with``, or call :meth:`aclose` when done. One client serves any number of tasks and
    sessions. All times are in seconds.

    Args:
        api_key: The key, or a callable (sync or async) that gives the current one. It is asked before every attempt
            and, once per call, after a 401: the request is sent again, even one that is not repeated otherwise, if
            what it gives then is another key. Default: ``configure(api_key=...)``, then ``ANTHROPIC_API_KEY``.
        base_url: Default: ``configure()``, then ``ANTHROPIC_BASE_URL``, then ``https://api.anthropic.com``.
        auth_scheme: ``"x-api-key"`` (default) or ``"bearer"``: the header that carries the key.
        anthropic_version: The API version; default ``2023-06-01``.
        beta: The beta value of the managed agents endpoints.
        files_beta: A beta value for the files endpoints; by default they get none.
        timeout: For a whole call, waits between attempts included.
        connect_timeout: For each new connection, TLS included.
        idle_timeout: How long an event stream may be silent.
        max_retries: How often a call that failed is repeated, where repeating is safe.
        transport: Sends the requests instead of ours; closed with the client.
        http_client: An application's own client, which sends the requests and stays open.
        account: What a provisioning store calls the account that the key is of; see :meth:`account_digest`.

    Attributes:
        base_url: Where the API is.
        agents: Agents and their versions.
        environments: Environments.
        sessions: Sessions, their events and their resources.
        files: Files.

    Raises:
        ConfigurationError: A setting is missing or unusable.
    """

    def __init__(
        self,
        api_key: ApiKey | None = None,
        base_url: str | None = None,
        *,
        auth_scheme: str | None = None,
        anthropic_version: str | None = None,
        beta: str | None = None,
        files_beta: str | None = None,
        timeout: float = 60.0,
        connect_timeout: float = 5.0,
        idle_timeout: float = 90.0,
        max_retries: int = 2,
        transport: HTTPTransport | None = None,
        http_client: HTTPClient | None = None,
        account: str | None = None,
    ) -> None:
        check_seconds(timeout=timeout, connect_timeout=connect_timeout, idle_timeout=idle_timeout)
        check_retries(max_retries)
        if account is not None:
            check_text("account", account)
        self._account = account
        self._authenticator = Authenticator(
            api_key=setting("api_key", given(api_key)), scheme=setting("auth_scheme", given(auth_scheme))
        )
        self.base_url = base_url_of(setting("base_url", given(base_url)))
        self._sender = Sender(self.base_url, transport=transport, http_client=http_client)
        self._exchange = Exchange(
            base_url=self.base_url,
            send=self._sender,
            authenticate=self._authenticator,
            connect_timeout=connect_timeout,
            retry=RetryPolicy(max_retries=max_retries),
        )
        api = Api(
            exchange=self._exchange,
            anthropic_version=setting("anthropic_version", given(anthropic_version)),
            beta=setting("beta", given(beta)),
            files_beta=setting("files_beta", given(files_beta)),
            timeout=timeout,
            idle_timeout=idle_timeout,
        )
        self.agents = Agents(api)
        self.environments = Environments(api)
        self.sessions = Sessions(api)
        self.files = Files(api)

    def __repr__(self) -> str:
        return f"ClaudeClient(base_url={self.base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close idle connections and refuse further calls. Those under way end by themselves."""
        self._exchange.close()
        await self._sender.aclose()

    async def account_digest(self) -> str:
        """Give what tells this client's account from others in a provisioning store, as 16 hexadecimal digits.

        It is made of ``base_url``, however that is written, and of ``account``, or, if none was given, of the current
        key: two accounts may share a store. A key that was replaced then counts as another account: agents and
        environments are found again by their names, but tags have to be set again. Give ``account`` where keys are
        replaced, or made for an hour.

        Raises:
            ConfigurationError: What ``api_key`` gave cannot be a key.
            TransportError: ``api_key`` failed.
        """
        await trio.lowlevel.checkpoint()
        of = "key" if self._account is None else "account"
        value = await self._authenticator.current_key() if self._account is None else self._account
        return hashlib.sha256("\0".join((_normal_form(self.base_url), of, value)).encode()).hexdigest()[:ACCOUNT_CHARS]


def _normal_form(base_url: str) -> str:
    """A URL as every writing of it is: scheme and host in lower case, without the scheme's own port.

    Source: RFC 3986, section 6.2.
    """
    parts = urlsplit(base_url)
    host = PORT.sub("", parts.netloc.lower())
    port = "" if parts.port in (None, DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path}"
