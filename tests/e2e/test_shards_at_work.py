"""Four processes with one shard each, one folder and one target. Together they do the work of one process.

SHARD_FILES says how many files; the figure that is kept is that of 20,000.
"""

import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncd.core.names import shard_index
from tests.e2e.harness import Running, Workspace, files_of, open_workspace, until

FILES = int(os.environ.get("SHARD_FILES", "800"))
SHARDS = 4
EXTRA = 1.05
"""All shards together may make 5 % more requests than one process."""
PASS_S = 600.0
"""Maximum seconds of one pass over 20,000 files on a loaded machine."""
_KEY = re.compile(rb'filename="([^"]*)"')


class Diary:
    """A proxy for the stand-in that records which client changed which key."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._keys: dict[str, str] = {}
        self.changed: dict[str, set[str]] = defaultdict(set)
        """Key -> the tokens of the clients that put or deleted it."""
        self.put: dict[str, list[str]] = defaultdict(list)
        """Client -> the keys that it put, in order."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward one request."""
        path, method = scope["path"], scope["method"]
        if method not in ("POST", "DELETE") or "/items" not in path:
            await self._app(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        client = dict(scope["headers"])[b"authorization"].decode().removeprefix("Bearer ")
        if method == "DELETE":
            self.changed[self._keys[path.rpartition("/")[2]]].add(client)
        elif found := _KEY.search(body):
            self.changed[found[1].decode()].add(client)
            self.put[client].append(found[1].decode())

        async def again() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def noted(message: Message) -> None:
            if method == "POST" and message["type"] == "http.response.body":
                made = json.loads(message["body"]).get("result") or {}
                self._keys[made.get("id", "")] = made.get("key", "")
            await send(message)

        await self._app(scope, again, noted)


class Shards:
    """The shards of a workspace's mirror, each with its own token and state directory."""

    def __init__(self, workspace: Workspace, count: int = SHARDS) -> None:
        self.workspace = workspace
        self.count = count

    def start(self, index: int) -> Running:
        env = {
            "SYNCD_DEFAULTS__SHARD": f"{index}/{self.count}",
            "SYNCD_STATE_DIR": str(self.state(index)),
            "CLOUDFLARE_API_TOKEN": f"shard{index}",
        }
        return self.workspace.start("reconcile", env=env)

    def state(self, index: int) -> Path:
        return self.workspace.path / f"state-{index}"

    def each_makes_a_pass(self) -> int:
        """Return the number of changing requests."""
        self.workspace.remote.forget_requests()
        for running in [self.start(index) for index in range(self.count)]:
            assert running.ends(PASS_S)[0] == 0, running.text()
        return int(self.workspace.remote.counted()["changing"])


@pytest.fixture
def diary(tmp_path: Path) -> Iterator[tuple[Workspace, Diary]]:
    with open_workspace(tmp_path) as workspace:
        config = workspace.server._uvicorn.config
        config.loaded_app = diary = Diary(config.loaded_app)
        workspace.remote.create("docs")
        yield workspace, diary


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_after_a_shard_is_killed_and_loses_its_state_the_target_is_exact(diary: tuple[Workspace, Diary]) -> None:
    workspace, seen = diary
    for number in range(FILES):
        workspace.write(f"part-{number % 20:02}/page-{number:06}.md", f"text of page {number}")
    shards = Shards(workspace)
    running = [shards.start(index) for index in range(SHARDS)]
    until(lambda: len(seen.changed) >= FILES // 2, within_s=300)
    running[1].kill()
    shutil.rmtree(shards.state(1))
    before = len(seen.put["shard1"])
    running[1] = shards.start(1)
    assert [each.ends(PASS_S)[0] for each in running] == [0] * SHARDS, [each.text() for each in running]
    requests = workspace.remote.counted()["total"]

    assert 0 < before < len(seen.put["shard1"])
    assert workspace.remote.files() == files_of(workspace.docs)
    assert {key: {f"shard{shard_index(key, SHARDS)}"} for key in files_of(workspace.docs)} == seen.changed
    # One process makes one request for each file, and one for the listing of an empty instance.
    assert requests <= EXTRA * (FILES + 1), requests
    assert shards.each_makes_a_pass() == 0

    three = Shards(workspace, 3)
    assert three.each_makes_a_pass() == 0, "another number of shards moves no item"


def test_one_shard_makes_each_edit_delete_and_rename(diary: tuple[Workspace, Diary]) -> None:
    workspace, seen = diary
    for number in range(40):
        workspace.write(f"{number}.md", f"text {number}")
    shards = Shards(workspace)
    assert shards.each_makes_a_pass() == 40
    seen.changed.clear()
    workspace.write("1.md", "edited")
    (workspace.docs / "2.md").unlink()
    names = (f"moved-{number}.md" for number in range(100))
    away = next(name for name in names if shard_index(name, SHARDS) != shard_index("3.md", SHARDS))
    (workspace.docs / "3.md").rename(workspace.docs / away)

    assert shards.each_makes_a_pass() == 4
    assert workspace.remote.files() == files_of(workspace.docs)
    assert seen.changed == {key: {f"shard{shard_index(key, SHARDS)}"} for key in ("1.md", "2.md", "3.md", away)}


def test_the_daemons_of_all_shards_follow_one_folder(diary: tuple[Workspace, Diary]) -> None:
    workspace, seen = diary
    workspace.write("first.md", "1")
    shards = Shards(workspace, 2)
    env = [
        {
            "SYNCD_DEFAULTS__SHARD": f"{i}/2",
            "SYNCD_STATE_DIR": str(shards.state(i)),
            "CLOUDFLARE_API_TOKEN": f"shard{i}",
        }
        for i in range(2)
    ]
    with workspace.daemon(env=env[0]) as one, workspace.daemon(env=env[1]) as other:
        one.saw("watch.ready")
        other.saw("watch.ready")
        workspace.in_step(very_bytes=False)
        for number in range(20):
            workspace.write(f"d/{number}.md", f"text {number}")
        workspace.in_step()
        shutil.rmtree(workspace.docs / "d")
        workspace.in_step()
    assert len(seen.changed) == 21
    assert all(len(clients) == 1 for clients in seen.changed.values())
