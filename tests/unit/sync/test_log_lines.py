"""The log and the events of a pass: each action has an outcome, and many actions share a few lines."""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from syncd.core.errors import Brake, FileChanged, Park, Retry
from syncd.core.model import ActionEvent
from syncd.sync import index
from syncd.sync.apply import LINES, MORE
from tests.harness import Core, in_step
from tests.memory_target import Indexed


@pytest.fixture
def lines(request: pytest.FixtureRequest) -> Iterator[list[Any]]:
    """The log lines at level info, or at the level that a test requests."""
    capture, level = LogCapture(), getattr(request, "param", logging.INFO)
    structlog.configure(processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(level))
    yield capture.entries
    structlog.reset_defaults()


@pytest.fixture
def events(core: Core) -> list[ActionEvent]:
    events: list[ActionEvent] = []
    core.mirror.on_action = events.append
    return events


@pytest.mark.parametrize(
    ("files", "counted"),
    [(1, []), (LINES, []), (LINES + 1, [1]), (LINES + MORE, [MORE]), (LINES + MORE + 1, [MORE, 1])],
)
async def test_a_batch_logs_twenty_lines_and_counts_the_rest(
    core: Core, lines: list[Any], files: int, counted: list[int]
) -> None:
    for each in range(files):
        core.write(f"{each}.md", f"text {each}")
    await core.full()
    kinds = Counter(line["event"] for line in lines)
    assert kinds["put.done"] == min(files, LINES)
    more = {"event": "put.more", "log_level": "info", "mirror": "docs"}
    assert [line for line in lines if line["event"] == "put.more"] == [more | {"count": count} for count in counted]


@pytest.mark.parametrize("lines", [logging.DEBUG], indirect=True)
async def test_level_debug_has_a_line_for_each_action(core: Core, lines: list[Any]) -> None:
    for each in range(LINES + 5):
        core.write(f"{each}.md", f"text {each}")
    await core.full()
    levels = Counter(line["log_level"] for line in lines if line["event"] == "put.done")
    assert levels == {"info": LINES, "debug": 5}


async def test_each_failed_put_has_a_line(core: Core, lines: list[Any]) -> None:
    for each in range(LINES * 2):
        core.write(f"{each:02}.md", f"text {each}")
        core.target.failures[f"{each:02}.md"] = [Park("refused", "no")]
    result = await core.full()
    assert (result.problems, result.done) == ({"refused": LINES * 2}, {"failed": LINES * 2})
    assert Counter(line["event"] for line in lines)["put.failed"] == LINES * 2


async def test_every_action_reports_its_end(core: Core, events: list[ActionEvent]) -> None:
    core.target.put_by("me", "found.md", "same")
    core.write("found.md", "same")
    core.write("new.md", "four")
    core.write("late.md", "x")
    core.write("bad.md", "y")
    core.target.failures = {"late.md": [FileChanged("it moved")], "bad.md": [Retry("busy")]}
    await core.full()
    assert set(events) == {
        ActionEvent("adopt", "found.md", "found", "done"),
        ActionEvent("put", "new.md", "new", "done", size=4),
        ActionEvent("put", "late.md", "new", "again"),
        ActionEvent("put", "bad.md", "new", "failed"),
    }
    events.clear()
    core.remove("new.md")
    await core.full()
    assert ActionEvent("delete", "new.md", "stale", "done") in events


async def test_a_forgotten_entry_is_reported(core: Core, events: list[ActionEvent]) -> None:
    await in_step(core, **{"a.md": "one", "b.md": "two"})
    core.target.store.clear()
    core.remove("a.md")
    events.clear()
    await core.full()
    assert ActionEvent("forget", "a.md", "gone", "done") in events


async def test_the_line_of_a_delete_has_its_evidence(core: Core, lines: list[Any]) -> None:
    await in_step(core, **{"a.md": "one", "b.md": "two"})
    core.remove("a.md")
    await core.full()
    (line,) = [line for line in lines if line["event"] == "delete.done"]
    assert (line["key"], line["reason"], line["evidence"]) == ("a.md", "stale", "absent")
    assert line["why"] == "pass 2 read the whole folder and there is no such file"


@pytest.mark.parametrize("lines", [logging.DEBUG], indirect=True)
async def test_the_last_line_of_a_pass_has_its_numbers(core: Core, lines: list[Any]) -> None:
    def last(*leave_out: str) -> dict[str, Any]:
        (line,) = [line for line in lines if line["event"] == "pass.done"]
        lines.clear()
        return {name: value for name, value in line.items() if name not in leave_out}

    common = {"event": "pass.done", "mirror": "docs", "complete": True, "audited": False}
    for name in ("a.md", "b.md", "c.md"):
        core.write(name, name, age_s=10)
    core.write("bad.md", "b")
    core.target.failures["bad.md"] = [Park("refused", "no")]
    await core.full()
    assert last() == common | {
        "log_level": "info",
        "scope": "all",
        "planned": {"put": 4},
        "unchanged": 0,
        "files_read": 0,
        "problems": {"refused": 1},
    }
    core.remove("bad.md")
    await core.full()
    assert last("planned") == common | {
        "log_level": "info",
        "scope": "all",
        "unchanged": 3,
        "files_read": 0,
        "problems": {},
    }
    nothing = {"unchanged": 1, "files_read": 0, "problems": {}}
    await core.hint("a.md")
    assert last("planned") == common | nothing | {"log_level": "debug", "scope": 1}
    core.write("a.md", "longer", age_s=10)
    await core.hint("a.md")
    line = last()
    assert line.pop("planned") == {"put": 1}
    assert line == common | {"log_level": "info", "scope": 1, "unchanged": 0, "files_read": 1, "problems": {}}


async def test_the_last_line_of_a_pass_names_a_refusal_and_waiting_deletes(core: Core, lines: list[Any]) -> None:
    await in_step(core, **{f"{number:02}": f"text {number}" for number in range(12)})
    (core.root / "00").rename(core.root / "new")
    core.target.failures["new"] = [Retry("busy")]
    lines.clear()
    result = await core.full()
    (line,) = [line for line in lines if line["event"] == "pass.done"]
    assert (result.waiting, line["waiting"], "refused" in line) == (1, 1, False)
    core.use(max_delete=0)
    core.remove("01")
    lines.clear()
    with pytest.raises(Brake) as caught:
        await core.full()
    (line,) = [line for line in lines if line["event"] == "pass.done"]
    assert (line["refused"], "waiting" in line) == (str(caught.value), False)


async def test_many_entries_that_become_searchable_share_a_line(core: Core, lines: list[Any]) -> None:
    names = [f"{each}.md" for each in range(LINES + 5)]
    core.target.index |= dict.fromkeys(names, Indexed("queued"))
    await in_step(core, **{name: name for name in names})
    core.target.index |= dict.fromkeys(names, Indexed())
    core.clock.forward(60)
    await index.poll(core.mirror)
    assert sum(line["event"] == "index.done" for line in lines) == LINES
    assert [line["count"] for line in lines if line["event"] == "index.more"] == [5]
