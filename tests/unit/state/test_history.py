"""The history of a key, and the state of a mirror."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from syncd.core.errors import Park, Retry
from syncd.core.model import Put
from syncd.state import activity
from syncd.state.activity import ACTIONS_PER_KEY, DETAIL, KEEP_S, History
from syncd.state.db import open_state
from syncd.state.history import set_state, stored_detail, stored_state, was_halted
from tests.harness import START, Core, in_step

PUT = Put("a.md", "changed", "a.md", 1)


def told(core: Core, key: str) -> list[tuple[str, str, str]]:
    return [(each.action, each.reason, each.outcome) for each in core.mirror.history.of(key)]


async def test_first_uploads_are_kept(core: Core) -> None:
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    await core.full()
    assert told(core, "a.md") == told(core, "b.md") == [("put", "new", "done")]


async def test_adoptions_after_a_lost_state_are_kept(core: Core) -> None:
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    core.mirror.journal.clear()
    await core.full()
    assert told(core, "a.md") == [("adopt", "found", "done")]


async def test_a_pass_keeps_a_bounded_number_of_first_uploads_and_adopts(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "LISTED_PER_PASS", 2)
    await in_step(core, **{"a.md": "a", "b.md": "b", "c.md": "c"})
    assert [len(told(core, key)) for key in ("a.md", "b.md", "c.md")] == [1, 1, 0]
    core.write("d.md", "d")
    core.write("c.md", "changed")
    await core.full()
    assert told(core, "d.md") == [("put", "new", "done")]
    assert told(core, "c.md") == [("put", "changed", "done")]
    core.mirror.journal.clear()
    await core.full()
    assert [len(told(core, key)) for key in ("a.md", "b.md", "c.md", "d.md")] == [1, 1, 0, 0]


async def test_changes_failures_and_deletes_are_kept_in_order(core: Core) -> None:
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    core.write("a.md", "changed")
    core.target.failures["a.md"] = [Retry("no answer")]
    await core.full()
    core.clock.forward(60)
    await core.full()
    core.remove("a.md")
    await core.full()
    assert told(core, "a.md") == [
        ("put", "new", "done"),
        ("put", "changed", "failed"),
        ("put", "changed", "done"),
        ("delete", "stale", "done"),
    ]
    _, failed, _, deleted = core.mirror.history.of("a.md")
    assert failed.detail == "failed: no answer"
    assert "there is no such file" in deleted.detail


async def test_drift_and_a_later_adoption_are_kept(core: Core) -> None:
    await in_step(core, **{"a.md": "a"})
    core.forget_listing()
    core.target.put_by("me", "a.md", "drifted")
    await core.full()
    assert told(core, "a.md")[1:] == [("put", "drift", "done")]
    core.write("a.md", "new")
    core.target.put_by("me", "a.md", "new")
    await core.full()
    assert told(core, "a.md")[2:] == [("adopt", "found", "done")]


async def test_a_record_that_is_forgotten_is_kept(core: Core) -> None:
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    core.remove("a.md")
    del core.target.store["a.md"]
    await core.full()
    assert told(core, "a.md")[1:] == [("forget", "gone", "done")]


async def test_a_refusal_is_kept(core: Core) -> None:
    core.write("a.md", "a")
    core.target.failures["a.md"] = [Park("refused", "no")]
    await core.full()
    assert told(core, "a.md") == [("put", "new", "failed")]


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        (ACTIONS_PER_KEY - 1, ACTIONS_PER_KEY - 1),
        (ACTIONS_PER_KEY, ACTIONS_PER_KEY),
        (ACTIONS_PER_KEY + 1, ACTIONS_PER_KEY),
        (3 * ACTIONS_PER_KEY, ACTIONS_PER_KEY),
    ],
)
def test_the_last_actions_of_a_key_are_kept(tmp_path: Path, number: int, kept: int) -> None:
    with closing(open_state(tmp_path)) as db:
        history = History(db, "docs")
        for at in range(number):
            history.add(PUT, at, "done", 1)
        history.add(Put("b.md", "changed", "b.md", 1), 0.0, "done", 1)
        assert [each.at for each in history.of("a.md")] == list(range(number))[-kept:]


def test_a_long_error_is_cut(tmp_path: Path) -> None:
    with closing(open_state(tmp_path)) as db:
        history = History(db, "docs")
        history.add(PUT, 0.0, "failed", 1, "x" * (DETAIL + 1))
        assert len(history.of("a.md")[0].detail) == DETAIL


async def test_a_full_pass_drops_what_is_older_than_a_month(core: Core) -> None:
    await in_step(core, **{"a.md": "a"})
    core.mirror.history.add(PUT, START - KEEP_S, "done", 1)
    core.mirror.history.add(PUT, START - KEEP_S + 3600, "done", 1)
    await core.hint("a.md")
    assert len(core.mirror.history.of("a.md")) == 3
    await core.full()
    assert len(core.mirror.history.of("a.md")) == 2


def test_another_target_has_another_history(core: Core) -> None:
    core.mirror.history.add(PUT, 0.0, "done", 1)
    core.mirror.journal.clear()
    assert core.mirror.history.of("a.md") == []


def test_the_state_of_a_mirror_comes_back_as_it_was_stored(core: Core) -> None:
    meta = core.mirror.meta
    assert (stored_state(meta), stored_detail(meta), was_halted(meta)) == ({}, None, False)
    set_state(meta, "syncing", remaining=3, stored=7, until=9.5, under_way=True)
    stored: dict[str, object] = {"state": "syncing", "detail": None, "remaining": 3, "stored": 7, "until": 9.5}
    assert stored_state(meta) == {**stored, "since": None, "next_try": None, "under_way": True, "pid": os.getpid()}
    assert (stored_detail(meta), was_halted(meta)) == (None, False)
    set_state(meta, "degraded", "no answer", since=1.0, next_try=2.0)
    assert [stored_state(meta)[name] for name in ("detail", "since", "next_try")] == ["no answer", 1.0, 2.0]
    set_state(meta, "halted", "no token")
    assert (stored_detail(meta), was_halted(meta)) == ("no token", True)
