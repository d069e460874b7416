"""Passes over files in parts: whatever happens to a file, the target holds it once, and what did not change stays."""

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from core_room import Core, open_core, planned
from memory_target import MemoryTarget
from test_cutting import prose

from syncd.errors import Brake, Retry
from syncd.model import Delete, Put
from syncd.scan import Tree
from syncd.targets.base import Limits, Read, Report

LIMIT = 2000


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    with open_core(tmp_path, Limits(max_file_size=LIMIT), split=True) as made:
        yield made


def joined(core: Core) -> dict[str, str]:
    """What the target holds, file by file; the numbers of a file's parts must be 1, 2, 3 and so on."""
    files: dict[str, dict[int, str]] = {}
    for key, text in core.target.texts().items():
        file, number = core.mirror.tree.names.of(key)
        files.setdefault(file, {})[number] = text
    for found in files.values():
        assert sorted(found) in ([0], [*range(1, len(found) + 1)])
    return {file: "".join(found[number] for number in sorted(found)) for file, found in files.items()}


def local(core: Core) -> dict[str, str]:
    return {path.relative_to(core.root).as_posix(): path.read_text() for path in core.root.rglob("*") if path.is_file()}


def edits(text: str) -> list[str | None]:
    """A file's life: it grows and shrinks over the limit and back."""
    half = len(text) // 2
    return [
        text,
        text + "# End\n\nmore words\n" * 30,
        text[:half],
        "# First\n\nnew words\n\n" + text,
        text[:half] + text[half + 3000 :],
        "short",
        text,
        text.replace("a", "b"),
        "",
        None,
    ]


@pytest.mark.parametrize("way", ["full", "hint"])
@pytest.mark.parametrize("ending", ["md", "html", "txt"])
async def test_parts_follow_a_file_through_its_life(core: Core, way: str, ending: str) -> None:
    name = f"deep/guide.{ending}"
    core.write("deep/guide.md.d/other.md", "another")
    core.write("deep/guide.txt", "a small one")
    await core.full()
    for text in edits(prose(1, 30)):
        if text is None:
            core.remove(name)
        else:
            core.write(name, text)
        await (core.full() if way == "full" else core.hint(name))
        assert joined(core) == local(core)
        assert planned(await core.full()) == {}
        assert core.problems() == {}


async def test_a_folder_in_step_is_not_read_again(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    core.write("a.md", prose(1), age_s=10)
    core.write("b.txt", "small", age_s=10)
    await core.full()
    core.target.changes = 0
    monkeypatch.setattr(Tree, "_open", lambda *_: pytest.fail("it was read"))
    monkeypatch.setattr("syncd.scan.Tree._ignore_files", lambda *_, **__: [])
    for _ in range(2):
        result = await core.full()
        assert (planned(result), result.files_read, core.target.changes) == ({}, 0, 0)
        core.restart()


async def test_a_lost_state_sends_nothing(core: Core) -> None:
    core.write("a.md", prose(1))
    await core.full()
    core.target.changes = 0
    core.mirror.journal.clear()
    assert set(planned(await core.full())) == {"adopt"}
    assert (core.target.changes, planned(await core.full())) == (0, {})


async def test_an_edit_in_the_middle_sends_what_is_near_it(core: Core) -> None:
    text = prose(2)
    core.write("a.md", text)
    await core.full()
    number = len(core.target.store)
    core.target.changes = 0
    core.write("a.md", text[:20_000] + "edit" + text[20_004:])
    await core.full()
    assert number > 20
    assert 1 <= core.target.changes <= 3
    assert joined(core) == local(core)


async def test_a_change_between_two_parts_is_taken_again(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read of the old file and what is read of the new one never stay together."""
    core.write("a.md", prose(3, 20))
    real, reads = Tree.read, iter(range(100))

    def read(self: Tree, *args: object, **named: object) -> object:
        if next(reads) == 3:
            core.write("a.md", prose(4, 25))
        return real(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Tree, "read", read)
    await core.full()
    assert any(core.mirror.tree.names.file(key) == "a.md" for key, _ in core.waiting())
    await core.hint("a.md")
    assert joined(core) == local(core)
    assert planned(await core.full()) == {}


@pytest.mark.parametrize("ends", ["short", prose(5, 40)])
async def test_old_content_stays_until_all_of_the_new_is_up(core: Core, ends: str) -> None:
    core.write("a.md", prose(5, 20))
    await core.full()
    before = core.target.texts()
    core.write("a.md", ends)
    new = [item.key for item in core.mirror.tree.parts("a.md")]
    for key in new:
        core.target.failures[key] = [Retry("not now")]
    await core.full()
    assert core.target.texts() == before
    core.clock.forward(7200)
    await core.full()
    assert joined(core) == {"a.md": ends}


class Killed(BaseException):
    """The end of the process."""


@pytest.mark.parametrize("seed", range(6))
async def test_a_pass_that_was_cut_short_converges(core: Core, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    real = MemoryTarget.apply
    left = 0

    async def apply(self: MemoryTarget, batch: Sequence[Put | Delete], read: Read, report: Report) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        # Of the last one nobody hears.
        await real(self, batch, read, report if left else lambda *_: None)

    monkeypatch.setattr(MemoryTarget, "apply", apply)
    for text in ("start", prose(seed, 20), prose(seed, 35), "the end", prose(seed, 10)):
        core.write("a.md", text)
        left = chance.randrange(8)
        with suppress(Killed):
            await core.full()
        core.restart()
        left = 1000
        await core.full()
        assert joined(core) == local(core)


async def test_the_brake_counts_files_and_no_replacement(core: Core) -> None:
    core.write("a.md", prose(6))
    for number in range(30):
        core.write(f"{number}.md", "text")
    core.use(max_delete="10%", split=True)
    await core.full()
    assert len(core.target.store) > 60
    core.write("a.md", "short")
    await core.full()
    assert core.mirror.journal.recent_deletes(core.clock.now) == 0
    core.write("a.md", prose(6))
    await core.full()
    (core.root / "a.md").rename(core.root / "b.md")
    await core.full()
    assert joined(core) == local(core)
    assert core.mirror.journal.recent_deletes(core.clock.age) == 0, "a move is no loss"
    for number in range(11):
        core.remove(f"{number}.md")
    with pytest.raises(Brake, match="deletes 11 of 31 entries"):
        await core.full()


async def test_what_cannot_be_split_says_why_and_keeps_what_is_there(core: Core) -> None:
    core.write("a.md", prose(1, 20))
    core.write("b.pdf", "x" * 3000)
    core.write("c", "word " * 1000)
    await core.full()
    before = core.target.texts()
    (core.root / "a.md").write_bytes(b"\xff" * 5000)
    for _ in range(2):
        await core.full()
        assert core.target.texts() == before
        assert core.problems() == {"a.md": "too_large", "b.pdf": "too_large"}
    assert "no UTF-8 text" in core.problem("a.md").message
    assert ".pdf files are not split" in core.problem("b.pdf").message
    await core.hint("a.md")
    assert core.problems() == {"a.md": "too_large", "b.pdf": "too_large"}


async def test_a_file_that_is_called_like_a_part_is_refused_and_harms_nothing(core: Core) -> None:
    core.write("a.md", prose(1, 20))
    await core.full()
    before = core.target.texts()
    core.write("a~001.md", "mine")
    core.write("b~007", "mine too")
    core.write("c.md~001", "part of nothing")
    for look in (core.full(), core.hint("a~001.md", "b~007"), core.full()):
        await look
        assert core.target.texts() == before | {"c.md~001": "part of nothing"}
    assert core.problems() == {"a~001.md": "invalid_key", "b~007": "invalid_key"}


async def test_what_is_excluded_keeps_its_parts(core: Core) -> None:
    core.write("a.md", prose(1, 20))
    core.write("b.md", "kept")
    await core.full()
    before = core.target.texts()
    core.write(".syncdignore", "a.md\n")
    await core.full()
    await core.hint("a.md")
    assert core.target.texts() == before
    await core.full(delete_excluded=True)
    assert core.target.texts() == {"b.md": "kept"}


async def test_a_smaller_limit_cuts_anew_and_no_splitting_takes_the_parts_away(core: Core) -> None:
    core.write("a.md", prose(1, 20), age_s=10)
    await core.full()
    core.target.limits = Limits(max_file_size=1000)
    core.restart()
    await core.full()
    assert all(len(held.data) <= 1000 for held in core.target.store.values())
    assert joined(core) == local(core)


async def test_a_prefix_with_a_dot_leads_back_to_the_file(core: Core) -> None:
    core.use(prefix="v1.0-", split=True)
    text = prose(1, 20)
    core.write("README", text)
    await core.full()
    assert {key[:13] for key in core.target.store} == {"v1.0-README~0"}
    core.write("README", "short")
    await core.hint("README")
    assert core.target.texts() == {"v1.0-README": "short"}


async def test_a_file_that_never_rests_is_taken_as_it_is(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    core.write("a.log", prose(1, 20))
    real = Tree.read

    def read(self: Tree, *args: object, **named: object) -> object:
        with (core.root / "a.log").open("a") as file:
            file.write("one more line\n")
        return real(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Tree, "read", read)
    await core.hint("a.log")
    assert core.target.store == {}
    core.mark("a.log")
    core.clock.forward(40)
    await core.hint("a.log")
    assert len(core.target.store) > 5
