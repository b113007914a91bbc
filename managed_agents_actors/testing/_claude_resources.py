"""The endpoints of a session's resources and files: what is mounted into it, what was uploaded, what it produced."""

from __future__ import annotations

from typing import Any, TypeAlias

from ._api import Reply
from ._claude_api import BETA, ApiCall, Route, page_reply, page_request, refuse, require
from ._claude_world import ClaudeWorld, StoredFile
from ._multipart import MultipartError, parse_multipart

__all__ = ["ROUTES", "attach_resource", "store_file"]

Json: TypeAlias = dict[str, Any]

EXPIRY_RANGE = range(3_600, 7_776_001)
MAX_IDS = 100


def attach_resource(world: ClaudeWorld, session_id: str, given: object) -> Json:
    """A resource as a session shows it; a file is copied under a new id.

    Raises:
        ApiRefusal: It is of no known kind, or names a file that is not there.
    """
    kind = given.get("type") if isinstance(given, dict) else None
    if not isinstance(given, dict) or kind not in ("file", "github_repository", "memory_store"):
        raise refuse(f"resources: unknown resource type {kind!r}")
    now = world.clock.now()
    shown = {"id": world.ids.new("sesrsc"), **given, "created_at": now, "updated_at": now}
    if kind == "file":
        source = world.file(given.get("file_id"))
        name = source.metadata["filename"]
        copy = store_file(world, name, source.content, mime_type=source.metadata["mime_type"], session_id=session_id)
        mount = given.get("mount_path") or f"/mnt/session/uploads/{given['file_id']}"
        shown |= {"file_id": copy["id"], "mount_path": mount}
        copy["downloadable"] = False
    elif kind == "github_repository":
        require(isinstance(given.get("url"), str), "resources: a github_repository needs its url")
        shown.pop("authorization_token", None)
        shown["mount_path"] = given.get("mount_path") or f"/workspace/{given['url'].rstrip('/').rsplit('/', 1)[-1]}"
    return shown


def store_file(
    world: ClaudeWorld, filename: str, content: bytes, *, mime_type: str, session_id: str | None = None
) -> Json:
    """Keep a file; one a session produced can be downloaded. Returns its metadata."""
    metadata: Json = {
        "id": world.ids.new("file"),
        "type": "file",
        "filename": filename,
        "mime_type": mime_type,
        "size_bytes": len(content),
        "created_at": world.clock.now(),
        "downloadable": session_id is not None,
        "expires_at": None,
        "scope": None if session_id is None else {"type": "session", "id": session_id},
    }
    world.files[metadata["id"]] = StoredFile(metadata=metadata, content=content)
    return metadata


def list_resources(call: ApiCall) -> Reply:
    """GET /v1/sessions/{}/resources."""
    return page_reply(call.world.session(call.ids[0]).resources, page_request(call, default=1000, most=1000))


def add_resource(call: ApiCall) -> Reply:
    """POST /v1/sessions/{}/resources."""
    session = call.world.session(call.ids[0])
    require(call.body.get("type") == "file", "only files can be added to a session")
    resource = attach_resource(call.world, call.ids[0], call.body)
    session.resources.append(resource)
    return Reply(resource)


def retrieve_resource(call: ApiCall) -> Reply:
    """GET /v1/sessions/{}/resources/{}."""
    return Reply(_resource(call))


def update_resource(call: ApiCall) -> Reply:
    """POST /v1/sessions/{}/resources/{}: a repository's new token."""
    resource = _resource(call)
    require(resource["type"] == "github_repository", "only a repository's authorization_token can be updated")
    require(call.body.get("authorization_token"), "authorization_token: required")
    resource["updated_at"] = call.world.clock.now()
    return Reply(resource)


def delete_resource(call: ApiCall) -> Reply:
    """DELETE /v1/sessions/{}/resources/{}."""
    resource = _resource(call)
    call.world.session(call.ids[0]).resources.remove(resource)
    return Reply({"id": resource["id"], "type": "session_resource_deleted"})


def _resource(call: ApiCall) -> Json:
    for resource in call.world.session(call.ids[0]).resources:
        if resource["id"] == call.ids[1]:
            return resource
    raise refuse(f"resource {call.ids[1]!r} does not exist", status=404)


def upload_file(call: ApiCall) -> Reply:
    """POST /v1/files."""
    try:
        parts = parse_multipart(call.request.headers.get("content-type", ""), call.request.body)
    except MultipartError as exc:
        raise refuse(str(exc)) from exc
    file = next((part for part in parts if part.name == "file"), None)
    if file is None or file.filename is None:
        raise refuse("file: the form needs a file part of this name")
    expiry = next((part.data.decode("latin-1") for part in parts if part.name == "expires_in_seconds"), None)
    valid = expiry is None or (expiry.isdecimal() and int(expiry) in EXPIRY_RANGE)
    require(valid, f"expires_in_seconds: must be from {EXPIRY_RANGE[0]} to {EXPIRY_RANGE[-1]}")
    return Reply(store_file(call.world, file.filename, file.data, mime_type=file.content_type))


def list_files(call: ApiCall) -> Reply:
    """GET /v1/files: a session's files only with the beta header."""
    scope = call.request.first("scope_id")
    beta = BETA in call.request.headers.get("anthropic-beta", "")
    require(scope is None or beta, f"scope_id: needs the header anthropic-beta: {BETA}")
    ids = call.request.query.get("ids[]", ())
    alone = not ids or not {"page", "limit"} & set(call.request.query)
    require(alone and len(ids) <= MAX_IDS, f"ids: at most {MAX_IDS}, and without page or limit")

    def accept(row: Json) -> bool:
        return (scope is None or (row["scope"] or {}).get("id") == scope) and (not ids or row["id"] in ids)

    rows = [file.metadata for file in call.world.files.values()]
    return page_reply(rows, page_request(call, default=MAX_IDS if ids else 20, most=1000, order="desc"), accept=accept)


def retrieve_file(call: ApiCall) -> Reply:
    """GET /v1/files/{}."""
    return Reply(call.world.file(call.ids[0]).metadata)


def download_file(call: ApiCall) -> Reply:
    """GET /v1/files/{}/content."""
    file = call.world.file(call.ids[0])
    if not file.metadata["downloadable"]:
        raise refuse("only files the platform produced can be downloaded", error_code="file_not_downloadable")
    return Reply(file.content, content_type=file.metadata["mime_type"])


def delete_file(call: ApiCall) -> Reply:
    """DELETE /v1/files/{}."""
    file = call.world.file(call.ids[0])
    del call.world.files[file.metadata["id"]]
    return Reply({"id": file.metadata["id"], "type": "file_deleted"})


RESOURCES = "/v1/sessions/{}/resources"
ROUTES = (
    Route(method="GET", path=RESOURCES, operation="list_resources", handler=list_resources),
    Route(method="POST", path=RESOURCES, operation="add_resource", handler=add_resource),
    Route(method="GET", path=f"{RESOURCES}/{{}}", operation="retrieve_resource", handler=retrieve_resource),
    Route(method="POST", path=f"{RESOURCES}/{{}}", operation="update_resource", handler=update_resource),
    Route(method="DELETE", path=f"{RESOURCES}/{{}}", operation="delete_resource", handler=delete_resource),
    Route(method="POST", path="/v1/files", operation="upload_file", handler=upload_file, beta=False),
    Route(method="GET", path="/v1/files", operation="list_files", handler=list_files, beta=False),
    Route(method="GET", path="/v1/files/{}", operation="retrieve_file", handler=retrieve_file, beta=False),
    Route(method="GET", path="/v1/files/{}/content", operation="download_file", handler=download_file, beta=False),
    Route(method="DELETE", path="/v1/files/{}", operation="delete_file", handler=delete_file, beta=False),
)
