"""`pull` writes remote entries into a folder: allowed and refused paths, and files that it overwrites."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.errors import ConfigError, Park
from syncd.queries.pull import Folder, Pulled, pull
from tests.harness import Core

EVERY_BYTE = bytes(range(256)) * 20


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "out"


@pytest.fixture
def folder(out: Path) -> Iterator[Folder]:
    with Folder(out) as made:
        yield made


def everything(below: Path) -> list[str]:
    return sorted(path.relative_to(below).as_posix() for path in below.rglob("*"))


def test_a_new_file_gets_its_directories_its_bytes_and_a_plain_mode(folder: Folder, out: Path) -> None:
    before = os.umask(0o027)
    try:
        assert folder.write("a/b/c.bin", EVERY_BYTE) == "written"
    finally:
        os.umask(before)
    assert (out / "a/b/c.bin").read_bytes() == EVERY_BYTE
    assert stat.S_IMODE((out / "a/b/c.bin").stat().st_mode) == 0o640
    assert everything(out) == ["a", "a/b", "a/b/c.bin"]


def test_an_empty_file_is_a_file(folder: Folder, out: Path) -> None:
    assert folder.write("empty", b"") == "written"
    assert folder.write("empty", b"") == "unchanged"
    assert (out / "empty").read_bytes() == b""


def test_a_file_with_the_same_content_is_left_alone(folder: Folder, out: Path) -> None:
    (out / "a").write_bytes(EVERY_BYTE)
    before = (out / "a").stat()
    assert folder.write("a", EVERY_BYTE, force=True) == "unchanged"
    after = (out / "a").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("there", [b"other", b"longer than that", b""])
def test_other_content_goes_only_by_force(folder: Folder, out: Path, there: bytes) -> None:
    (out / "a").write_bytes(there)
    assert folder.write("a", b"wante") == "different"
    assert (out / "a").read_bytes() == there
    assert folder.write("a", b"wante", force=True) == "written"
    assert (out / "a").read_bytes() == b"wante"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/x",
        "../x",
        "a/../../x",
        "a/..",
        "./a",
        "a/.",
        ".",
        "..",
        "",
        "a//b",
        "a/",
        "nul\0l",
        "a/new\nline",
        "\x9b2J",
        ".git/config",
        "a/.GIT/hooks/post-checkout",
        ".git./config",
        ".git /config",
        "GIT~1/config",
        "a/.git",
    ],
)
def test_a_path_that_leads_out_or_is_none_is_refused(folder: Folder, tmp_path: Path, path: str) -> None:
    before = everything(tmp_path)
    with pytest.raises(Park, match="its key") as refused:
        folder.write(path, b"data", force=True)
    assert refused.value.kind == "invalid_key"
    assert everything(tmp_path) == before


def test_a_symbolic_link_on_the_way_is_refused_even_within_the_folder(
    folder: Folder, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (out / "real").mkdir()
    for name, to in (("away", tmp_path / "elsewhere"), ("inside", out / "real")):
        (out / name).symlink_to(to)
        for path in (f"{name}/x", f"{name}/new/x"):
            with pytest.raises(Park, match="symbolic link"):
                folder.write(path, b"data", force=True)
    assert everything(tmp_path / "elsewhere") == everything(out / "real") == []


def test_a_symbolic_link_in_the_place_of_a_file_is_neither_followed_nor_replaced(
    folder: Folder, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "victim").write_text("keep")
    (out / "a").symlink_to(tmp_path / "victim")
    with pytest.raises(Park, match="stands in its place"):
        folder.write("a", b"data", force=True)
    assert (out / "a").is_symlink()
    assert (tmp_path / "victim").read_text() == "keep"


def test_directories_files_and_pipes_in_the_way_are_refused(folder: Folder, out: Path) -> None:
    (out / "directory").mkdir()
    (out / "file").write_text("keep")
    os.mkfifo(out / "pipe")
    for path in ("directory", "file/below", "pipe", "pipe/below"):
        with pytest.raises(Park):
            folder.write(path, b"data", force=True)
    assert everything(out) == ["directory", "file", "pipe"]


def test_a_write_that_fails_leaves_nothing_behind(folder: Folder, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (out / "a").write_text("before")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("syncd.queries.pull.os.replace", full)
    with pytest.raises(Park, match="No space left"):
        folder.write("a", b"after", force=True)
    assert everything(out) == ["a"]
    assert (out / "a").read_text() == "before"


def test_a_name_too_long_for_the_disk_is_a_problem_of_that_file_alone(folder: Folder) -> None:
    with pytest.raises(Park, match="cannot be written"):
        folder.write("n" * 300, b"data")


def test_a_folder_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(ConfigError, match="name a folder"):
            Folder(path)


async def test_entries_of_a_mirror_are_written_without_the_prefix(core: Core, folder: Folder, out: Path) -> None:
    core.use(prefix="p/")
    core.write("a.md", "ours")
    await core.full()
    core.target.put_by("them", "p/theirs.md", "theirs")
    core.target.put_by(None, "p/nobodys.md", "nobody's")
    pulled = Pulled()
    await pull(core.mirror, folder, pulled)
    assert (everything(out), dict(pulled.done)) == (["a.md"], {"written": 1, "foreign": 2})
    pulled = Pulled()
    await pull(core.mirror, folder, pulled, everyone=True)
    assert (out / "theirs.md").read_text() == "theirs"
    assert dict(pulled.done) == {"written": 2, "unchanged": 1}


async def test_an_unmarked_entry_that_the_journal_knows_is_ours(core: Core, folder: Folder, out: Path) -> None:
    core.target.marks = False
    core.write("a.md", "unmarked")
    await core.full()
    await pull(core.mirror, folder, Pulled())
    assert (out / "a.md").read_text() == "unmarked"


async def test_forged_keys_are_named_and_stop_nothing_else(
    core: Core, folder: Folder, out: Path, tmp_path: Path
) -> None:
    for key in ("../forged", "/forged", "a/../../forged", "good.md", "for\x1bged"):
        core.target.put_by("me", key, "text")
    pulled = Pulled()
    await pull(core.mirror, folder, pulled, force=True)
    assert everything(out) == ["good.md"]
    assert not [name for name in everything(tmp_path) if "forged" in name]
    assert {problem.key for problem in pulled.problems} == {"../forged", "/forged", "a/../../forged", "for\x1bged"}
    assert dict(pulled.done) == {"written": 1, "refused": 4}


async def test_differing_files_are_named_and_left(core: Core, folder: Folder, out: Path) -> None:
    core.target.put_by("me", "a.md", "theirs")
    core.target.put_by("me", "b.md", "new")
    (out / "a.md").write_text("mine")
    pulled = Pulled()
    await pull(core.mirror, folder, pulled)
    assert [(problem.key, "--force" in problem.message) for problem in pulled.problems] == [("a.md", True)]
    assert ((out / "a.md").read_text(), (out / "b.md").read_text()) == ("mine", "new")


def test_two_keys_with_one_place_on_the_disk_do_not_overwrite_each_other(folder: Folder, out: Path) -> None:
    assert folder.write("Read.md", b"first", force=True) == "written"
    # What a disk that ignores case shows under the other key.
    (out / "read.md").hardlink_to(out / "Read.md")
    assert folder.write("read.md", b"first", force=True) == "unchanged"
    with pytest.raises(Park, match="ignores case"):
        folder.write("read.md", b"second", force=True)
    assert (out / "Read.md").read_bytes() == b"first"


def test_names_that_only_begin_like_gits_own_are_files(folder: Folder) -> None:
    for path in (".gitignore", ".github/workflows/a.yml", "a.git/x", "git/x"):
        assert folder.write(path, b"x") == "written"
