"""Proxies that refuse files with a certain word, and a proxy that refuses everything."""

from pathlib import Path

import httpx
import pytest

from syncd.core.errors import Unreachable
from tests.unit.targets import harness_ai_search as ai_search_harness
from tests.unit.targets import harness_kv as kv_harness
from tests.unit.targets import harness_vectorize as vectorize_harness
from tests.unit.targets.harness_mirrors import Forward

FILES = {f"{name}.md": f"# {name}\n\ntext of {name}\n" for name in "abcdef"} | {"bad.md": "# bad\n\na FORBIDDEN word\n"}
HARNESSES = {
    "ai-search": ai_search_harness.open_harness,
    "kv": kv_harness.open_harness,
    "vectorize": vectorize_harness.open_harness,
}


def blocked(status: int) -> httpx.Response:
    return httpx.Response(status, content=b"<html>blocked</html>", headers={"content-type": "text/html"})


@pytest.mark.parametrize("status", [400, 403, 406, 413, 451])
@pytest.mark.parametrize("kind", HARNESSES)
async def test_one_refused_file_is_named_and_the_others_are_uploaded(tmp_path: Path, kind: str, status: int) -> None:
    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        return blocked(status) if b"FORBIDDEN" in request.content else await forward()

    async with HARNESSES[kind](tmp_path) as harness:  # type: ignore[operator]
        if kind == "ai-search":
            await harness.stranger.post(ai_search_harness.INSTANCES, json={"id": "docs"})
        fixture = harness.add_mirror()
        for method in ("POST", "PUT"):
            harness.wire.plays(method, "", act, times=None)
        for name, text in FILES.items():
            fixture.write(name, text)
        result = await fixture.full()
        assert result.done["put"] == 6
        assert set(fixture.problems()) == {"bad.md"}
        assert fixture.problems()["bad.md"] in ("refused", "too_large")
        before = fixture.changing
        await fixture.full()
        assert fixture.changing == before


@pytest.mark.parametrize("kind", HARNESSES)
async def test_a_proxy_that_refuses_everything_is_an_outage(tmp_path: Path, kind: str) -> None:
    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        del request, forward
        return blocked(403)

    async with HARNESSES[kind](tmp_path) as harness:  # type: ignore[operator]
        if kind == "ai-search":
            await harness.stranger.post(ai_search_harness.INSTANCES, json={"id": "docs"})
        fixture = harness.add_mirror()
        await fixture.full()
        for method in ("GET", "POST", "PUT", "DELETE"):
            harness.wire.plays(method, "", act, times=None)
        for name, text in FILES.items():
            fixture.write(name, text)
        before = len(harness.wire.diary)
        with pytest.raises(Unreachable):
            await fixture.full()
        assert len(harness.wire.diary) - before < 100
        assert not fixture.problems()
