"""The sign of life of the daemon in the state file, which also shows whether the file can be written."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from syncd.config.sources import load
from syncd.service.build import open_session
from syncd.service.lookout import Lookout
from syncd.service.runtime import PRESENCE_EVERY_S, Heartbeat, Runtime, build_runtime
from syncd.service.systemd import Notifier
from syncd.state.history import last_contact, last_presence
from tests.unit.web.harness import CONFIG


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    (tmp_path / "syncd.toml").write_text(CONFIG)
    for name in ("docs", "settings"):
        (tmp_path / name).mkdir()
    async with open_session(load(tmp_path / "syncd.toml", {"HOME": "/nonexistent"})) as session:
        yield build_runtime(session)


async def beat(heartbeat: Heartbeat) -> None:
    """Beat once, and end."""
    task = asyncio.create_task(heartbeat.run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_sign_of_life_says_whether_the_daemon_ended(runtime: Runtime) -> None:
    db = runtime.session.db
    assert last_presence(db) is None
    heartbeat = Heartbeat(runtime, Notifier({}), Lookout())
    runtime.workers["docs"].status.contact.answered()
    heartbeat._keep_presence()
    presence = last_presence(db)
    assert presence
    assert not presence.ended
    assert last_contact(runtime.session.mirrors["docs"].meta) is not None
    assert last_contact(runtime.session.mirrors["settings"].meta) is None
    await beat(heartbeat)
    presence = last_presence(db)
    assert presence
    assert presence.ended


async def test_a_state_file_that_cannot_be_written_is_a_fault_until_it_can(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    heartbeat = Heartbeat(runtime, Notifier({}), Lookout())
    runtime.session.db.execute("PRAGMA query_only = ON")
    heartbeat._keep_presence()
    assert "state.db" in str(runtime.state_fault)
    assert runtime.faults() == [runtime.state_fault]
    runtime.session.db.execute("PRAGMA query_only = OFF")
    now += PRESENCE_EVERY_S - 1
    heartbeat._keep_presence()
    assert runtime.faults(), "it is not tried all the time"
    now += 1
    heartbeat._keep_presence()
    assert runtime.faults() == []
