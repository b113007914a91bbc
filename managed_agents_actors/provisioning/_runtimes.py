"""Language runtimes that an environment declares, and how its machine comes by them. Pure.

The script and the instructions follow from the declaration alone and are never stored. What goes into the script is
checked letter by letter: a declaration cannot bring a command of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from .._errors import ConfigurationError

__all__ = ["Bootstrap", "Runtime", "bootstrap", "check_runtimes", "required_hosts"]

_LANGUAGE: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,63}")

# What installing anything talks to: mise itself, its list of versions, where releases are, and Hex's builds.
_HOSTS: Final = frozenset(
    {
        "builds.hex.pm",
        "github.com",
        "mise-versions.jdx.dev",
        "mise.jdx.dev",
        "objects.githubusercontent.com",
        "release-assets.githubusercontent.com",
        "repo.hex.pm",
    }
)
# What mise's own plugins download from beside those. Source: mise documentation, core tools.
_HOSTS_OF: Final[Mapping[str, frozenset[str]]] = {
    "deno": frozenset({"dl.deno.land"}),
    "go": frozenset({"dl.google.com"}),
    "node": frozenset({"nodejs.org"}),
    "ruby": frozenset({"cache.ruby-lang.org"}),
    "rust": frozenset({"sh.rustup.rs", "static.rust-lang.org"}),
    "zig": frozenset({"ziglang.org"}),
}

_MARKER: Final = "# managed-agents: runtimes"
_PATHS: Final = 'export PATH="$HOME/.local/bin:$HOME/.local/share/mise/shims:$PATH"'
_LOCALE: Final = "export LANG=C.UTF-8 LC_ALL=C.UTF-8"


@dataclass(frozen=True, slots=True)
class Runtime:
    """A language runtime that an environment is to have.

    Attributes:
        language: Its name as mise knows it, such as ``"elixir"`` or ``"python"``.
        version: Its version, such as ``"1.20.2"``; ``"latest"`` would not be the same tomorrow, but is taken.
        via: What installs it.

    Raises:
        ConfigurationError: One of them is not what a name or a version can be.
    """

    language: str
    version: str
    via: Literal["mise"] = "mise"

    def __post_init__(self) -> None:
        # Of a subclass of str only the text is taken: how it shows itself is its own matter.
        for name in ("language", "version", "via"):
            value = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, str.__str__(value))
        if not isinstance(self.language, str) or not _LANGUAGE.fullmatch(self.language):
            raise ConfigurationError(
                f"a runtime's language must be lowercase letters, digits, '_' or '-', not {_kind_of(self.language)}"
            )
        if not isinstance(self.version, str) or not _VERSION.fullmatch(self.version):
            raise ConfigurationError(
                f"the version of {self.language} must be letters, digits, '.', '+' or '-', not {_kind_of(self.version)}"
            )
        if self.via != "mise":
            raise ConfigurationError(f"{self.language} can be installed via 'mise', not by {_kind_of(self.via)}")

    @classmethod
    def of(cls, value: Any) -> Runtime:
        """A runtime from a runtime or from a mapping with its attributes; it is checked again, whatever it was before.

        Raises:
            ConfigurationError: It is neither.
        """
        if isinstance(value, Runtime):
            return Runtime(value.language, value.version, value.via)
        names = {"language", "version", "via"}
        if not isinstance(value, Mapping) or not {"language", "version"} <= set(value) <= names:
            seen = ", ".join(map(str, value)) if isinstance(value, Mapping) else f"a {type(value).__name__}"
            raise ConfigurationError(
                f"a runtime has a language and a version, and may have via, not {seen or 'nothing'}"
            )
        return Runtime(**value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """How a machine comes by the runtimes of its environment.

    Attributes:
        script: A script for bash that may be run any number of times.
        instructions: What the agent is told about it, for its system prompt; the script is part of it.
    """

    script: str
    instructions: str


def _kind_of(value: Any) -> str:
    """What a value that cannot be used is, without what it says."""
    return "another text" if isinstance(value, str) else f"a {type(value).__name__}; put it in quotes"


def check_runtimes(values: Any) -> tuple[Runtime, ...]:
    """The runtimes of a list.

    Raises:
        ConfigurationError: It is no list, an entry is no runtime, or a language comes twice.
    """
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise ConfigurationError(f"runtimes= must be a list of runtimes, not a {type(values).__name__}")
    runtimes = tuple(Runtime.of(value) for value in values)
    languages = [runtime.language for runtime in runtimes]
    for language in languages:
        if languages.count(language) > 1:
            raise ConfigurationError(f"runtimes= names {language} more than once; a machine has one version of it")
    return runtimes


def required_hosts(runtimes: Sequence[Runtime]) -> list[str]:
    """The hosts that a machine must reach to install these, in order; none if there is nothing to install."""
    more = (_HOSTS_OF.get(runtime.language, frozenset()) for runtime in runtimes)
    return sorted(_HOSTS.union(*more)) if runtimes else []


def bootstrap(runtimes: Sequence[Runtime]) -> Bootstrap | None:
    """How a machine comes by these; ``None`` if there is nothing to install. The same for the same ones, always."""
    if not runtimes:
        return None
    tools = _tools(runtimes)
    script = "\n".join(
        (
            "#!/usr/bin/env bash",
            "set -euo pipefail",
            _LOCALE,
            'if ! command -v mise >/dev/null 2>&1 && [ ! -x "$HOME/.local/bin/mise" ]; then',
            "  curl -fsSL https://mise.jdx.dev/install.sh | sh",
            "fi",
            _PATHS,
            *(f"mise use --global {tool}" for tool in tools),
            "mise install",
            f"if ! grep -qxF '{_MARKER}' \"$HOME/.bashrc\" 2>/dev/null; then",
            # The empty line ends a last line that has no end.
            f"  printf '%s\\n' '' '{_MARKER}' '{_PATHS}' '{_LOCALE}' >>\"$HOME/.bashrc\"",
            "fi",
            "",
        )
    )
    declared = ", ".join(tool.replace("@", " ") for tool in tools)
    instructions = (
        f"This machine is meant to have these language runtimes: {declared}. They are not installed yet. Before you"
        " first need one of them, run the following script exactly once, with bash. Running it again does no harm:"
        f" what is installed stays as it is.\n\n```bash\n{script}```\n"
    )
    return Bootstrap(script=script, instructions=instructions)


def _tools(runtimes: Sequence[Runtime]) -> list[str]:
    """What mise is told to install, in order: Elixir is built for one release of Erlang, which must be there first."""
    declared = {runtime.language: runtime.version for runtime in runtimes}
    release, elixir = declared.get("erlang", "").partition(".")[0], declared.get("elixir", "latest")
    # "latest" is no version that could be asked for by its release of Erlang.
    if release.isdecimal() and elixir != "latest" and "-otp-" not in elixir:
        declared["elixir"] = f"{elixir}-otp-{release}"
    # Sorting is stable: the others stay as they were declared.
    order = sorted(declared, key=lambda language: {"erlang": 0, "elixir": 1}.get(language, 2))
    return [f"{language}@{declared[language]}" for language in order]
