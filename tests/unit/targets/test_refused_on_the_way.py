"""A proxy refuses whatever holds one word: that file is named, the others go up. And one that refuses everything."""

from pathlib import Path

import httpx
import pytest

from syncd.core.errors import Unreachable
from tests.unit.targets import harness_ai_search as ai_room
from tests.unit.targets import harness_kv as kv_room
from tests.unit.targets import harness_vectorize as vector_room
from tests.unit.targets.harness_ai_search import Forward

FILES = {f"{name}.md": f"# {name}\n\ntext of {name}\n" for name in "abcdef"} | {"bad.md": "# bad\n\na FORBIDDEN word\n"}
ROOMS = {"ai-search": ai_room.world, "kv": kv_room.world, "vectorize": vector_room.world}


def blocked(status: int) -> httpx.Response:
    return httpx.Response(status, content=b"<html>blocked</html>", headers={"content-type": "text/html"})


@pytest.mark.parametrize("status", [400, 403, 406, 413, 451])
@pytest.mark.parametrize("room", ROOMS)
async def test_one_file_that_does_not_pass_is_named_and_the_others_go_up(
    tmp_path: Path, room: str, status: int
) -> None:
    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        return blocked(status) if b"FORBIDDEN" in request.content else await forward()

    async with ROOMS[room](tmp_path) as world:  # type: ignore[operator]
        if room == "ai-search":
            await world.stranger.post(ai_room.INSTANCES, json={"id": "docs"})
        side = world.side()
        for method in ("POST", "PUT"):
            world.wire.plays(method, "", act, times=None)
        for name, text in FILES.items():
            side.write(name, text)
        result = await side.full()
        assert result.done["put"] == 6
        assert set(side.problems()) == {"bad.md"}
        assert side.problems()["bad.md"] in ("refused", "too_large")
        before = side.changing
        await side.full()
        assert side.changing == before


@pytest.mark.parametrize("room", ROOMS)
async def test_a_way_that_refuses_everything_is_an_outage(tmp_path: Path, room: str) -> None:
    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        del request, forward
        return blocked(403)

    async with ROOMS[room](tmp_path) as world:  # type: ignore[operator]
        if room == "ai-search":
            await world.stranger.post(ai_room.INSTANCES, json={"id": "docs"})
        side = world.side()
        await side.full()
        for method in ("GET", "POST", "PUT", "DELETE"):
            world.wire.plays(method, "", act, times=None)
        for name, text in FILES.items():
            side.write(name, text)
        before = len(world.wire.diary)
        with pytest.raises(Unreachable):
            await side.full()
        assert len(world.wire.diary) - before < 100
        assert not side.problems()
