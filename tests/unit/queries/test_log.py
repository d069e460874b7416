"""The log of passes and actions, as real passes write it and the command reads it."""

import asyncio
from typing import Any

import pytest

from syncd.core.errors import Brake, Park, RootHalt, Unreachable
from syncd.core.model import Delete
from syncd.queries.log import KINDS, LogLine, read_log, summary
from syncd.state.directory import directory_of
from syncd.state.history import PastPass
from syncd.sync.mirror import PassOptions, Scope
from syncd.sync.reconcile import reconcile
from tests.harness import START, Core, in_step


def log_of(core: Core, *kinds: str, since: float = 0.0, most: int = -1) -> tuple[list[LogLine], int]:
    return read_log(directory_of(core.mirror.db), [core.mirror.name], since, kinds or KINDS, most)


def lines(found: list[LogLine]) -> list[tuple[Any, ...]]:
    lines: list[tuple[Any, ...]] = []
    for entry in found:
        fields = entry.as_json()
        lines.append((fields["kind"], fields.get("key", fields.get("scope")), fields["outcome"]))
    return lines


async def test_actions_stand_before_their_pass(core: Core) -> None:
    core.write("a.md", "a")
    await core.full()
    core.clock.forward(60)
    core.write("a.md", "changed")
    await core.hint("a.md")
    assert lines(log_of(core)[0]) == [
        ("put", "a.md", "done"),
        ("pass", "all", "done"),
        ("put", "a.md", "done"),
        ("pass", 1, "done"),
    ]


async def test_a_pass_over_keys_that_changes_nothing_is_not_kept(core: Core) -> None:
    await in_step(core, **{"a.md": "a"})
    before = lines(log_of(core)[0])
    await core.hint("a.md")
    assert lines(log_of(core)[0]) == before
    await core.full()
    assert lines(log_of(core)[0]) == [*before, ("pass", "all", "done")]


async def test_a_dry_run_is_not_kept(core: Core) -> None:
    core.write("a.md", "a")
    await reconcile(core.mirror, Scope(), PassOptions(dry_run=True))
    assert log_of(core)[0] == []


async def test_a_new_problem_is_kept_once(core: Core) -> None:
    core.write("a.md", "a")
    core.target.failures["a.md"] = [Park("refused", "not this")]
    for _ in range(3):
        core.clock.forward(3600)
        await core.full()
    assert lines(log_of(core, "problem")[0]) == [("put", "a.md", "failed")]
    assert lines(log_of(core, "put")[0]) == [("put", "a.md", "failed")]


async def test_a_pass_that_stops_is_kept_with_its_reason(core: Core) -> None:
    core.write("a.md", "a")
    core.target.raises = [Unreachable("no answer"), asyncio.CancelledError()]
    with pytest.raises(Unreachable):
        await core.full()
    with pytest.raises(asyncio.CancelledError):
        await core.full()
    passes = [(fields["outcome"], fields["detail"]) for fields in (entry.as_json() for entry in log_of(core)[0])]
    assert passes == [("stopped", "no answer"), ("stopped", "interrupted")]


async def test_a_halt_at_the_beginning_is_kept_once(core: Core) -> None:
    await in_step(core, **{"a.md": "a"})
    core.root.rename(core.root.with_name("elsewhere"))
    for _ in range(3):
        with pytest.raises(RootHalt):
            await core.full()
    [stopped] = [entry.as_json() for entry in log_of(core)[0] if entry.as_json()["outcome"] == "stopped"]
    assert (stopped["kind"], stopped["times"], stopped["scope"]) == ("pass", 3, "all")
    assert "Bring the folder back" in stopped["detail"]


async def test_a_refused_pass_has_the_reason(core: Core) -> None:
    await in_step(core, **{f"{number}.md": str(number) for number in range(20)})
    core.use(max_delete="25%")
    core.remove(*(f"{number}.md" for number in range(15)))
    with pytest.raises(Brake):
        await core.full()
    last = log_of(core)[0][-1].as_json()
    assert (last["kind"], last["outcome"]) == ("pass", "refused")
    assert "max_delete" in last["detail"]


async def test_deletes_have_their_reason(core: Core) -> None:
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    core.remove("a.md")
    await core.full()
    [deleted] = log_of(core, "delete")[0]
    assert "there is no such file" in deleted.as_json()["detail"]
    assert isinstance(core.target.applied[-1], Delete)


async def test_the_last_entries_are_shown_and_the_others_counted(core: Core) -> None:
    await in_step(core, **{f"{number}.md": str(number) for number in range(5)})
    found, earlier = log_of(core, most=2)
    assert (len(found), earlier) == (2, 4)
    assert lines(found)[-1] == ("pass", "all", "done")
    assert log_of(core, most=6)[1] == log_of(core)[1] == 0
    assert log_of(core, since=START + 1e6) == ([], 0)


async def test_without_a_state_file_there_is_no_log(core: Core) -> None:
    assert read_log(core.root / "nowhere", ["docs"], 0.0) == ([], 0)


def test_a_pass_is_summed_up_for_people() -> None:
    ended = PastPass(1, 10.0, 12.06, None, "done", "", {"put": 1200, "unchanged": 3, "problems": 1})
    assert summary(ended) == "1,200 put, 3 unchanged, 1 problem, in 2.1 s"
    assert summary(ended._replace(ended=9.0, counts={"problems": 2})) == "2 problems, in 0.0 s"


@pytest.mark.parametrize("forced", [True, False])
async def test_a_pass_names_the_consent_of_a_person(core: Core, *, forced: bool) -> None:
    await in_step(core, **{f"{number}.md": str(number) for number in range(20)})
    assert log_of(core)[0][-1].as_json()["detail"] == ""
    core.use(max_delete="25%")
    core.remove(*(f"{number}.md" for number in range(15)))
    seen = await reconcile(core.mirror, Scope(), PassOptions(dry_run=True))
    consent = PassOptions(force=True) if forced else PassOptions(approved=seen.plan_id)
    await reconcile(core.mirror, Scope(), consent)
    last = log_of(core)[0][-1].as_json()
    assert (last["outcome"], last["counts"]["delete"]) == ("done", 15)
    assert last["detail"] == ("with --force" if forced else f"plan {seen.plan_id}, as approved")
