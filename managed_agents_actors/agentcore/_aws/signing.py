"""Signature version 4 and where its keys come from, by botocore.

Finding credentials may read files, start processes and ask the network: it is called in worker threads only. Nothing
here is logged: botocore's own signer writes the session token and the signature to its debug log.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from botocore import exceptions  # type: ignore[import-untyped]  # botocore has no types
from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth  # type: ignore[import-untyped]  # as above
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]  # as above
from botocore.credentials import Credentials  # type: ignore[import-untyped]  # as above
from botocore.session import Session  # type: ignore[import-untyped]  # as above

from ..._errors import ConfigurationError

__all__ = ["find_credentials", "freeze", "is_plain", "sign"]

SIGNING_NAME: Final = "bedrock-agentcore"  # of both services

# Proxies rewrite these on the way; the service requires none of them.
_UNSIGNED: Final = frozenset({"accept", "accept-encoding", "user-agent"})

_UNREADABLE: Final = (
    exceptions.ConfigParseError,
    exceptions.InvalidConfigError,
    exceptions.PartialCredentialsError,
    exceptions.ProfileNotFound,
)
# What only somebody who logs in can put right; botocore's texts say how. Older versions know no login sessions.
_LOGGED_OUT: Final = tuple(
    getattr(exceptions, name)
    for name in (
        "SSOTokenLoadError",
        "UnauthorizedSSOTokenError",
        "LoginRefreshRequired",
        "LoginTokenLoadError",
        "LoginInsufficientPermissions",
        "RefreshWithMFAUnsupportedError",
    )
    if hasattr(exceptions, name)
)


class _Signer(SigV4Auth):  # type: ignore[misc]  # botocore has no types
    def add_auth(self, request: Any) -> None:
        """Sign as the base class does, without its log."""
        request.context["timestamp"] = datetime.now(UTC).strftime(SIGV4_TIMESTAMP)
        self._modify_request_before_signing(request)
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))


def sign(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, keys: Any, region: str
) -> dict[str, str]:
    """Give the headers that sign a request, as it will be sent, now.

    Args:
        method: Its method.
        url: Its whole URL, escaped as it will be sent.
        headers: Its headers, ``host`` included.
        body: Its bytes.
        keys: ``access_key``, ``secret_key`` and ``token``.
        region: The region of the service.
    """
    covered = {name: value for name, value in headers.items() if name not in _UNSIGNED}
    request = AWSRequest(method=method, url=url, headers=covered, data=body or b"")
    _Signer(keys, SIGNING_NAME, region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items() if name.lower() not in covered}


def find_credentials(profile: str | None, region: str) -> Any:
    """Find credentials as every AWS tool does: environment, files, SSO, roles, container, instance; may take seconds.

    Raises:
        ConfigurationError: There are none, or a configuration file is wrong.
    """
    try:
        session = Session(profile=profile)
        session.set_config_variable("region", region)  # where a role is assumed
        credentials = session.get_credentials()
    except _UNREADABLE as exc:
        raise ConfigurationError(f"the AWS credentials cannot be read: {exc}") from exc
    if credentials is None:
        raise ConfigurationError(
            "no AWS credentials were found; give credentials= or profile=, set AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY, or log in with the AWS CLI"
        )
    return credentials


def freeze(credentials: Any) -> Any:
    """Give the keys as they are now; may fetch them, for seconds.

    Raises:
        ConfigurationError: Somebody must log in first.
    """
    try:
        return credentials.get_frozen_credentials()
    except _LOGGED_OUT as exc:
        raise ConfigurationError(
            f"the AWS credentials cannot be used: {exc}; log in again, with aws sso login or aws login"
        ) from exc


def is_plain(credentials: Any) -> bool:
    """Whether these are botocore's fixed credentials, which give their keys without any wait."""
    return type(credentials) is Credentials
