"""The import graph obeys the design: layers, purity, ignorance, no cycles. Nested imports count.

Each law is a function from a package's modules to its violations. The first test holds the library to them, the
second shows on small made-up packages that each law can be broken and is then reported.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "managed_agents_actors"
ROOT = Path(__file__).parent.parent / PACKAGE

# From the floor up. A room imports from rooms below its own layer, never from beside or above; the front door and
# __main__ are the roof. `_errors` and `_model` name each other's types, so they share the floor.
LAYERS: tuple[set[str], ...] = (
    {"_artifact", "_errors", "_model"},
    {"_config", "_sqlite"},
    {"telemetry", "_protocol"},
    {"actors", "_http"},
    {"claude", "agentcore"},
    {"artifacts", "provisioning"},
    {"providers"},
    {"_session"},
    {"agent_core"},
    {"host"},
    {"testing"},
    {"_cli"},
    {"", "__main__"},
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
FLOOR = LAYERS[0]

# What a room may import of ours where that is less than everything below it.
ONLY = {"_protocol": FLOOR, "actors": {"_errors", "telemetry"}}

# Third-party packages and the rooms that may import them; None is every room but the pure one.
THIRD_PARTY: dict[str, set[str] | None] = {
    "trio": None,
    "structlog": None,
    "botocore": {"agentcore", "testing"},
    "httpx": {"_http"},
    "httpcore": {"_http"},
    "tenacity": {"_http"},
    "h11": {"_http", "testing"},
}
# The extras: imported inside functions only.
LAZY = {"pydantic", "docstring_parser", "yaml", "opentelemetry", "msgspec"}
# Of those, the one that computes and does nothing else, and the one module of the pure core that knows it.
CODEC, PURE_EXTRAS = "_protocol.codec", {"msgspec"}
# What modules are called that are nothing without an extra: they import it like any other package, and are themselves
# imported inside functions only.
NEEDS = {"telemetry._otel_": "opentelemetry"}

# The only modules of the standard library that the pure core may know: none of them can do I/O, tell time or draw.
PURE_MODULES = {"__future__", "binascii", "collections", "copy", "dataclasses", "enum", "functools", "hashlib"}
PURE_MODULES |= {"itertools", "json", "math", "re", "struct", "typing", "urllib.parse"}
IMPURE_CALLS = {"open", "input", "print", "uuid1", "uuid4"}
IMPURE_METHODS = {"now", "utcnow", "today", "uuid1", "uuid4"}


@dataclass(frozen=True)
class Import:
    """One module that another one imports."""

    target: str
    nested: bool
    typing_only: bool


@dataclass(frozen=True)
class Module:
    """One file: its dotted name below the package, its syntax tree and its imports."""

    name: str
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]


def read_package(root: Path) -> list[Module]:
    """Every module of the package at this path; the names are relative to it, the front door's is empty."""
    files = {path.relative_to(root).with_suffix("").parts: path for path in sorted(root.rglob("*.py"))}
    names = {".".join(parts).removesuffix("__init__").removesuffix("."): path for parts, path in files.items()}
    modules = []
    for name, path in names.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        modules.append(Module(name, tree, tuple(find_imports(tree, root.name, package, set(names)))))
    return modules


def find_imports(tree: ast.AST, top: str, package: str, names: set[str]) -> Iterator[Import]:
    """The imports of a syntax tree; our own modules are named relative to the package, after a leading dot."""

    def own(absolute: str) -> str:
        return "." + absolute.removeprefix(top).removeprefix(".") if absolute.split(".")[0] == top else absolute

    def targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (own(alias.name) for alias in node.names)
            return
        base = own(node.module or "")
        if node.level:
            parts = package.split(".") if package else []
            kept = parts[: len(parts) + 1 - node.level]
            base = "." + ".".join([*kept, node.module] if node.module else kept)
        for alias in node.names:
            inner = f"{base}.{alias.name}".replace("..", ".")
            yield inner if inner[1:] in names and base.startswith(".") else base

    def walk(node: ast.AST, nested: bool, typing_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield from (Import(target, nested, typing_only) for target in targets(child))
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for statement in child.body:
                    yield from walk(ast.Module([statement], []), nested, True)
                for statement in child.orelse:
                    yield from walk(ast.Module([statement], []), nested, typing_only)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, nested or inside, typing_only)

    yield from walk(tree, False, False)


def every_file_opens_with_its_law(modules: list[Module]) -> list[str]:
    return [f"{module.name or '__init__'} has no docstring" for module in modules if not ast.get_docstring(module.tree)]


def rooms_import_only_from_below(modules: list[Module]) -> list[str]:
    found = []
    for module in modules:
        if module.room not in RANK:
            found.append(f"{module.name}: room {module.room!r} has no layer")
            continue
        below = {room for room, rank in RANK.items() if rank < RANK[module.room]}
        allowed = ONLY.get(module.room, below | (FLOOR if module.room in FLOOR else set())) | {module.room}
        for imported in module.imports:
            room = imported.target[1:].partition(".")[0]
            if imported.target.startswith(".") and (room not in allowed or (room == "" and module.room == "")):
                found.append(f"{module.name} imports {imported.target}")
    return found


def only_the_command_line_imports_testing(modules: list[Module]) -> list[str]:
    return [
        f"{module.name or '__init__'} imports {imported.target}"
        for module in modules
        for imported in module.imports
        if (imported.target + ".").startswith(".testing.") and module.room not in {"testing", "_cli"}
        # The front door names it for type checkers and loads it on first use.
        if module.name or not imported.typing_only
    ]


def third_party_packages_stay_in_their_rooms(modules: list[Module]) -> list[str]:
    found = []
    for module in modules:
        for imported in module.imports:
            package = imported.target.partition(".")[0]
            if not package or package in sys.stdlib_module_names:
                continue
            rooms = THIRD_PARTY.get(package, set())
            at_home = rooms is None or module.room in rooms or (package in LAZY and imported.nested)
            at_home = at_home or needed_by(module.name) == package
            if (
                not (at_home or (package in LAZY and imported.typing_only))
                or (module.room == "_protocol" and not (module.name == CODEC and package in PURE_EXTRAS))
                or (module.room == "actors" and package != "trio")
            ):
                found.append(f"{module.name} imports {imported.target}")
    return found


def needed_by(name: str) -> str | None:
    """The extra that a module of this name needs."""
    return next((extra for prefix, extra in NEEDS.items() if name.startswith(prefix)), None)


def what_needs_an_extra_is_imported_lazily(modules: list[Module]) -> list[str]:
    return [
        f"{module.name} imports {imported.target}"
        for module in modules
        for imported in module.imports
        if (extra := needed_by(imported.target.removeprefix("."))) and extra != needed_by(module.name)
        if not (imported.nested or imported.typing_only)
    ]


def the_protocol_is_pure(modules: list[Module]) -> list[str]:
    found = []
    for module in modules:
        if module.room != "_protocol":
            continue
        outer = [item.target for item in module.imports if not item.target.startswith(".")]
        pure = PURE_MODULES | (PURE_EXTRAS if module.name == CODEC else set())
        impure = [target for target in outer if not {target, target.partition(".")[0]} & pure]
        found += [f"{module.name} imports {target}" for target in impure]
        for node in ast.walk(module.tree):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
                found.append(f"{module.name}:{node.lineno} is async")
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id in IMPURE_CALLS:
                found.append(f"{module.name}:{called.lineno} calls {called.id}")
            if isinstance(called, ast.Attribute) and called.attr in IMPURE_METHODS:
                found.append(f"{module.name}:{called.lineno} calls {called.attr}")
    return found


def there_are_no_cycles(modules: list[Module]) -> list[str]:
    graph = {
        module.name: {
            imported.target[1:]
            for imported in module.imports
            if imported.target.startswith(".") and not imported.typing_only
        }
        for module in modules
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" -> ".join(error.args[1])]
    return []


Law = Callable[[list[Module]], list[str]]
LAWS: list[Law] = [
    every_file_opens_with_its_law,
    rooms_import_only_from_below,
    only_the_command_line_imports_testing,
    third_party_packages_stay_in_their_rooms,
    what_needs_an_extra_is_imported_lazily,
    the_protocol_is_pure,
    there_are_no_cycles,
]


@pytest.mark.parametrize("law", LAWS)
def test_the_library_obeys(law: Law) -> None:
    modules = read_package(ROOT)
    assert len(modules) > 5
    assert law(modules) == []


CODEC_FILE = "_protocol/codec.py"

# Each violation: the law, the one file that breaks it, and what is reported.
VIOLATIONS: list[tuple[Law, str, str, str]] = [
    (every_file_opens_with_its_law, "_http/a.py", "x = 1", "_http.a has no docstring"),
    (rooms_import_only_from_below, "new_room/a.py", "", "new_room.a: room 'new_room' has no layer"),
    (rooms_import_only_from_below, "_http/a.py", "from ..claude import x", "_http.a imports .claude"),
    (rooms_import_only_from_below, "claude/a.py", "def f():\n from .. import _session", "claude.a imports ._session"),
    (rooms_import_only_from_below, "_http/a.py", "import package", "_http.a imports ."),
    (rooms_import_only_from_below, "_cli/a.py", "from .. import name", "_cli.a imports ."),
    (rooms_import_only_from_below, "_cli/a.py", "from package import name", "_cli.a imports ."),
    (rooms_import_only_from_below, "_protocol/a.py", "from .._config import x", "_protocol.a imports ._config"),
    (rooms_import_only_from_below, "actors/a.py", "from .._model import x", "actors.a imports ._model"),
    (
        rooms_import_only_from_below,
        "actors/a.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n import package._protocol.ok",
        "actors.a imports ._protocol.ok",
    ),
    (only_the_command_line_imports_testing, "__init__.py", "from . import testing", "__init__ imports .testing"),
    (only_the_command_line_imports_testing, "host/a.py", "from ..testing.a import x", "host.a imports .testing.a"),
    (third_party_packages_stay_in_their_rooms, "claude/a.py", "import httpx", "claude.a imports httpx"),
    (third_party_packages_stay_in_their_rooms, "claude/a.py", "import tenacity", "claude.a imports tenacity"),
    (third_party_packages_stay_in_their_rooms, "claude/a.py", "import requests.api", "claude.a imports requests.api"),
    (third_party_packages_stay_in_their_rooms, "_session/a.py", "import pydantic", "_session.a imports pydantic"),
    (third_party_packages_stay_in_their_rooms, "_protocol/a.py", "import trio", "_protocol.a imports trio"),
    (third_party_packages_stay_in_their_rooms, "actors/a.py", "import structlog", "actors.a imports structlog"),
    (third_party_packages_stay_in_their_rooms, CODEC_FILE, "import msgspec", "_protocol.codec imports msgspec"),
    (
        third_party_packages_stay_in_their_rooms,
        "_protocol/a.py",
        "def f():\n import msgspec",
        "_protocol.a imports msgspec",
    ),
    (the_protocol_is_pure, CODEC_FILE, "def f():\n import yaml", "_protocol.codec imports yaml"),
    (third_party_packages_stay_in_their_rooms, "telemetry/a.py", "import opentelemetry", "telemetry.a imports opent"),
    (third_party_packages_stay_in_their_rooms, "telemetry/_otel_a.py", "import yaml", "telemetry._otel_a imports yaml"),
    (
        what_needs_an_extra_is_imported_lazily,
        "telemetry/__init__.py",
        "from . import _otel_ok",
        "telemetry imports .telemetry._otel_ok",
    ),
    (
        what_needs_an_extra_is_imported_lazily,
        "host/a.py",
        "from ..telemetry._otel_ok import x",
        "host.a imports .telemetry._otel_ok",
    ),
    (the_protocol_is_pure, "_protocol/a.py", "def f():\n import time", "_protocol.a imports time"),
    (the_protocol_is_pure, "_protocol/a.py", "from pathlib import Path", "_protocol.a imports pathlib"),
    (the_protocol_is_pure, "_protocol/a.py", "import urllib.request", "_protocol.a imports urllib.request"),
    (the_protocol_is_pure, "_protocol/a.py", "async def f(): pass", "_protocol.a:2 is async"),
    (the_protocol_is_pure, "_protocol/a.py", "def f(clock):\n return clock.now()", "_protocol.a:3 calls now"),
    (the_protocol_is_pure, "_protocol/a.py", "open('x')", "_protocol.a:2 calls open"),
    (there_are_no_cycles, "_protocol/ok.py", "def f():\n from . import other", "_protocol.ok"),
]

SOUND = {
    "__init__.py": "import typing\nfrom ._session.ok import x\nif typing.TYPE_CHECKING:\n from . import testing",
    "_errors.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n from ._model import x",
    "_model.py": "from ._errors import x",
    "_config.py": "",
    "_protocol/__init__.py": "",
    "_protocol/ok.py": "import json\nfrom .._errors import x",
    "_protocol/other.py": "from .ok import x",
    "_protocol/codec.py": "def f():\n import msgspec",
    "_http/ok.py": "import httpx\nimport trio\nfrom .._protocol import ok",
    "_session/__init__.py": "",
    "_session/ok.py": "def f():\n import pydantic\n from ..actors.ok import x",
    "actors/ok.py": "import trio\nfrom .._errors import x",
    "claude/__init__.py": "",
    "telemetry/__init__.py": "",
    "telemetry/door.py": "def f():\n from ._otel_ok import x",
    "telemetry/_otel_ok.py": "from opentelemetry import trace\nfrom ._otel_other import x",
    "telemetry/_otel_other.py": "import opentelemetry.context",
    "testing/__init__.py": "",
    "testing/a.py": "import h11\nfrom .._session.ok import x",
    "_cli/ok.py": "from ..testing import x",
}


def made_up_package(directory: Path, files: dict[str, str]) -> list[Module]:
    for name, source in files.items():
        path = directory / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lawless = source == "x = 1"
        path.write_text(source if lawless else f'"""Law."""\n{source}\n', encoding="utf-8")
    return read_package(directory / "package")


@pytest.mark.parametrize("law", LAWS)
def test_a_sound_package_obeys(law: Law, tmp_path: Path) -> None:
    assert law(made_up_package(tmp_path, SOUND)) == []


@pytest.mark.parametrize(("law", "file", "source", "report"), VIOLATIONS)
def test_a_violation_is_reported(law: Law, file: str, source: str, report: str, tmp_path: Path) -> None:
    (found,) = law(made_up_package(tmp_path, SOUND | {file: source}))
    assert report in found


def test_importing_the_library_does_not_import_what_it_may_never_need() -> None:
    program = f"import sys, {PACKAGE}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert PACKAGE in loaded
    assert not loaded & {"botocore", "boto3", "pydantic", "docstring_parser", "aiohttp", f"{PACKAGE}.testing"}
    assert not loaded & {"anyio._backends._asyncio", "anthropic", "pytest", "yaml", "opentelemetry"}
