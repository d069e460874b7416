"""A directory or file that becomes a symbolic link between two steps leads nowhere."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.core.errors import FileChanged, Park
from syncd.core.model import Item
from syncd.core.problems import Limits
from syncd.core.rules import IGNORE_FILE, Rules
from syncd.local.walk import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/a/b/inside.md").write_text("inside")
    (tmp_path / "outside/b").mkdir(parents=True)
    (tmp_path / "outside/b/inside.md").write_text("secret")
    (tmp_path / "outside/b/passwd").write_text("secret")
    return Tree(tmp_path / "root", Rules(), Limits(max_file_size=1000))


def swap_a(tree: Tree) -> None:
    (tree.root / "a").rename(tree.root.parent / "former")
    (tree.root / "a").symlink_to(tree.root.parent / "outside", target_is_directory=True)


def swap_b(tree: Tree) -> None:
    (tree.root / "a/b").rename(tree.root.parent / "former")
    (tree.root / "a/b").symlink_to(tree.root.parent / "outside/b", target_is_directory=True)


def swap_file(tree: Tree) -> None:
    (tree.root / "a/b/inside.md").unlink()
    (tree.root / "a/b/inside.md").symlink_to(tree.root.parent / "outside/b/passwd")


@pytest.mark.parametrize("swap", [swap_a, swap_b])
def test_a_directory_replaced_before_it_is_entered_is_not_entered(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, swap: Callable[[Tree], None]
) -> None:
    real, seen = os.scandir, 0

    def scandir(place: int) -> object:
        nonlocal seen
        seen += 1
        if seen == (2 if swap is swap_a else 3):
            pytest.fail("a link was gone through")
        found = real(place)
        if seen == (1 if swap is swap_a else 2):
            # Everything is listed, and before any of it is entered the link takes its place.
            entries = list(found)
            swap(tree)
            found.close()
            return _Listed(entries)
        return found

    monkeypatch.setattr("syncd.local.walk.os.scandir", scandir)
    assert [found for found in tree.walk() if isinstance(found, Item)] == []


class _Listed:
    """The entries of a scandir that was closed already."""

    def __init__(self, entries: list[os.DirEntry[str]]) -> None:
        for entry in entries:
            entry.is_dir(follow_symlinks=False)
            entry.stat(follow_symlinks=False)
        self._entries = entries

    def __enter__(self) -> "list[os.DirEntry[str]]":
        return self._entries

    def __exit__(self, *_: object) -> None:
        return


@pytest.mark.parametrize("swap", [swap_a, swap_b, swap_file])
def test_a_file_replaced_between_walk_and_read_is_not_read(tree: Tree, swap: Callable[[Tree], None]) -> None:
    (item,) = [found for found in tree.walk() if isinstance(found, Item)]
    swap(tree)
    with pytest.raises((FileChanged, Park)):
        tree.read(item.path)


def test_an_ignore_file_that_is_a_link_is_not_followed_and_stops_deletes(tree: Tree) -> None:
    (tree.root / IGNORE_FILE).symlink_to(tree.root.parent / "outside/b/passwd")
    list(tree.walk())
    assert not tree.complete


def test_links_in_the_tree_are_named_and_nothing_behind_them_is_listed(tree: Tree) -> None:
    swap_b(tree)
    assert {found.key for found in tree.walk()} == {"a/b"}
