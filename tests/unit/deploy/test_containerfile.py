"""The Containerfile copies what the build needs and gets, and starts what Kubernetes expects."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from syncd import __version__
from syncd.core.rules import Rules

ROOT = Path(__file__).parents[3]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEXT = (ROOT / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")


def copied() -> list[str]:
    """Every path that comes from the checkout."""
    lines = re.findall(r"^COPY (?!--from)(.+) (\S+)$", TEXT, re.MULTILINE)
    return [path for sources, _ in lines for path in sources.split()]


def extras() -> list[str]:
    """The extras that the image has by default."""
    (names,) = re.findall(r"^ARG EXTRAS=(\S+)$", TEXT, re.MULTILINE)
    return str(names).split(",")


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", TEXT, re.MULTILINE)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from what is copied, and from nothing else."""
    place = tmp_path_factory.mktemp("image")
    for path in copied():
        source = ROOT / path
        assert source.exists(), path
        if source.is_dir():
            shutil.copytree(source, place / "src" / path, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (place / "src").mkdir(exist_ok=True)
            shutil.copy(source, place / "src" / path)
    # Without a network: the build tool is one of the developer's.
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(place), "."]
    subprocess.run(build, cwd=place / "src", check=True, timeout=100)
    (wheel,) = place.glob("syncd-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "made")
    return place / "made"


def test_what_is_copied_is_enough_to_build_and_start(unpacked: Path) -> None:
    command = [sys.executable, "-m", "syncd", "--version"]
    said = subprocess.run(
        command, cwd=unpacked, env={"PYTHONPATH": str(unpacked)}, capture_output=True, text=True, check=True
    )
    assert __version__ in said.stdout
    assert (unpacked / "syncd" / "web" / "page").is_dir(), "the page's files come along"


def test_everything_that_is_copied_is_let_through_and_little_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = Rules(exclude=tuple(lines), gitignore=False)
    assert not [path for path in copied() if _of_the_file(rules, path)]
    for secret in ("syncd.toml", ".venv/bin/python", "docs/design.md", "tests/conftest.py", ".git/config"):
        assert _of_the_file(rules, secret), secret


def _of_the_file(rules: Rules, path: str) -> bool:
    return (rules.excluded_deep(path) or "").startswith("exclude: ")


def test_the_versions_are_those_the_tests_run_with() -> None:
    (lock,) = re.findall(r"pip download .*--require-hashes .*-r (\S+)", TEXT)
    assert lock in copied()
    others = re.findall(r"pip [^&\n]*(?:install|wheel) [^&\n]+", TEXT)
    assert len(others) == 3
    for each in others:
        assert "--no-index" in each, each
    assert set(extras()) <= PROJECT["optional-dependencies"].keys()


def test_the_lock_contains_the_extras_of_the_image() -> None:
    locked = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    for extra in extras():
        for requirement in PROJECT["optional-dependencies"][extra]:
            assert f"\n{Requirement(requirement).name}==" in locked, requirement


def test_it_runs_as_nobody_in_particular_and_ends_on_sigterm() -> None:
    assert instructions("USER") == ["10001:10001"]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert instructions("ENTRYPOINT") == ['["/opt/syncd/bin/syncd"]']
    assert instructions("CMD") == ['["run"]']


def test_the_base_is_an_argument_and_names_no_registry() -> None:
    assert {image.split()[0] for image in instructions("FROM")} == {"${BASE}"}
    assert [each for each in instructions("ARG") if each.startswith("BASE=")] == ["BASE=python:3.13-slim"]
