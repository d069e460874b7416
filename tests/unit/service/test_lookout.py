"""The notices that follow from the states, the problems and the waits of mirrors."""

import asyncio
import json
import math
from collections.abc import Callable

import pytest
from pydantic import SecretStr

from syncd.cloudflare.gate import Budget, Gate
from syncd.config.schema import Notify
from syncd.core.model import Problem, ProblemKind, Record
from syncd.core.requests import Quota
from syncd.service.lookout import (
    BUDGET_LONG_S,
    BUDGET_PAUSE_S,
    COUNT_EVERY_S,
    DEGRADED_LONG_S,
    Conditions,
    Lookout,
    QuotaWaits,
    notices_of,
    problem_conditions,
    state_conditions,
)
from syncd.service.outbox import Topic
from syncd.service.worker import MirrorWorker
from syncd.state.journal import STUCK_S
from tests.harness import START, Core


def problems(core: Core, kind: ProblemKind, count: int) -> None:
    core.mirror.journal.problems.clear("", subtree=True)
    core.mirror.journal.problems.add([Problem(f"{number}.md", kind, "why") for number in range(count)], 1)


async def listened() -> Lookout:
    """Return a lookout with an address that nothing reaches in these tests."""
    lookout = Lookout()
    task = asyncio.create_task(lookout.run(Notify(webhook=SecretStr("http://127.0.0.1:9"))))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return lookout


async def test_without_an_address_nothing_counts_as_reported(core: Core) -> None:
    worker, lookout = MirrorWorker(core.mirror, 3600.0, Gate(0, 1)), Lookout()
    await lookout.run(Notify())
    worker.status.set("halted", "no token")
    lookout.look({"docs": worker}, worker._gate, 10)
    assert len(lookout.webhook) == 0
    task = asyncio.create_task(lookout.run(Notify(webhook=SecretStr("http://127.0.0.1:9"))))
    await asyncio.sleep(0)
    lookout.look({"docs": worker}, worker._gate, 10)
    assert len(lookout.webhook) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_states_that_need_a_person_are_reported(core: Core) -> None:
    worker = MirrorWorker(core.mirror, 3600.0, Gate(0, 1))
    assert state_conditions(worker) == {"halted": None, "refused": None, "degraded": None}
    worker.status.set("syncing")
    assert state_conditions(worker) == {}
    worker.status.set("degraded", "no answer")
    core.clock.forward(DEGRADED_LONG_S - 1)
    assert state_conditions(worker) == {}
    core.clock.forward(1)
    assert state_conditions(worker) == {"degraded": "for 5 min: no answer"}
    worker.status.set("halted", "too many deletes: syncd approve docs-1")
    assert state_conditions(worker) == {"halted": "too many deletes: syncd approve docs-1"}
    worker.policy.refused = True
    assert state_conditions(worker) == {"refused": "too many deletes: syncd approve docs-1"}


@pytest.mark.parametrize(("count", "reason"), [(10, None), (11, "11 items: 11 failed; see: syncd status -m docs")])
def test_problems_above_the_number_are_reported(core: Core, count: int, reason: str | None) -> None:
    problems(core, "failed", count)
    assert problem_conditions(core.mirror, 10).get("problems") == reason
    problems(core, "unsupported_type", 100)
    assert problem_conditions(core.mirror, 10)["problems"] is None, "left out on purpose"


@pytest.mark.parametrize(("count", "is_over"), [(5, True), (6, False)])
def test_problems_are_over_at_half_the_number(core: Core, count: int, *, is_over: bool) -> None:
    problems(core, "failed", count)
    assert ("problems" in problem_conditions(core.mirror, 10)) is is_over


def test_stuck_entries_and_entries_of_another_writer_are_reported(core: Core) -> None:
    core.mirror.journal.put(Record("a.md", "r1", "0" * 64, 1, START - STUCK_S, status="queued"))
    assert problem_conditions(core.mirror, 0)["problems"] == "1 item: 1 stuck in the index; see: syncd status -m docs"
    assert problem_conditions(core.mirror, 0)["foreign"] is None
    problems(core, "foreign", 3)
    assert "syncd reconcile --takeover -m docs" in str(problem_conditions(core.mirror, 10)["foreign"])


class Spent:
    def __init__(self) -> None:
        self.times: list[float] = []
        self.clock: Callable[[], float] = lambda: 0.0

    def sent(self) -> list[float]:
        return self.times

    def add(self) -> None:
        self.times.append(0.0)


def test_long_waits_for_the_quota_are_reported() -> None:
    spent = Spent()
    gate, waits = Gate(0, 1, lambda: 0.0, budget=Budget(Quota(10, 300.0), spent)), QuotaWaits()
    gate._waits_until[True] = 100.0
    assert waits.look(gate, 0.0) is None, "the rate limit alone"
    assert waits.look(gate, BUDGET_LONG_S) is None
    spent.times = [0.0] * 10
    assert waits.look(gate, 0.0) is None
    gate._waits_until.clear()
    assert waits.look(gate, BUDGET_PAUSE_S - 1) is None
    gate._waits_until[True] = 100.0
    assert waits.look(gate, BUDGET_LONG_S - 1) is None
    assert "for 15 min: requests are sent within 10 requests in 300 s" in str(waits.look(gate, BUDGET_LONG_S))
    gate._waits_until.clear()
    assert waits.look(gate, BUDGET_LONG_S + BUDGET_PAUSE_S - 1), "a short break"
    assert waits.look(gate, BUDGET_LONG_S + BUDGET_PAUSE_S) is None


async def test_nothing_is_reported_twice_not_even_by_the_next_process(core: Core) -> None:
    worker = MirrorWorker(core.mirror, 3600.0, Gate(0, 1))
    first, second = await listened(), await listened()
    worker.status.set("halted", "no token")
    for _ in range(3):
        first.look({"docs": worker}, worker._gate, 10)
        second.look({"docs": worker}, worker._gate, 10)
    assert (len(first.webhook), len(first.apprise), len(second.webhook)) == (1, 0, 0), "apprise has no address"
    worker.status.set("idle")
    second.look({"docs": worker}, worker._gate, 10)
    assert len(second.webhook) == 1, "the recovery"


async def test_problems_are_counted_once_a_minute(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, lookout, now = MirrorWorker(core.mirror, 3600.0, Gate(0, 1)), await listened(), 1000.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    lookout.look({"docs": worker}, worker._gate, 0)
    problems(core, "failed", 1)
    now += COUNT_EVERY_S - 1
    lookout.look({"docs": worker}, worker._gate, 0)
    assert len(lookout.webhook) == 0
    now += 1
    lookout.look({"docs": worker}, worker._gate, 0)
    assert len(lookout.webhook) == 1
    assert math.isfinite(lookout._count_at["docs"])


# -- the notices

IN_STEP: Conditions = {"halted": None, "refused": None, "degraded": None}


def news(reported: set[Topic], *steps: Conditions) -> list[tuple[str, str | None]]:
    return [
        (notice.state, notice.topic) for conditions in steps for notice in notices_of("docs", reported, conditions, 0.0)
    ]


def test_a_halt_is_reported_once_and_its_end_once() -> None:
    halted: Conditions = {"halted": "the folder is gone"}
    states = news(set(), IN_STEP, halted, {}, halted, {"halted": "it is still gone"}, {}, IN_STEP, IN_STEP)
    assert states == [("halted", "halted"), ("recovered", None)]


def test_a_refusal_is_a_halt_of_its_own_kind_and_both_end_together() -> None:
    states = news(set(), {"halted": "no token"}, {"refused": "too many deletes"}, IN_STEP)
    assert states == [("halted", "halted"), ("halted", "refused"), ("recovered", None)]


def test_other_topics_have_their_own_end() -> None:
    reported: set[Topic] = set()
    assert news(reported, {"problems": "20 items"}, {"degraded": "for 5 min"}, IN_STEP) == [
        ("problems", "problems"),
        ("degraded", "degraded"),
        ("recovered", None),
    ]
    assert reported == {"problems"}
    assert news(reported, {"problems": None, "foreign": None}) == [("recovered", "problems")]


def test_a_report_of_an_earlier_process_is_not_repeated() -> None:
    assert news({"halted"}, {"halted": "no token"}, IN_STEP) == [("recovered", None)]


def test_a_message_has_a_text_for_people_that_calls_nobody() -> None:
    (notice,) = notices_of("docs", set(), {"halted": "<!channel> @everyone.md \u202e\n\udcff"}, 0.0)
    body = json.loads(json.dumps(notice.body()))
    assert (body["mirror"], body["state"], body["kind"]) == ("docs", "halted", "halted")
    assert body["detail"] == "<!channel> @everyone.md \\u202e\\n\\xff"
    assert body["time"] == "1970-01-01T00:00:00Z"
    assert body["text"] == body["content"]
    assert "mirror docs on " in body["text"]
    assert "@everyone" not in body["text"]
    assert "<" not in body["text"]
    assert body["allowed_mentions"] == {"parse": []}
