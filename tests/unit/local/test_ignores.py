import os
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.core.errors import IgnoreFileError
from syncd.core.problems import Limits
from syncd.core.rules import IgnoreFile, Rules
from syncd.local.ignores import IGNORE_FILE_LIMIT, Clock, IgnoreFiles
from syncd.local.walk import Tree
from tests.unit.local.harness import kinds, tree, write

DAY_S = 86400.0


class Time:
    """Moves only by waiting; `during` is done in the first wait."""

    def __init__(self, during: Callable[[], object] = lambda: None, *, ahead_s: float = 0.0) -> None:
        self.waited: list[float] = []
        self.during = during
        self.ahead_s = ahead_s
        self.born = 0.0

    def now(self) -> float:
        """A file that is written now is as old as the test has waited."""
        return self.born + sum(self.waited) + self.ahead_s

    def rest(self, seconds: float) -> None:
        self.waited.append(seconds)
        during, self.during = self.during, lambda: None
        during()

    def clock(self, at: Path) -> Clock:
        self.born = at.stat().st_ctime
        return Clock(self.now, lambda: sum(self.waited), self.rest)


def ignores(root: Path, time: Time, settle: float = 2.0, empty_settle: float = 0.0) -> IgnoreFiles:
    found = Tree(root, Rules(), Limits())
    return IgnoreFiles(found._open_folder, Rules(), settle, empty_settle, time.clock(root))


def lines(found: list[IgnoreFile]) -> list[str]:
    return [each.text for file in found for each in file.patterns.patterns]


def test_an_ignore_file_is_read_when_it_has_settled(tmp_path: Path) -> None:
    place = tmp_path / ".syncdignore"
    place.write_text("")
    time = Time(lambda: place.write_text("private.md\n"))
    assert lines(ignores(tmp_path, time).of("")) == ["private.md"], "the first read had half of the file"
    assert 1.9 < time.waited[0] <= 2.0


def test_an_ignore_file_that_changes_during_the_read_is_read_again(tmp_path: Path) -> None:
    place = tmp_path / ".syncdignore"
    place.write_text("private.md\n")
    halves = iter(["a.md\n"])

    def rest(_: float) -> None:
        place.write_text("a.md\nprivate.md\n")

    def now() -> float:
        # Asked for between the look at the file and its reading.
        for half in halves:
            place.write_text(half)
        return place.stat().st_ctime + DAY_S

    clock = Clock(now, lambda: 0.0, rest)
    found = IgnoreFiles(Tree(tmp_path, Rules(), Limits())._open_folder, Rules(), 2.0, 0.0, clock)
    assert lines(found.of("")) == ["a.md", "private.md"]


def test_a_settled_ignore_file_is_read_at_once(tmp_path: Path) -> None:
    write(tmp_path, ".syncdignore")
    time = Time(ahead_s=DAY_S)
    assert lines(ignores(tmp_path, time).of("")) == [".syncdignore"]
    assert not time.waited


def test_a_missing_ignore_file_applies_until_it_is_settled(tmp_path: Path) -> None:
    place = tmp_path / ".syncdignore"
    place.write_text("private.md\n")
    time = Time(ahead_s=DAY_S)
    found = ignores(tmp_path, time)
    found.of("")
    place.unlink()
    time.during = lambda: place.write_text("other.md\n")
    assert lines(found.of("")) == ["other.md"], "an editor deletes it and writes it anew"
    place.unlink()
    assert lines(found.of("")) == []
    assert sum(time.waited) >= 4.0


def test_an_ignore_file_that_keeps_changing_stops_its_directory(tmp_path: Path) -> None:
    place = tmp_path / "a/.syncdignore"
    write(tmp_path, "a/.syncdignore")
    waited: list[float] = []

    def rest(seconds: float) -> None:
        waited.append(seconds)
        os.utime(place)

    clock = Clock(lambda: place.stat().st_ctime, lambda: sum(waited), rest)
    found = IgnoreFiles(Tree(tmp_path, Rules(), Limits())._open_folder, Rules(), 2.0, 0.0, clock)
    with pytest.raises(IgnoreFileError, match=r"a/\.syncdignore: it keeps changing"):
        found.of("a/")
    with pytest.raises(IgnoreFileError, match="keeps changing"):
        found.of("a/", wait=False)


def test_an_ignore_file_that_becomes_empty_must_settle_longer(tmp_path: Path) -> None:
    place = tmp_path / ".syncdignore"
    place.write_text("private.md\n")
    time = Time(ahead_s=10.0)
    found = ignores(tmp_path, time, empty_settle=30.0)
    found.of("")
    place.write_text("")
    with pytest.raises(IgnoreFileError, match="just become empty"):
        found.of("")
    time.ahead_s = DAY_S
    assert lines(found.of("")) == []


def test_an_ignore_file_is_read_completely_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / ".syncdignore"
    place.write_text("# long\n" * 400_000 + "private.md\n")
    write(tmp_path, "private.md", "open.md")
    assert IGNORE_FILE_LIMIT > place.stat().st_size > 1024 * 1024
    assert [each.key for each in tree(tmp_path).walk()] == ["open.md"]
    place.write_bytes(b"#" * (IGNORE_FILE_LIMIT + 1))
    assert kinds(tree(tmp_path)) == {"": "unreadable"}


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        os.mkdir,
        lambda place: Path(place).symlink_to("there.md"),
        lambda place: Path(place).symlink_to("gone"),
        lambda place: Path(place).write_bytes(b"a\n\xff\n"),
        lambda place: Path(place).write_bytes(b"a\0\n"),
        lambda place: Path(place).write_text("[a\n"),
    ],
    ids=["fifo", "directory", "link", "dangling", "latin-1", "nul", "bracket"],
)
@pytest.mark.parametrize("name", [".syncdignore", ".gitignore"])
def test_an_unusable_ignore_file_stops_its_directory(tmp_path: Path, make: Callable[[str], object], name: str) -> None:
    write(tmp_path, "a/x.md", "a/b/y.md", "there.md")
    make(f"{tmp_path}/a/{name}")
    found = tree(tmp_path)
    seen = {each.key: each for each in found.walk()}
    assert set(seen) == {"a/", "there.md"}
    assert f"a/{name}" in seen["a/"].message  # type: ignore[union-attr]
    assert not found.complete


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_an_ignore_file_may_have_the_encoding_of_any_editor(tmp_path: Path, encoding: str) -> None:
    write(tmp_path, "private.md", "open.md")
    (tmp_path / ".syncdignore").write_bytes("private.md\r\nother.md\r\n".encode(encoding))
    assert [each.key for each in tree(tmp_path).walk()] == ["open.md"]


def test_a_comment_may_be_in_any_encoding(tmp_path: Path) -> None:
    write(tmp_path, "private.md", "open.md")
    (tmp_path / ".gitignore").write_bytes(b"# f\xfcr mich\nprivate.md\n")
    assert [each.key for each in tree(tmp_path).walk()] == [".gitignore", "open.md"]


def test_gitignore_files_can_be_switched_off(tmp_path: Path) -> None:
    write(tmp_path, "private.md")
    (tmp_path / ".gitignore").write_text("private.md\n")
    found = Tree(tmp_path, Rules(gitignore=False), Limits())
    assert [each.key for each in found.walk()] == [".gitignore", "private.md"]


def test_changes_below_an_excluded_directory_are_ignored(tmp_path: Path) -> None:
    write(tmp_path, "build/deep/x.o", "a/b/y.md", "a/b/z.tmp")
    (tmp_path / ".syncdignore").write_text("build/\n")
    (tmp_path / "a/.gitignore").write_text("*.tmp\n")
    found = tree(tmp_path)
    assert not found.ignores.excludes("build/deep/x.o", directory=False), "nothing was read yet"
    list(found.walk())
    out = found.ignores.excludes
    assert out("build", directory=True)
    assert out("build/deep/x.o", directory=False)
    assert out("a/b/z.tmp", directory=False)
    assert out(".git/index", directory=False)
    assert out("build/.syncdignore", directory=False)
    assert not out("a/b/y.md", directory=False)
    assert not out("build", directory=False), "a file of that name may have come"
    assert not out(".syncdignore", directory=False)
    assert not out("a/.gitignore", directory=False)
