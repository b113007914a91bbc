"""Reads a ``multipart/form-data`` body (RFC 7578) that was received whole. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message

__all__ = ["FormPart", "MultipartError", "parse_multipart"]

# A file upload has a handful of parts; a skill upload some hundred.
MAX_PARTS = 1_000


class MultipartError(ValueError):
    """The body is not the form its content type says it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormPart:
    """One field of a form.

    Attributes:
        name: The field.
        filename: The file's name, if the field is a file.
        content_type: As declared; ``text/plain`` when nothing was.
        data: The content.
    """

    name: str
    filename: str | None
    content_type: str
    data: bytes


def parse_multipart(content_type: str, body: bytes) -> list[FormPart]:
    """The parts of a form body.

    Args:
        content_type: The request's ``content-type``, with its boundary.
        body: The whole body.

    Raises:
        MultipartError: The body does not have this form.
    """
    boundary = _boundary(content_type)
    # The first delimiter may open the body; every other one starts a line of its own.
    sections = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if len(sections) < 2 or not sections[-1].startswith(b"--"):
        raise MultipartError("the multipart body does not end with its closing boundary")
    if len(sections) - 2 > MAX_PARTS:
        raise MultipartError(f"the multipart body has more than {MAX_PARTS} parts")
    return [_part(section) for section in sections[1:-1]]


def _boundary(content_type: str) -> bytes:
    header = _header(content_type)
    boundary = header.get_param("boundary", header="content-type")
    if header.get_content_type() != "multipart/form-data" or not isinstance(boundary, str) or not boundary:
        raise MultipartError(f"expected multipart/form-data with a boundary, got {content_type!r}")
    return boundary.encode("latin-1")


def _header(content_type: str) -> Message:
    message = Message()
    message["content-type"] = content_type
    return message


def _part(section: bytes) -> FormPart:
    padding, separator, rest = section.partition(b"\r\n")
    # A part without headers has its empty line right after the boundary.
    head, blank, data = (b"", b"\r\n", rest[2:]) if rest.startswith(b"\r\n") else rest.partition(b"\r\n\r\n")
    if not separator or padding.strip(b" \t") or not blank:
        raise MultipartError("a part of the multipart body has no header block")
    lines = (line.partition(":") for line in head.decode("utf-8", "replace").split("\r\n"))
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    disposition = headers.get("content-disposition", "")
    name = _parameter(disposition, "name")
    if name is None:
        raise MultipartError("a part of the multipart body has no name")
    return FormPart(
        name=name,
        filename=_parameter(disposition, "filename"),
        content_type=headers.get("content-type", "text/plain"),
        data=data,
    )


def _parameter(disposition: str, name: str) -> str | None:
    match = re.search(rf';\s*{name}="((?:[^"\\]|\\.)*)"', disposition) or re.search(
        rf";\s*{name}=([^;\s]+)", disposition
    )
    # Browsers and httpx escape only the quote and line ends; a percent sign is otherwise literal.
    return None if match is None else match[1].replace('\\"', '"').replace("%22", '"')
