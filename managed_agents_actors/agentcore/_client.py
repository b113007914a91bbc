"""The client: settings in, operations out. It holds no session and no event."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from .._config import given, setting
from .._http.checks import check_retries, check_seconds
from .._http.exchange import Exchange
from .._http.retry import RetryPolicy
from .._http.sender import HTTPClient, HTTPTransport, Sender
from .._http.url import base_url_of
from ._api import Api, Plane
from ._credentials import CredentialSource, Signer
from ._hosts import check_region, default_url
from ._invocations import Invocations
from ._waits import Waits

__all__ = ["AgentCoreClient"]


class AgentCoreClient(Waits, Invocations):
    """A client of AWS Bedrock AgentCore: harnesses, and the sessions they run. Operations are named as boto3's.

    Use it with ``async with``, or call :meth:`aclose` when done. One client serves any number of tasks and sessions.
    All times are in seconds. botocore is loaded by the first call, in a thread.

    Args:
        region: Default: ``configure()``, then ``AWS_REGION``, then ``AWS_DEFAULT_REGION``. The region of a profile in
            the AWS configuration files is not read.
        credentials: botocore's ``Credentials``, anything with ``get_frozen_credentials()``, or ``access_key``,
            ``secret_key`` and ``token`` as a tuple or an object. Default: botocore's provider chain, asked by the first
            call. They are refreshed when they are about to run out and, once per call, when the service refused them:
            the request is signed and sent again, even one that is not repeated otherwise.
        endpoint_url: Where both services are instead of their hosts in the region. Default: ``configure()``, then, each
            service its own, ``AWS_ENDPOINT_URL_BEDROCK_AGENTCORE`` and ``…_CONTROL``, then ``AWS_ENDPOINT_URL``.
        profile: The profile of the provider chain.
        control_endpoint_url: Where the control plane is, if that is another place than ``endpoint_url``.
        timeout: For a whole call that is no stream, waits between attempts included.
        connect_timeout: For each new connection, TLS included.
        idle_timeout: How long an event stream may be silent, its beginning included: longer than the slowest tool.
        max_retries: How often a call that failed is repeated, where repeating is safe; an invocation never is.
        transport: Sends the requests instead of ours; closed with the client.
        http_client: An application's own client, which sends the requests and stays open.

    Attributes:
        region: The region.

    Raises:
        ConfigurationError: A setting is missing or unusable.
    """

    def __init__(
        self,
        region: str | None = None,
        credentials: Any = None,
        endpoint_url: str | None = None,
        *,
        profile: str | None = None,
        control_endpoint_url: str | None = None,
        timeout: float = 60.0,
        connect_timeout: float = 5.0,
        idle_timeout: float = 300.0,
        max_retries: int = 2,
        transport: HTTPTransport | None = None,
        http_client: HTTPClient | None = None,
    ) -> None:
        check_seconds(timeout=timeout, connect_timeout=connect_timeout, idle_timeout=idle_timeout)
        check_retries(max_retries)
        self.region = check_region(setting("region", given(region)))
        self._urls = _urls(self.region, endpoint_url, control_endpoint_url)
        signer = Signer(CredentialSource(credentials, profile=profile, region=self.region), self.region)
        # A given transport serves both planes and is closed once; of ours, each plane has one for its own proxy.
        ours = transport is None and http_client is None
        hosts = dict.fromkeys(self._urls.values()) if ours else [self._urls["data"]]
        self._senders = {url: Sender(url, transport=transport, http_client=http_client) for url in hosts}
        self._exchanges = {
            plane: Exchange(
                base_url=url,
                send=self._senders.get(url) or self._senders[self._urls["data"]],
                authenticate=signer,
                connect_timeout=connect_timeout,
                retry=RetryPolicy(max_retries=max_retries),
                span="managed_agents.agent_core.request",
            )
            for plane, url in self._urls.items()
        }
        self._api = Api(exchanges=self._exchanges, timeout=timeout, idle_timeout=idle_timeout)

    def __repr__(self) -> str:
        return f"AgentCoreClient(region={self.region!r}, endpoint_url={self._urls['data']!r})"

    @property
    def control_endpoint_url(self) -> str:
        """Where the control plane is."""
        return self._urls["control"]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close idle connections and refuse further calls. Those under way end by themselves."""
        for exchange in self._exchanges.values():
            exchange.close()
        for sender in self._senders.values():
            await sender.aclose()


def _urls(region: str, endpoint_url: str | None, control_endpoint_url: str | None) -> dict[Plane, str]:
    """The base URL of each plane: what was given for it, or its host in the region."""
    ours = {"endpoint_url": endpoint_url}
    control = ours if control_endpoint_url is None else {"control_endpoint_url": control_endpoint_url}
    return {
        "data": _url("bedrock-agentcore", region, "agent_core_endpoint_url", ours),
        "control": _url("bedrock-agentcore-control", region, "agent_core_control_endpoint_url", control),
    }


def _url(service: str, region: str, name: str, option: Mapping[str, str | None]) -> str:
    """The base URL of a service; an error names the option, or else the setting, that it came from."""
    [(place, value)] = option.items()
    if value is None:
        place, value = f"{name} (configure() or AWS_ENDPOINT_URL…)", setting(name)
    host = default_url(service, region)
    return base_url_of(value or host, name=place, example=host)
