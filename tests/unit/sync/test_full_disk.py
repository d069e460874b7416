"""A full disk under the state file: nothing is lost, the daemon goes on, and a command ends with one line."""

import asyncio
import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from syncd.cloudflare.gate import Gate
from syncd.core import errors
from syncd.core.errors import EXIT_HALT, StateFull, StateHalt
from syncd.core.model import Hint
from syncd.service import error_policy
from syncd.service.worker import MirrorWorker
from syncd.state.db import open_state, transaction
from syncd.state.directory import lock, writable
from syncd.sync.mirror import PassOptions
from syncd.sync.once import Report, run
from tests.harness import Core

FILES = 300


def be_full(db: sqlite3.Connection) -> None:
    """Let the state file have no further page."""
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")


def have_room(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA max_page_count = 1000000")


def plant(core: Core) -> dict[str, str]:
    files = {f"{number} {'long ' * 20}.md": f"text {number}" for number in range(FILES)}
    for name, text in files.items():
        core.write(name, text)
    return files


@contextmanager
def no_room_for_writes() -> Iterator[pytest.MonkeyPatch]:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        yield patch


async def test_a_command_halts_in_one_line_and_the_next_one_completes(core: Core) -> None:
    files = plant(core)
    be_full(core.mirror.db)
    report = Report()
    await run(core.mirror, PassOptions(), lambda _: None, report)
    assert (type(report.error), report.exit_code) == (StateFull, EXIT_HALT)
    assert "make room on the disk" in str(report.error)

    have_room(core.mirror.db)
    core.restart()
    await core.full()
    assert core.target.texts() == files


async def test_the_daemon_pauses_until_there_is_room(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(error_policy, "RETRY_LONGEST_S", 0.05)
    files = plant(core)
    be_full(core.mirror.db)
    worker = MirrorWorker(core.mirror, 3600.0, Gate(0, 8))
    worker.request_full()
    serving = asyncio.create_task(worker.run())
    async with asyncio.timeout(30):
        while worker.status.shown.state != "degraded":
            assert not serving.done()
            await asyncio.sleep(0.01)
        worker.hint([Hint(f"{'hinted ' * 15}{number}", subtree=False) for number in range(FILES)])
        have_room(core.mirror.db)
        while core.target.texts() != files:
            assert not serving.done()
            await asyncio.sleep(0.01)
    serving.cancel()


def test_a_commit_that_fails_leaves_no_transaction_open_that_swallows_the_next(tmp_path: Path) -> None:
    with closing(open_state(tmp_path)) as db:
        be_full(db)
        rows = [(f"{number} {'long ' * 20}",) for number in range(1000)]
        with pytest.raises(StateHalt), writable(), transaction(db):
            db.executemany("INSERT INTO reindex VALUES ('docs', ?)", rows)
        assert not db.in_transaction
        have_room(db)
        with transaction(db):
            db.execute("INSERT INTO reindex VALUES ('docs', 'a')")
        with closing(open_state(tmp_path)) as other:
            assert other.execute("SELECT key FROM reindex").fetchall() == [("a",)]


def test_a_lock_file_that_cannot_be_written_is_no_bug(tmp_path: Path) -> None:
    with no_room_for_writes(), pytest.raises(StateHalt, match="make room"), lock(tmp_path):
        raise AssertionError("not reached")


def test_other_mistakes_in_sql_stay_bugs(tmp_path: Path) -> None:
    with closing(open_state(tmp_path)) as db, pytest.raises(sqlite3.OperationalError), writable():
        db.execute("SELECT nonsense")
