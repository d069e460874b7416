"""The sign of a key in rclone's notation, row by row, and the lines of a pass."""

import pytest
from core_room import Core, in_step

from syncd.answers.combined import Combined, sign
from syncd.errors import Park
from syncd.model import Action, Adopt, Delete, Entry, Excluded, Forget, Item, Local, Problem, ProblemKind, Put
from syncd.rules import Rules
from syncd.sync.observe import Triple
from syncd.sync.passes import Hooks
from syncd.sync.resolve import Resolved

FILE, ENTRY = Item("k", "k", 1, 2, 3, 4), Entry("k", "r")
PUT, ADOPT = Put("k", "changed", "k", 1), Adopt("k", "found", "r", "5e", 1)


def problem(kind: ProblemKind) -> Problem:
    return Problem("k", kind, "why")


@pytest.mark.parametrize(
    ("local", "entry", "decision", "again", "wanted"),
    [
        (FILE, ENTRY, None, False, "="),
        (FILE, ENTRY, ADOPT, False, "="),
        (FILE, None, PUT, False, "+"),
        (FILE, ENTRY, PUT, False, "*"),
        (FILE, ENTRY, problem("foreign"), False, "*"),
        (FILE, ENTRY, problem("refused"), False, "*"),
        (FILE, None, problem("refused"), False, "+"),
        (FILE, None, problem("failed"), False, "!"),
        (FILE, ENTRY, problem("unreadable"), False, "!"),
        (FILE, ENTRY, None, True, "!"),
        (None, ENTRY, Delete("k", "stale", "k", "r"), False, "-"),
        (None, ENTRY, None, False, "-"),
        (None, None, None, False, None),
        (None, ENTRY, None, True, "!"),
        (None, None, Forget("k", "gone"), False, None),
        (Excluded("k", "exclude: k"), ENTRY, None, False, None),
        (Excluded("k", "exclude: k"), ENTRY, Delete("k", "stale", "k", "r"), False, "-"),
        (problem("too_large"), None, problem("too_large"), False, "!"),
        (problem("invalid_key"), None, problem("invalid_key"), False, "!"),
        (problem("empty"), None, problem("empty"), False, None),
        (problem("unsupported_type"), ENTRY, problem("unsupported_type"), False, "*"),
        (problem("unreadable"), ENTRY, None, False, "!"),
    ],
)
def test_every_case_has_its_sign(
    local: Local, entry: Entry | None, decision: Action | Problem | None, *, again: bool, wanted: str | None
) -> None:
    seen = Resolved(Triple("k", local, None, entry, "listing"), decision, again)
    assert sign(seen, lambda _: False) == wanted


def test_an_entry_of_another_whose_name_the_rules_leave_out_has_no_line() -> None:
    seen = Resolved(Triple("k", None, None, ENTRY, "listing"), None)
    assert sign(seen, lambda key: key == "k") is None


async def lines(core: Core, **options: bool) -> list[str]:
    combined = Combined(core.mirror)
    await core.full(Hooks(every=combined.add), **options)
    return list(combined.lines(named=False))


async def test_keys_that_are_plainly_in_step_have_a_line_and_names_without_a_key_come_in_order(core: Core) -> None:
    # Plainly: files that have rested, and records that no listing predates.
    for name in ("b.md", "c.md"):
        core.write(name, name, age_s=60)
    await core.full()
    core.clock.forward(2 * core.mirror.target.limits.lag_s + 1)
    core.write("a\n.md", "no key")
    core.target.put_by("you", "x.tmp", "theirs")
    core.use(rules=Rules(exclude=("*.tmp",)))
    assert await lines(core) == ["! a\\n.md\n", "= b.md\n", "= c.md\n"]


async def test_the_lines_tell_what_was_found_before_the_pass_acted(core: Core) -> None:
    await in_step(core, **{"b.md": "b", "gone.md": "g"})
    core.write("a.md", "a")
    core.target.failures["a.md"] = [Park("refused", "no")]
    core.remove("gone.md")
    wanted = ["+ a.md\n", "= b.md\n", "- gone.md\n"]
    assert await lines(core, dry_run=True) == wanted
    assert await lines(core) == wanted
    assert await lines(core) == wanted[:-1]


async def test_lines_are_those_of_one_mirror_and_gone_when_dropped(core: Core) -> None:
    await in_step(core, **{"b.md": "b"})
    combined = Combined(core.mirror)
    await core.full(Hooks(every=combined.add))
    assert list(combined.lines(named=True)) == ["= docs:b.md\n"]
    combined.drop()
    assert list(combined.lines(named=True)) == []
