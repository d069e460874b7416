"""What travels into KV: any bytes, any name, within the sizes; the marks and the time to live of every entry."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from tests.unit.targets.harness_ai_search import answers
from tests.unit.targets.harness_kv import MIB, world

CONTENTS = {
    "empty": b"",
    "newline": b"\n",
    "crlf": b"one\r\ntwo\r\n",
    "bom": b"\xef\xbb\xbfwith a mark",
    "nul": b"a\x00b\x00",
    "binary": bytes(range(256)) * 40,
    "half-a-letter": "é".encode()[:1],
    "lone-surrogate": b"\xed\xa0\x80",
    "quotes": b'{"a": "\\"</script>\\u0000"}',
    "separators": "\u2028\u2029\ufffe".encode(),
    "text": "Größe 日本語 🗂️".encode() * 1000,
}


@pytest.mark.parametrize("name", CONTENTS)
async def test_bytes_arrive_as_they_are(tmp_path: Path, name: str) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        side.write("file", CONTENTS[name])
        await side.full()
        assert await w.value("file") == CONTENTS[name]
        assert (await w.marks("file"))["sha256"] == sha256(CONTENTS[name]).hexdigest()
        assert (await side.later()).tables.plan.counts.total() == 0


KEYS = [
    "with space.md",
    'say "hi".md',
    "it's.md",
    "100%.md",
    "100%25.md",
    "%2e%2e%2fetc.md",
    ".leading.md",
    ".hidden/.x/.conf",
    "back\\slash.md",
    "a&b=c?d#e;f+g.md",
    "Größe/naïve.md",
    "日本語/ファイル.md",
    "emoji 🗂️.md",
    "zero\u200bwidth\u2028.md",
    "{json}[].md",
    " leading and trailing ",
]


async def test_names_with_anything_in_them_arrive_as_they_are_and_stay_in_step(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(prefix="p/")
        for name in KEYS:
            side.write(name, f"text of {name}")
        await side.full()
        assert side.problems() == {}
        assert await w.contents() == {f"p/{name}": f"text of {name}".encode() for name in KEYS}
        assert (await side.later()).tables.plan.counts.total() == 0
        for name in KEYS:
            await w.drop(f"p/{name}")
        assert (await side.later()).reasons["missing"] == len(KEYS), "each was asked for by its name"
        side.remove(*KEYS)
        side.write("left", "x")
        await side.full()
        assert await w.contents() == {"p/left": b"x"}


def path_of(length: int, letter: str) -> str:
    """A path of `length` characters, in names that file systems take."""
    levels, rest = divmod(length - 50, 41)
    return (letter * 40 + "/") * levels + letter * (rest + 50)


@pytest.mark.parametrize("letter", ["a", "é"])
async def test_a_key_of_128_characters_is_taken_and_one_of_129_is_not(tmp_path: Path, letter: str) -> None:
    async with world(tmp_path) as w:
        side = w.side(sizes=(128, MIB))
        longest, over = path_of(128, letter), path_of(129, letter)
        assert (len(longest), len(over)) == (128, 129)
        side.write(longest, "x")
        side.write(over, "x")
        await side.full()
        assert list(await w.rows()) == [longest]
        assert side.problems() == {over: "key_too_long"}


async def test_a_key_of_512_bytes_is_taken_and_one_of_513_is_not(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        longest, over, wide = path_of(512, "a"), path_of(513, "a"), path_of(300, "é")
        for name in (longest, over, wide):
            side.write(name, "x")
        await side.full()
        assert list(await w.rows()) == [longest]
        assert side.problems() == {over: "key_too_long", wide: "key_too_long"}


async def test_the_prefix_counts_into_the_key(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(prefix="pre/", sizes=(10, MIB))
        side.write("123456", "x")
        side.write("1234567", "x")
        await side.full()
        assert list(await w.rows()) == ["pre/123456"]
        assert side.problems() == {"pre/1234567": "key_too_long"}


async def test_a_file_of_the_largest_size_is_taken_and_one_byte_more_is_not(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(sizes=(128, 25 * MIB))
        for name, size in (("most", 25 * MIB), ("over", 25 * MIB + 1)):
            with side.write(name, b"\xff").open("r+b") as file:
                file.truncate(size)
        await side.full()
        assert side.problems() == {"over": "too_large"}
        value = await w.value("most")
        assert value is not None
        assert (len(value), value[:2]) == (25 * MIB, b"\xff\0")
        assert (await side.later()).tables.plan.counts.total() == 0


async def test_what_base64_would_make_too_long_for_a_bulk_goes_alone(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(sizes=(128, 25 * MIB), stale_ttl=600)
        most = 25 * MIB // 4 * 3
        for name, size in (("most", most), ("over", most + 1)):
            with side.write(name, b"\xff").open("r+b") as file:
                file.truncate(size)
        side.write("stays", "x")
        await side.full()
        assert side.problems() == {}
        assert [line.rpartition("/")[2] for line in w.wire.diary if line.startswith("PUT")] == ["over", "bulk"]
        assert (await w.marks("over"))["size"] == most + 1
        side.remove("most", "over")
        await side.later()
        stale = {"owner": "me", "stale": True}
        assert {key: row["metadata"] for key, row in (await w.rows()).items()} == {
            "most": stale,
            "over": stale,
            "stays": await w.marks("stays"),
        }


async def test_a_value_that_is_refused_alone_stops_no_other(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(sizes=(128, 25 * MIB))
        for name in ("a", "b"):
            with side.write(name, b"\xff").open("r+b") as file:
                file.truncate(25 * MIB)
        side.write("c", "small")
        w.wire.plays("PUT", "/values/a", answers(400, 10001))
        await side.full()
        assert side.problems() == {"a": "refused"}
        assert set(await w.rows()) == {"b", "c"}


async def test_what_goes_alone_waits_for_the_second_of_its_key_too(tmp_path: Path) -> None:
    async with world(tmp_path, kv_write_limit=True) as w:
        side = w.side(sizes=(128, 25 * MIB))
        side.write("a", b"\xff" * 19 * MIB)
        await side.full()
        written = w.clock.now
        side.write("a", b"\xfe" * 19 * MIB)
        assert (await side.hint("a", after=0.5)).done["put"] == 1
        assert w.clock.now == written + 1


async def test_the_marks_fit_into_the_metadata_with_the_longest_owner(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(owner="🗂" * 64)
        side.write("a", "x")
        await side.full()
        marks = await w.marks("a")
        assert marks == {"sha256": sha256(b"x").hexdigest(), "owner": "🗂" * 64, "size": 1}
        assert len(json.dumps(marks, ensure_ascii=False).encode()) <= 1024
        assert len(json.dumps(marks).encode()) <= 1024, "also if somebody counts it escaped"


async def test_every_entry_has_the_time_to_live_of_the_mirror(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(expiration_ttl=3600)
        side.write("a", "x")
        side.write("b", "y")
        await side.full()
        ends = {key: row["expiration"] for key, row in (await w.rows()).items()}
        assert ends == dict.fromkeys("ab", int(w.clock.now) + 3600)
        w.clock.now += 3601
        assert await w.contents() == {}
        assert (await side.full()).reasons["missing"] == 2
        assert await w.contents() == {"a": b"x", "b": b"y"}


# -- entries whose file is gone


async def test_a_stale_entry_expires_instead_of_vanishing_and_is_retired_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(stale_ttl=600)
        side.write("a", b"\x00\xffone")
        side.write("keep", "x")
        await side.full()
        side.remove("a")
        assert (await side.full()).done["delete"] == 1
        row = (await w.rows())["a"]
        assert row["expiration"] == int(w.clock.now) + 600
        assert row["metadata"]["stale"] is True
        assert await w.value("a") == b"\x00\xffone"
        changes = len(w.changes())
        for again in (side.full, side.later, side.full):
            assert (await again()).tables.plan.counts.total() == 0
        side.lose_journal()
        result = await side.later()
        assert (result.done["delete"], len(w.changes())) == (0, changes)
        w.clock.now += 600
        assert await w.contents() == {"keep": b"x"}


async def test_a_file_that_comes_back_is_written_without_an_end(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(stale_ttl=600)
        side.write("a", "one")
        side.write("keep", "x")
        await side.full()
        for wait in (1, 61):
            side.remove("a")
            await side.full()
            assert "expiration" in (await w.rows())["a"]
            w.clock.now += wait
            side.write("a", "one")
            assert (await side.full()).reasons["new"] == 1
            row = (await w.rows())["a"]
            assert "expiration" not in row
            assert "stale" not in row["metadata"]
            assert (await side.later()).tables.plan.counts.total() == 0
        side.remove("a")
        await side.hint("a")
        side.write("a", "one")
        assert (await side.hint("a")).done["put"] == 1
        assert "expiration" not in (await w.rows())["a"]


async def test_a_stale_entry_that_is_gone_already_is_done(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(stale_ttl=60)
        for name in ("a", "b", "keep"):
            side.write(name, name)
        await side.full()
        side.remove("a", "b")
        await w.drop("a")
        result = await side.full()
        assert result.done["delete"] == 2
        assert result.clean
        assert set(await w.rows()) == {"b", "keep"}


async def test_retiring_many_takes_a_read_each_and_one_bulk_for_a_hundred(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(stale_ttl=60)
        names = [f"{number}.txt" for number in range(150)]
        for name in ("keep", *names):
            side.write(name, name)
        await side.full()
        side.remove(*names)
        w.wire.diary.clear()
        assert (await side.full()).done["delete"] == 150
        reads = len([line for line in w.wire.diary if "/values/" in line])
        assert (reads, len(w.changes())) == (150, 2)
        assert side.mirror.target.requests(0, 150) == 152
