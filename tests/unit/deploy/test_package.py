"""The package for the index: its links lead somewhere from there, and it contains what it should."""

import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path
from types import ModuleType

import pytest

from syncd import __version__
from tests.unit.deploy.harness import load_script

ROOT = Path(__file__).parents[3]
HOST = "https://code.example/syncd"


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    return load_script("hatch_build.py")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that is built from it."""
    place = tmp_path_factory.mktemp("dist")
    program = (
        "import os, sys, hatchling.build as backend\n"
        "os.chdir(sys.argv[1])\n"
        "print(getattr(backend, sys.argv[2])(sys.argv[3]))\n"
    )

    def build(source: Path, kind: str) -> None:
        subprocess.run([sys.executable, "-c", program, source, kind, place], check=True, timeout=60)

    build(ROOT, "build_sdist")
    with tarfile.open(place / f"syncd-{__version__}.tar.gz") as archive:
        # extractall has the argument filter since Python 3.11.4.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(place / "unpacked")
    build(place / "unpacked" / f"syncd-{__version__}", "build_wheel")
    return place


def metadata(built: Path) -> "Message[str, str]":
    with zipfile.ZipFile(built / f"syncd-{__version__}-py3-none-any.whl") as archive:
        return message_from_string(archive.read(f"syncd-{__version__}.dist-info/METADATA").decode())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[a](docs/a.md)", f"[a]({HOST}/blob/v1/docs/a.md)"),
        ("[a](docs/a.md#part)", f"[a]({HOST}/blob/v1/docs/a.md#part)"),
        ("![a](docs/a.png)", f"![a]({HOST}/raw/v1/docs/a.png)"),
        ("[![a](a.svg)](docs/a.md)", f"[![a]({HOST}/raw/v1/a.svg)]({HOST}/blob/v1/docs/a.md)"),
        ("[a](#part)", "[a](#part)"),
        ("[a](https://a.example/b)", "[a](https://a.example/b)"),
        ("[a](mailto:a@a.example)", "[a](mailto:a@a.example)"),
        ('[a](docs/a.md "title")', f'[a]({HOST}/blob/v1/docs/a.md "title")'),
    ],
)
def test_a_relative_link_leads_to_the_file_of_the_release(hook: ModuleType, before: str, after: str) -> None:
    assert hook.absolute(before, HOST, "v1") == after


def test_the_index_shows_a_readme_without_relative_links(hook: ModuleType, built: Path) -> None:
    text = str(metadata(built).get_payload())
    assert text.startswith("# syncd\n")
    assert hook.RELATIVE.findall(text) == []
    assert metadata(built)["Description-Content-Type"] == "text/markdown"


def test_the_index_shows_the_addresses_of_the_project(built: Path) -> None:
    urls = dict(each.split(", ", 1) for each in metadata(built).get_all("Project-URL", []))
    assert urls.keys() == {"Documentation", "Source", "Issues", "Changelog"}
    assert all(urls[name].startswith(urls["Source"]) for name in ("Issues", "Changelog"))


def test_the_wheel_contains_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(built / f"syncd-{__version__}-py3-none-any.whl") as archive:
        names = archive.namelist()
    package = f"syncd-{__version__}"
    assert {name.split("/")[0] for name in names} == {"syncd", f"{package}.data", f"{package}.dist-info"}
    assert {"syncd/py.typed", "syncd/web/page/uplot.js", f"{package}.data/data/share/man/man1/syncd.1"} <= set(names)


def test_the_sdist_contains_every_file_of_the_repository(built: Path) -> None:
    """The tests read the documents, the units, the workflows and more, so they run only from a complete sdist."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is not a checkout of git")
    tracked = {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
    unpacked = built / "unpacked" / f"syncd-{__version__}"
    assert {name for name in tracked if not (unpacked / name).exists()} == set()
