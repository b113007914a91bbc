"""The answers of the provisioning commands, for people and for programs: lines, or one JSON object. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

__all__ = ["failure", "render"]


def render(answer: Mapping[str, Any], *, as_json: bool) -> str:
    """What is printed of an answer; nothing, if it says nothing to people."""
    if as_json:
        return json.dumps(answer, default=str) + "\n"
    return "".join(f"{line}\n" for line in _lines(answer))


def failure(command: str, kind: str, error: BaseException, notes: Iterable[str]) -> dict[str, Any]:
    """The answer of a command that failed, or was interrupted."""
    told = {
        "type": type(error).__name__,
        "message": str(error),
        "notes": list(notes),
        "context": getattr(error, "context", {}),
    }
    return {"command": command, "kind": kind, "error": told}


def _lines(answer: Mapping[str, Any]) -> Iterator[str]:
    if "error" in answer:
        # What was done before the failure was done; the rest is for standard error.
        yield from _pruned(answer, answer["error"]["context"].get("archived", ()), {})
        return
    match answer["command"]:
        case "ensure" | "resolve":
            yield from _version(answer)
        case "list":
            yield from _table(answer)
        case "tag":
            yield f"{answer['base']}:{answer['tag']} is {answer['digest']}"
        case "prune":
            yield from _pruned(answer, answer["archived"], answer["kept"])


def _version(answer: Mapping[str, Any]) -> Iterator[str]:
    shown = {"name": answer["name"], "digest": answer["digest"]}
    handle = answer["handle"] or {}
    shown.update({name: value for name, value in handle.items() if name not in shown})
    if answer.get("dry_run"):
        shown |= {name: "yes" if answer[name] else "no" for name in ("tracked", "exists")}
        shown["outlook"] = answer["outlook"]
    yield from _columns([[name, value] for name, value in shown.items()])


def _table(answer: Mapping[str, Any]) -> Iterator[str]:
    if not answer["versions"]:
        yield f"there is no version of {answer['base']}"
        return
    rows = [["digest", "created", "tags", "tracked", "id"]]
    for version in answer["versions"]:
        created = datetime.fromisoformat(version["created_at"]).strftime("%Y-%m-%d %H:%M:%S")
        tags = ", ".join(version["tags"]) or "-"
        rows.append([version["digest"], created, tags, "yes" if version["tracked"] else "no", version["id"]])
    yield from _columns(rows)


def _pruned(answer: Mapping[str, Any], archived: Sequence[str], kept: Mapping[str, str]) -> Iterator[str]:
    done = "deleted" if answer["kind"] == "harness" else "archived"
    if answer.get("dry_run"):
        done = f"would be {done}"
    rows = [[done, name] for name in archived] + [["kept", f"{name} ({reason})"] for name, reason in kept.items()]
    yield from _columns(rows)


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
