"""The permissions of the token, and searches that neither a cache nor a failed retrieval answers."""

from pathlib import Path

import httpx
import pytest

from syncd.core.errors import AuthHalt, Retry, TargetMissing
from syncd.targets.base import Advice
from tests.unit.targets.harness_ai_search import INSTANCES, Harness, MirrorFixture, answers, open_harness
from tests.unit.targets.harness_mirrors import Forward

EDIT, RUN = "Account / AI Search: Edit", "Account / AI Search: Run"
BOTH = Advice(f"the token reads the instance ({EDIT}) and searches it ({RUN})", None, "permissions")


async def no_hits(request: httpx.Request, forward: Forward) -> httpx.Response:
    del request, forward
    return httpx.Response(200, json={"success": True, "result": {"chunks": []}})


async def advice_about(fixture: MirrorFixture, subject: str) -> Advice:
    (found,) = (advice for advice in await fixture.mirror.target.advice() if advice.about == subject)
    return found


async def test_a_token_with_both_permissions_is_named_as_good_by_one_search(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        assert (await fixture.mirror.target.check()).endswith("default/docs is there")
        assert await advice_about(fixture, "permissions") == BOTH
        assert h.wire.count("POST") == h.wire.count("POST", "/search") == 1
        assert fixture.transport.counters.changing == 0


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_search_alone_means_that_run_is_missing(tmp_path: Path, status: int) -> None:
    async with open_harness(tmp_path, token="any", permissions="edit", permission_status=status) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "fox")
        await fixture.mirror.target.check()
        advice = await advice_about(fixture, "permissions")
        assert advice.message.startswith(f"{RUN} is missing: the mirror works, but search and verify --query do not")
        assert advice.remedy == f"in the dashboard, give the token the permission {RUN}, beside {EDIT}"
        with pytest.raises(AuthHalt, match=RUN):
            await fixture.searchable.search("fox", 5)
        await fixture.full()
        assert [item["key"] for item in await h.items()] == ["a.md"]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_search_that_alone_is_answered_means_that_edit_is_missing(tmp_path: Path, status: int) -> None:
    async with open_harness(tmp_path, instance=False, token="any", permissions="run", permission_status=status) as h:
        fixture = h.add_mirror()
        h.wire.plays("POST", "/search", answers(400, 7010))
        with pytest.raises(AuthHalt, match=f"it needs {EDIT}, and for searches {RUN}$"):
            await fixture.mirror.target.check()
        for act in (no_hits, answers(404, 7002)):
            h.wire.plays("POST", "/search", act)
            with pytest.raises(AuthHalt, match=f"the token has {RUN} but not {EDIT}: in the dashboard"):
                await fixture.mirror.target.check()
        assert fixture.transport.counters.changing == 0


async def test_a_token_without_any_permission_names_both(tmp_path: Path) -> None:
    async with open_harness(tmp_path, token="right") as h:
        fixture = h.add_mirror(token="wrong")
        with pytest.raises(AuthHalt, match=f"it needs {EDIT}, and for searches {RUN}$"):
            await fixture.mirror.target.check()


async def test_a_missing_instance_is_not_searched(tmp_path: Path) -> None:
    async with open_harness(tmp_path, instance=False) as h:
        with pytest.raises(TargetMissing):
            await h.add_mirror().mirror.target.check()
        assert h.wire.count("POST") == 0


async def test_a_search_that_fails_says_nothing_about_permissions(tmp_path: Path) -> None:
    async with open_harness(tmp_path, fail_search=True) as h:
        advice = await advice_about(h.add_mirror(), "search")
        assert "code 7073" in advice.message
        assert advice.remedy
        assert h.wire.count("POST", "/search") == 1


# -- searches


async def test_a_failed_retrieval_is_an_error_and_no_empty_list(tmp_path: Path) -> None:
    async with open_harness(tmp_path, fail_search=True) as h:
        with pytest.raises(Retry, match="7073"):
            await h.add_mirror().searchable.search("fox", 5)


async def keys_of(fixture: MirrorFixture, query: str) -> list[str]:
    return sorted(hit.key for hit in await fixture.searchable.search(query, 5))


async def other_client_finds(h: Harness, query: str) -> list[str]:
    answer = await h.stranger.post(f"{INSTANCES}/docs/search", json={"query": query})
    return sorted(chunk["item"]["key"] for chunk in answer.json()["result"]["chunks"])


async def test_a_search_measures_the_index_and_not_the_cache(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "brown fox")
        await fixture.full()
        assert await other_client_finds(h, "brown fox") == await keys_of(fixture, "brown fox") == ["a.md"]
        fixture.write("b.md", "brown fox")
        await fixture.full()
        assert await other_client_finds(h, "fox, brown") == ["a.md"], "the service answers from its cache"
        assert await keys_of(fixture, "fox, brown") == ["a.md", "b.md"]
