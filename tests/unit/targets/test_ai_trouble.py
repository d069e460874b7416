"""Files that AI Search does not take, items that it refuses, and errors that stop the mirror."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.core.errors import Halt, TargetMissing, Unreachable
from syncd.state.queue import retry_problems
from tests.harness import is_clean, reasons
from tests.unit.targets.harness_ai_search import (
    INSTANCES,
    MIB,
    Harness,
    MirrorFixture,
    answers,
    only_for,
    open_harness,
    shows,
)
from tests.unit.targets.harness_mirrors import Act, Forward

# -- files that are not sent


async def test_types_that_are_not_indexed_and_empty_files_are_reported_and_not_sent(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        for name in ("song.mp3", "app.ts", "no-extension", "archive.tar.gz", "slides.pptx", "md"):
            fixture.write(name, "x")
        fixture.write("empty.md", "")
        fixture.write("good.md", "x")
        fixture.write("app.log.gz", "x")
        fixture.write(".gitignore", "x")
        result = await fixture.full()
        assert list(await h.contents()) == [".gitignore", "app.log.gz", "good.md"]
        kinds = fixture.problems()
        assert kinds.pop("empty.md") == "empty"
        assert set(kinds.values()) == {"unsupported_type"}
        assert len(kinds) == 6
        assert is_clean(result)
        assert h.wire.count("POST") == 3


async def test_a_file_that_becomes_empty_is_reported_and_its_item_stays(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "one")
        await fixture.full()
        fixture.write("a.md", "")
        await fixture.full()
        assert fixture.problems() == {"a.md": "empty"}
        assert await h.contents() == {"a.md": "one"}


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
    async with open_harness(tmp_path, on_existing="conflict") as h:
        fixture = h.add_mirror()
        for name in KEYS:
            fixture.write(name, f"text of {name}")
        await fixture.full()
        assert fixture.problems() == {}
        wanted = {name.replace("e\u0301", "\u00e9"): f"text of {name}" for name in KEYS}
        assert await h.contents() == wanted
        assert (await fixture.full()).tables.plan.counts.total() == 0
        for name in KEYS:
            fixture.write(name, "edited")
        await fixture.full()
        assert fixture.problems() == {}
        assert await h.contents() == dict.fromkeys(wanted, "edited")
        for name in KEYS:
            fixture.remove(name)
        fixture.write("one-left.md", "x")
        await fixture.full()
        assert list(await h.contents()) == ["one-left.md"]


NAMES = ["a%22b.md", "a%0Ab.md", "a%09.md", 'say "hi".md', "back\\slash.md", 'both\\"%22.md', "end\\\\.md", "%5C.md"]


async def test_odd_names_arrive_as_they_are(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        for name in NAMES:
            fixture.write(name, f"text of {name}")
        assert (await fixture.full()).done["put"] == len(NAMES)
        assert await h.contents() == {name: f"text of {name}" for name in NAMES}
        assert not fixture.problems()
        assert (await fixture.full()).done.total() == 0


def misspells(h: Harness) -> Act:
    """Store an item with a quote in its name under the name with %22."""

    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        del forward
        content = request.content.replace(b'say \\"hi\\".md"', b'say %22hi%22.md"')
        headers = {name: value for name, value in request.headers.items() if name != "content-length"}
        response = await h.wire.inner.handle_async_request(
            httpx.Request("POST", request.url, content=content, headers=headers)
        )
        await response.aread()
        return response

    return act


def logged(fixture: MirrorFixture) -> list[Any]:
    log = fixture.state / "deletes.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


async def test_an_upload_under_a_wrong_name_is_deleted_in_the_same_pass(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write('say "hi".md', "x")
        fixture.write("good.md", "y")
        h.wire.plays("POST", "/items", misspells(h), times=None)
        await fixture.full()
        assert fixture.problems() == {'say "hi".md': "invalid_key"}
        assert await h.contents() == {"good.md": "y"}
        assert [line["key"] for line in logged(fixture)] == ["say %22hi%22.md"]
        await fixture.full()
        assert await h.contents() == {"good.md": "y"}
        assert len(logged(fixture)) == 1


@pytest.mark.parametrize("whose", ["a stranger's", "our own"])
async def test_an_item_that_was_there_is_not_deleted_for_a_wrong_name(tmp_path: Path, whose: str) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        if whose == "our own":
            fixture.write("say %22hi%22.md", "own")
            await fixture.full()
        else:
            await h.upload("say %22hi%22.md", "theirs")
        h.clock.now += 5
        before = [row["id"] for row in await h.items()]
        fixture.write('say "hi".md', "x")
        h.wire.plays("POST", "/items", misspells(h), times=None)
        await fixture.full()
        assert [row["id"] for row in await h.items()] == before
        assert not logged(fixture)


@pytest.mark.parametrize("letter", ["a", "ü", "🗂"])
async def test_a_key_of_128_characters_is_taken_and_one_of_129_is_not(tmp_path: Path, letter: str) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        # Five levels, since file systems count bytes for each name.
        folder = "/".join([letter * 20] * 5) + "/"
        longest = folder + letter * (128 - len(folder) - 3) + ".md"
        over = folder + letter * (129 - len(folder) - 3) + ".md"
        assert (len(longest), len(over)) == (128, 129)
        fixture.write(longest, "x")
        fixture.write(over, "x")
        await fixture.full()
        assert fixture.problems() == {over: "key_too_long"}
        assert list(await h.contents()) == [longest]
        assert h.wire.count("POST") == 1


async def test_a_file_of_exactly_the_limit_of_its_type_is_taken_and_one_byte_more_is_not(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        most = {"text.txt": 10 * MIB, "page.html": 4 * MIB, "packed.log.gz": 4 * MIB, "paper.pdf": 4 * MIB}
        for name, size in most.items():
            fixture.write(name, b"x" * size)
            fixture.write(f"over-{name}", b"x" * (size + 1))
        result = await fixture.full()
        assert fixture.problems() == {f"over-{name}": "too_large" for name in most}
        assert not is_clean(result)
        assert {row["key"]: row["file_size"] for row in await h.items()} == most
        assert h.wire.count("POST") == 4


async def set_ocr(h: Harness, *, use_ocr: bool) -> None:
    options = {"indexing_options": {"use_ocr": use_ocr}}
    (await h.stranger.put(f"{INSTANCES}/docs", json=options)).raise_for_status()


async def test_an_instance_with_ocr_takes_a_pdf_of_10_mib(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        await set_ocr(h, use_ocr=True)
        fixture = h.add_mirror()
        for name, size in {
            "most.pdf": 10 * MIB,
            "over.pdf": 10 * MIB + 1,
            "small.pdf": 1,
            "other.PDF": 5 * MIB,
        }.items():
            fixture.write(name, b"x" * size)
        await fixture.full()
        assert fixture.problems() == {"over.pdf": "too_large"}
        assert [row["key"] for row in await h.items()] == ["most.pdf", "other.PDF", "small.pdf"]
        assert h.wire.count("GET", " /") == 1, "the instance is read once for both large PDFs"


@pytest.mark.parametrize("options", [None, {"use_ocr": None}, {"use_ocr": False}, "odd"])
async def test_without_known_ocr_a_large_pdf_is_not_sent_until_ocr_is_on(tmp_path: Path, options: object) -> None:
    def hide(request: object, body: dict[str, Any]) -> None:
        del request
        body["result"]["indexing_options"] = options

    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("large.pdf", b"x" * (4 * MIB + 1))
        h.wire.plays("GET", "/instances/docs", shows(hide), times=None)
        await fixture.full()
        assert fixture.problems() == {"large.pdf": "too_large"}
        [problem] = fixture.mirror.journal.problems.all()
        assert problem.message == (
            "4,194,305 bytes is over the target's 4,194,304 bytes (4 MiB) for a PDF without OCR; make it smaller, or"
            " turn on use_ocr in the indexing_options of the instance, then syncd retry"
        )
        assert h.wire.count("POST") == 0
        h.wire.diary.clear()
        await fixture.full()
        assert (h.wire.count("POST"), h.wire.count("GET", " /")) == (0, 0), "it is rejected until it changes"
        h.wire.acts.clear()
        await set_ocr(h, use_ocr=True)
        retry_problems(fixture.mirror.journal, fixture.mirror.queue, ["large.pdf"], h.clock())
        await fixture.full()
        assert fixture.problems() == {}
        assert [row["key"] for row in await h.items()] == ["large.pdf"]


# -- refused items

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
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        for name in ("a.md", "bad.md", "c.md"):
            fixture.write(name, name, age_s=60)
        began = h.clock.now
        h.wire.plays("POST", "/items", only_for(b'filename="bad.md"', answers(status, code)), times=None)
        result = await fixture.full()
        assert (result.done, dict(result.problems)) == ({"put": 2, "failed": 1}, {kind: 1})
        assert h.clock.now - began < 2
        assert list(await h.contents()) == ["a.md", "c.md"]
        assert fixture.problems() == {"bad.md": kind}
        [problem] = fixture.mirror.journal.problems.all()
        assert f"code {code}" in problem.message
        changing = fixture.changing
        await fixture.full()
        await fixture.hint("bad.md")
        fixture.restart()
        await fixture.full()
        assert fixture.changing == changing
        assert fixture.problems() == {"bad.md": kind}
        h.wire.acts.clear()
        fixture.write("bad.md", "mended")
        await fixture.hint("bad.md")
        assert (await h.contents())["bad.md"] == "mended"
        assert fixture.problems() == {}


async def test_an_instance_without_metadata_costs_one_refusal_and_no_marks(tmp_path: Path) -> None:
    async with open_harness(tmp_path, metadata="refuse") as h:
        fixture = h.add_mirror()
        for number in range(40):
            fixture.write(f"{number}.md", f"text {number}")
        await fixture.full()
        assert fixture.problems() == {}
        assert len(await h.items()) == 40
        assert h.wire.count("POST") <= 48


# -- errors that stop the mirror

HALTS = {
    "quota": (429, 7069, "quota"),
    "paused": (400, 7032, "resume"),
    "no storage": (400, 7053, "newly created"),
    "token": (401, 10000, "API token"),
    "permission": (403, 10000, "AI Search: Edit"),
}


@pytest.mark.parametrize(("status", "code", "remedy"), HALTS.values(), ids=HALTS)
async def test_an_error_that_concerns_every_item_halts_after_a_few_requests(
    tmp_path: Path, status: int, code: int, remedy: str
) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        for number in range(30):
            fixture.write(f"{number}.md", "x")
        h.wire.plays("POST", "/items", answers(status, code), times=None)
        with pytest.raises(Halt, match=remedy):
            await fixture.full()
        assert h.wire.count("POST") <= 8
        h.wire.acts.clear()
        await fixture.full()
        assert len(await h.items()) == 30
        assert fixture.problems() == {}


async def test_a_wrong_token_halts_at_the_first_request(tmp_path: Path) -> None:
    async with open_harness(tmp_path, token="right") as h:
        fixture = h.add_mirror(token="wrong")
        fixture.write("a.md", "x")
        with pytest.raises(Halt, match="authentication refused") as caught:
            await fixture.full()
        assert not isinstance(caught.value, TargetMissing)
        assert "wrong" not in str(caught.value)
        assert len(h.wire.diary) == 1


async def test_a_missing_instance_halts_and_nothing_is_made(tmp_path: Path) -> None:
    async with open_harness(tmp_path, instance=False) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "x")
        with pytest.raises(TargetMissing, match="create = true"):
            await fixture.full()
        with pytest.raises(TargetMissing):
            await fixture.mirror.target.check()
        assert fixture.changing == 0


async def test_a_missing_instance_is_made_with_our_marks_declared(tmp_path: Path) -> None:
    async with open_harness(tmp_path, instance=False) as h:
        fixture = h.add_mirror(create=True)
        fixture.write("a.md", "one")
        await fixture.full()
        assert await h.contents() == {"a.md": "one"}
        instance = (await h.stranger.get(f"{INSTANCES}/docs")).json()["result"]
        declared = {field["field_name"]: field["data_type"] for field in instance["custom_metadata"]}
        assert declared == {"sha256": "text", "owner": "text"}
        [mine] = await h.items(metadata_filter='{"owner": "me"}')
        assert mine["key"] == "a.md"
        assert "docs is there" in await fixture.mirror.target.check()
        await fixture.mirror.target.create()


async def test_a_dry_run_plans_for_an_instance_that_is_to_be_made_and_does_not_make_it(tmp_path: Path) -> None:
    async with open_harness(tmp_path, instance=False) as h:
        fixture = h.add_mirror(create=True)
        fixture.write("a.md", "x")
        result = await fixture.full(dry_run=True)
        assert reasons(result) == {"new": 1}
        assert fixture.changing == 0
        with pytest.raises(TargetMissing):
            await fixture.mirror.target.check()


async def test_an_instance_that_cannot_be_made_halts_at_once(tmp_path: Path) -> None:
    async with open_harness(tmp_path, instance=False) as h:
        # The emulator refuses an instance id with two hyphens.
        fixture = h.add_mirror(instance="do--cs", create=True)
        began = h.clock.now
        with pytest.raises(Halt, match="id: String should match"):
            await fixture.full()
        assert h.clock.now - began < 2


REFUSED_LISTINGS = {"no route": (404, 7000), "refused": (400, 7001), "conflict": (409, 1)}


@pytest.mark.parametrize(("status", "code"), REFUSED_LISTINGS.values(), ids=REFUSED_LISTINGS)
@pytest.mark.parametrize("create", [True, False])
async def test_a_listing_that_is_refused_for_an_unknown_reason_halts_and_changes_nothing(
    tmp_path: Path, status: int, code: int, *, create: bool
) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(create=create)
        fixture.write("a.md", "x")
        h.wire.plays("GET", "/items", answers(status, code, "no such thing"), times=None)
        with pytest.raises(Halt, match="no such thing"):
            await fixture.full()
        assert fixture.changing == 0


@pytest.mark.parametrize("create", [True, False])
async def test_a_404_without_an_error_code_is_an_outage(tmp_path: Path, *, create: bool) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(create=create)
        fixture.write("a.md", "x")
        h.wire.plays("GET", "/items", answers(404, 7999, "no such thing"), times=None)
        with pytest.raises(Unreachable, match="no such thing"):
            await fixture.full()
        assert fixture.changing == 0


async def test_the_instance_goes_away_in_the_middle_of_a_pass(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        for number in range(30):
            fixture.write(f"{number}.md", "x")
        h.wire.plays("POST", "/items", only_for(b'filename="2', answers(404, 7002)), times=None)
        with pytest.raises(TargetMissing):
            await fixture.full()
        h.wire.acts.clear()
        await fixture.full()
        assert len(await h.items()) == 30


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_internal_error_is_tried_again_until_it_is_over(tmp_path: Path, method: str) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "x")
        h.wire.plays(method, "/items", answers(500, 7001), times=2)
        await fixture.full()
        assert await h.contents() == {"a.md": "x"}
