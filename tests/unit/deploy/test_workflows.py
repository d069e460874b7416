"""The workflows, forms and hooks fit the repository: they parse, call existing targets, and have few rights."""

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
PINNED = re.compile(r"@(v\d+(\.\d+){0,2}|[0-9a-f]{40})")
"""A version or a commit. A branch may change at any time."""
WRITERS = {
    ("release.yml", "attest"): {"attestations", "id-token"},
    ("release.yml", "publish"): {"id-token"},
    ("release.yml", "notes"): {"contents"},
    ("image.yml", "publish"): {"attestations", "id-token", "packages"},
    ("docs.yml", "publish"): {"id-token", "pages"},
}
"""The jobs that may write, and what."""


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def jobs(path: Path) -> Iterator[tuple[str, Any]]:
    yield from read(path)["jobs"].items()


def steps(path: Path) -> list[Any]:
    return [step for _, job in jobs(path) for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_to_a_version_or_a_commit(path: Path) -> None:
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert [each for each in used if not PINNED.search(each)] == []
    assert used


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_target_of_make_that_is_called_exists(path: Path) -> None:
    called = [name for step in steps(path) for name in re.findall(r"(?m)^make ([a-z]+)", step.get("run", ""))]
    assert set(called) <= TARGETS
    assert called


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_job_has_the_rights_it_needs_and_a_time_limit(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] in ({}, {"contents": "read"})
    for name, job in jobs(path):
        granted = {right for right, level in job.get("permissions", {}).items() if level == "write"}
        assert granted == WRITERS.get((path.name, name), set()), name
        assert job["timeout-minutes"] <= 60


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_step_keeps_the_token_or_runs_text_of_a_stranger(path: Path) -> None:
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        assert "${{" not in step.get("run", ""), (
            "an expression belongs into env, where the shell does not read it as code"
        )
    # YAML 1.1 reads the key `on` as true.
    assert "pull_request_target" not in read(path)[True]


def test_the_packages_are_published_without_a_stored_token() -> None:
    publish = dict(jobs(ROOT / ".github/workflows/release.yml"))["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"] == "pypi"
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")


def test_the_tests_run_on_every_python_of_the_classifiers() -> None:
    listed = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert read(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"] == listed


@pytest.mark.parametrize("path", [path for path in FORMS if path.name != "config.yml"], ids=lambda path: path.name)
def test_a_form_asks_named_questions(path: Path) -> None:
    form = read(path)
    questions = [each for each in form["body"] if each["type"] != "markdown"]
    assert form.keys() == {"name", "description", "labels", "body"}
    assert all(each["id"] and each["attributes"]["label"] for each in questions)
    assert any(each.get("validations", {}).get("required") for each in questions)


def test_dependabot_looks_at_places_that_exist() -> None:
    config = read(ROOT / ".github/dependabot.yml")
    assert config["version"] == 2
    assert {each["package-ecosystem"] for each in config["updates"]} == {"github-actions", "pip"}
    assert all((ROOT / each["directory"].lstrip("/")).is_dir() for each in config["updates"])


def test_the_hooks_run_tools_of_the_lock() -> None:
    config = read(ROOT / ".pre-commit-config.yaml")
    locked = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    for hook in (hook for repository in config["repos"] for hook in repository["hooks"]):
        program, *arguments = hook["entry"].split()
        name = Path(program).name if arguments[:1] != ["-m"] else arguments[1]
        assert f"\n{name}==" in locked, hook["id"]
        assert all((ROOT / each).exists() for each in arguments if each.startswith("tests/"))


@pytest.mark.parametrize("name", ["deb", "dist", "image", "newcomer", "packages", "run"])
def test_a_script_can_be_run(name: str) -> None:
    path = ROOT / ".ci" / name
    assert path.stat().st_mode & stat.S_IXUSR
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")
