"""A delete waits until the replacement of its entry is searchable: which entry replaces it, and for how long."""

import logging

import pytest
from structlog.testing import capture_logs

from syncd.core.model import Delete, IndexStatus, Record
from syncd.core.problems import Limits
from syncd.state.queue import LATER_S
from syncd.sync.deletes import FIRST_PAUSE_S, PATIENCE_S, replacements_of
from tests.harness import Core, ScriptedTarget, in_step, planned
from tests.memory_target import Indexed


async def replaced(core: Core, *waited_s: float) -> None:
    """Remove a file "old" per time, beside a copy "new" that was written so many seconds before the next pass."""
    olds, news = ([f"{name}{number}" for number in range(len(waited_s))] for name in ("old", "new"))
    core.target.index |= dict.fromkeys(news, Indexed("queued"))
    await in_step(core, other="o", **{name: f"text {name[3:]}" for name in (*olds, *news)})
    core.remove(*olds)
    for name, waited in zip(news, waited_s, strict=True):
        core.mirror.db.execute("UPDATE record SET written_at = ? WHERE key = ?", (core.clock.now + 1 - waited, name))


@pytest.mark.parametrize(
    ("waited_s", "due_in_s"),
    [
        ([0.0], FIRST_PAUSE_S),
        ([1.0], FIRST_PAUSE_S),
        ([2.0], 0.5),
        ([40.0], 10.0),
        ([-40.0], 10.0),
        ([120.0], LATER_S),
        ([PATIENCE_S], LATER_S),
        ([-PATIENCE_S], LATER_S),
        ([PATIENCE_S + 1], None),
        ([-PATIENCE_S - 1], None),
        ([400.0, 40.0], 10.0),
        ([40.0, 400.0], 10.0),
    ],
)
async def test_a_delete_waits_a_quarter_of_the_age_of_its_newest_replacement(
    core: Core, waited_s: list[float], due_in_s: float | None
) -> None:
    await replaced(core, *waited_s)
    result = await core.full()
    olds = [f"old{number}" for number in range(len(waited_s))]
    kept = [name for name in olds if name in core.target.store]
    assert (result.waiting, kept) == ((0, []) if due_in_s is None else (len(olds), olds))
    assert [row.due - core.clock.now for row in core.mirror.queue.every()] == [due_in_s] * len(kept)


async def test_a_delete_that_does_not_wait_any_longer_is_named(core: Core) -> None:
    await replaced(core, PATIENCE_S + 0.6)
    with capture_logs() as lines:
        await core.full()
    (line,) = [line for line in lines if line["event"] == "delete.unawaited"]
    about = {"key": "old0", "replacement": "new0", "waited_s": round(PATIENCE_S + 0.6)}
    assert line == {"event": "delete.unawaited", "log_level": "warning", "mirror": "docs", **about}


@pytest.mark.parametrize(("waited_s", "level"), [(1.0, logging.DEBUG), (0.0, logging.INFO)])
async def test_only_the_pass_that_writes_a_replacement_says_at_level_info_that_a_delete_waits(
    core: Core, waited_s: float, level: int
) -> None:
    await replaced(core, waited_s, 30.0)
    with capture_logs() as lines:
        await core.full()
    (line,) = [line for line in lines if line["event"] == "delete.waits"]
    about = {"count": 2, "key": "old0", "until_searchable": "new0"}
    named = logging.getLevelName(level).lower()
    assert line == {"event": "delete.waits", "log_level": named, "mirror": "docs", **about}


async def test_one_wait_is_for_all_batches_of_a_pass(core: Core) -> None:
    core.target.limits = Limits(max_file_size=1000, delete_turn=1)
    await replaced(core, 40.0, 400.0, 8.0)
    assert (await core.full()).waiting == 3
    assert {row.due - core.clock.now for row in core.mirror.queue.every()} == {10.0}


DELETED = Delete("a", "stale", "a", "old", "c", size=1)


@pytest.mark.parametrize(
    ("key", "checksum", "status", "replaces"),
    [
        ("b", "c", "queued", True),
        ("b", "c", "running", True),
        ("b", "c", "outdated", True),
        ("b", "c", "completed", False),
        ("b", "c", "error", False),
        ("b", "c", "skipped", False),
        ("b", "other", "queued", False),
        ("a", "other", "queued", True),
        ("a", "other", "error", True),
        ("a", "other", "completed", False),
    ],
)
async def test_an_unsearchable_entry_replaces_one_of_its_key_or_content(
    core: Core, key: str, checksum: str, status: IndexStatus, *, replaces: bool
) -> None:
    journal = core.mirror.journal
    journal.put(Record(key, "new", checksum, 1, 1.0, status=status))
    found = replacements_of(journal, [DELETED])
    assert found == ({DELETED: journal.get(key)} if replaces else {})
    journal.put(Record(key, "old", checksum, 1, 1.0, status=status))
    assert replacements_of(journal, [DELETED]) == {}, "an entry does not wait for itself"


async def test_the_newest_replacement_counts_and_one_of_the_same_key_before_others(core: Core) -> None:
    journal = core.mirror.journal
    unknown = Delete("d", "orphan", "d", "older", None, size=1)
    for key, ref, at in (("b", "1", 3.0), ("e", "2", 2.0)):
        journal.put(Record(key, ref, "c", 1, at, status="queued"))
    assert {delete.key: record.key for delete, record in replacements_of(journal, [DELETED, unknown]).items()} == {
        "a": "b"
    }
    journal.put(Record("a", "3", "d", 1, 1.0, status="queued"))
    assert {delete.key: record.key for delete, record in replacements_of(journal, [DELETED]).items()} == {"a": "a"}


async def test_a_second_entry_stays_while_the_indexing_of_the_first_one_has_failed(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.target.index["a"] = Indexed("error", "bad")
    await in_step(core, a="text", other="o")
    core.forget_listing()
    seen = core.target.listing()
    second = next(entry for entry in seen if entry.key == "a")._replace(ref="second")
    monkeypatch.setattr(ScriptedTarget, "listing", lambda _: [*seen, second])
    result = await core.full()
    assert (planned(result), result.done, result.waiting, core.waiting()) == ({}, {}, 0, [])
    core.mirror.db.execute("UPDATE record SET status = 'completed'")
    seen[:] = [entry._replace(status="completed", error=None) for entry in seen]
    assert (await core.full()).done == {"delete": 1}
