"""The tools of a harness and of an invocation: what may be declared, and what a script may hand off. Pure.

An invocation's own list takes the place of the harness's, and so do its patterns of what is allowed. How a pattern
names an inline function is not documented: its bare name and the name after an "@" are both taken here. So is what
comes of a type whose configuration is missing or another's: it is refused.

Source: Amazon Bedrock AgentCore API reference, HarnessTool; InvokeHarness, tools and allowedTools.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from ._agentcore_api import invalid

__all__ = ["ToolSet", "named_tools"]

Json: TypeAlias = dict[str, Any]

INLINE = "inline_function"
RESERVED = {"shell", "file_operations", "builtin"}
# What a tool is called that came without a name, before its index in the list.
UNNAMED = {
    "remote_mcp": "mcp",
    "agentcore_gateway": "gateway",
    "agentcore_browser": "browser",
    "agentcore_code_interpreter": "code_interpreter",
    INLINE: INLINE,
}
# The member of the configuration that belongs to a type.
CONFIGURED_BY = {
    "remote_mcp": "remoteMcp",
    "agentcore_gateway": "agentCoreGateway",
    "agentcore_browser": "agentCoreBrowser",
    "agentcore_code_interpreter": "agentCoreCodeInterpreter",
    INLINE: "inlineFunction",
}
# The types whose configuration has members that are required.
NEEDS_CONFIG = {INLINE, "remote_mcp", "agentcore_gateway"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSet:
    """The tools that an invocation can use.

    Attributes:
        inline: The inline functions that are declared; ``None`` if neither the harness nor the invocation declares any
            tool, so that a script may call what it likes.
        allowed: The patterns of what may be used.
    """

    inline: frozenset[str] | None
    allowed: tuple[str, ...]

    @classmethod
    def of(cls, settings: Mapping[str, Any], params: Mapping[str, Any]) -> ToolSet:
        """The tools of an invocation with these parameters, of a harness with these settings.

        Raises:
            ServiceRefusal: The invocation declares what is no tool, or names of which two are the same; 400.
        """
        declared = named_tools(params["tools"]) if "tools" in params else settings["tools"]
        undeclared = not settings["tools"] and "tools" not in params
        inline = frozenset(tool["name"] for tool in declared if tool["type"] == INLINE)
        allowed = params.get("allowedTools", settings["allowedTools"])
        return cls(inline=None if undeclared else inline, allowed=tuple(allowed))

    def missing(self, names: Collection[str], *, declared: bool = False) -> list[str]:
        """Those of some inline functions that cannot be used.

        Args:
            names: What they are called.
            declared: Whether they were declared when they were handed off, and have to be again.
        """
        inline = frozenset() if self.inline is None and declared else self.inline
        known = [name for name in names if inline is None or name in inline]
        usable = {name for name in known if any(fnmatchcase(name, each.removeprefix("@")) for each in self.allowed)}
        return sorted(set(names) - usable)


def named_tools(tools: Sequence[Json]) -> list[Json]:
    """A list of tools as it is kept: each with a name.

    Raises:
        ServiceRefusal: A name is reserved or used twice, or a configuration is not that of its tool's type; 400.
    """
    named = [{"name": f"{UNNAMED[tool['type']]}_{n}", **tool} for n, tool in enumerate(tools)]
    names = [tool["name"] for tool in named]
    for name in names:
        if name in RESERVED or names.count(name) > 1:
            raise invalid(f"The tool name {name} is reserved or used twice", fields=[("tools", "names must be unique")])
    for tool in named:
        _require_config(tool)
    return named


def _require_config(tool: Json) -> None:
    config, wanted = tool.get("config", {}), CONFIGURED_BY[tool["type"]]
    if config.keys() - {wanted} or (tool["type"] in NEEDS_CONFIG and not config):
        problem = f"config of a tool of type {tool['type']} must have the member {wanted}"
        raise invalid(f"The tool {tool['name']}: {problem}", fields=[("tools", problem)])
