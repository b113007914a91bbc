"""The two services of AgentCore as botocore's models describe them: inputs to requests, answers to values.

Pure but for reading the model files when it is made. A request is what boto3 would send for the same parameters.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import botocore  # type: ignore[import-untyped]  # botocore has no types
from botocore.exceptions import UnknownServiceError  # type: ignore[import-untyped]  # as above
from botocore.loaders import create_loader  # type: ignore[import-untyped]  # as above
from botocore.model import OperationNotFoundError, ServiceModel  # type: ignore[import-untyped]  # as above
from botocore.parsers import ResponseParserError, RestJSONParser  # type: ignore[import-untyped]  # as above
from botocore.serialize import create_serializer  # type: ignore[import-untyped]  # as above

from ..._errors import ConfigurationError
from ..._protocol.codec import decode_json, has_lone_surrogate
from .validation import Validator

__all__ = ["Models", "RequestParts", "UnreadableAnswer"]

SERVICES: Final = ("bedrock-agentcore", "bedrock-agentcore-control")

MAX_BODY_BYTES: Final = 100 * 1024 * 1024  # Source: Bedrock AgentCore, "Quotas", maximum payload size


class UnreadableAnswer(ValueError):
    """An answer is not of the operation's form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestParts:
    """A request without host and signature.

    Attributes:
        method: The HTTP method.
        path: Its segments, not escaped.
        query: Its fields, not escaped.
        headers: Names in lower case.
        body: Its bytes; ``None`` if it has none.
    """

    method: str
    path: tuple[str, ...]
    query: Mapping[str, Any]
    headers: Mapping[str, str]
    body: bytes | None = field(repr=False)


class Models:
    """Every operation of both services.

    Raises:
        ConfigurationError: The installed botocore does not know AgentCore.
    """

    def __init__(self) -> None:
        loader = create_loader()
        try:
            self._services = [
                ServiceModel(loader.load_service_model(name, "service-2"), service_name=name) for name in SERVICES
            ]
        except UnknownServiceError as exc:
            raise _too_old("Bedrock AgentCore") from exc
        self._validator = Validator()
        self._serializer = create_serializer("rest-json", include_validation=False)  # ours is stricter
        self._parser = _Parser()

    def request(self, operation: str, parameters: Mapping[str, Any]) -> RequestParts:
        """Build the request of an operation, with the tokens that keep its repetitions from acting twice.

        Raises:
            ConfigurationError: The parameters are not what the operation takes; it names each that is not.
        """
        model = self._operation(operation)
        given = dict(parameters)
        for name in model.idempotent_members:
            given.setdefault(name, str(uuid.uuid4()))
        try:
            problems = self._validator.validate(given, model.input_shape)
            if problems.has_errors():
                raise ConfigurationError(f"{operation}: {problems.generate_report()}; nothing was sent")
            parts = self._serializer.serialize_to_request(given, model)
            for value in parts["query_string"].values():
                str(value).encode()  # as it will be: the serializer has done so with path and body only
        except RecursionError as exc:
            raise ConfigurationError(f"{operation}: the parameters are nested too deeply; nothing was sent") from exc
        except UnicodeEncodeError as exc:
            raise _half_a_pair(operation) from exc
        body = bytes(parts["body"])
        # The encoder escapes whatever is not ASCII.
        if b"\\ud" in body and has_lone_surrogate(decode_json(body)):
            raise _half_a_pair(operation)
        if len(body) > MAX_BODY_BYTES:
            raise ConfigurationError(
                f"{operation}: the request has {len(body)} bytes, and the service takes {MAX_BODY_BYTES}; nothing was"
                " sent"
            )
        return RequestParts(
            method=parts["method"],
            path=tuple(map(unquote, parts["url_path"].strip("/").split("/"))),
            query=dict(parts["query_string"]),
            headers={name.lower(): value for name, value in parts["headers"].items()},
            body=body or None,
        )

    def may_answer_nothing(self, operation: str) -> bool:
        """Whether an operation's answer may have an empty body: nothing in it is required."""
        shape = self._operation(operation).output_shape
        return not any(shape.members[name].serialization.get("location") is None for name in shape.required_members)

    def answer(self, operation: str, status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """Read the answer to an operation: boto3's dictionary, without its metadata.

        Raises:
            UnreadableAnswer: It has another form.
        """
        response = {"status_code": status, "headers": headers, "body": body}
        try:
            return self._parser.members(response, self._operation(operation).output_shape)
        except (ResponseParserError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as exc:
            raise UnreadableAnswer(f"not what {operation} answers: {type(exc).__name__}") from exc

    def _operation(self, name: str) -> Any:
        for service in self._services:
            try:
                return service.operation_model(name)
            except OperationNotFoundError:
                continue
        raise _too_old(name)


class _Parser(RestJSONParser):  # type: ignore[misc]  # botocore has no types
    """botocore's parser, but an empty union is one: the service stores and answers them."""

    def members(self, response: Mapping[str, Any], shape: Any) -> dict[str, Any]:
        """Read the members of a success. The base class would write the whole answer to its debug log."""
        value: dict[str, Any] = self._do_parse(response, shape)
        del value["ResponseMetadata"]
        return value

    def _has_unknown_tagged_union_member(self, shape: Any, value: Any) -> bool:
        return len(value) == 1 and bool(super()._has_unknown_tagged_union_member(shape, value))


def _half_a_pair(operation: str) -> ConfigurationError:
    return ConfigurationError(
        f"{operation}: the parameters hold half a surrogate pair (cut UTF-16, or a file name that is not Unicode),"
        " which is no character; nothing was sent"
    )


def _too_old(what: str) -> ConfigurationError:
    return ConfigurationError(f"botocore {botocore.__version__} does not know {what}: install a newer botocore")
