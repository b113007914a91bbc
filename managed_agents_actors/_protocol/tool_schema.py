"""What a provider accepts as a tool: its name, its input schema, and the wire form of the two together.

A definition is refused here, before anything is sent, with a message that says what to change. Nothing here
knows how a tool is run or where its schema came from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from .._errors import ConfigurationError
from .codec import encode_json

__all__ = [
    "CLAUDE_BUILTIN_TOOLS",
    "check_input_schema",
    "check_name",
    "custom_tool",
    "inline_function",
    "inline_refs",
]

# Source: Claude Managed Agents, the built-in toolset agent_toolset_20260401.
CLAUDE_BUILTIN_TOOLS = frozenset({"bash", "read", "write", "edit", "glob", "grep", "web_fetch", "web_search"})
# Source: Bedrock AgentCore Harness, the tools every harness has, and the name that stands for them all.
AGENTCORE_RESERVED_NAMES = frozenset({"shell", "file_operations", "builtin"})

_CLAUDE_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_AGENTCORE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PROPERTY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_AGENTCORE_MAX_DESCRIPTION = 4096

# Keywords whose value is a schema, a list of schemas, or a mapping of names to schemas; all others hold data.
_ONE = frozenset({"items", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else"})
_MANY = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas"})
_DEFINITIONS = frozenset({"$defs", "definitions"})


def check_name(name: str) -> None:
    """Refuse a name that Claude Managed Agents does not take for a custom tool.

    Raises:
        ConfigurationError: The name is not 1 to 128 of ``[A-Za-z0-9_-]``, or is reserved.
    """
    if not isinstance(name, str) or not _CLAUDE_NAME.fullmatch(name):
        raise ConfigurationError(f"tool name {name!r}: expected 1 to 128 letters, digits, '_' or '-'; pass name=")
    if name.startswith("mcp__"):
        raise ConfigurationError(f"tool name {name!r}: the prefix 'mcp__' is reserved for MCP tools; choose another")
    if name in CLAUDE_BUILTIN_TOOLS:
        raise ConfigurationError(f"tool name {name!r} is a built-in tool's; choose another")


def check_input_schema(name: str, schema: object) -> None:
    """Refuse an input schema that the provider would refuse.

    Args:
        name: The tool's name, for the message.
        schema: The JSON Schema of its input.

    Raises:
        ConfigurationError: It is not an object schema, has a top-level combination, a ``$ref`` or an unusable
            property name, or is not JSON.
    """
    problem = _schema_problem(schema)
    if problem is not None:
        raise ConfigurationError(f"input schema of tool {name!r}: {problem}")


def _schema_problem(schema: object) -> str | None:
    if not isinstance(schema, Mapping):
        return f"expected a mapping, not {type(schema).__name__}"
    if schema.get("type") != "object":
        return f'expected {{"type": "object", …}}, not type {schema.get("type")!r}'
    for keyword in ("oneOf", "anyOf", "allOf"):
        if keyword in schema:
            return f"{keyword!r} is not taken at the top level; move it into a property"
    properties = schema.get("properties")
    if not isinstance(properties, Mapping | None):
        return f"'properties' must be a mapping, not {type(properties).__name__}"
    for key in properties or ():
        if not isinstance(key, str) or not _PROPERTY_NAME.fullmatch(key):
            return f"property name {key!r}: expected 1 to 64 letters, digits, '_', '.' or '-'"
    required = schema.get("required")
    if not isinstance(required, list | tuple | None) or not all(isinstance(key, str) for key in required or ()):
        return f"'required' must be a list of property names, not {required!r}"
    if any("$ref" in part for part in _walk(schema)):
        return "'$ref' is not taken; write the definition in place"
    try:
        encode_json(schema)
    except ValueError as error:
        return str(error)
    return None


def _walk(schema: Any) -> Iterator[Mapping[str, Any]]:
    """The schema and every schema in it."""
    if not isinstance(schema, Mapping):
        return
    yield schema
    found: list[Any] = []
    _map_subschemas(schema, found.append)
    for part in found:
        yield from _walk(part)


def _map_subschemas(schema: Mapping[str, Any], transform: Callable[[Any], Any]) -> dict[str, Any]:
    """A copy of the schema with its direct subschemas transformed; its definitions are left out."""
    result: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _ONE:
            result[keyword] = transform(value)
        elif keyword in _MANY and isinstance(value, list | tuple):
            result[keyword] = [transform(part) for part in value]
        elif keyword in _NAMED and isinstance(value, Mapping):
            result[keyword] = {key: transform(part) for key, part in value.items()}
        elif keyword not in _DEFINITIONS:
            result[keyword] = value
    return result


def inline_refs(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Write local definitions in place of the references to them, because providers take no ``$ref``.

    Keywords beside a reference (a description, a default) win over the definition's own.

    Raises:
        ConfigurationError: A reference is not local, leads nowhere, or leads back to itself.
    """

    def inline(part: Any, seen: tuple[str, ...]) -> Any:
        if not isinstance(part, Mapping):
            return part
        if "$ref" not in part:
            inlined = _map_subschemas(part, lambda inner: inline(inner, seen))
            # An OpenAPI hint that pydantic writes; its mapping points at definitions that are gone now.
            if isinstance(inlined.get("discriminator"), Mapping):
                del inlined["discriminator"]
            return inlined
        reference = part["$ref"]
        if reference in seen:
            raise ConfigurationError(
                f"input schema: {reference!r} refers to itself, and providers take no recursive schema:"
                " use a flat type, or take the nested value as a JSON string"
            )
        beside = {keyword: value for keyword, value in part.items() if keyword != "$ref"}
        target = inline(_resolve(schema, reference), (*seen, reference))
        return {**target, **inline(beside, seen)} if isinstance(target, Mapping) else target

    inlined: dict[str, Any] = inline(schema, ("#",))
    return inlined


def _resolve(root: Mapping[str, Any], reference: Any) -> Any:
    """What a local JSON pointer (``#/$defs/Name``) leads to."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise ConfigurationError(f"input schema: {reference!r} is not a local reference; write the definition in place")
    target: Any = root
    for token in unquote(reference[1:]).split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if not isinstance(target, Mapping) or key not in target:
            raise ConfigurationError(f"input schema: {reference!r} leads to no definition")
        target = target[key]
    return target


def custom_tool(name: str, description: str, input_schema: Mapping[str, Any]) -> dict[str, Any]:
    """A custom tool as an agent of Claude Managed Agents declares it.

    Raises:
        ConfigurationError: The provider would refuse it.

    Source: Claude Managed Agents, "Create agent", ``tools`` of type ``custom``.
    """
    check_name(name)
    _check_description(name, description)
    schema = inline_refs(input_schema)
    check_input_schema(name, schema)
    return {"type": "custom", "name": name, "description": description, "input_schema": schema}


def inline_function(name: str, description: str, input_schema: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as a harness of Bedrock AgentCore declares it: the schema is bare, without a ``json`` wrapper.

    Raises:
        ConfigurationError: The provider would refuse it.

    Source: Bedrock AgentCore, ``HarnessTool`` and ``HarnessInlineFunctionConfig``.
    """
    if not isinstance(name, str) or not _AGENTCORE_NAME.fullmatch(name):
        raise ConfigurationError(f"tool name {name!r}: AgentCore takes 1 to 64 letters, digits, '_' or '-'")
    if name in AGENTCORE_RESERVED_NAMES:
        raise ConfigurationError(f"tool name {name!r} is reserved by AgentCore; choose another")
    _check_description(name, description)
    if len(description) > _AGENTCORE_MAX_DESCRIPTION:
        raise ConfigurationError(
            f"description of tool {name!r} has {len(description)} characters; AgentCore takes"
            f" {_AGENTCORE_MAX_DESCRIPTION}"
        )
    schema = inline_refs(input_schema)
    check_input_schema(name, schema)
    config = {"inlineFunction": {"description": description, "inputSchema": schema}}
    return {"type": "inline_function", "name": name, "config": config}


def _check_description(name: str, description: str) -> None:
    if not isinstance(description, str) or not description.strip():
        raise ConfigurationError(
            f"tool {name!r} has no description, and a model chooses tools by it: write a docstring or pass description="
        )
