"""The locks hold for every supported Python and system, byte for byte, and for all that pyproject.toml asks for."""

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ["requirements.txt", "requirements-dev.txt"]
MUTATE_LOCK = ".ci/mutate-requirements.txt"
DOCS_LOCK = ".ci/docs-requirements.txt"
DIST_LOCK = ".ci/dist-requirements.txt"
OLDEST = "3.11.0"
PYTHONS = [OLDEST, "3.11.2", "3.11.5", "3.12.0", "3.13.0", "3.14.0"]
SYSTEMS = ["linux", "darwin"]


def entries(lock: str) -> list[str]:
    """Each requirement on one line, with its hashes."""
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def pins(lock: str) -> list[Requirement]:
    return [Requirement(entry.split("--hash=")[0]) for entry in entries(lock)]


def applies(want: Requirement, python: str, system: str) -> bool:
    series = python.rpartition(".")[0]
    environment = {"python_full_version": python, "python_version": series, "sys_platform": system, "extra": ""}
    return want.marker is None or want.marker.evaluate(environment)


def installed_there(lock: str, python: str, system: str) -> dict[str, str]:
    """What the lock installs on that machine: name -> version."""
    found = [pin for pin in pins(lock) if applies(pin, python, system)]
    versions: dict[str, str] = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in found}
    assert len(versions) == len(found), f"{lock} names a package twice for {python} on {system}"
    return versions


def asked(lock: str) -> list[Requirement]:
    """What pyproject.toml wants of the lock."""
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    names = ["emulator", "vectorize", *(["dev"] if "dev" in lock else [])]
    wanted = project["dependencies"] + PROJECT["build-system"]["requires"]
    return [Requirement(each) for each in wanted + [each for name in names for each in extras[name]]]


@pytest.mark.parametrize("lock", [*LOCKS, MUTATE_LOCK, DOCS_LOCK, DIST_LOCK])
def test_every_entry_is_one_version_with_hashes(lock: str) -> None:
    assert len(entries(lock)) > 10
    for entry in entries(lock):
        assert re.match(r"[a-z0-9-]+==[^\s;]+ ", entry), entry
        assert re.search(r" --hash=sha256:[0-9a-f]{64}( |$)", entry), entry.split("--hash=")[0]


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", LOCKS)
def test_everything_asked_for_is_there_in_the_range_asked_for(lock: str, python: str, system: str) -> None:
    there = installed_there(lock, python, system)
    for want in asked(lock):
        assert want.specifier.contains(there[canonicalize_name(want.name)]), want


@pytest.mark.parametrize("python", PYTHONS)
def test_the_demo_runs_with_the_versions_the_tests_run_with(python: str) -> None:
    tested = installed_there("requirements-dev.txt", python, "linux")
    assert installed_there("requirements.txt", python, "linux").items() <= tested.items()


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("group", "lock"), [("mutate", MUTATE_LOCK), ("docs", DOCS_LOCK), ("dist", DIST_LOCK)])
def test_further_tools_run_with_the_versions_the_tests_run_with(python: str, group: str, lock: str) -> None:
    tested, there = (installed_there(each, python, "linux") for each in ("requirements-dev.txt", lock))
    shared = there.keys() & tested
    assert {name: there[name] for name in shared} == {name: tested[name] for name in shared}
    for wanted in map(Requirement, PROJECT["dependency-groups"][group]):
        assert wanted.specifier.contains(there[wanted.name])


def test_what_builds_syncd_is_locked_as_it_is_asked_for() -> None:
    assert PROJECT["dependency-groups"]["build"] == PROJECT["build-system"]["requires"]


def test_nothing_locked_for_the_oldest_python_wants_a_newer_one() -> None:
    known: dict[str, metadata.Distribution] = {canonicalize_name(each.name): each for each in metadata.distributions()}
    looked = 0
    for name, version in installed_there("requirements-dev.txt", OLDEST, "linux").items():
        if name in known and known[name].version == version:
            wants = "".join(known[name].metadata.get_all("Requires-Python", []))
            assert Requirement(f"python{wants}").specifier.contains(OLDEST), f"{name} {version} wants Python {wants}"
            looked += 1
    assert looked > 40


@pytest.mark.parametrize("lock", LOCKS)
def test_what_is_installed_needs_nothing_that_is_not_locked(lock: str) -> None:
    """No version is left for the index to choose, wherever what is needed can be read here."""
    there = installed_there(lock, OLDEST, "linux")
    for name in there:
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            if applies(need, OLDEST, "linux"):
                assert canonicalize_name(need.name) in there, f"{name} needs {need}"
