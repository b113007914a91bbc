"""What every endpoint of the simulated AgentCore API shares: routes, calls, refusals in AWS's shape, and pages.

The routes' handlers are plain functions: they decide on the state at once and return a reply or raise a refusal;
sending, losing and delaying are the simulator's.

Source: Amazon Bedrock AgentCore API reference, "Common errors" and the errors of each operation.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ._api import ApiRoute, Reply
from ._aws_frames import exception_frame
from ._http_messages import Request
from ._paging import InvalidCursor, PageRequest, read_page

if TYPE_CHECKING:
    from ._agentcore_world import AgentCoreWorld

__all__ = ["ApiCall", "Route", "ServiceRefusal", "invalid", "not_found", "page_reply", "refuse", "thrown"]

Json: TypeAlias = dict[str, Any]

INVALID = "ValidationException"
# Why a request is invalid, unless there is something else to be said.
FIELD = "FieldValidationFailed"
# The error that a bare status stands for, such as one that a fault plan asks for.
CODES = {
    400: INVALID,
    401: "UnauthorizedException",
    402: "ServiceQuotaExceededException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    409: "ConflictException",
    424: "RuntimeClientError",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}
DEFAULT_PAGE = 100
# A row's place, as tokens tell it.
PLACE = re.compile(r"-?[0-9]{1,9}")


class ServiceRefusal(Exception):
    """An error answer.

    Attributes:
        status: Its HTTP status.
        code: Its name, as the header and the body give it.
        message: What it says.
        details: What its body holds besides, such as ``reason``.
    """

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        super().__init__(message)

    def body(self) -> Json:
        """The error body as it is sent."""
        return {"message": self.message, **self.details}


def refuse(status: int, message: str, *, code: str | None = None) -> ServiceRefusal:
    """The refusal to raise; its code is what the status commonly stands for."""
    named = code or CODES.get(status, "InternalServerException")
    return invalid(message) if named == INVALID else ServiceRefusal(status, named, message)


def invalid(message: str, *, reason: str = FIELD, fields: Sequence[tuple[str, str]] = ()) -> ServiceRefusal:
    """The refusal of a request that is not as it must be."""
    listed = [{"name": name, "message": problem} for name, problem in fields]
    return ServiceRefusal(400, INVALID, message, reason=reason, fieldList=listed)


def thrown(kind: str, message: str) -> bytes:
    """The frame of an exception within a stream, with the members that its model requires."""
    reason = {"reason": FIELD} if kind == "validationException" else {}
    return exception_frame(kind, {"message": message, **reason})


def not_found(what: str) -> ServiceRefusal:
    """The refusal of a request about what is not there."""
    return refuse(404, f"{what} was not found")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCall:
    """One request that was routed, authorised and checked.

    Attributes:
        world: The state it acts on.
        request: As it was read.
        params: Its members by their names in the service's model.
    """

    world: AgentCoreWorld
    request: Request
    params: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(ApiRoute[ApiCall]):
    """An endpoint of the AgentCore API; its path's ids are matched as they were sent, still escaped."""


def page_reply(call: ApiCall, key: str, rows: Sequence[tuple[int, Json]]) -> Reply:
    """The answer to a list request. A page goes on after the place of the last row before it, gone by now or not.

    Args:
        call: The request.
        key: The rows' member of the answer.
        rows: All rows in order, each after the number of its place, which no other row ever had or will have.
    """
    of_list = f"{key}/{call.params.get('harnessId', '')}/"
    numbers = [number for number, _ in rows]

    def locate(place: str) -> int | None:
        number = place.removeprefix(of_list)
        return bisect_right(numbers, int(number)) - 1 if number != place and PLACE.fullmatch(number) else None

    wanted = PageRequest(limit=call.params.get("maxResults", DEFAULT_PAGE), cursor=call.params.get("nextToken"))
    try:
        page = read_page([{"id": f"{of_list}{number}", "row": row} for number, row in rows], wanted, locate=locate)
    except InvalidCursor as exc:
        raise invalid(f"nextToken: {exc}", fields=[("nextToken", str(exc))]) from exc
    body: Json = {key: [row["row"] for row in page.rows]}
    if page.next_page is not None:
        body["nextToken"] = page.next_page
    return Reply(body)
