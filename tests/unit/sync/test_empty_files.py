"""A folder without files that the rules include, or an empty state, causes no mass delete."""

import errno
import os

import pytest

from syncd.core.errors import Brake, RootHalt
from tests.harness import Core, in_step


def owned(core: Core, files: int) -> None:
    core.use(max_delete="25%")
    for number in range(files):
        core.target.put_by("me", f"{number:03}", "x")


@pytest.mark.parametrize("left", [None, ".DS_Store", "deep/er/.DS_Store", "secret.pem", ".git/config"])
async def test_a_folder_in_which_the_rules_take_nothing_is_empty(core: Core, left: str | None) -> None:
    await in_step(core, a="1", b="2")
    core.remove("a", "b")
    if left:
        core.write(left, "not taken")
    with pytest.raises(RootHalt, match="2 of its files are known"):
        await core.full()
    assert core.target.texts() == {"a": "1", "b": "2"}
    await core.full(force=True)
    assert core.target.texts() == {}


async def test_rules_that_take_nothing_any_more_empty_the_folder(core: Core) -> None:
    await in_step(core, a="1", b="2")
    core.write(".syncdignore", "*\n")
    with pytest.raises(RootHalt, match="holds no file that the rules take"):
        await core.full(delete_excluded=True)
    assert core.target.texts() == {"a": "1", "b": "2"}


@pytest.mark.parametrize("prune", ["owned", "all"])
@pytest.mark.parametrize("left", [None, "Thumbs.db"])
async def test_an_empty_folder_halts_if_only_the_target_knows_of_files(
    core: Core, left: str | None, prune: str
) -> None:
    owned(core, 3)
    core.use(prune=prune, max_delete="100%")
    if left:
        core.write(left, "not taken")
    with pytest.raises(RootHalt, match="the target holds 3 entries"):
        await core.full()
    assert len(core.target.store) == 3
    await core.full(force=True)
    assert core.target.store == {}


@pytest.mark.parametrize(("entries", "kept", "refused"), [(3, 1, True), (20, 15, False), (20, 14, True)])
async def test_a_fresh_state_has_no_floor_of_ten(core: Core, entries: int, kept: int, refused: bool) -> None:
    owned(core, entries)
    for number in range(kept):
        core.write(f"{number:03}", "x")
    if refused:
        with pytest.raises(Brake):
            await core.full()
        with pytest.raises(Brake):
            await core.full()
        assert len(core.target.store) == entries
        await core.full(force=True)
    else:
        await core.full()
    assert len(core.target.store) == kept
    core.remove("000")
    core.write("other", "x")
    await core.full()
    assert "000" not in core.target.store, "a state that has seen a whole pass has it again"


async def test_a_lost_state_and_few_files_delete_nothing(core: Core) -> None:
    await in_step(core, a="1", b="2", c="3")
    for table in ("record", "meta", "file"):
        core.mirror.db.execute(f"DELETE FROM {table}")
    core.use(max_delete="25%")
    core.remove("a", "b", "c")
    core.write(".keep", "")
    with pytest.raises(Brake):
        await core.full()
    assert set(core.target.store) == {".keep", "a", "b", "c"}, "what is refused holds no upload back"


async def test_a_folder_that_cannot_be_read_halts_though_nothing_is_known(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(RootHalt, match="Let syncd read it"):
        await core.full()
