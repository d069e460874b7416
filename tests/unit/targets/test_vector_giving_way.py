"""Vectorize under a budget: a file that gives way is written later, and never in part."""

import json
from pathlib import Path

import httpx

from syncd.core.errors import Deferred
from syncd.sync.mirror import Hooks, PassOptions, Scope
from syncd.sync.reconcile import reconcile
from tests.unit.targets.harness_mirrors import Forward
from tests.unit.targets.harness_vectorize import MODEL, Harness, MirrorFixture, open_harness
from tests.unit.targets.test_vector_passes import guide, in_step


async def gives_way(request: httpx.Request, forward: Forward) -> httpx.Response:
    del request, forward
    raise Deferred("changes first")


async def bulk(h: Harness, fixture: MirrorFixture) -> dict[str, int]:
    h.clock.now += 1
    result = await reconcile(fixture.mirror, Scope(), PassOptions(), Hooks(bulk=True))
    return dict(result.done)


def removals(fixture: MirrorFixture) -> list[str]:
    log = fixture.state / "deletes.jsonl"
    return [json.loads(line)["why"] for line in log.read_text().splitlines()] if log.exists() else []


async def test_a_file_whose_second_embedding_gives_way_is_not_written_by_half(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, small=guide(3))
        fixture.write("large.md", guide(150))
        fixture.write("small.md", guide(3, s1="other"))

        async def lets_one_pass(request: httpx.Request, forward: Forward) -> httpx.Response:
            del request
            h.wire.plays("POST", f"/ai/run/{MODEL}", gives_way)
            return await forward()

        h.wire.plays("POST", f"/ai/run/{MODEL}", lets_one_pass)
        assert await bulk(h, fixture) == {"put": 2}
        assert await h.ids() == fixture.expected()
        assert [why for why in removals(fixture) if "could not be written" in why] == []


async def test_a_pass_whose_reads_before_the_first_change_give_way_goes_on(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a=guide(3))
        fixture.restart()
        fixture.write("b.md", guide(4))
        (fixture.root / "a.md").unlink()
        h.wire.plays("GET", "/indexes/docs", gives_way)
        assert await bulk(h, fixture) == {"put": 1, "delete": 1}
        assert await h.ids() == fixture.expected()
