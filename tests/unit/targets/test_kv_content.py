"""Values of KV: any bytes and any name within the limits, marks, and times to live."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from tests.harness import is_clean, reasons
from tests.unit.targets.harness_ai_search import answers
from tests.unit.targets.harness_kv import MIB, open_harness

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
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("file", CONTENTS[name])
        await fixture.full()
        assert await h.value("file") == CONTENTS[name]
        assert (await h.marks("file"))["sha256"] == sha256(CONTENTS[name]).hexdigest()
        assert (await fixture.later()).tables.plan.counts.total() == 0


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
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(prefix="p/")
        for name in KEYS:
            fixture.write(name, f"text of {name}")
        await fixture.full()
        assert fixture.problems() == {}
        assert await h.contents() == {f"p/{name}": f"text of {name}".encode() for name in KEYS}
        assert (await fixture.later()).tables.plan.counts.total() == 0
        for name in KEYS:
            await h.drop(f"p/{name}")
        assert reasons(await fixture.later())["missing"] == len(KEYS), "each was asked for by its name"
        fixture.remove(*KEYS)
        fixture.write("left", "x")
        await fixture.full()
        assert await h.contents() == {"p/left": b"x"}


def path_of(length: int, letter: str) -> str:
    """Return a path of `length` characters, whose names are valid on file systems."""
    levels, rest = divmod(length - 50, 41)
    return (letter * 40 + "/") * levels + letter * (rest + 50)


@pytest.mark.parametrize("letter", ["a", "é"])
async def test_a_key_of_128_characters_is_taken_and_one_of_129_is_not(tmp_path: Path, letter: str) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(sizes=(128, MIB))
        longest, over = path_of(128, letter), path_of(129, letter)
        assert (len(longest), len(over)) == (128, 129)
        fixture.write(longest, "x")
        fixture.write(over, "x")
        await fixture.full()
        assert list(await h.rows()) == [longest]
        assert fixture.problems() == {over: "key_too_long"}


async def test_a_key_of_512_bytes_is_taken_and_one_of_513_is_not(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        longest, over, wide = path_of(512, "a"), path_of(513, "a"), path_of(300, "é")
        for name in (longest, over, wide):
            fixture.write(name, "x")
        await fixture.full()
        assert list(await h.rows()) == [longest]
        assert fixture.problems() == {over: "key_too_long", wide: "key_too_long"}


async def test_the_prefix_counts_into_the_key(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(prefix="pre/", sizes=(10, MIB))
        fixture.write("123456", "x")
        fixture.write("1234567", "x")
        await fixture.full()
        assert list(await h.rows()) == ["pre/123456"]
        assert fixture.problems() == {"pre/1234567": "key_too_long"}


async def test_a_file_of_the_largest_size_is_taken_and_one_byte_more_is_not(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(sizes=(128, 25 * MIB))
        for name, size in (("most", 25 * MIB), ("over", 25 * MIB + 1)):
            with fixture.write(name, b"\xff").open("r+b") as file:
                file.truncate(size)
        await fixture.full()
        assert fixture.problems() == {"over": "too_large"}
        value = await h.value("most")
        assert value is not None
        assert (len(value), value[:2]) == (25 * MIB, b"\xff\0")
        assert (await fixture.later()).tables.plan.counts.total() == 0


async def test_a_value_whose_base64_is_too_long_for_a_bulk_goes_alone(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(sizes=(128, 25 * MIB), stale_ttl=600)
        most = 25 * MIB // 4 * 3
        for name, size in (("most", most), ("over", most + 1)):
            with fixture.write(name, b"\xff").open("r+b") as file:
                file.truncate(size)
        fixture.write("stays", "x")
        await fixture.full()
        assert fixture.problems() == {}
        assert [line.rpartition("/")[2] for line in h.wire.diary if line.startswith("PUT")] == ["over", "bulk"]
        assert (await h.marks("over"))["size"] == most + 1
        fixture.remove("most", "over")
        await fixture.later()
        stale = {"owner": "me", "stale": True}
        assert {key: row["metadata"] for key, row in (await h.rows()).items()} == {
            "most": stale,
            "over": stale,
            "stays": await h.marks("stays"),
        }


async def test_a_value_that_is_refused_alone_stops_no_other(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(sizes=(128, 25 * MIB))
        for name in ("a", "b"):
            with fixture.write(name, b"\xff").open("r+b") as file:
                file.truncate(25 * MIB)
        fixture.write("c", "small")
        h.wire.plays("PUT", "/values/a", answers(400, 10001))
        await fixture.full()
        assert fixture.problems() == {"a": "refused"}
        assert set(await h.rows()) == {"b", "c"}


async def test_a_value_sent_alone_waits_for_the_write_limit_of_its_key(tmp_path: Path) -> None:
    async with open_harness(tmp_path, kv_write_limit=True) as h:
        fixture = h.add_mirror(sizes=(128, 25 * MIB))
        fixture.write("a", b"\xff" * 19 * MIB)
        await fixture.full()
        written = h.clock.now
        fixture.write("a", b"\xfe" * 19 * MIB)
        assert (await fixture.hint("a", after=0.5)).done["put"] == 1
        assert h.clock.now == written + 1


async def test_the_marks_fit_into_the_metadata_with_the_longest_owner(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(owner="🗂" * 64)
        fixture.write("a", "x")
        await fixture.full()
        marks = await h.marks("a")
        assert marks == {"sha256": sha256(b"x").hexdigest(), "owner": "🗂" * 64, "size": 1}
        assert len(json.dumps(marks, ensure_ascii=False).encode()) <= 1024
        assert len(json.dumps(marks).encode()) <= 1024, "also if somebody counts it escaped"


async def test_every_entry_has_the_time_to_live_of_the_mirror(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(expiration_ttl=3600)
        fixture.write("a", "x")
        fixture.write("b", "y")
        await fixture.full()
        ends = {key: row["expiration"] for key, row in (await h.rows()).items()}
        assert ends == dict.fromkeys("ab", int(h.clock.now) + 3600)
        h.clock.now += 3601
        assert await h.contents() == {}
        assert reasons(await fixture.full())["missing"] == 2
        assert await h.contents() == {"a": b"x", "b": b"y"}


# -- entries whose file is gone


async def test_a_stale_entry_expires_instead_of_vanishing_and_is_retired_once(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(stale_ttl=600)
        fixture.write("a", b"\x00\xffone")
        fixture.write("keep", "x")
        await fixture.full()
        fixture.remove("a")
        assert (await fixture.full()).done["delete"] == 1
        row = (await h.rows())["a"]
        assert row["expiration"] == int(h.clock.now) + 600
        assert row["metadata"]["stale"] is True
        assert await h.value("a") == b"\x00\xffone"
        changes = len(h.changes())
        for again in (fixture.full, fixture.later, fixture.full):
            assert (await again()).tables.plan.counts.total() == 0
        fixture.lose_journal()
        result = await fixture.later()
        assert (result.done["delete"], len(h.changes())) == (0, changes)
        h.clock.now += 600
        assert await h.contents() == {"keep": b"x"}


async def test_a_file_that_comes_back_is_written_without_an_end(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(stale_ttl=600)
        fixture.write("a", "one")
        fixture.write("keep", "x")
        await fixture.full()
        for wait in (1, 61):
            fixture.remove("a")
            await fixture.full()
            assert "expiration" in (await h.rows())["a"]
            h.clock.now += wait
            fixture.write("a", "one")
            assert reasons(await fixture.full())["new"] == 1
            row = (await h.rows())["a"]
            assert "expiration" not in row
            assert "stale" not in row["metadata"]
            assert (await fixture.later()).tables.plan.counts.total() == 0
        fixture.remove("a")
        await fixture.hint("a")
        fixture.write("a", "one")
        assert (await fixture.hint("a")).done["put"] == 1
        assert "expiration" not in (await h.rows())["a"]


async def test_a_stale_entry_that_is_gone_already_is_done(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(stale_ttl=60)
        for name in ("a", "b", "keep"):
            fixture.write(name, name)
        await fixture.full()
        fixture.remove("a", "b")
        await h.drop("a")
        result = await fixture.full()
        assert result.done["delete"] == 2
        assert is_clean(result)
        assert set(await h.rows()) == {"b", "keep"}


async def test_retiring_many_takes_a_read_each_and_one_bulk_for_a_hundred(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(stale_ttl=60)
        names = [f"{number}.txt" for number in range(150)]
        for name in ("keep", *names):
            fixture.write(name, name)
        await fixture.full()
        fixture.remove(*names)
        h.wire.diary.clear()
        assert (await fixture.full()).done["delete"] == 150
        reads = len([line for line in h.wire.diary if "/values/" in line])
        assert (reads, len(h.changes())) == (150, 2)
        assert fixture.mirror.target.requests(0, 150) == 152
