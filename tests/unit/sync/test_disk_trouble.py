"""Temporary errors of the disk: the file is retried, and nothing is deleted meanwhile."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import DiskRetry, RootHalt
from syncd.sync import once as one_shot
from syncd.sync.mirror import PassOptions
from syncd.sync.once import Report
from tests.harness import Core, in_step

PASSING = ["ESTALE", "EIO", "EMFILE", "ENFILE", "ETIMEDOUT", "EINTR", "ENOMEM", "EAGAIN", "ENOTCONN"]


class Trouble:
    """Refuses to open some names a number of times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name, self.left, self.code = b"", 0, 0
        really = os.open

        def refuse(path: Any, *how: Any, **more: Any) -> int:
            if path == self.name and self.left:
                self.left -= 1
                raise OSError(self.code, os.strerror(self.code))
            return really(path, *how, **more)

        monkeypatch.setattr(os, "open", refuse)

    def refuse(self, name: str, times: int, code: str = "ESTALE") -> None:
        self.name, self.left, self.code = name.encode(), times, getattr(errno, code)


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trouble]:
    monkeypatch.setattr(one_shot, "DISK_PAUSES_S", (0.0, 0.0, 0.0))
    with monkeypatch.context() as patched:
        yield Trouble(patched)


async def once(core: Core) -> Report:
    report = Report()
    await one_shot.run(core.mirror, PassOptions(), lambda _: None, report)
    return report


@pytest.mark.parametrize("code", PASSING)
async def test_a_temporary_read_failure_waits_in_the_queue(core: Core, trouble: Trouble, code: str) -> None:
    await in_step(core, a="1", b="2")
    core.write("a", "new")
    trouble.refuse("a", 99, code)
    result = await core.hint("a")
    assert result.problems == {"failed": 1}
    assert core.waiting() == [("a", False)]
    assert core.target.texts() == {"a": "1", "b": "2"}
    trouble.left = 0
    core.clock.forward(10)
    rows = core.mirror.queue.settled(core.clock.now)
    assert [(row.key, row.attempts) for row in rows] == [("a", 1)]


async def test_a_permission_error_is_no_temporary_failure(core: Core, trouble: Trouble) -> None:
    await in_step(core, a="1", b="2")
    core.write("a", "new")
    trouble.refuse("a", 99, "EACCES")
    assert (await core.full()).problems == {"unreadable": 1}
    assert core.waiting() == []


@pytest.mark.parametrize("name", ["a", "d"])
@pytest.mark.parametrize("times", [1, 3])
async def test_one_pass_waits_a_while_for_the_disk(core: Core, trouble: Trouble, name: str, times: int) -> None:
    await in_step(core, **{"a": "1", "d/b": "2", "z": "3"})
    core.write("a", "new")
    core.write("d/c", "4")
    core.remove("z")
    trouble.refuse(name, times)
    report = await once(core)
    assert (report.exit_code, report.kinds) == (0, {})
    assert core.target.texts() == {"a": "new", "d/b": "2", "d/c": "4"}


@pytest.mark.parametrize(("name", "kind"), [("a", "failed"), ("d", "unreadable")])
async def test_a_file_that_stays_unreadable_is_reported(core: Core, trouble: Trouble, name: str, kind: str) -> None:
    await in_step(core, **{"a": "1", "d/b": "2"})
    core.write("a", "new")
    trouble.refuse(name, 9999, "EIO")
    report = await once(core)
    assert report.exit_code == 1
    assert set(report.kinds) == {kind}
    assert core.target.store.keys() == {"a", "d/b"}
    fresh, failed = core.mirror.queue.counts()
    assert (fresh, failed > 0) == (0, True)


def away(monkeypatch: pytest.MonkeyPatch, root: Path, times: int) -> None:
    really, left = Path.stat, [times]

    def stat(self: Path, **how: Any) -> os.stat_result:
        if self == root and left[0]:
            left[0] -= 1
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return really(self, **how)

    monkeypatch.setattr(Path, "stat", stat)


async def test_a_root_that_is_temporarily_unreadable_causes_no_halt(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_step(core, a="1")
    with monkeypatch.context() as patched:
        away(patched, core.root, 1)
        with pytest.raises(DiskRetry, match="nothing was deleted"):
            await core.full()
    assert core.target.texts() == {"a": "1"}


@pytest.mark.usefixtures("trouble")
@pytest.mark.parametrize(("times", "code"), [(2, 0), (99, 3)])
async def test_one_pass_waits_a_while_for_its_root(
    core: Core, monkeypatch: pytest.MonkeyPatch, times: int, code: int
) -> None:
    await in_step(core, a="1")
    with monkeypatch.context() as patched:
        away(patched, core.root, times)
        report = await once(core)
    assert report.exit_code == code
    assert isinstance(report.error, RootHalt) == bool(code)
    assert core.target.texts() == {"a": "1"}
