"""How much of the ceilings an instance and its account use."""

from pathlib import Path
from typing import Any

import pytest

from syncd.cloudflare.ai_search import AISearch
from syncd.targets.base import Usage
from tests.unit.targets.harness_ai_search import INSTANCES, Harness, answers, open_harness, shows
from tests.unit.targets.harness_mirrors import ACCOUNT, BASE

NAMESPACES = f"{BASE}/accounts/{ACCOUNT}/ai-search/namespaces"
HYBRID = "files in the instance, with hybrid search"


def instances(used: int | None, to_come: int = 0) -> Usage:
    return Usage("AI Search instances", used, 100, 5000, to_come, of_account=True)


def namespaces(used: int, to_come: int = 0) -> Usage:
    return Usage("AI Search namespaces", used, 100, 100, to_come, of_account=True)


async def test_files_of_all_owners_count_and_the_index_decides_the_ceiling(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "x")
        await fixture.full()
        await h.upload("other.md", "y")
        usage = fixture.mirror.target.usage
        h.wire.diary.clear()
        assert await usage(account=False) == [Usage(HYBRID, 2, 100_000, 500_000, per="file")]
        assert h.wire.diary == ["GET /", "GET /stats"]
        only_vectors = {"index_method": {"vector": True, "keyword": False}}
        (await h.stranger.put(f"{INSTANCES}/docs", json=only_vectors)).raise_for_status()
        assert await usage(account=False) == [Usage("files in the instance", 2, 100_000, 1_000_000, per="file")]
        assert fixture.transport.counters.changing == 1


async def make(h: Harness, *names: str) -> None:
    for name in names:
        (await h.stranger.post(NAMESPACES, json={"name": name})).raise_for_status()
        (await h.stranger.post(f"{NAMESPACES}/{name}/instances", json={"id": "docs"})).raise_for_status()


async def test_the_account_is_counted_over_all_namespaces(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        await make(h, "one", "two")
        assert (await fixture.mirror.target.usage(account=True))[1:] == [instances(3), namespaces(3)]
        # The instances of so many namespaces are not counted.
        await make(h, *(f"n{number}" for number in range(8)))
        assert (await fixture.mirror.target.usage(account=True))[1:] == [instances(None), namespaces(11)]


async def test_a_missing_instance_is_one_to_come(tmp_path: Path) -> None:
    async with open_harness(tmp_path, instance=False) as h:
        fixture = h.add_mirror()
        files = Usage(HYBRID, 0, 100_000, 500_000, per="file")
        assert await fixture.mirror.target.usage(account=False) == [files, instances(0, 1), namespaces(1)]
        target = fixture.mirror.target
        vars(target)["_api"] = AISearch(fixture.transport, "new", "docs")
        assert await target.usage(account=False) == [files, instances(0, 1), namespaces(1, 1)]
        assert fixture.transport.counters.changing == 0


@pytest.mark.parametrize("shown", [{"degraded": True}, {}])
async def test_numbers_that_the_remote_does_not_give_are_unknown(tmp_path: Path, shown: dict[str, Any]) -> None:
    def edit(request: object, body: dict[str, Any]) -> None:
        del request
        body["result"] = shown

    def without_total(request: object, body: dict[str, Any]) -> None:
        del request
        body["result_info"] = {}

    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        h.wire.plays("GET", "/stats", shows(edit), times=None)
        h.wire.plays("GET", "/instances", shows(without_total), times=None)
        assert await fixture.mirror.target.usage(account=True) == [
            Usage(HYBRID, None, 100_000, 500_000, per="file"),
            instances(None),
            namespaces(1),
        ]


async def test_a_refused_count_is_an_unknown_number(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        h.wire.plays("GET", "/stats", answers(400, 7019), times=None)
        [files] = await fixture.mirror.target.usage(account=False)
        assert files.used is None
