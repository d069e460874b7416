"""Four processes, each of its own shard, over one folder and one target: together they do what one does.

SYNCD_SHARD_FILES says how many files; the figure that is kept is that of 20,000.
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

from syncd.core.sharding import part
from tests.e2e.harness import Room, Running, files_of, open_room, until

FILES = int(os.environ.get("SYNCD_SHARD_FILES", "2000"))
SHARDS = 4
EXTRA = 1.05
"""Together they may make 5 % more requests than one process."""
PASS_S = 600.0
"""Patience with one pass over 20,000 files on a loaded machine."""
_KEY = re.compile(rb'filename="([^"]*)"')


class Diary:
    """Stands before the stand-in and writes down which client changed which key."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._keys: dict[str, str] = {}
        self.changed: dict[str, set[str]] = defaultdict(set)
        """Key -> the clients that put or deleted it, each by its token."""
        self.put: dict[str, list[str]] = defaultdict(list)
        """Client -> the keys that it put, in order."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand one request on."""
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
    """So many shards of a room's mirror, each with a token and a state directory of its own."""

    def __init__(self, room: Room, count: int = SHARDS) -> None:
        self.room = room
        self.count = count

    def start(self, index: int) -> Running:
        env = {
            "SYNCD_DEFAULTS__SHARD": f"{index}/{self.count}",
            "SYNCD_STATE_DIR": str(self.state(index)),
            "CLOUDFLARE_API_TOKEN": f"shard{index}",
        }
        return self.room.start("reconcile", env=env)

    def state(self, index: int) -> Path:
        return self.room.path / f"state-{index}"

    def each_makes_a_pass(self) -> int:
        """Return how many requests that changed something they made."""
        self.room.remote.forget_requests()
        for running in [self.start(index) for index in range(self.count)]:
            assert running.ends(PASS_S)[0] == 0, running.text()
        return int(self.room.remote.counted()["changing"])


@pytest.fixture
def diary(tmp_path: Path) -> Iterator[tuple[Room, Diary]]:
    with open_room(tmp_path) as room:
        router = room.server._app.router
        router.default = diary = Diary(router.default)
        room.remote.create("docs")
        yield room, diary


@pytest.mark.timeout(900)
def test_a_killed_shard_starts_over_without_its_state_and_all_ends_exact(diary: tuple[Room, Diary]) -> None:
    room, seen = diary
    for number in range(FILES):
        room.write(f"part-{number % 20:02}/page-{number:06}.md", f"text of page {number}")
    shards = Shards(room)
    running = [shards.start(index) for index in range(SHARDS)]
    until(lambda: len(seen.changed) >= FILES // 2, within_s=300)
    running[1].kill()
    shutil.rmtree(shards.state(1))
    before = len(seen.put["shard1"])
    running[1] = shards.start(1)
    assert [each.ends(PASS_S)[0] for each in running] == [0] * SHARDS, [each.text() for each in running]
    requests = room.remote.counted()["total"]

    assert 0 < before < len(seen.put["shard1"])
    assert room.remote.files() == files_of(room.docs)
    assert {key: {f"shard{part(key, SHARDS)}"} for key in files_of(room.docs)} == seen.changed
    # One process makes one request for each file, and one for the listing of an empty instance.
    assert requests <= EXTRA * (FILES + 1), requests
    assert shards.each_makes_a_pass() == 0

    three = Shards(room, 3)
    assert three.each_makes_a_pass() == 0, "another number of shards moves no item"


def test_edits_deletes_and_renames_are_each_the_work_of_one_shard(diary: tuple[Room, Diary]) -> None:
    room, seen = diary
    for number in range(40):
        room.write(f"{number}.md", f"text {number}")
    shards = Shards(room)
    assert shards.each_makes_a_pass() == 40
    seen.changed.clear()
    room.write("1.md", "edited")
    (room.docs / "2.md").unlink()
    names = (f"moved-{number}.md" for number in range(100))
    away = next(name for name in names if part(name, SHARDS) != part("3.md", SHARDS))
    (room.docs / "3.md").rename(room.docs / away)

    assert shards.each_makes_a_pass() == 4
    assert room.remote.files() == files_of(room.docs)
    assert seen.changed == {key: {f"shard{part(key, SHARDS)}"} for key in ("1.md", "2.md", "3.md", away)}


def test_the_daemons_of_all_shards_follow_one_folder(diary: tuple[Room, Diary]) -> None:
    room, seen = diary
    room.write("first.md", "1")
    shards = Shards(room, 2)
    env = [
        {
            "SYNCD_DEFAULTS__SHARD": f"{i}/2",
            "SYNCD_STATE_DIR": str(shards.state(i)),
            "CLOUDFLARE_API_TOKEN": f"shard{i}",
        }
        for i in range(2)
    ]
    with room.daemon(env=env[0]) as one, room.daemon(env=env[1]) as other:
        one.saw("watch.ready")
        other.saw("watch.ready")
        room.in_step(very_bytes=False)
        for number in range(20):
            room.write(f"d/{number}.md", f"text {number}")
        room.in_step()
        shutil.rmtree(room.docs / "d")
        room.in_step()
    assert len(seen.changed) == 21
    assert all(len(clients) == 1 for clients in seen.changed.values())
