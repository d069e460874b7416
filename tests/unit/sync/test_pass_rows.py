"""The rows, the events and the log lines that a pass leaves, as a whole."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from syncd.core.errors import FileChanged, NotFound, Park, Retry
from syncd.core.model import ActionEvent
from syncd.local.walk import Tree
from tests.harness import START, Core, in_step, sha
from tests.memory_target import Indexed

FIRST, SECOND = START + 1, START + 2
"""The times of the two passes of each test."""


def rows(core: Core, table: str) -> list[tuple[object, ...]]:
    """Return the rows of a table, without the name of the mirror."""
    return [row[1:] for row in core.mirror.db.execute(f"SELECT * FROM {table}")]


def own(lines: list[Any], *events: str) -> list[dict[str, object]]:
    """Return the lines of some events, without their levels."""
    return [
        {name: value for name, value in line.items() if name != "log_level"}
        for line in lines
        if line["event"] in events
    ]


async def test_uploads_leave_these_rows_events_and_lines(core: Core) -> None:
    await in_step(core, **{"changed.md": "before", "gone.md": "gone"})
    del core.target.store["gone.md"]
    core.remove("gone.md")
    core.target.put_by("me", "found.md", "same")
    core.write("found.md", "same")
    core.write("changed.md", "after")
    core.target.failures = {
        "bad.md": [Park("refused", "no", code=7001)],
        "busy.md": [Retry("busy", after_s=7.04)],
        "late.md": [FileChanged("it moved")],
    }
    core.target.index["dark.md"] = Indexed("error", "invalid_pdf")
    for name in ("bad.md", "busy.md", "dark.md", "late.md"):
        core.write(name, name)
    events: list[ActionEvent] = []
    core.mirror.on_action = events.append
    with capture_logs() as lines:
        result = await core.full()

    assert rows(core, "record") == [
        ("changed.md", "m0", sha("after"), 5, SECOND, "v6", 5, 1, "completed", *[None] * 5, 2),
        ("dark.md", "m7", sha("dark.md"), 7, SECOND, "v8", 7, 1, "error", "invalid_pdf", *[None] * 4, 2),
        ("found.md", "m4", sha("same"), 4, SECOND, "v5", 4, 1, "completed", *[None] * 5, 1),
    ]
    dark = core.problem("dark.md").message
    assert rows(core, "problem") == [
        ("bad.md", "refused", "no (code 7001)", 2),
        ("busy.md", "failed", "busy", 2),
        ("dark.md", "index_error", dark, 2),
    ]
    assert rows(core, "parked") == [("bad.md", sha("bad.md"), "refused", "no (code 7001)")]
    assert rows(core, "dirty") == [
        ("busy.md", 0, SECOND + 7.04, SECOND + 7.04, 1, 1),
        ("late.md", 0, SECOND, SECOND + 0.5, 0, 1),
    ]
    assert rows(core, "claim") == [
        ("bad.md", "", "", SECOND),
        ("busy.md", "", "", SECOND),
        ("changed.md", "m0", sha("before"), SECOND),
        ("gone.md", "m2", sha("gone"), SECOND),
    ]
    assert rows(core, "history") == [
        ("bad.md", 1, SECOND, "put", "new", "failed", "refused: no (code 7001)", 2),
        ("busy.md", 1, SECOND, "put", "new", "failed", "failed: busy", 2),
        ("changed.md", 1, FIRST, "put", "new", "done", "", 1),
        ("changed.md", 2, SECOND, "put", "changed", "done", "", 2),
        ("dark.md", 1, SECOND, "problem", "index_error", "found", dark, 2),
        ("dark.md", 2, SECOND, "put", "new", "done", "", 2),
        ("found.md", 1, SECOND, "adopt", "found", "done", "", 2),
        ("gone.md", 1, FIRST, "put", "new", "done", "", 1),
        ("gone.md", 2, SECOND, "forget", "gone", "done", "", 2),
    ]
    counts = '{"put": 2, "adopt": 1, "forget": 1, "failed": 2, "problems": 3}'
    assert rows(core, "pass")[1:] == [(2, SECOND, SECOND, None, "done", "", counts, 1)]
    assert result.unsent == {"bad.md": sha("bad.md"), "busy.md": sha("busy.md")}
    assert (result.known, result.unrecorded, result.files_read, result.unchanged) == (3, 1, 2, 0)
    assert [(action.key, outcome) for action, outcome in result.tables.plan.actions()] == [
        ("found.md", "done"),
        ("gone.md", "done"),
        ("bad.md", "failed"),
        ("busy.md", "failed"),
        ("changed.md", "done"),
        ("dark.md", "done"),
        ("late.md", "again"),
    ]
    assert events == [
        ActionEvent("adopt", "found.md", "found", "done"),
        ActionEvent("forget", "gone.md", "gone", "done"),
        ActionEvent("put", "bad.md", "new", "failed"),
        ActionEvent("put", "busy.md", "new", "failed"),
        ActionEvent("put", "changed.md", "changed", "done", 5),
        ActionEvent("index", "dark.md", "error", "failed"),
        ActionEvent("put", "dark.md", "new", "done", 7),
        ActionEvent("put", "late.md", "new", "again"),
    ]
    failed = {"event": "put.failed", "mirror": "docs", "reason": "new"}
    done = {"event": "put.done", "mirror": "docs", "unchanged": False}
    assert own(lines, "put.failed", "put.done", "put.again") == [
        failed | {"key": "bad.md", "kind": "refused", "error": "no (code 7001)"},
        failed | {"key": "busy.md", "kind": "failed", "error": "busy", "retry_s": 7.0, "attempts": 1},
        done | {"key": "changed.md", "reason": "changed", "bytes": 5, "checksum": sha("after")},
        done | {"key": "dark.md", "reason": "new", "bytes": 7, "checksum": sha("dark.md")},
        {"event": "put.again", "key": "late.md", "why": "it moved"},
    ]
    assert own(lines, "index.failed") == [
        {"event": "index.failed", "mirror": "docs", "key": "dark.md", "error": "invalid_pdf"}
    ]


async def test_deletes_leave_these_rows_events_and_lines(core: Core) -> None:
    await in_step(core, **{"bad.md": "bad", "busy.md": "busy", "kept.md": "kept", "old.md": "old", "other.md": "kept"})
    core.remove("bad.md", "busy.md", "old.md", "other.md")
    core.write("new.md", "kept")
    core.target.failures = {"bad.md": [Park("refused", "no", code=7001)], "busy.md": [NotFound("not there", code=7002)]}
    events: list[ActionEvent] = []
    core.mirror.on_action = events.append
    with capture_logs() as lines:
        result = await core.full()

    assert [row[0] for row in rows(core, "record")] == ["bad.md", "busy.md", "kept.md", "new.md"]
    assert rows(core, "problem") == [
        ("bad.md", "refused", "no (code 7001)", 2),
        ("busy.md", "failed", "not there", 2),
    ]
    assert rows(core, "parked") == []
    assert rows(core, "dirty") == [("busy.md", 0, SECOND + 5, SECOND + 5, 1, 1)]
    assert rows(core, "tombstone") == [
        ("m6", "old.md", SECOND, 0, SECOND),
        ("m8", "other.md", SECOND, 1, SECOND),
    ]
    assert rows(core, "absence") == [
        ("bad.md", sha("bad"), SECOND, 1, 1, None, 2),
        ("busy.md", sha("busy"), SECOND, 1, 1, None, 2),
    ]
    gone = "pass 2 read the whole folder and there is no such file"
    assert [row for row in rows(core, "history") if row[-1] == 2] == [
        ("bad.md", 2, SECOND, "delete", "stale", "failed", "refused: no (code 7001)", 2),
        ("busy.md", 2, SECOND, "delete", "stale", "failed", "failed: not there", 2),
        ("new.md", 1, SECOND, "put", "new", "done", "", 2),
        ("old.md", 2, SECOND, "delete", "stale", "done", gone, 2),
        ("other.md", 2, SECOND, "delete", "stale", "done", gone, 2),
    ]
    counts = '{"put": 1, "delete": 2, "failed": 2, "unchanged": 1, "problems": 2}'
    assert rows(core, "pass")[1:] == [(2, SECOND, SECOND, None, "done", "", counts, 1)]
    assert [(action.key, outcome) for action, outcome in result.tables.plan.actions()] == [
        ("new.md", "done"),
        ("bad.md", "failed"),
        ("busy.md", "failed"),
        ("old.md", "done"),
        ("other.md", "done"),
    ]
    assert events[1:] == [
        ActionEvent("delete", "bad.md", "stale", "failed"),
        ActionEvent("delete", "busy.md", "stale", "failed"),
        ActionEvent("delete", "old.md", "stale", "done"),
        ActionEvent("delete", "other.md", "stale", "done"),
    ]
    failed = {"event": "delete.failed", "mirror": "docs", "reason": "stale"}
    done = {"event": "delete.done", "mirror": "docs", "reason": "stale", "evidence": "absent", "why": gone}
    assert own(lines, "delete.failed", "delete.done") == [
        failed | {"key": "bad.md", "kind": "refused", "error": "no (code 7001)"},
        failed | {"key": "busy.md", "kind": "failed", "error": "not there", "retry_s": 5.0, "attempts": 1},
        done | {"key": "old.md"},
        done | {"key": "other.md"},
    ]


async def test_a_pass_over_single_keys_leaves_these_rows_and_this_line(core: Core) -> None:
    await in_step(core, **{"a.md": "before", "b.md": "b"})
    core.write("a.md", "after")
    core.mark("a.md", "c.md")
    with capture_logs() as lines:
        await core.hint("a.md")
    assert rows(core, "dirty") == []
    assert rows(core, "pass")[1:] == [(2, SECOND, SECOND, 2, "done", "", '{"put": 1}', 1)]
    assert own(lines, "pass.done") == [
        {
            "event": "pass.done",
            "mirror": "docs",
            "scope": 2,
            "planned": {"put": 1},
            "unchanged": 0,
            "files_read": 1,
            "problems": {},
            "complete": True,
            "audited": False,
        }
    ]


async def test_deletes_that_wait_leave_these_rows_and_lines(core: Core) -> None:
    await in_step(core, **{"gone.md": "gone", "kept.md": "kept", "moved.md": "moved", "renamed.md": "renamed"})
    core.remove("gone.md", "moved.md", "renamed.md")
    core.write("new.md", "moved")
    core.target.failures = {"new.md": [Retry("busy")]}
    core.write("dark.md", "renamed")
    core.target.index["dark.md"] = Indexed("queued")
    with capture_logs() as lines:
        result = await core.full(delete_after=12.0)
    assert (result.waiting, result.done) == (1, {"put": 1, "failed": 1})
    assert rows(core, "absence") == [
        ("gone.md", sha("gone"), SECOND, 1, 1, None, 2),
        ("moved.md", sha("moved"), SECOND, 1, 1, "new.md", 2),
        ("renamed.md", sha("renamed"), SECOND, 1, 1, None, 2),
    ]
    assert rows(core, "dirty") == [
        ("gone.md", 0, SECOND + 12, SECOND + 12, 0, 1),
        ("moved.md", 0, SECOND + 5, SECOND + 5, 1, 1),
        ("new.md", 0, SECOND + 5, SECOND + 5, 1, 1),
        ("renamed.md", 0, SECOND + 12, SECOND + 12, 0, 1),
    ]
    assert own(lines, "delete.postponed", "delete.waits") == [
        {"event": "delete.postponed", "mirror": "docs", "waiting": 1, "young": 2}
    ]

    core.clock.forward(11)
    with capture_logs() as lines:
        result = await core.full(delete_after=12.0)
    now = SECOND + 12
    assert (result.waiting, result.done) == (1, {"put": 1, "delete": 2})
    assert rows(core, "superseded") == []
    assert rows(core, "dirty") == [("renamed.md", 0, now + 3, now + 3, 0, 2)]
    assert own(lines, "delete.postponed", "delete.waits") == [
        {"event": "delete.waits", "mirror": "docs", "count": 1, "key": "renamed.md", "until_searchable": "dark.md"}
    ]


async def test_a_file_that_an_ignore_file_leaves_out_since_the_plan_is_looked_at_again(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.write("a.md", "a")
    monkeypatch.setattr(Tree, "is_excluded", lambda *_: True)
    with capture_logs() as lines:
        assert (await core.full()).done == {}
    assert own(lines, "put.again") == [
        {"event": "put.again", "key": "a.md", "why": "a.md may be left out by now"},
    ]
    assert rows(core, "dirty") == [("a.md", 0, FIRST, FIRST + 0.5, 0, 1)]
