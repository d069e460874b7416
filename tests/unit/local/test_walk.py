import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core.errors import FileChanged
from syncd.core.model import Excluded, Item, Problem
from syncd.core.problems import Limits
from syncd.core.rules import Rules
from syncd.local.walk import Tree
from tests.unit.local.harness import NFC, NFD, keys, kinds, looked, tree, write

# -- the whole, in order


def test_a_walk_is_sorted_by_key_not_by_directory(tmp_path: Path) -> None:
    paths = ["a-b", "a.b", "a/b", "a/b-c/d", "a/b.c", "a0", "B", "a/\u00fc", "\U0001f600", "\uffee", "z/y/x"]
    write(tmp_path, *(path for path in paths if path != "a/b"), "a/b/c")
    found = keys(tree(tmp_path))
    assert found == sorted(found)
    assert set(found) == {*paths} - {"a/b"} | {"a/b/c"}


NAMES = st.sampled_from(["a", "b", "a-b", "a.b", "ab", "a0", "B", "caf\u00e9", NFD + "x", "!x", " ", "~a", "a\u00fc"])


@settings(max_examples=40)
@given(st.sets(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=12))
def test_any_tree_is_walked_in_the_order_of_its_keys(paths: set[str]) -> None:
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        for path in sorted(paths, key=len, reverse=True):
            if not (root / path).exists():
                write(root, path)
        files = [str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()]
        assert len(keys(tree(root))) == len(files)
        assert keys(tree(root)) == sorted(keys(tree(root)))


def test_an_item_has_the_values_of_lstat(tmp_path: Path) -> None:
    write(tmp_path, "a/b.md")
    seen = (tmp_path / "a/b.md").stat()
    assert list(tree(tmp_path, prefix="p/").walk()) == [
        Item("p/a/b.md", "a/b.md", seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)
    ]


def test_a_part_is_walked_like_the_whole(tmp_path: Path) -> None:
    write(tmp_path, "a/b/c", "a/d", "ab/x", "a.b")
    assert keys(tree(tmp_path), "a/") == ["a/b/c", "a/d"]
    assert keys(tree(tmp_path), "a/b/") == ["a/b/c"]
    assert keys(tree(tmp_path), "gone/") == []
    assert keys(tree(tmp_path), "a.b/") == []


def test_an_excluded_directory_is_not_walked(tmp_path: Path) -> None:
    write(tmp_path, "drafts/a/b", "a/.git/config", "c/d/e", "c/.syncdignore")
    (tmp_path / "c/.syncdignore").write_text("d/\n")
    found = tree(tmp_path, exclude=("drafts/",))
    assert keys(found) == []
    for under in ("drafts/", "drafts/a/", "a/.git/", "c/d/"):
        assert keys(found, under) == []


# -- rules on disk


def test_ignore_files_hold_for_their_folder_and_below(tmp_path: Path) -> None:
    write(tmp_path, "a/x.log", "a/keep.log", "a/b/y.log", "a/b/z.md", "x.log", "top.tmp")
    (tmp_path / ".syncdignore").write_text("*.tmp\n")
    (tmp_path / "a/.syncdignore").write_text("*.log\n!keep.log\n")
    (tmp_path / "a/b/.syncdignore").write_text("!y.log\n")
    assert keys(tree(tmp_path)) == ["a/b/y.log", "a/b/z.md", "a/keep.log", "x.log"]


def test_an_ignore_file_in_a_folder_of_another_unicode_form_holds_there_too(tmp_path: Path) -> None:
    write(tmp_path, f"{NFD}/x.log", f"{NFD}/y.md")
    (tmp_path / NFD / ".syncdignore").write_text("*.log\n")
    found = tree(tmp_path)
    assert keys(found) == [f"{NFC}/y.md"]
    assert found.look(f"{NFC}/x.log") == Excluded(f"{NFC}/x.log", f"{NFC}/.syncdignore line 1: *.log")


IGNORES = st.lists(
    st.sampled_from(
        ["*.md", "!*.md", "a/", "/a", "b", "!b/", f"{NFC}*", f"{NFD}/", "*", "!a.md", "b/a.md", "**/b/", f"{NFC}/"]
    ),
    max_size=3,
)


@settings(max_examples=60)
@given(top=IGNORES, deeper=IGNORES, deepest=IGNORES, exclude=IGNORES)
def test_a_lookup_agrees_with_the_walk(
    top: list[str], deeper: list[str], deepest: list[str], exclude: list[str]
) -> None:
    names = ["a.md", "b", "x/a/b/a.md", "a/c", "a/a.md", f"{NFD}/b", f"{NFD}/a.md", f"a/{NFD}.md", "b2/b/a.txt"]
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        write(root, *names)
        for folder, lines in (("", top), ("a/", deeper), (f"{NFD}/", deepest)):
            (root / f"{folder}.syncdignore").write_text("\n".join(lines))
        found = tree(root, exclude=tuple(exclude))
        walked = set(keys(found))
        for name in names:
            key = name.replace(NFD, NFC)
            assert (looked(found, key) == "file") == (key in walked), key


def test_an_ignore_file_that_is_no_list_of_patterns_stops_deletes(tmp_path: Path) -> None:
    write(tmp_path, "a/x", "b")
    (tmp_path / "a/.syncdignore").write_text("!\n")
    found = tree(tmp_path)
    assert kinds(found) == {"a/": "unreadable"}
    assert not found.complete
    assert looked(found, "a/x") == "unreadable"


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/dev/zero")], ids=["directory", "link"])
def test_an_ignore_file_that_is_no_file_stops_deletes(tmp_path: Path, make: Callable[[Path], None]) -> None:
    write(tmp_path, "a/x")
    make(tmp_path / "a/.syncdignore")
    found = tree(tmp_path)
    assert kinds(found) == {"a/": "unreadable"}
    assert not found.complete


# -- names


def test_names_are_keys_in_nfc_and_paths_as_they_are(tmp_path: Path) -> None:
    write(tmp_path, f"{NFD}/{NFD}.md")
    items = list(tree(tmp_path).walk())
    assert [(each.key, getattr(each, "path", None)) for each in items] == [(f"{NFC}/{NFC}.md", f"{NFD}/{NFD}.md")]
    assert tree(tmp_path).look(f"{NFC}/{NFC}.md") == items[0]


def test_twins_are_both_refused_and_twin_folders_merge(tmp_path: Path) -> None:
    write(tmp_path, f"{NFC}.md", f"{NFD}.md", f"{NFC}/a", f"{NFD}/b", f"{NFC}/c", f"{NFD}/c")
    found = tree(tmp_path)
    assert keys(found) == [f"{NFC}/a", f"{NFC}/b"]
    assert kinds(found) == {f"{NFC}.md": "key_collision", f"{NFC}/c": "key_collision"}
    assert looked(found, f"{NFC}.md") == "key_collision"
    assert looked(found, f"{NFC}/b") == "file"
    assert looked(found, f"{NFC}/c") == "key_collision"
    message = next(each.message for each in found.walk() if isinstance(each, Problem))
    assert message.isascii(), "twins look alike, so they are spelled out"


def test_names_that_cannot_be_keys_are_problems_and_others_are_walked(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path)
    for name in (b"bad\xff.md", b"tab\t.md", b"line\n.md"):
        Path(os.fsdecode(raw + b"/" + name)).write_text("x")
    Path(os.fsdecode(raw + b"/dir\xff")).mkdir()
    Path(os.fsdecode(raw + b"/dir\xff/inside")).write_text("x")
    write(tmp_path, "fine.md")
    found = tree(tmp_path)
    assert keys(found) == ["fine.md"]
    assert kinds(found) == dict.fromkeys(["bad\\xff.md", "tab\t.md", "line\n.md", "dir\\xff/"], "invalid_key")
    assert found.complete
    assert looked(found, "tab\t.md") == "invalid_key"
    assert looked(found, "bad\udcff.md") == "invalid_key"


@pytest.mark.parametrize(
    "key",
    ["../secret", "a/../../secret", "a/../b", "./b", "a//b", "/etc/passwd", "", "..", "a/", "a/.", "a/.."],
)
def test_a_forged_key_finds_nothing_in_or_outside_the_root(tmp_path: Path, key: str) -> None:
    (tmp_path / "secret").write_text("s")
    root = tmp_path / "root"
    write(root, "a/b", "b")
    assert tree(root).look(key) is None
    with pytest.raises(FileChanged):
        tree(root).read(key)


# -- entries that are no files


def test_only_regular_files_are_mirrored_and_links_are_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside, "secret")
    root = tmp_path / "root"
    write(root, "real")
    os.mkfifo(root / "fifo")
    os.mknod(root / "socket", stat.S_IFSOCK | 0o600)
    (root / "file-link").symlink_to("real")
    (root / "out-link").symlink_to(outside)
    (root / "loop").symlink_to("loop")
    (root / "up").symlink_to(".")
    (root / "dangling").symlink_to("nowhere")
    found = tree(root)
    links = ["file-link", "out-link", "loop", "up", "dangling"]
    assert keys(found) == ["real"]
    assert kinds(found) == dict.fromkeys([*links, "fifo", "socket"], "unsupported_type")
    assert found.complete
    assert looked(found, "fifo") == looked(found, "loop") == "unsupported_type"
    assert looked(found, "out-link/secret") == "nothing"
    assert looked(found, "up/real") == "nothing"
    assert keys(found, "out-link/") == []
    for path in ("out-link/secret", "up/real", "file-link", "loop", "dangling", "fifo"):
        with pytest.raises(FileChanged):
            found.read(path)


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    write(tmp_path / "real", "a")
    (tmp_path / "link").symlink_to("real")
    found = tree(tmp_path / "link")
    assert keys(found) == ["a"]
    assert found.read("a")[0].data == b"a"
    assert found.identity() == tree(tmp_path / "real").identity()


def test_files_the_target_does_not_take_are_problems(tmp_path: Path) -> None:
    write(tmp_path, "a" * 20, "b" * 21, "fine")
    (tmp_path / "big").write_bytes(b"x" * 31)
    found = Tree(tmp_path, Rules(), Limits(max_key_length=20, max_file_size=30))
    assert keys(found) == ["a" * 20, "fine"]
    assert kinds(found) == {"b" * 21: "key_too_long", "big": "too_large"}


# -- one key


def test_a_lookup_returns_the_current_state(tmp_path: Path) -> None:
    write(tmp_path, "a/b", "drafts/x", "c.tmp")
    found = tree(tmp_path, prefix="p/", exclude=("drafts/", "*.tmp"))
    assert looked(found, "p/a/b") == "file"
    assert looked(found, "p/a") == "nothing", "a directory is no item"
    assert looked(found, "p/a/b/c") == "nothing"
    assert looked(found, "p/gone/x") == "nothing"
    assert found.look("p/drafts/x") == Excluded("p/drafts/x", "exclude: drafts/")
    assert found.look("p/c.tmp") == Excluded("p/c.tmp", "exclude: *.tmp")
    assert looked(found, "p/gone.tmp") == "excluded", "the rules speak of names, whether or not there is a file"
