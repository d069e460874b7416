import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syncd.core.errors import FileChanged, Halt, Park
from syncd.core.model import Item
from syncd.core.problems import Limits
from syncd.core.rules import Rules
from syncd.local.walk import Tree
from tests.harness import sha
from tests.unit.local.harness import as_nobody, keys, kinds, looked, shared_folder, tree, write


@pytest.fixture
def shared() -> Iterator[Path]:
    with shared_folder() as made:
        yield made


# -- the root


def test_the_identity_of_the_root_is_its_device_and_inode(tmp_path: Path) -> None:
    seen = tmp_path.stat()
    assert tree(tmp_path).identity() == (seen.st_dev, seen.st_ino)


def test_a_root_that_is_missing_or_no_directory_halts(tmp_path: Path) -> None:
    write(tmp_path, "file")
    for path in ("missing", "file"):
        with pytest.raises(Halt, match="nothing was deleted"):
            tree(tmp_path / path).identity()
    with pytest.raises(Halt, match="Bring the folder back"):
        tree(tmp_path / "missing").is_empty()


def test_the_remedy_for_a_forbidden_root_is_to_let_syncd_read_it(shared: Path) -> None:
    write(shared, "locked/docs/a")
    (shared / "locked").chmod(0)
    with as_nobody(), pytest.raises(Halt, match="Let syncd read it"):
        tree(shared / "locked/docs").identity()


def test_an_empty_root_has_no_entry(tmp_path: Path) -> None:
    assert tree(tmp_path).is_empty()
    write(tmp_path, ".hidden")
    assert not tree(tmp_path).is_empty()


# -- unreadable files and folders


def test_an_unreadable_folder_is_a_problem_and_the_walk_is_not_complete(shared: Path) -> None:
    write(shared, "a/x", "locked/y", "z")
    (shared / "locked").chmod(0)
    found = tree(shared)
    with as_nobody():
        assert keys(found) == ["a/x", "z"]
        assert not found.complete
        assert kinds(found) == {"locked/": "unreadable"}
        assert looked(found, "locked/y") == "unreadable"


@pytest.mark.parametrize("under", ["locked/", "locked/deep/", "locked/deep/er/"])
def test_a_part_below_an_unreadable_folder_is_a_problem_too(shared: Path, under: str) -> None:
    write(shared, "locked/deep/er/y")
    (shared / "locked").chmod(0)
    found = tree(shared, prefix="p/")
    with as_nobody():
        assert kinds(found, under) == {f"p/{under}": "unreadable"}
        assert not found.complete


def test_an_unreadable_file_is_listed_and_parked_when_it_is_read(shared: Path) -> None:
    write(shared, "x")
    (shared / "x").chmod(0)
    found = tree(shared)
    with as_nobody():
        assert keys(found) == ["x"]
        assert found.complete
        with pytest.raises(Park, match="let syncd read it") as caught:
            found.read("x")
    assert caught.value.kind == "unreadable"


def test_an_unreadable_ignore_file_stops_deletes(shared: Path) -> None:
    write(shared, "a/x", "a/.syncdignore")
    (shared / "a/.syncdignore").chmod(0)
    found = tree(shared)
    with as_nobody():
        assert kinds(found) == {"a/": "unreadable"}
        assert not found.complete


def test_a_root_that_goes_while_it_is_walked_is_no_empty_root(tmp_path: Path) -> None:
    found = tree(tmp_path / "gone")
    assert kinds(found) == {"": "unreadable"}
    assert not found.complete


def test_a_folder_that_goes_while_it_is_walked_is_gone(tmp_path: Path) -> None:
    write(tmp_path, "a/x", "b/y", "c")
    found = tree(tmp_path)
    walk = found.walk()
    first = next(walk)
    (tmp_path / "b/y").unlink()
    (tmp_path / "b").rmdir()
    assert [first.key, *(each.key for each in walk)] == ["a/x", "c"]
    assert found.complete


# -- bytes


def test_reading_gives_the_bytes_their_checksum_and_their_stat(tmp_path: Path) -> None:
    write(tmp_path, "a/b")
    content, seen = tree(tmp_path).read("a/b")
    assert (content.data, content.checksum) == (b"a/b", sha("a/b"))
    assert seen.st_ino == (tmp_path / "a/b").stat().st_ino


class Meddled(Tree):
    """Lets something happen to the folder after a file was opened."""

    def __init__(self, root: Path, happens: Callable[[], object], limit: int = 1000) -> None:
        super().__init__(root, Rules(), Limits(max_file_size=limit))
        self.happens = happens

    @contextmanager
    def _open_file(self, path: str) -> Iterator[int]:
        with Tree._open_file(self, path) as descriptor:
            before = os.fstat

            def fstat(fd: int) -> os.stat_result:
                os.fstat = before
                seen = before(fd)
                self.happens()
                return seen

            os.fstat = fstat
            try:
                yield descriptor
            finally:
                os.fstat = before


@pytest.mark.parametrize("text", ["longer than before", "s", "sameX"])
def test_a_file_that_changes_during_the_read_is_observed_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_text("same!")
    os.utime(tmp_path / "a", ns=(1, 1))
    found = Meddled(tmp_path, lambda: (tmp_path / "a").write_text(text))
    with pytest.raises(FileChanged, match="changed while it was read"):
        found.read("a")


def test_a_file_that_keeps_changing_can_be_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    found = Meddled(tmp_path, lambda: (tmp_path / "a").write_text("twenty"))
    content, _ = found.read("a", allow_changing=True)
    assert (content.data, content.checksum) == (b"twenty", sha("twenty"))


def test_a_file_that_grows_over_the_limit_while_it_is_read_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("small")
    found = Meddled(tmp_path, lambda: (tmp_path / "a").write_bytes(b"x" * 5000), limit=1000)
    with pytest.raises(Park) as caught:
        found.read("a", allow_changing=True)
    assert caught.value.kind == "too_large"


@pytest.mark.parametrize(("size", "fits"), [(999, True), (1000, True), (1001, False)])
def test_the_size_limit_is_met_to_the_byte(tmp_path: Path, size: int, fits: bool) -> None:
    (tmp_path / "a").write_bytes(b"x" * size)
    found = tree(tmp_path, limit=1000)
    assert (looked(found, "a") == "file") is fits
    if fits:
        assert len(found.read("a")[0].data) == size
    else:
        with pytest.raises(Park):
            found.read("a")


def test_a_link_swapped_in_for_a_file_or_a_folder_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "outside", "b")
    root = tmp_path / "root"
    write(root, "a/b")
    found = tree(root)
    (item,) = found.walk()
    assert isinstance(item, Item)
    (root / "a").rename(root / "old")
    (root / "a").symlink_to(tmp_path / "outside")
    with pytest.raises(FileChanged):
        found.read(item.path)
    (root / "a").unlink()
    (root / "a").mkdir()
    (root / "a/b").symlink_to(tmp_path / "outside/b")
    with pytest.raises(FileChanged):
        found.read(item.path)


def test_a_fifo_swapped_in_for_a_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(FileChanged, match="no regular file"):
        tree(tmp_path).read("a")


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    write(tmp_path, "a/b/c")
    before = sorted(Path("/proc/self/fd").iterdir())
    found = tree(tmp_path)
    keys(found)
    found.look("a/b/c")
    found.read("a/b/c")
    for path in ("a/b", "a/x/c", "a/b/c/d", "../x"):
        with pytest.raises(FileChanged):
            found.read(path)
    assert sorted(Path("/proc/self/fd").iterdir()) == before
