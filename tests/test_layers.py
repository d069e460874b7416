"""Arrows point inward only (docs/design.md, section 2)."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "syncd"
MODULES = {
    "syncd." + ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
    if path.name != "__init__.py"
} | {
    ".".join(("syncd", *path.relative_to(ROOT).parent.parts)): path for path in sorted(ROOT.rglob("__init__.py"))
}  # fmt: skip
PURE = [
    "model",
    "errors",
    "excludes",
    "globs",
    "paths",
    "plain_text",
    "rules",
    "plan",
    "evidence",
    "answers.forecast",
    "backoff",
    "text.endings",
    "shards",
    "index_errors",
    "text.chunk",
    "text.chunk_markdown",
    "text.chunk_text",
    "names",
    "text.sources",
    "text.metadata",
    "text.front_matter",
    "text.html_head",
]
VALUES = {
    "bisect",
    "codecs",
    "collections",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "hashlib",
    "html",
    "itertools",
    "json",
    "math",
    "re",
    "shlex",
    "tomllib",
    "typing",
    "unicodedata",
    "yaml",
    "zlib",
}
CORE = [
    "state.directory",
    "state.db",
    "state.queue",
    "state.journal_index",
    "state.journal",
    "state.history",
    "mounts",
    "absence",
    "os_names",
    "links",
    "unexpected",
    "disk",
    "ignores",
    "scan",
    "state.pass_tables",
    "sync.heirs",
    "sync.writers",
    "state.absences",
    "state.ownership",
    "state.identity",
    "state.caches",
    "sync.departures",
    "sync.instep",
    "sync.observe",
    "sync.audit",
    "sync.remote",
    "sync.resolve",
    "sync.indexing",
    "sync.turn",
    "sync.mounted",
    "sync.guard",
    "sync.mirror",
    "sync.passes",
    "sync.reconcile",
]


def imports(module: str) -> set[str]:
    """Every module that this one imports, at its top or in a function, for types or for real."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert node.module is not None
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return found


def own(module: str) -> set[str]:
    return {name for name in imports(module) if name == "syncd" or name.startswith("syncd.")}


def within(package: str) -> list[str]:
    return [name for name in MODULES if name == package or name.startswith(package + ".")]


def is_in(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def test_the_modules_are_found() -> None:
    assert {"syncd", "syncd.plan", "syncd.targets.base", "syncd.cloudflare.transport", "syncd.emulator.app"} <= set(
        MODULES
    )
    assert "syncd.plan" in imports("syncd.sync.resolve")
    assert "syncd.sync.observe" in imports("syncd.sync.reconcile"), "a module named in `from … import` is meant"


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_import_values_only(name: str) -> None:
    module = f"syncd.{name}"
    outside = {each.partition(".")[0] for each in imports(module) - own(module)}
    assert outside - VALUES == set()
    assert own(module) <= {f"syncd.{each}" for each in PURE}


@pytest.mark.parametrize("name", ["print", "open", "input", "exec", "eval"])
def test_pure_modules_call_nothing_that_acts(name: str) -> None:
    for module in PURE:
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(MODULES[f"syncd.{module}"].read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert name not in calls, module


@pytest.mark.parametrize("name", CORE)
def test_the_core_knows_no_target_no_http_and_nobody_above_it(name: str) -> None:
    allowed = {f"syncd.{each}" for each in (*PURE, *CORE, "targets.base")} | {"syncd"}
    assert own(f"syncd.{name}") <= allowed
    assert not {"httpx", "starlette", "watchdog", "typer", "pydantic"} & imports(f"syncd.{name}")


def test_cloudflare_knows_errors_and_model_only() -> None:
    for module in within("syncd.cloudflare"):
        strangers = {each for each in own(module) if not is_in(each, "syncd.cloudflare")}
        assert strangers <= {"syncd", "syncd.errors", "syncd.masks", "syncd.model"}, module
        assert "syncd" not in strangers or uses_only_the_version(module)


def test_the_emulator_knows_nothing_of_syncd_but_its_version() -> None:
    for module in within("syncd.emulator"):
        strangers = {each for each in own(module) if not is_in(each, "syncd.emulator")}
        assert strangers <= {"syncd"}, module
        assert not strangers or uses_only_the_version(module)


def uses_only_the_version(module: str) -> bool:
    return all(
        {alias.name for alias in node.names} == {"__version__"}
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "syncd"
    )


def test_nobody_but_the_command_line_knows_the_emulator() -> None:
    for module in MODULES:
        if not is_in(module, "syncd.emulator", "syncd.cli"):
            assert not any(is_in(each, "syncd.emulator") for each in own(module)), module


def test_only_cloudflare_speaks_http() -> None:
    for module in MODULES:
        # The webhook posts to a URL of the user's, which is no API of Cloudflare.
        if not is_in(module, "syncd.cloudflare", "syncd.emulator", "syncd.webhook"):
            assert not {"httpx", "h11"} & imports(module), module


def test_targets_do_not_decide() -> None:
    above = [
        "plan",
        "sync.observe",
        "sync.resolve",
        "sync.turn",
        "sync.reconcile",
        "daemon",
        "cli",
        "state.journal",
        "state.queue",
        "state.db",
        "sync.mirror",
    ]
    for module in within("syncd.targets"):
        assert not any(is_in(each, *(f"syncd.{name}" for name in above)) for each in own(module)), module


def test_only_the_composition_root_knows_every_kind_of_target() -> None:
    kinds = ("syncd.targets.aisearch", "syncd.targets.kv", "syncd.targets.vectorize")
    knowing = {
        module
        for module in MODULES
        if not is_in(module, "syncd.targets") and all(any(is_in(each, kind) for each in own(module)) for kind in kinds)
    }
    assert knowing == {"syncd.service.build"}


def test_the_watcher_marks_and_knows_no_sync_rules() -> None:
    for module in within("syncd.watch"):
        known = [
            "syncd.plan",
            "syncd.sync.reconcile",
            "syncd.state.journal",
            "syncd.targets",
            "syncd.cloudflare",
            "syncd.cli",
        ]
        assert not any(is_in(each, *known) for each in own(module)), module


def test_only_the_daemon_knows_the_page_and_the_page_knows_no_target() -> None:
    for module in MODULES:
        if not is_in(module, "syncd.web", "syncd.daemon"):
            assert not any(is_in(each, "syncd.web") for each in own(module)), module
    for module in within("syncd.web"):
        assert not any(is_in(each, "syncd.targets", "syncd.sync.reconcile") for each in own(module)), module


def test_nobody_below_the_command_line_knows_it() -> None:
    for module in MODULES:
        if not is_in(module, "syncd.cli", "syncd.__main__"):
            assert not any(is_in(each, "syncd.cli") for each in own(module)), module


def test_there_is_one_verb() -> None:
    verbs = [
        f"{module}.{node.name}"
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("reconcile")
    ]
    assert [verb for verb in verbs if not is_in(verb, "syncd.cli")] == ["syncd.sync.reconcile.reconcile"]
    text = "\n".join(path.read_text() for path in MODULES.values())
    assert text.count("def reconcile") == 1


@pytest.mark.parametrize("module", MODULES)
def test_a_file_stays_readable(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= 450


def test_everything_imported_is_the_standard_library_syncd_or_declared() -> None:
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = _imported_as(project["dependencies"]) | {"anyio"}  # the base of starlette and httpx
    extras = {name: _imported_as(wanted) for name, wanted in project["optional-dependencies"].items()}
    for module in MODULES:
        allowed = declared | sys.stdlib_module_names
        if is_in(module, "syncd.emulator"):
            allowed |= extras["emulator"]
        if module == "syncd.text.html_text":
            allowed |= extras["vectorize"]
        found = {each.partition(".")[0] for each in imports(module) - own(module)}
        assert found <= allowed, module


def _imported_as(requirements: list[str]) -> set[str]:
    """Return the names under which the packages of some requirements are imported."""
    renamed = {"beautifulsoup4": "bs4", "pyyaml": "yaml"}
    names = [re.split(r"[<>=\[ ]", each, maxsplit=1)[0] for each in requirements]
    return {renamed.get(name, name.replace("-", "_")) for name in names}
