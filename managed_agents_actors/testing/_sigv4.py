"""Whether a request is signed as AWS wants it: Signature Version 4, computed anew from what came over the wire. Pure.

It shares no code with any signer. A date is held against the time of the world, which signers read even where a test's
own time is virtual.

Source: AWS, "Create a signed AWS API request" (canonical request, string to sign, signing key) and "Troubleshoot signed
requests for AWS APIs" (the time that a signature is good for).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

from ._http_messages import Request

__all__ = ["SimulatedCredentials", "UnsignedRequest", "check_signature"]

ALGORITHM = "AWS4-HMAC-SHA256"
DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")
DATE_FORMAT = "%Y%m%dT%H%M%SZ"
# How far a signature's date may be from the time here, in either direction.
SKEW = timedelta(minutes=5)
# Every header of these must be signed, if it is sent.
SIGNED_PREFIX = "x-amz-"


@dataclass(frozen=True, slots=True)
class SimulatedCredentials:
    """What a simulator accepts a signature of.

    Attributes:
        access_key: The access key id.
        secret_key: The secret access key.
        token: The session token; ``None`` for keys that need none.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class UnsignedRequest(Exception):
    """The request is not signed, or not by these credentials.

    Attributes:
        code: The error's code, as AWS names it.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def check_signature(
    request: Request,
    credentials: SimulatedCredentials,
    *,
    region: str,
    service: str,
    expired: frozenset[str],
    now: datetime,
) -> None:
    """Let a request pass that these credentials signed for this region and service, just now.

    Args:
        request: As it was read.
        credentials: What signs.
        region: The region's name.
        service: The service's signing name.
        expired: Session tokens, and access keys without one, that were good once.
        now: The time, in UTC.

    Raises:
        UnsignedRequest: They did not.
    """
    header = request.headers.get("authorization", "")
    scheme, _, rest = header.partition(" ")
    if scheme != ALGORITHM:
        raise UnsignedRequest("MissingAuthenticationTokenException", "Missing Authentication Token")
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    scope = fields.get("Credential", "").split("/")
    signed = fields.get("SignedHeaders", "").split(";")
    if len(scope) != 5 or not all(scope) or "Signature" not in fields:
        problem = "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters."
        raise UnsignedRequest("IncompleteSignatureException", problem)
    _check_credentials(request, credentials, access_key=scope[0], expired=expired)
    _check_scope(scope, region=region, service=service)
    _check_headers(request.headers, signed)
    _check_date(request.headers["x-amz-date"], day=scope[1], now=now)
    _check_body(request)
    expected = _signature(request, scope, signed, credentials.secret_key)
    if not hmac.compare_digest(expected.encode(), fields["Signature"].encode()):
        raise _mismatch(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details."
        )


def _mismatch(message: str) -> UnsignedRequest:
    return UnsignedRequest("InvalidSignatureException", message)


def _check_credentials(
    request: Request, credentials: SimulatedCredentials, *, access_key: str, expired: frozenset[str]
) -> None:
    token = request.headers.get("x-amz-security-token")
    if token in expired or access_key in expired:
        raise UnsignedRequest("ExpiredTokenException", "The security token included in the request is expired")
    if access_key != credentials.access_key or token != credentials.token:
        raise UnsignedRequest("UnrecognizedClientException", "The security token included in the request is invalid.")


def _check_scope(scope: list[str], *, region: str, service: str) -> None:
    _, _, named_region, named_service, terminator = scope
    if named_region != region:
        raise _mismatch(f"Credential should be scoped to a valid region, not {named_region!r}.")
    if named_service != service:
        raise _mismatch(f"Credential should be scoped to correct service: {service!r}.")
    if terminator != "aws4_request":
        raise _mismatch("Credential should be scoped with a valid terminator: 'aws4_request'.")


def _check_headers(headers: Mapping[str, str], signed: list[str]) -> None:
    needed = {"host", "x-amz-date", *(name for name in headers if name.startswith(SIGNED_PREFIX))}
    missing = sorted(needed - set(signed)) or sorted(set(signed) - headers.keys())
    if missing:
        raise _mismatch(f"'{missing[0]}' must be a 'SignedHeader' in the AWS Authorization.")
    if signed != sorted(set(signed)):
        raise _mismatch("The signed headers must be sorted, each named once.")


def _check_date(date: str, *, day: str, now: datetime) -> None:
    try:
        signed_at = datetime.strptime(date, DATE_FORMAT).replace(tzinfo=UTC) if DATE.fullmatch(date) else None
    except ValueError:
        signed_at = None
    if signed_at is None or date[:8] != day:
        raise _mismatch(f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date: {date!r}.")
    earliest, latest = now - SKEW, now + SKEW
    if signed_at < earliest:
        raise _mismatch(f"Signature expired: {date} is now earlier than {earliest:{DATE_FORMAT}} (5 min. ago).")
    if signed_at > latest:
        raise _mismatch(f"Signature not yet current: {date} is still later than {latest:{DATE_FORMAT}} (in 5 min.).")


def _check_body(request: Request) -> None:
    """What a client says of its body's digest must be so; a body is never left unsigned here."""
    told = request.headers.get("x-amz-content-sha256")
    if told is not None and told != hashlib.sha256(request.body).hexdigest():
        raise _mismatch("The provided 'x-amz-content-sha256' header does not match what was computed.")


def _signature(request: Request, scope: list[str], signed: list[str], secret_key: str) -> str:
    canonical = _canonical_request(request, signed)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join([ALGORITHM, request.headers["x-amz-date"], "/".join(scope[1:]), digest])
    key = f"AWS4{secret_key}".encode()
    for part in scope[1:]:
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def _canonical_request(request: Request, signed: list[str]) -> str:
    path, _, query = request.target.partition("?")
    headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in signed)
    # The path is escaped once more than it was sent; the service is not S3.
    parts = [request.method, quote(_resolved(path), safe="/~"), _canonical_query(query), headers, ";".join(signed)]
    return "\n".join([*parts, hashlib.sha256(request.body).hexdigest()])


def _resolved(path: str) -> str:
    """The path without ``.``, ``..`` and empty segments."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    resolved = "/" + "/".join(kept)
    return resolved + "/" if path.endswith("/") and kept else resolved


def _canonical_query(query: str) -> str:
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    # By name, then by value: joined, "a-b=" would come before "a=".
    ordered = sorted((_escaped(name), _escaped(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in ordered)


def _escaped(text: str) -> str:
    return quote(unquote(text), safe="-_.~")
