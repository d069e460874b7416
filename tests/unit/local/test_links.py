"""links = "inside": a link to a file inside the folder is that file, and nothing else ever is."""

import os
from pathlib import Path

import pytest

from syncd.core.errors import FileChanged
from syncd.core.model import Excluded, Item, Problem
from syncd.core.problems import Limits
from syncd.core.rules import Rules
from syncd.local.read import MAX_HOPS, Links
from syncd.local.walk import Tree


def tree(root: Path, *exclude: str, include: tuple[str, ...] = ("**/*",)) -> Tree:
    return Tree(root, Rules(include, exclude, links=True), Limits())


def taken(found: Tree) -> dict[str, str]:
    """Key -> text of every item; a look and a read must say the same as the walk."""
    items = [each for each in found.walk() if isinstance(each, Item)]
    assert [found.look(each.key) for each in items] == items
    return {each.key: found.read(each.path)[0].data.decode() for each in items}


def kinds(found: Tree) -> dict[str, str]:
    return {each.key: each.kind for each in found.walk() if isinstance(each, Problem)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    (tmp_path / "outside.md").write_text("outside")
    return made


def mount(root: Path, version: str, **files: str) -> None:
    """Write a ConfigMap as a kubelet does."""
    (root / f"..{version}").mkdir()
    for name, text in files.items():
        (root / f"..{version}" / f"{name}.md").write_text(text)
        if not (root / f"{name}.md").is_symlink():
            (root / f"{name}.md").symlink_to(f"..data/{name}.md")
    (root / "..data_tmp").symlink_to(f"..{version}")
    (root / "..data_tmp").rename(root / "..data")


def test_the_files_of_a_config_map_are_mirrored(root: Path) -> None:
    mount(root, "2026_1", p="one", q="two")
    found = tree(root)
    assert taken(found) == {"p.md": "one", "q.md": "two"}
    assert kinds(found) == {}
    assert isinstance(found.look("..2026_1/p.md"), Excluded)
    assert isinstance(found.look("..data"), Excluded)
    before = found.look("p.md")
    mount(root, "2026_2", p="one", q="three")
    assert taken(found) == {"p.md": "one", "q.md": "three"}
    assert found.look("p.md") != before, "it is read again, also with the same content"


def test_a_link_to_a_directory_is_named_as_such(root: Path) -> None:
    (root / "sub").mkdir()
    (root / "x.md").symlink_to("sub")
    found = [each for each in tree(root).walk() if isinstance(each, Problem)]
    assert [each.message for each in found] == ["a directory behind a link is not mirrored; only regular files are"]
    assert tree(root).look("x.md") == found[0]


def test_links_are_skipped_by_default(root: Path) -> None:
    mount(root, "2026_1", p="one")
    found = Tree(root, Rules(), Limits())
    assert taken(found) == {}
    assert kinds(found) == {"p.md": "unsupported_type"}


@pytest.mark.parametrize(
    "target", ["real/a.md", "./real/../real/a.md", "dir/a.md", "chain.md", "real//a.md", "{root}/real/a.md"]
)
def test_a_link_to_a_file_inside_has_its_content(root: Path, target: str) -> None:
    (root / "real").mkdir()
    (root / "real" / "a.md").write_text("text")
    (root / "dir").symlink_to("real")
    (root / "chain.md").symlink_to("dir/../real/a.md")
    (root / "sub").mkdir()
    (root / "sub" / "x.md").symlink_to("../x.md")
    (root / "x.md").symlink_to(target.format(root=root))
    assert taken(tree(root)) == dict.fromkeys(("chain.md", "real/a.md", "sub/x.md", "x.md"), "text")


@pytest.mark.parametrize(
    "target",
    [
        "../outside.md", "{root}/../outside.md", "{root}/../root/../outside.md", "/etc/passwd", "sub/../../outside.md",
        "nothing.md", "sub", ".", "..", "/", "{root}", "x.md", "y.md", "up/outside.md",
        "a.md/../a.md", "{root}2/outside.md",
    ],
)  # fmt: skip
def test_no_other_link_is_followed(root: Path, target: str) -> None:
    (root / "sub").mkdir()
    (root / "a.md").write_text("a")
    (root / "up").symlink_to("..")
    (root / "y.md").symlink_to("x.md")
    (root / "x.md").symlink_to(target.format(root=root))
    found = tree(root)
    assert taken(found) == {"a.md": "a"}
    assert kinds(found)["x.md"] == "unsupported_type"
    with pytest.raises(FileChanged):
        found.read("x.md")


@pytest.mark.parametrize("hidden", [".env", ".git/config", "private/a.md", "sub/b.md", "deep/.ssh/id"])
@pytest.mark.parametrize("way", ["{hidden}", "sub/../{hidden}", "to", "{root}/{hidden}"])
def test_a_link_to_an_excluded_file_is_excluded(root: Path, hidden: str, way: str) -> None:
    (root / "sub").mkdir()
    (root / "sub" / ".syncdignore").write_text("b.md\n")
    place = root / hidden
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("secret")
    (root / "to").symlink_to(hidden)
    (root / "x.md").symlink_to(way.format(hidden=hidden, root=root))
    found = tree(root, "private/")
    assert taken(found) == {}
    assert isinstance(found.look("x.md"), Excluded)
    with pytest.raises(FileChanged):
        found.read("x.md")


def test_a_link_through_an_excluded_path_is_excluded(root: Path) -> None:
    (root / "plain.txt").write_text("secret")
    (root / ".env").symlink_to("plain.txt")
    (root / "x.md").symlink_to(".env")
    (root / "private").symlink_to(".")
    (root / "y.md").symlink_to("private/plain.txt")
    assert taken(tree(root, "private/")) == {"plain.txt": "secret"}
    assert taken(tree(root, "private/", include=("*.md",))) == {}


def test_the_target_of_a_link_must_be_included(root: Path) -> None:
    (root / "public").mkdir()
    (root / "public" / "x.md").symlink_to("../a.md")
    (root / "a.md").write_text("not for all")
    assert taken(tree(root, include=("public/",))) == {}


def test_a_link_that_is_swapped_after_the_walk_is_judged_again(root: Path, tmp_path: Path) -> None:
    (root / "a.md").write_text("a")
    (root / ".env").write_text("secret")
    link = root / "x.md"
    for bad in (".env", tmp_path / "outside.md", "..", "x.md"):
        link.unlink(missing_ok=True)
        link.symlink_to("a.md")
        found = tree(root)
        assert "x.md" in taken(found)
        link.unlink()
        link.symlink_to(bad)
        with pytest.raises(FileChanged):
            found.read("x.md")


def test_a_directory_that_became_a_link_is_not_entered(root: Path) -> None:
    for name in ("a", "b"):
        (root / name).mkdir()
        (root / name / "x.md").write_text(name)
    found = tree(root)
    assert taken(found) == {"a/x.md": "a", "b/x.md": "b"}
    (root / "a").rename(root.parent / "away")
    (root / "a").symlink_to("b")
    with pytest.raises(FileChanged):
        found.read("a/x.md")
    assert found.look("a/x.md") is None


@pytest.mark.parametrize(("hops", "followed"), [(MAX_HOPS - 1, True), (MAX_HOPS, True), (MAX_HOPS + 1, False)])
def test_hops_are_limited(root: Path, hops: int, followed: bool) -> None:
    (root / "0.md").write_text("end")
    for number in range(1, hops + 1):
        (root / f"{number}.md").symlink_to(f"{number - 1}.md")
    assert (f"{hops}.md" in taken(tree(root))) == followed


def test_a_link_to_a_deep_file_leaves_no_descriptor(root: Path) -> None:
    deep = root.joinpath(*["d"] * 100)
    deep.mkdir(parents=True)
    (deep / "a.md").write_text("a")
    (root / "x.md").symlink_to("/".join([*["d"] * 100, "a.md"]))
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208
    assert taken(tree(root))["x.md"] == "a"
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208


def test_a_change_on_the_path_of_a_link_is_a_change_of_the_link(root: Path) -> None:
    mount(root, "2026_1", p="one")
    (root / "a").mkdir()
    (root / "a" / "b.md").write_text("b")
    (root / "x.md").symlink_to("a/b.md")
    found = tree(root)
    list(found.walk())
    assert found.links.at("..data") == ["p.md"]
    assert found.links.at("..2026_1") == ["p.md"]
    assert found.links.at("..2026_1/p.md") == ["p.md"]
    assert found.links.at("a") == found.links.at("a/b.md") == ["x.md"]
    assert found.links.at("x.md") == []
    mount(root, "2026_2", p="two")
    found.look("p.md")
    assert found.links.at("..2026_1") == []
    assert found.links.at("..2026_2") == ["p.md"]


def test_a_broken_link_is_noticed_when_its_target_appears() -> None:
    links = Links()
    links.note("x.md", ["x.md", "later/a.md"])
    assert links.at("later") == links.at("later/a.md") == ["x.md"]
    links.note("x.md", [])
    assert links.at("later") == []


def test_a_name_that_begins_with_two_dots_is_never_walked(root: Path) -> None:
    for name in ("..2026/a.md", "sub/..b.md", "...c.md", "sub/.d.md", "e..md"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(name)
    for found in (Tree(root, Rules(), Limits()), Tree(root, Rules(exclude=("!..*",)), Limits()), tree(root)):
        assert taken(found) == {"e..md": "e..md", "sub/.d.md": "sub/.d.md"}


@pytest.mark.parametrize("below", [None, "disk", "disk/a.md"], ids=["no directory", "nothing", "another file"])
@pytest.mark.parametrize("target", ["disk/a.md", "chain.md"])
def test_a_link_into_a_missing_mount_has_the_problem_of_the_mount(root: Path, below: str | None, target: str) -> None:
    if below:
        (root / "disk").mkdir()
    if below == "disk/a.md":
        (root / below).write_text("of the disk below")
    (root / "chain.md").symlink_to("disk/a.md")
    (root / "p.md").symlink_to(target)
    found = tree(root)
    found.protected.closed = {"disk/": Problem("disk/", "unreadable", "it is not mounted")}
    seen = found.look("p.md")
    assert seen == Problem("p.md", "unreadable", "the link leads into disk/: it is not mounted")
    assert taken(found) == {}
    assert found.complete, "the rest of the walk goes on"
