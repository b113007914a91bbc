"""What tests of the AgentCore simulator say, and what they make of the events they hear."""

from __future__ import annotations

from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

SESSION = "session-of-the-tests-0000000000000000"
ROLE = "arn:aws:iam::123456789012:role/Harness"


def inline(name: str = "lookup") -> dict[str, Any]:
    """An inline function."""
    config = {"inlineFunction": {"description": "Look up.", "inputSchema": {"type": "object"}}}
    return {"type": "inline_function", "name": name, "config": config}


def answer(*results: str | dict[str, Any], text: str = "42") -> dict[str, Any]:
    """A user's message with these results: ids, or whole blocks."""
    blocks = [{"toolUseId": each, "content": [{"text": text}]} if isinstance(each, str) else each for each in results]
    return {"role": "user", "content": [{"toolResult": block} for block in blocks]}


def echo(*use_ids: str, name: str = "lookup") -> dict[str, Any]:
    """The assistant's message with these calls."""
    calls = [{"toolUse": {"toolUseId": use_id, "name": name, "input": {}}} for use_id in use_ids]
    return {"role": "assistant", "content": calls}


def names(events: list[tuple[str, Any]]) -> list[str]:
    return [name for name, _ in events]


def stops(events: list[tuple[str, Any]]) -> list[str]:
    return [payload["stopReason"] for name, payload in events if name == "messageStop"]


def uses(events: list[tuple[str, Any]]) -> list[str]:
    starts = [payload["start"] for name, payload in events if name == "contentBlockStart"]
    return [start["toolUse"]["toolUseId"] for start in starts if "toolUse" in start]


def text(events: list[tuple[str, Any]]) -> str:
    deltas = [payload["delta"] for name, payload in events if name == "contentBlockDelta"]
    return "".join(delta.get("text", "") for delta in deltas)


async def send(client: Any, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
    """Send what no SDK would write, signed; headers are written with "_" for "-"."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method, client.simulator.base_url + path, data=body or None, headers=given)
    SigV4Auth(client.simulator.credentials, "bedrock-agentcore", client.simulator.region).add_auth(request)
    lines = {name.lower(): str(value) for name, value in request.prepare().headers.items()}
    status, answered = await client.raw.request(method, path, body, {"content-type": "<absent>", **lines})
    return status, answered
