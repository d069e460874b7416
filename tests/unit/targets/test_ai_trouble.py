"""Files the target does not take, items it refuses, and what stops the mirror."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.core.errors import Halt, TargetMissing, Unreachable
from tests.unit.targets.harness_ai_search import INSTANCES, MIB, Act, Forward, Side, World, answers, only_for, world

# -- what is not sent at all


async def test_types_that_are_not_indexed_and_empty_files_are_reported_and_not_sent(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        for name in ("song.mp3", "app.ts", "no-extension", "archive.tar.gz", "slides.pptx", "md"):
            side.write(name, "x")
        side.write("empty.md", "")
        side.write("good.md", "x")
        side.write("app.log.gz", "x")
        side.write(".gitignore", "x")
        result = await side.full()
        assert list(await w.contents()) == [".gitignore", "app.log.gz", "good.md"]
        kinds = side.problems()
        assert kinds.pop("empty.md") == "empty"
        assert set(kinds.values()) == {"unsupported_type"}
        assert len(kinds) == 6
        assert result.clean
        assert w.wire.count("POST") == 3


async def test_a_file_that_becomes_empty_is_reported_and_its_item_stays(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        side.write("a.md", "one")
        await side.full()
        side.write("a.md", "")
        await side.full()
        assert side.problems() == {"a.md": "empty"}
        assert await w.contents() == {"a.md": "one"}


KEYS = [
    "with space.md",
    'say "hi".md',
    "it's.md",
    "100%.md",
    "100%25.md",
    "%2e%2e%2fetc.md",
    ".hidden/.conf",
    "back\\slash.md",
    "semi;colon=1.md",
    "a&b=c?d#e.md",
    "Größe/naïve.md",
    "日本語/ファイル.md",
    "emoji 🗂️.md",
    "e\u0301 decomposed.md",
    "zero\u200bwidth.md",
    "--boundary\u2028.md",
    "{json}.md",
    "*.md",
    "trailing dot..md",
    "UPPER.MD",
]


async def test_names_with_anything_in_them_arrive_as_they_are_and_stay_in_step(tmp_path: Path) -> None:
    async with world(tmp_path, on_existing="conflict") as w:
        side = w.side()
        for name in KEYS:
            side.write(name, f"text of {name}")
        await side.full()
        assert side.problems() == {}
        wanted = {name.replace("e\u0301", "\u00e9"): f"text of {name}" for name in KEYS}
        assert await w.contents() == wanted
        assert (await side.full()).tables.plan.counts.total() == 0
        for name in KEYS:
            side.write(name, "edited")
        await side.full()
        assert side.problems() == {}
        assert await w.contents() == dict.fromkeys(wanted, "edited")
        for name in KEYS:
            side.remove(name)
        side.write("one-left.md", "x")
        await side.full()
        assert list(await w.contents()) == ["one-left.md"]


NAMES = ["a%22b.md", "a%0Ab.md", "a%09.md", 'say "hi".md', "back\\slash.md", 'both\\"%22.md', "end\\\\.md", "%5C.md"]


async def test_odd_names_arrive_as_they_are(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        for name in NAMES:
            side.write(name, f"text of {name}")
        assert (await side.full()).done["put"] == len(NAMES)
        assert await w.contents() == {name: f"text of {name}" for name in NAMES}
        assert not side.problems()
        assert (await side.full()).done.total() == 0


def misspells(w: World) -> Act:
    """Stores what has a quote in its name under the name with %22."""

    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        del forward
        content = request.content.replace(b'say \\"hi\\".md"', b'say %22hi%22.md"')
        headers = {name: value for name, value in request.headers.items() if name != "content-length"}
        response = await w.wire.inner.handle_async_request(
            httpx.Request("POST", request.url, content=content, headers=headers)
        )
        await response.aread()
        return response

    return act


def logged(side: Side) -> list[Any]:
    log = side.state / "deletes.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


async def test_what_went_up_under_a_wrong_name_goes_in_the_same_pass(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        side.write('say "hi".md', "x")
        side.write("good.md", "y")
        w.wire.plays("POST", "/items", misspells(w), times=None)
        await side.full()
        assert side.problems() == {'say "hi".md': "invalid_key"}
        assert await w.contents() == {"good.md": "y"}
        assert [line["key"] for line in logged(side)] == ["say %22hi%22.md"]
        await side.full()
        assert await w.contents() == {"good.md": "y"}
        assert len(logged(side)) == 1


@pytest.mark.parametrize("whose", ["a stranger's", "our own"])
async def test_an_item_that_was_there_is_not_deleted_for_a_wrong_name(tmp_path: Path, whose: str) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        if whose == "our own":
            side.write("say %22hi%22.md", "own")
            await side.full()
        else:
            await w.upload("say %22hi%22.md", "theirs")
        w.clock.now += 5
        before = [row["id"] for row in await w.items()]
        side.write('say "hi".md', "x")
        w.wire.plays("POST", "/items", misspells(w), times=None)
        await side.full()
        assert [row["id"] for row in await w.items()] == before
        assert not logged(side)


@pytest.mark.parametrize("letter", ["a", "ü", "🗂"])
async def test_a_key_of_128_characters_is_taken_and_one_of_129_is_not(tmp_path: Path, letter: str) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        # Five levels, since file systems count bytes for each name.
        folder = "/".join([letter * 20] * 5) + "/"
        longest = folder + letter * (128 - len(folder) - 3) + ".md"
        over = folder + letter * (129 - len(folder) - 3) + ".md"
        assert (len(longest), len(over)) == (128, 129)
        side.write(longest, "x")
        side.write(over, "x")
        await side.full()
        assert side.problems() == {over: "key_too_long"}
        assert list(await w.contents()) == [longest]
        assert w.wire.count("POST") == 1


async def test_a_file_of_exactly_4_mib_is_taken_and_one_byte_more_is_not(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        side.write("limit.txt", b"x" * 4 * MIB)
        side.write("over.txt", b"x" * (4 * MIB + 1))
        side.write("one.txt", b"x")
        result = await side.full()
        assert side.problems() == {"over.txt": "too_large"}
        assert not result.clean
        assert {row["key"]: row["file_size"] for row in await w.items()} == {"limit.txt": 4 * MIB, "one.txt": 1}
        assert w.wire.count("POST") == 2


# -- what the remote refuses

REFUSALS = {
    "type": (400, 7060, "unsupported_type"),
    "metadata, even without": (400, 7056, "refused"),
    "size": (413, 7054, "too_large"),
    "size, at the edge": (413, 1, "too_large"),
    "key": (400, 7072, "key_too_long"),
    "no reason known": (400, 7999, "refused"),
    "an internal code with the status of a refusal": (400, 7001, "refused"),
    "unprocessable": (422, 7001, "refused"),
}


@pytest.mark.parametrize(("status", "code", "kind"), REFUSALS.values(), ids=REFUSALS)
async def test_one_refused_item_stops_no_other_and_is_not_sent_again_until_it_changes(
    tmp_path: Path, status: int, code: int, kind: str
) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        for name in ("a.md", "bad.md", "c.md"):
            side.write(name, name, age_s=60)
        began = w.clock.now
        w.wire.plays("POST", "/items", only_for(b'filename="bad.md"', answers(status, code)), times=None)
        result = await side.full()
        assert (result.done, dict(result.problems)) == ({"put": 2, "failed": 1}, {kind: 1})
        assert w.clock.now - began < 2
        assert list(await w.contents()) == ["a.md", "c.md"]
        assert side.problems() == {"bad.md": kind}
        [problem] = side.mirror.journal.problems.all()
        assert f"code {code}" in problem.message
        changing = side.changing
        await side.full()
        await side.hint("bad.md")
        side.restart()
        await side.full()
        assert side.changing == changing
        assert side.problems() == {"bad.md": kind}
        w.wire.acts.clear()
        side.write("bad.md", "mended")
        await side.hint("bad.md")
        assert (await w.contents())["bad.md"] == "mended"
        assert side.problems() == {}


async def test_an_instance_without_metadata_costs_one_refusal_and_no_marks(tmp_path: Path) -> None:
    async with world(tmp_path, metadata="refuse") as w:
        side = w.side()
        for number in range(40):
            side.write(f"{number}.md", f"text {number}")
        await side.full()
        assert side.problems() == {}
        assert len(await w.items()) == 40
        assert w.wire.count("POST") <= 48


# -- what stops the mirror

HALTS = {
    "quota": (429, 7069, "quota"),
    "paused": (400, 7032, "resume"),
    "no storage": (400, 7053, "newly created"),
    "token": (401, 10000, "API token"),
    "permission": (403, 10000, "AI Search:Edit"),
}


@pytest.mark.parametrize(("status", "code", "remedy"), HALTS.values(), ids=HALTS)
async def test_what_no_item_can_pass_halts_after_a_handful_of_requests(
    tmp_path: Path, status: int, code: int, remedy: str
) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        for number in range(100):
            side.write(f"{number}.md", "x")
        w.wire.plays("POST", "/items", answers(status, code), times=None)
        with pytest.raises(Halt, match=remedy):
            await side.full()
        assert w.wire.count("POST") <= 8
        w.wire.acts.clear()
        await side.full()
        assert len(await w.items()) == 100
        assert side.problems() == {}


async def test_a_wrong_token_halts_at_the_first_request(tmp_path: Path) -> None:
    async with world(tmp_path, token="right") as w:
        side = w.side(token="wrong")
        side.write("a.md", "x")
        with pytest.raises(Halt, match="authentication refused") as caught:
            await side.full()
        assert not isinstance(caught.value, TargetMissing)
        assert "wrong" not in str(caught.value)
        assert len(w.wire.diary) == 1


async def test_a_missing_instance_halts_and_nothing_is_made(tmp_path: Path) -> None:
    async with world(tmp_path, instance=False) as w:
        side = w.side()
        side.write("a.md", "x")
        with pytest.raises(TargetMissing, match="create = true"):
            await side.full()
        with pytest.raises(TargetMissing):
            await side.mirror.target.check()
        assert side.changing == 0


async def test_a_missing_instance_is_made_with_our_marks_declared(tmp_path: Path) -> None:
    async with world(tmp_path, instance=False) as w:
        side = w.side(create=True)
        side.write("a.md", "one")
        await side.full()
        assert await w.contents() == {"a.md": "one"}
        instance = (await w.stranger.get(f"{INSTANCES}/docs")).json()["result"]
        declared = {field["field_name"]: field["data_type"] for field in instance["custom_metadata"]}
        assert declared == {"sha256": "text", "owner": "text"}
        [mine] = await w.items(metadata_filter='{"owner": "me"}')
        assert mine["key"] == "a.md"
        assert "docs is there" in await side.mirror.target.check()
        await side.mirror.target.create()


async def test_a_dry_run_plans_for_an_instance_that_is_to_be_made_and_does_not_make_it(tmp_path: Path) -> None:
    async with world(tmp_path, instance=False) as w:
        side = w.side(create=True)
        side.write("a.md", "x")
        result = await side.full(dry_run=True)
        assert result.reasons == {"new": 1}
        assert side.changing == 0
        with pytest.raises(TargetMissing):
            await side.mirror.target.check()


async def test_an_instance_that_cannot_be_made_halts_at_once(tmp_path: Path) -> None:
    async with world(tmp_path, instance=False) as w:
        # Two hyphens: the stand-in takes it for no instance id.
        side = w.side(instance="do--cs", create=True)
        began = w.clock.now
        with pytest.raises(Halt, match="hyphens"):
            await side.full()
        assert w.clock.now - began < 2


REFUSED_LISTINGS = {"no route": (404, 7000), "refused": (400, 7001), "conflict": (409, 1)}


@pytest.mark.parametrize(("status", "code"), REFUSED_LISTINGS.values(), ids=REFUSED_LISTINGS)
@pytest.mark.parametrize("create", [True, False])
async def test_a_listing_that_is_refused_for_an_unknown_reason_halts_and_changes_nothing(
    tmp_path: Path, status: int, code: int, *, create: bool
) -> None:
    async with world(tmp_path) as w:
        side = w.side(create=create)
        side.write("a.md", "x")
        w.wire.plays("GET", "/items", answers(status, code, "no such thing"), times=None)
        with pytest.raises(Halt, match="no such thing"):
            await side.full()
        assert side.changing == 0


@pytest.mark.parametrize("create", [True, False])
async def test_a_404_that_does_not_say_what_is_missing_is_an_outage(tmp_path: Path, *, create: bool) -> None:
    async with world(tmp_path) as w:
        side = w.side(create=create)
        side.write("a.md", "x")
        w.wire.plays("GET", "/items", answers(404, 7999, "no such thing"), times=None)
        with pytest.raises(Unreachable, match="no such thing"):
            await side.full()
        assert side.changing == 0


async def test_the_instance_goes_away_in_the_middle_of_a_pass(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        for number in range(30):
            side.write(f"{number}.md", "x")
        w.wire.plays("POST", "/items", only_for(b'filename="2', answers(404, 7002)), times=None)
        with pytest.raises(TargetMissing):
            await side.full()
        w.wire.acts.clear()
        await side.full()
        assert len(await w.items()) == 30


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_internal_error_is_tried_again_until_it_is_over(tmp_path: Path, method: str) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        side.write("a.md", "x")
        w.wire.plays(method, "/items", answers(500, 7001), times=2)
        await side.full()
        assert await w.contents() == {"a.md": "x"}
