"""A file with several names: an event reports only the name that a program has written to."""

import os

import pytest

from tests.harness import Core


@pytest.mark.parametrize("age_s", [0.0, 10.0])
async def test_the_other_names_of_a_changed_file_are_checked(core: Core, age_s: float) -> None:
    first = core.write("a", "1", age_s=age_s)
    (core.root / "b").hardlink_to(first)
    (core.root / "d").mkdir()
    (core.root / "d/c").hardlink_to(first)
    core.write("other", "1", age_s=age_s)
    await core.full()
    assert core.waiting() == []
    core.write("a", "2")
    await core.hint("a")
    assert core.waiting() == [("b", False), ("d/c", False)]
    await core.hint("b", "d/c")
    assert core.target.texts() == {"a": "2", "b": "2", "d/c": "2", "other": "1"}
    assert core.waiting() == [], "and that is the end of it"


async def test_a_file_with_one_name_marks_nothing(core: Core) -> None:
    first = core.write("a", "1", age_s=10)
    second = core.root / "b"
    second.hardlink_to(first)
    await core.full()
    copy = core.write("new", "1")
    os.replace(copy, second)  # noqa: PTH105 - what a person's editor calls
    core.write("a", "2")
    await core.hint("a")
    assert core.waiting() == []
    assert core.target.texts() == {"a": "2", "b": "1"}
