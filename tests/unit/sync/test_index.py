"""The index status of entries: stored, reported and retried without another upload."""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from unittest.mock import Mock

import pytest
from structlog.testing import capture_logs

from syncd.core.errors import Park, Retry, Unreachable
from syncd.core.model import ActionEvent, Entry, Record
from syncd.core.problems import TRIES_S, Limits
from syncd.state.journal import STUCK_S
from syncd.state.queue import retry_problems
from syncd.sync import index
from syncd.sync.mirror import Scope
from syncd.sync.reconcile import reconcile
from syncd.targets.base import Target
from tests.harness import Core, ScriptedTarget, in_step, is_clean, sha
from tests.memory_target import Indexed

LOCKED = Indexed("error", "file_is_password_locked", "Document is encrypted")
BUSY = Indexed("error", "timeout_error", "The drain did not end")


class NoIndex(Mock):
    """A target without the methods of an index. Any other call fails."""

    def __init__(self) -> None:
        super().__init__(spec=Target)


def record(core: Core, key: str = "a.md") -> Record:
    found = core.mirror.journal.get(key)
    assert found is not None
    return found


async def followed(core: Core) -> int:
    """Do what the worker does when a poll is due."""
    await index.reindex_due(core.mirror)
    left = await index.poll(core.mirror)
    await index.fetch_reasons(core.mirror)
    return left


# -- searchable


async def test_a_target_without_an_index_is_not_asked(core: Core) -> None:
    core.target.index["a.md"] = Indexed("error", "timeout_error")
    core.target.index["b.md"] = Indexed("queued")
    await in_step(core, **{"a.md": "x", "b.md": "y"})
    core.mirror.journal.reindexing.request(None)
    core.mirror.target = NoIndex()
    assert await index.poll(core.mirror) == 0
    assert await index.follow_up(core.mirror, 1.0) is None
    await index.fetch_reasons(core.mirror)
    await index.reindex_due(core.mirror)
    core.clock.forward(index.DOUBT_S)
    await index.halt_if_standing(core.mirror)


async def test_the_seconds_until_an_item_is_searchable_are_kept(core: Core) -> None:
    core.target.index["a.md"] = Indexed("queued")
    await in_step(core, **{"a.md": "x"})
    core.clock.forward(5)
    assert await index.poll(core.mirror) == 1
    assert record(core).searchable_s is None
    core.clock.forward(7.3)
    core.target.index["a.md"] = Indexed()
    assert await index.poll(core.mirror) == 0
    assert record(core).searchable_s == 12.3


async def test_a_listing_that_shows_the_end_first_tells_of_it_too(core: Core) -> None:
    events: list[ActionEvent] = []
    core.mirror.on_action = events.append
    core.target.index["a.md"] = Indexed("running")
    await in_step(core, **{"a.md": "x"})
    core.target.index["a.md"] = Indexed()
    core.clock.forward(9)
    with capture_logs() as lines:
        await core.full()
    done = {"event": "index.done", "log_level": "debug", "mirror": "docs", "key": "a.md", "waited_s": 10.0}
    assert done in lines, "a first listing may show many"
    assert record(core).searchable_s == 10
    assert events[-1] == ActionEvent("index", "a.md", "searchable", "done", waited_s=10)
    count = len(events)
    await core.full()
    assert len(events) == count, "once"


async def test_new_content_is_timed_anew(core: Core) -> None:
    core.target.index["a.md"] = Indexed("queued")
    await in_step(core, **{"a.md": "x"})
    core.target.index["a.md"] = Indexed()
    await index.poll(core.mirror)
    assert record(core).searchable_s == 0
    core.target.index["a.md"] = Indexed("queued")
    core.write("a.md", "y")
    await core.hint("a.md")
    assert record(core).searchable_s is None


async def test_an_item_that_is_indexed_anew_is_followed_and_timed_from_then_on(core: Core) -> None:
    await in_step(core, **{"a.md": "x"})
    core.clock.forward(100_000)
    core.target.index["a.md"] = Indexed("outdated")
    await core.full()
    assert index.next_reindex_s(core.mirror) is None
    assert record(core).since == core.clock.now
    core.clock.forward(4)
    assert await index.poll(core.mirror) == 1
    core.target.index["a.md"] = Indexed()
    assert await index.poll(core.mirror) == 0
    assert record(core).searchable_s == 4


async def test_skipped_is_an_end_and_a_problem(core: Core) -> None:
    core.target.index["a.md"] = Indexed("queued")
    await in_step(core, **{"a.md": "x"})
    core.target.index["a.md"] = Indexed("skipped")
    with capture_logs() as lines:
        assert await index.poll(core.mirror) == 0
        assert await index.poll(core.mirror) == 0
    assert [line["event"] for line in lines].count("index.skipped") == 1
    assert core.problems() == {"a.md": "skipped"}
    assert core.mirror.journal.index.index_counts() == {"skipped": 1}
    assert not is_clean(await core.full())
    assert core.problems() == {"a.md": "skipped"}


async def test_an_entry_that_is_skipped_at_once_is_that_problem(core: Core) -> None:
    core.target.index["a.md"] = Indexed("skipped")
    core.write("a.md", "x")
    assert (await core.full()).problems == {"skipped": 1}
    assert core.problems() == {"a.md": "skipped"}


async def test_a_poll_takes_all_items_up_to_its_maximum(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "POLLED", 4)
    monkeypatch.setattr(index, "NEWEST", 1)
    names = [f"{name}.md" for name in "abcd"]
    core.target.index |= dict.fromkeys(names, Indexed("queued"))
    await in_step(core, **{name: name for name in names})
    polled, statuses = [], type(core.target).statuses

    async def seen(self: ScriptedTarget, refs: frozenset[str], fresh: frozenset[str]) -> object:
        polled.append(len(refs))
        return await statuses(self, refs, fresh)

    monkeypatch.setattr(ScriptedTarget, "statuses", seen)
    for _ in range(3):
        assert await index.poll(core.mirror) == len(names)
    assert polled == [len(names)] * 3


async def test_of_too_many_items_a_poll_takes_the_newest_and_the_others_in_turn(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "POLLED", 5)
    monkeypatch.setattr(index, "NEWEST", 2)
    for name in "abcdefgh":
        core.target.index[f"{name}.md"] = Indexed("queued")
        core.write(f"{name}.md", "x")
        await core.full()
    keys = {record(core, f"{name}.md").ref: name for name in "abcdefgh"}
    polled: list[str] = []
    statuses = core.target.statuses

    async def seen(refs: frozenset[str], fresh: frozenset[str]) -> Mapping[str, Entry | None]:
        polled.append("".join(sorted(keys[ref] for ref in refs)))
        return await statuses(refs, fresh)

    monkeypatch.setattr(ScriptedTarget, "statuses", lambda _, refs, fresh: seen(refs, fresh))
    for _ in range(5):
        await index.poll(core.mirror)
    assert polled == ["abcgh", "defgh", "gh", "abcgh", "defgh"]


async def test_the_target_is_told_which_items_are_younger_than_its_lag(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.target.limits = Limits(lag_s=60.0)
    for name in ("old.md", "edge.md", "new.md"):
        core.target.index[name] = Indexed("queued")
        core.write(name, "x")
        await core.full()
        core.clock.forward(29)
    core.clock.forward(1)
    young: list[frozenset[str]] = []
    statuses = core.target.statuses

    def seen(_: object, refs: frozenset[str], fresh: frozenset[str]) -> Awaitable[Mapping[str, Entry | None]]:
        young.append(fresh)
        return statuses(refs, fresh)

    monkeypatch.setattr(ScriptedTarget, "statuses", seen)
    await index.poll(core.mirror)
    assert core.clock.now - record(core, "edge.md").written_at == 60
    assert young == [{record(core, "edge.md").ref, record(core, "new.md").ref}]


async def test_an_item_whose_indexing_fails_is_an_event(core: Core) -> None:
    events: list[ActionEvent] = []
    core.target.index["a.md"] = Indexed("queued")
    await in_step(core, **{"a.md": "x"})
    core.mirror.on_action = events.append
    core.target.index["a.md"] = LOCKED
    await index.poll(core.mirror)
    await index.poll(core.mirror)
    assert events == [ActionEvent("index", "a.md", "error", "failed")], "once"


async def test_a_follow_up_comes_again_while_something_is_expected(core: Core) -> None:
    core.target.index["a.md"] = Indexed("queued")
    await in_step(core, **{"a.md": "x"})
    assert await index.follow_up(core.mirror, 7.0) == 7.0
    core.target.index["a.md"] = BUSY
    assert await index.follow_up(core.mirror, 7.0) == TRIES_S[0], "indexed again by itself"
    core.target.index["a.md"] = Indexed()
    core.clock.forward(TRIES_S[0])
    assert await index.follow_up(core.mirror, 7.0) == 7.0
    assert await index.follow_up(core.mirror, 7.0) is None


def test_pauses_between_polls_grow_to_a_minute_and_polls_take_a_tenth_of_the_time() -> None:
    assert [index.pause_s(polls) for polls in (0, 1, 2, 50)] == [1.0, 1.5, 2.25, 60.0]
    assert [index.rest_s(took) for took in (0.0, 2.0, 60.0)] == [0.0, 18.0, 300.0]


# -- stuck


@pytest.mark.parametrize(("waited", "named"), [(STUCK_S - 1, 0), (STUCK_S, 1), (STUCK_S + 1, 1)])
async def test_an_item_on_its_way_for_too_long_is_named_once(core: Core, waited: float, named: int) -> None:
    core.target.index["a.md"] = Indexed("running")
    await in_step(core, **{"a.md": "x"})
    core.clock.forward(waited)
    with capture_logs() as logs:
        await index.poll(core.mirror)
        await index.poll(core.mirror)
    core.restart()
    with capture_logs() as later:
        await index.poll(core.mirror)
    lines = [line for line in logs + later if line["event"] == "index.stuck"]
    assert len(lines) == named
    assert all((line["key"], line["status"], line["log_level"]) == ("a.md", "running", "warning") for line in lines)
    assert core.mirror.journal.index.stuck_count(core.clock.now - STUCK_S) == named


async def test_the_log_names_a_few_stuck_entries_and_counts_the_rest(core: Core) -> None:
    for number in range(index.NAMED + 5):
        core.target.index[f"{number:02}.md"] = Indexed("queued")
        core.write(f"{number:02}.md", "x")
    await core.full()
    core.clock.forward(STUCK_S)
    with capture_logs() as logs:
        await index.poll(core.mirror)
    assert sum(line["event"] == "index.stuck" for line in logs) == index.NAMED
    [more] = [line for line in logs if line["event"] == "index.more_stuck"]
    assert more["count"] == 5


# -- content that cannot be indexed


@pytest.fixture
async def locked(core: Core) -> Core:
    """A mirror whose a.md is stored and could not be indexed because it is locked."""
    core.target.index["a.md"] = LOCKED
    await in_step(core, **{"a.md": "x", "b.md": "x"})
    await followed(core)
    return core


def puts(core: Core) -> list[str]:
    return [key for kind, key, _ in core.target.said() if kind == "put"]


async def test_the_problem_quotes_the_service(locked: Core) -> None:
    message = locked.problem("a.md").message
    assert "locked with a password" in message
    assert "the service says: Document is encrypted; remove the password" in message
    await locked.full()
    assert locked.problem("a.md").message == message, "also after a pass that asks for nothing"
    await locked.hint("a.md")
    assert locked.problem("a.md").message == message


async def dropped(core: Core) -> None:
    """Let the remote drop an entry that it could not index."""
    del core.target.store["a.md"]


async def overwritten(core: Core) -> None:
    """Let another writer put other content under the key, without a mark."""
    core.target.put_by(None, "a.md", "z")


@pytest.mark.parametrize("lost", [dropped, overwritten])
@pytest.mark.parametrize("look", ["full", "hint"])
@pytest.mark.parametrize("restart", [False, True])
async def test_the_same_bytes_are_not_sent_again_whatever_became_of_them(
    locked: Core, lost: Callable[[Core], None], look: str, restart: bool
) -> None:
    await lost(locked)  # type: ignore[func-returns-value, misc]
    for _ in range(3):
        await (locked.full() if look == "full" else locked.hint("a.md"))
        if restart:
            locked.restart()
    await locked.full()
    assert puts(locked) == []
    assert locked.problems() == {"a.md": "index_error" if lost.__name__ == "dropped" else "foreign"}


async def test_other_bytes_are_sent_at_once(locked: Core) -> None:
    locked.target.index["a.md"] = Indexed()
    locked.write("a.md", "unlocked")
    await locked.hint("a.md")
    assert puts(locked) == ["a.md"]
    await locked.full()
    assert locked.problems() == {}


async def test_other_bytes_are_sent_at_once_also_after_the_remote_dropped_the_old(locked: Core) -> None:
    await dropped(locked)
    await locked.full()
    locked.target.index["a.md"] = Indexed()
    locked.write("a.md", "unlocked")
    await locked.full()
    assert puts(locked) == ["a.md"]
    assert locked.problems() == {}


async def test_a_person_s_retry_sends_what_was_dropped_and_has_indexed_again_what_is_stored(locked: Core) -> None:
    now, journal, queue = locked.clock.now, locked.mirror.journal, locked.mirror.queue
    assert retry_problems(journal, queue, None, now) == 1
    await followed(locked)
    assert (puts(locked), locked.target.reindexed) == ([], ["a.md"])
    await followed(locked)
    await dropped(locked)
    await locked.full()
    assert retry_problems(journal, queue, ["a.md"], locked.clock.now) == 1
    await reconcile(locked.mirror, Scope(queue.settled(locked.clock.now)))
    assert (puts(locked), locked.target.reindexed) == (["a.md"], ["a.md"])
    await locked.full()
    assert puts(locked) == ["a.md"]


async def test_a_dropped_entry_is_not_requested_in_every_pass(locked: Core) -> None:
    await dropped(locked)
    await locked.full()
    locked.target.confirmed.clear()
    await locked.full()
    assert locked.target.confirmed == []


async def test_a_lost_state_file_sends_nothing_again_while_the_item_is_there(locked: Core) -> None:
    locked.mirror.db.close()
    (locked.state / "state.db").unlink()
    locked.restart()
    await locked.full()
    await locked.full()
    assert puts(locked) == []
    assert locked.problems() == {"a.md": "index_error"}
    await dropped(locked)
    await locked.full()
    assert puts(locked) == []


async def test_content_faults_are_never_indexed_again_by_themselves(locked: Core) -> None:
    for _ in range(50):
        locked.clock.forward(600)
        await followed(locked)
    assert locked.target.reindexed == []
    assert index.next_reindex_s(locked.mirror) is None


async def test_the_file_may_go_and_takes_its_problem_along(locked: Core) -> None:
    locked.remove("a.md")
    await locked.full()
    await locked.full()
    assert locked.problems() == {}
    assert set(locked.target.store) == {"b.md"}


# -- errors that may pass


@pytest.fixture
async def busy(core: Core) -> Core:
    """A mirror whose a.md is stored and whose indexing timed out."""
    core.target.index["a.md"] = BUSY
    await in_step(core, **{"a.md": "x"})
    await followed(core)
    return core


async def test_an_error_that_may_pass_is_indexed_again_by_itself_and_not_uploaded(busy: Core) -> None:
    await followed(busy)
    assert index.next_reindex_s(busy.mirror) == TRIES_S[0]
    busy.clock.forward(TRIES_S[0] - 1)
    await followed(busy)
    assert busy.target.reindexed == []
    busy.clock.forward(1)
    busy.target.index["a.md"] = Indexed("queued")
    assert await followed(busy) == 1
    assert busy.target.reindexed == ["a.md"]
    assert busy.problems() == {}
    busy.target.index["a.md"] = Indexed()
    assert await followed(busy) == 0
    assert (puts(busy), busy.problems(), index.next_reindex_s(busy.mirror)) == ([], {}, None)


async def test_an_error_that_the_request_itself_tells_is_an_event_and_a_problem(busy: Core) -> None:
    events: list[ActionEvent] = []
    busy.target.index["a.md"] = replace(BUSY, again="error")
    busy.mirror.journal.reindexing.request(["a.md"].__contains__)
    busy.mirror.journal.problems.clear("a.md", subtree=False)
    busy.mirror.on_action = events.append
    with capture_logs() as lines:
        await index.reindex_due(busy.mirror)
    (line,) = [line for line in lines if line["event"] == "index.failed"]
    assert (line["key"], line["error"]) == ("a.md", BUSY.error)
    assert events == [ActionEvent("index", "a.md", "error", "failed")]
    assert busy.problems() == {"a.md": "index_error"}


async def used_up(core: Core, seconds: float = 4 * sum(TRIES_S)) -> None:
    for _ in range(int(seconds / 30)):
        core.clock.forward(30)
        await followed(core)


async def test_the_budget_of_a_content_is_bounded_and_survives_passes_and_restarts(busy: Core) -> None:
    for _ in range(4):
        await used_up(busy, sum(TRIES_S))
        await busy.full()
        busy.restart()
    assert len(busy.target.reindexed) == len(TRIES_S)
    assert "5 times in vain" in busy.problem("a.md").message
    assert "The drain did not end" in busy.problem("a.md").message
    assert index.next_reindex_s(busy.mirror) is None


async def test_tries_are_ever_further_apart(busy: Core) -> None:
    at: list[float] = []
    while len(at) < len(TRIES_S):
        busy.clock.forward(1)
        before = len(busy.target.reindexed)
        await followed(busy)
        at += [busy.clock.now] * (len(busy.target.reindexed) - before)
    waits = [later - earlier for earlier, later in pairwise(at)]
    assert all(wait >= wanted for wait, wanted in zip(waits, TRIES_S[1:], strict=True))


async def test_a_person_s_retry_asks_at_once_and_makes_the_budget_whole(busy: Core) -> None:
    await used_up(busy)
    busy.target.reindexed.clear()
    assert busy.mirror.journal.reindexing.request(["a.md"].__contains__) == 1
    await followed(busy)
    assert busy.target.reindexed == ["a.md"]
    await used_up(busy)
    assert len(busy.target.reindexed) == 1 + len(TRIES_S)


async def test_new_content_has_a_budget_of_its_own(busy: Core) -> None:
    await used_up(busy)
    busy.target.reindexed.clear()
    busy.write("a.md", "y")
    await busy.hint("a.md")
    await used_up(busy)
    assert len(busy.target.reindexed) == len(TRIES_S)
    assert puts(busy) == ["a.md"]


async def test_of_many_a_look_indexes_a_few_again_and_asks_for_few_reasons(core: Core) -> None:
    names = [f"{number:02}.md" for number in range(2 * index.TRIES + 1)]
    for name in names:
        core.target.index[name] = BUSY
        core.write(name, "x")
    await core.full()
    await index.fetch_reasons(core.mirror)
    said = sum("did not end" in problem.message for problem in core.mirror.journal.problems.all())
    assert said == index.REASONS
    await index.reindex_due(core.mirror)
    core.clock.forward(TRIES_S[0])
    for expected in (index.TRIES, 2 * index.TRIES, 2 * index.TRIES + 1):
        await index.reindex_due(core.mirror)
        assert len(core.target.reindexed) == expected


@pytest.mark.parametrize("error", [Park("refused", "no"), Retry("later")])
async def test_a_refused_indexing_counts_as_a_try_and_stops_no_other(
    busy: Core, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked = []

    async def refuses(_: object, key: str, ref: str) -> str:
        asked.append((key, ref))
        raise error

    monkeypatch.setattr(type(busy.target), "reindex", refuses)
    busy.mirror.journal.reindexing.request(None)
    await used_up(busy)
    assert len(asked) == 1 + len(TRIES_S)
    assert busy.problems() == {"a.md": "index_error"}


async def test_a_reason_that_cannot_be_had_is_not_asked_for_again(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def fails(_: object, ref: str) -> str:
        asked.append(ref)
        raise Retry("the logs do not work")

    monkeypatch.setattr(type(core.target), "why", fails)
    core.target.index["a.md"] = LOCKED
    await in_step(core, **{"a.md": "x"})
    await followed(core)
    await followed(core)
    assert len(asked) == 1
    assert "the service says" not in core.problem("a.md").message


async def test_nothing_is_given_up_because_the_remote_cannot_be_reached(
    busy: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> str:
        raise Unreachable("no answer")

    busy.mirror.journal.reindexing.request(None)
    with monkeypatch.context() as patched:
        patched.setattr(type(busy.target), "reindex", away)
        with pytest.raises(Unreachable):
            await index.reindex_due(busy.mirror)
    await index.reindex_due(busy.mirror)
    assert busy.target.reindexed == ["a.md"]


async def test_an_error_that_a_listing_still_shows_after_another_indexing_is_asked_about(core: Core) -> None:
    core.target.limits = core.target.limits.__class__(max_file_size=1000, lag_s=60)
    core.target.index["a.md"] = BUSY
    await in_step(core, **{"a.md": "x"})
    core.mirror.journal.reindexing.request(None)
    await index.reindex_due(core.mirror)
    core.target.confirmed.clear()
    await index.poll(core.mirror)
    assert core.target.confirmed == ["a.md"]
    assert core.problems() == {"a.md": "index_error"}, "it is so"


async def test_another_version_with_our_marks_is_still_our_write(busy: Core) -> None:
    busy.mirror.journal.reindexing.request(None)
    await index.reindex_due(busy.mirror)
    busy.target.put_by("me", "a.md", "x")
    busy.target.index["a.md"] = Indexed()
    assert await index.poll(busy.mirror) == 0
    assert record(busy).checksum == sha("x")


@pytest.mark.parametrize(
    ("marks", "text", "status"),
    [
        (True, None, "completed"),
        (True, "x", "completed"),
        (True, "y", "queued"),
        (False, None, "completed"),
        (False, "y", "queued"),
    ],
)
async def test_a_poll_learns_the_status_of_the_recorded_entry_only(
    core: Core, marks: bool, text: str | None, status: str
) -> None:
    """text: what another process with the same mark, or a writer without a mark, put in the place of "x"."""
    core.target.marks = marks
    core.target.index["a.md"] = Indexed("queued")
    await in_step(core, **{"a.md": "x"})
    if text is not None:
        core.target.put_by("me" if marks else None, "a.md", text)
    core.target.index["a.md"] = Indexed()
    assert await index.poll(core.mirror) == int(status == "queued")
    assert record(core).status == status


@pytest.mark.parametrize("later", ["deleted", "another"])
async def test_a_record_that_changes_during_a_poll_keeps_its_status(
    core: Core, monkeypatch: pytest.MonkeyPatch, later: str
) -> None:
    core.target.index["a.md"] = Indexed("queued")
    await in_step(core, **{"a.md": "x"})
    before, statuses = record(core), type(core.target).statuses

    async def changing(self: ScriptedTarget, refs: frozenset[str], fresh: frozenset[str]) -> object:
        core.target.index["a.md"] = Indexed()
        shown = await statuses(self, refs, fresh)
        if later == "deleted":
            core.mirror.journal.forget("a.md")
        else:
            core.mirror.journal.put(replace(before, ref="another"))
        return shown

    monkeypatch.setattr(ScriptedTarget, "statuses", changing)
    await index.poll(core.mirror)
    assert core.mirror.journal.get("a.md") == (None if later == "deleted" else replace(before, ref="another"))
    assert core.waiting() == []


# -- pauses


def test_pauses_grow_to_a_minute() -> None:
    assert [round(index.pause_s(looks), 2) for looks in (0, 1, 2)] == [1, 1.5, 2.25]
    assert index.pause_s(50) == index.LONGEST_POLL_S


@pytest.mark.parametrize(("took", "rest"), [(0, 0), (1, 9), (10, 90), (1000, index.LONGEST_REST_S)])
def test_looks_take_a_tenth_of_the_time(took: float, rest: float) -> None:
    assert index.rest_s(took) == pytest.approx(rest)


# -- the times of the polls


async def test_another_indexing_that_is_due_soon_shortens_the_pause(core: Core) -> None:
    core.target.index |= {"a.md": BUSY, "b.md": Indexed("queued")}
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    assert await index.follow_up(core.mirror, 1000.0) == TRIES_S[0]
    assert await index.follow_up(core.mirror, 2.0) == 2.0


async def test_polls_follow_each_other_until_everything_is_searchable(core: Core) -> None:
    core.target.index["a.md"] = Indexed("queued")
    await in_step(core, **{"a.md": "a"})
    followup = index.IndexFollowup(core.mirror, core.clock)
    assert math.isinf(followup.due_at)
    followup.start_over(keep_pauses=False)
    pauses = []
    for _ in range(4):
        pauses.append(followup.due_at - core.clock.now)
        core.clock.now = followup.due_at
        await followup.run()
    assert pauses == [1.0, 1.0, 1.5, 2.25]
    core.target.index["a.md"] = Indexed()
    await followup.run()
    assert record(core).status == "queued", "it is not yet time for a poll"
    core.clock.now = followup.due_at
    await followup.run()
    assert (record(core).status, math.isinf(followup.due_at)) == ("completed", True)


# -- the times of polls


async def test_polls_come_less_often_and_take_a_tenth_of_the_time(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = 100.0, list[float]()

    async def three_seconds(_: object, pause: float) -> float:
        nonlocal now
        now += 3.0
        pauses.append(pause)
        return pause

    monkeypatch.setattr(index, "follow_up", three_seconds)
    followup = index.IndexFollowup(core.mirror, lambda: now)
    followup.start_over(keep_pauses=False)
    assert followup.due_at == 101.0
    await followup.run()
    assert pauses == [], "it is too early"
    now = 101.0
    await followup.run()
    assert followup.due_at == 104.0 + 27.0, "nine times as long as the poll took"
    now = followup.due_at
    await followup.run()
    assert pauses == [1.0, 1.5]


async def test_polls_end_with_the_last_entry_of_the_index(core: Core) -> None:
    followup = index.IndexFollowup(core.mirror, lambda: 100.0)
    followup.make_due()
    await followup.run()
    assert followup.due_at == math.inf


def test_each_call_sets_the_time_of_the_next_poll(core: Core) -> None:
    now = 100.0
    followup = index.IndexFollowup(core.mirror, lambda: now)
    due = [followup.due_at]
    for call in (
        followup.postpone,
        followup.expect,
        lambda: followup.start_over(keep_pauses=True),
        followup.make_due,
        followup.expect,
        lambda: followup.start_over(keep_pauses=False),
        followup.postpone,
    ):
        call()
        due.append(followup.due_at)
    longest = now + index.LONGEST_POLL_S
    assert due == [math.inf, math.inf, longest, longest, now, now, now + index.FIRST_POLL_S, longest]
