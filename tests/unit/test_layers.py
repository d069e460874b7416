"""Imports between rooms go one way (docs/design.md, "Rooms"). A room is a folder of syncd/."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "syncd"


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted(ROOT.rglob("*.py"))}

ARROWS = {
    "core": set(),
    "local": {"core"},
    "watch": {"core", "local"},
    "state": {"core"},
    "text": {"core"},
    "cloudflare": {"core"},
    "targets": {"core", "state", "text", "cloudflare"},
    "sync": {"core", "local", "state", "targets"},
    "queries": {"core", "local", "state", "targets", "sync", "config"},
    "config": {"core"},
    "service": {"core", "local", "watch", "state", "text", "cloudflare", "targets", "sync", "config"},
    "web": {"core", "state", "queries", "service", "config"},
    "agents": {"core", "state", "text", "cloudflare", "queries", "service", "config", "web"},
    "emulator": set(),
    "cli": {
        "core",
        "local",
        "state",
        "text",
        "cloudflare",
        "targets",
        "sync",
        "queries",
        "config",
        "service",
        "web",
        "emulator",
        "agents",
    },
}
"""Room -> the rooms that it may import. The drawing in docs/design.md shows the same arrows."""

IMPURE = {
    "syncd.core.requests": {"contextlib", "contextvars"},
    "syncd.core.keys": {"os", "sys"},
    "syncd.core.plain_text": {"traceback"},
    "syncd.core.errors": {"errno", "sqlite3", "structlog"},
}
"""Module of core -> what it imports besides. Each has no effect but the log, or depends on the machine only."""

PURE = {
    "bisect",
    "base64",
    "codecs",
    "collections",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "hashlib",
    "ipaddress",
    "html",
    "itertools",
    "json",
    "math",
    "re",
    "shlex",
    "string",
    "tomllib",
    "typing",
    "unicodedata",
    "urllib",
    "zlib",
}
"""What core may import of the standard library."""


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


@cache
def imports(module: str) -> frozenset[str]:
    """Return every module that a module imports, at its top or in a function, for types or at run time."""
    found: set[str] = set()
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert node.module is not None
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return frozenset(found)


def own(module: str) -> set[str]:
    return {name for name in imports(module) if name in MODULES}


def room(module: str) -> str:
    return module.split(".")[1] if module.count(".") else ""


def within(name: str) -> list[str]:
    return [module for module in MODULES if room(module) == name]


def test_every_module_lies_in_a_room() -> None:
    assert {room(module) for module in MODULES} - {"", "__main__"} == set(ARROWS)
    assert "syncd.core.plan" in imports("syncd.sync.resolve")
    assert "syncd.sync.observe" in imports("syncd.sync.reconcile"), "`from … import module` counts as that module"


@pytest.mark.parametrize("name", ARROWS)
def test_a_room_says_what_belongs_there(name: str) -> None:
    text = ast.get_docstring(parsed(f"syncd.{name}"))
    assert text
    assert text.partition("\n")[0].endswith(".")


@pytest.mark.parametrize("name", ARROWS)
def test_arrows_between_rooms(name: str) -> None:
    strangers = {
        f"{module} -> {each}"
        for module in within(name)
        for each in own(module)
        if room(each) not in {"", name} | ARROWS[name]
    }
    assert strangers == set()


def _drawing() -> dict[str, set[str]]:
    """Return the arrows of the drawing in docs/design.md."""
    text = (ROOT.parent / "docs/design.md").read_text().partition("```mermaid")[2].partition("```")[0]
    drawn: dict[str, set[str]] = {name: set() for name in ARROWS}
    for line in text.splitlines():
        start, arrow, end = line.partition(" --> ")
        if arrow:
            drawn[start.strip()].add(end.strip())
    return drawn


def test_the_drawing_shows_the_arrows() -> None:
    drawn = _drawing()
    for name, allowed in ARROWS.items():
        assert drawn[name] <= allowed, name
        assert allowed <= _reachable(name, drawn), name


def test_each_drawn_arrow_is_an_import() -> None:
    real = {(room(module), room(each)) for module in MODULES for each in own(module)}
    assert {(start, end) for start, ends in _drawing().items() for end in ends} <= real


def test_rooms_have_no_circle() -> None:
    assert not _circles({name: ARROWS[name] for name in ARROWS})


def test_modules_have_no_circle() -> None:
    assert not _circles({each: own(each) - {each} for each in MODULES})


def _circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of nodes that reach each other."""
    reach = {node: _reachable(node, arrows) for node in arrows}
    groups = {
        frozenset(other for other in reach[node] if node in reach[other]) for node in arrows if node in reach[node]
    }
    return sorted(sorted(group) for group in groups)


def _reachable(start: str, arrows: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(arrows[start])
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += arrows.get(node, ())
    return found


def test_a_circle_would_be_seen() -> None:
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def _calls(module: str) -> Iterator[str]:
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


@pytest.mark.parametrize("module", [each for each in MODULES if room(each) == "core"])
def test_core_has_no_side_effects(module: str) -> None:
    outside = {each.partition(".")[0] for each in imports(module) if each not in MODULES}
    assert outside - PURE - IMPURE.get(module, set()) == set()
    assert not {"print", "open", "input", "exec", "eval"} & set(_calls(module))


def test_sync_and_state_know_the_protocols_of_targets_only() -> None:
    for module in [*within("sync"), *within("state")]:
        assert {each for each in own(module) if room(each) == "targets"} <= {"syncd.targets.base"}, module
        assert not {"httpx", "starlette", "watchdog", "click", "pydantic"} & imports(module), module


def test_only_the_composition_root_knows_all_kinds_of_target() -> None:
    kinds = {"ai_search", "kv", "vectorize"}
    knowing = {
        module
        for module in MODULES
        if room(module) != "targets"
        and kinds <= {each.split(".")[2] for each in own(module) if each.startswith("syncd.targets.")}
    }
    assert knowing == {"syncd.service.build"}


def test_only_cloudflare_speaks_http() -> None:
    for module in MODULES:
        # The webhook belongs to nobody's API.
        if room(module) not in {"cloudflare", "emulator"} and module != "syncd.service.outbox":
            assert not {"httpx", "h11"} & imports(module), module


def test_only_state_speaks_sql() -> None:
    for module, path in MODULES.items():
        if room(module) not in {"state", "emulator"}:
            text = path.read_text()
            assert not [word for word in ("SELECT ", "INSERT ", "UPDATE ", "DELETE FROM") if word in text], module


def test_the_emulator_and_cloudflare_use_the_version_alone_of_the_package() -> None:
    for module in [*within("emulator"), *within("cloudflare")]:
        for node in ast.walk(parsed(module)):
            if isinstance(node, ast.ImportFrom) and node.module == "syncd":
                names = {alias.name for alias in node.names if f"syncd.{alias.name}" not in MODULES}
                assert names <= {"__version__"}, module


def test_there_is_one_verb() -> None:
    verbs = [
        f"{module}.{node.name}"
        for module in MODULES
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("reconcile")
    ]
    assert [verb for verb in verbs if room(verb) != "cli"] == ["syncd.sync.reconcile.reconcile"]


@pytest.mark.parametrize("module", MODULES)
def test_a_file_stays_readable(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= 450


def test_everything_imported_is_the_standard_library_syncd_or_declared() -> None:
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    declared = _packages(project["dependencies"]) | {"anyio"}  # starlette's and httpx's own base
    names = ("emulator", "vectorize", "convert", "notify", "mcp")
    extras = {name: _packages(project["optional-dependencies"][name]) for name in names}
    for module in MODULES:
        allowed = declared | (extras["emulator"] if room(module) == "emulator" else set())
        allowed |= extras["vectorize"] | extras["convert"] if room(module) == "text" else set()
        allowed |= extras["mcp"] | {"mcp_types"} if room(module) == "agents" else set()
        allowed |= extras["notify"] if module == "syncd.service.outbox" else set()
        for each in imports(module):
            top = each.partition(".")[0]
            assert top == "syncd" or top in sys.stdlib_module_names or top in allowed, (module, top)


def _packages(requirements: list[str]) -> set[str]:
    """Return the names under which the required packages are imported."""
    imported = {"beautifulsoup4": "bs4", "pyyaml": "yaml", "python_multipart": "python_multipart"}
    names = {each.split(">")[0].split("=")[0].split("[")[0].strip().lower().replace("-", "_") for each in requirements}
    return {imported.get(name, name) for name in names}
