"""Harnesses, their endpoints and their versions: the control plane, by boto3's names.

Each call takes boto3's keyword parameters and gives boto3's answer without its ``ResponseMetadata``. Calls are
repeated where that helps; what changes something carries a client token, so that a repetition changes nothing more.

Source: Bedrock AgentCore control plane API reference.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from .._errors import ProtocolError
from ._api import Api

__all__ = ["Harnesses"]

MAX_PAGES: Final = 1_000  # a harness has at most as many versions, and an account fewer harnesses

Answer: TypeAlias = dict[str, Any]


class Harnesses:
    """The operations on harnesses.

    Each raises ``ConfigurationError`` for parameters that it does not take, with nothing sent; ``APIError`` when the
    service refused; ``TransportError`` when the exchange failed or did not end in time.
    """

    _api: Api

    async def create_harness(self, **parameters: Any) -> Answer:
        """Begin to create a harness; ``{"harness": …}`` is not usable yet: see ``wait_until_harness_ready``.

        Args:
            **parameters: ``harnessName`` and ``executionRoleArn`` are required.
        """
        return await self._control("CreateHarness", parameters)

    async def get_harness(self, **parameters: Any) -> Answer:
        """Fetch a harness: ``harnessId``, and ``harnessVersion`` for another than the current configuration."""
        return await self._control("GetHarness", parameters)

    async def list_harnesses(self, **parameters: Any) -> Answer:
        """Fetch one page of the harnesses; ``nextToken`` asks for the one after a page's ``nextToken``."""
        return await self._control("ListHarnesses", parameters)

    async def list_all_harnesses(self, **parameters: Any) -> list[Answer]:
        """Fetch all pages of the harnesses; the rows in the service's order."""
        return await self._all("ListHarnesses", "harnesses", parameters)

    async def update_harness(self, **parameters: Any) -> Answer:
        """Begin to change a harness, ``harnessId``: what is not named stays; lists are replaced whole."""
        return await self._control("UpdateHarness", parameters)

    async def delete_harness(self, **parameters: Any) -> Answer:
        """Begin to delete a harness, ``harnessId``: it takes minutes. See ``wait_until_harness_deleted``.

        Its managed memory goes with it, unless ``deleteManagedMemory=False``. Repeated after an answer was lost, the
        call may find the harness already gone.
        """
        return await self._control("DeleteHarness", parameters)

    async def list_harness_versions(self, **parameters: Any) -> Answer:
        """Fetch one page of the versions of a harness, ``harnessId``."""
        return await self._control("ListHarnessVersions", parameters)

    async def list_all_harness_versions(self, **parameters: Any) -> list[Answer]:
        """Fetch all pages of the versions of a harness, ``harnessId``."""
        return await self._all("ListHarnessVersions", "harnessVersions", parameters)

    async def create_harness_endpoint(self, **parameters: Any) -> Answer:
        """Begin to create an endpoint: ``harnessId``, ``endpointName``; without ``targetVersion`` for the latest."""
        return await self._control("CreateHarnessEndpoint", parameters)

    async def get_harness_endpoint(self, **parameters: Any) -> Answer:
        """Fetch an endpoint: ``harnessId``, ``endpointName``; ``DEFAULT`` always serves the latest version."""
        return await self._control("GetHarnessEndpoint", parameters)

    async def list_harness_endpoints(self, **parameters: Any) -> Answer:
        """Fetch one page of the endpoints of a harness, ``harnessId``."""
        return await self._control("ListHarnessEndpoints", parameters)

    async def list_all_harness_endpoints(self, **parameters: Any) -> list[Answer]:
        """Fetch all pages of the endpoints of a harness, ``harnessId``."""
        return await self._all("ListHarnessEndpoints", "endpoints", parameters)

    async def update_harness_endpoint(self, **parameters: Any) -> Answer:
        """Begin to move an endpoint to a version: ``harnessId``, ``endpointName``, ``targetVersion``."""
        return await self._control("UpdateHarnessEndpoint", parameters)

    async def delete_harness_endpoint(self, **parameters: Any) -> Answer:
        """Begin to delete an endpoint: ``harnessId``, ``endpointName``. See ``wait_until_endpoint_deleted``."""
        return await self._control("DeleteHarnessEndpoint", parameters)

    async def _control(self, operation: str, parameters: Answer) -> Answer:
        return await self._api.request("control", operation, parameters)

    async def _all(self, operation: str, rows_key: str, parameters: Answer) -> list[Answer]:
        """Read a listing to its end. The tokens are the service's and are not trusted: it ends, or says why not."""
        rows: list[Answer] = []
        followed: set[str | None] = set()
        for _ in range(MAX_PAGES):
            page = await self._control(operation, parameters)
            followed.add(parameters.get("nextToken"))
            if rows_key not in page:
                raise ProtocolError(f"{operation} answered without {rows_key}, which every page has")
            rows += page[rows_key]
            token = page.get("nextToken")
            if not token:
                return rows
            if token in followed:
                # Rows could be missing; who looks for a name among them must not take that for its absence.
                raise ProtocolError(f"{operation} gave the same nextToken twice", permanent=True)
            parameters = {**parameters, "nextToken": token}
        raise ProtocolError(f"{operation} went on after {MAX_PAGES} pages", permanent=True)
