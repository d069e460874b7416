"""The part of a key is a promise between processes, and to other tools: these vectors may never change."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core import sharding
from syncd.core.sharding import MAX_SHARDS, SHARD_REMEDY, WHOLE, Shard, parse, part

VECTORS = [
    # key, parts of 2, 3, 4, 7, 1024
    ("", (0, 1, 0, 1, 20)),
    ("a", (0, 1, 2, 4, 458)),
    ("guide.md", (1, 2, 1, 1, 977)),
    ("handbook/guide.md", (0, 1, 0, 4, 436)),
    ("name~001.md", (0, 1, 2, 0, 218)),
    ("caf\xe9/men\xfc.md", (1, 2, 1, 3, 157)),
    ("\U0001f600.md", (0, 0, 0, 0, 704)),
    ("part-0000/page-000000.md", (1, 1, 1, 0, 93)),
    ("a" * 512, (1, 2, 3, 5, 591)),
]


@pytest.mark.parametrize(("key", "parts"), VECTORS)
def test_the_part_of_a_key_is_the_same_for_ever(key: str, parts: tuple[int, ...]) -> None:
    assert tuple(part(key, count) for count in (2, 3, 4, 7, 1024)) == parts


def test_the_documented_formula_is_the_one_in_use() -> None:
    for number in range(100):
        key = f"handbook/p\u00e4ge-{number}.md"
        digest = hashlib.sha256(key.encode()).hexdigest()
        assert part(key, 13) == int(digest[:16], 16) % 13


@given(st.text(), st.integers(1, MAX_SHARDS))
def test_every_key_falls_into_exactly_one_part(key: str, count: int) -> None:
    assert 0 <= part(key, count) < count
    assert Shard(part(key, count), count).holds(key)
    assert not Shard((part(key, count) + 1) % count, count).holds(key) or count == 1


def test_a_key_with_half_a_surrogate_pair_has_a_shard() -> None:
    assert sum(Shard(index, 4).holds("a\ud800") for index in range(4)) == 1


def test_the_parts_are_about_equal() -> None:
    sizes = [0] * 4
    for number in range(20_000):
        sizes[part(f"part-{number % 200:04d}/page-{number:06d}.md", 4)] += 1
    assert max(sizes) - min(sizes) < 20_000 / 4 * 0.05


@pytest.mark.parametrize(
    ("text", "shard"),
    [
        ("", WHOLE),
        ("0/1", WHOLE),
        ("0/4", Shard(0, 4)),
        ("3/4", Shard(3, 4)),
        (f"{MAX_SHARDS - 1}/{MAX_SHARDS}", Shard(1023, 1024)),
    ],
)
def test_a_shard_is_written_as_its_number_and_how_many_there_are(text: str, shard: Shard) -> None:
    assert parse(text) == shard
    assert text in ("", str(shard))


@pytest.mark.parametrize(
    "text",
    [
        "4/4",
        "5/4",
        "0/0",
        "/4",
        "1/",
        "1",
        "-1/4",
        "1/4 ",
        "a/4",
        "$(POD_INDEX)/4",
        "1.0/4",
        "\u0661/4",
        f"0/{MAX_SHARDS + 1}",
    ],
)
def test_an_invalid_shard_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ValueError, match="should be") as caught:
        parse(text)
    assert str(caught.value) == SHARD_REMEDY


def test_the_remedy_contains_the_limit() -> None:
    assert f"n <= {sharding.MAX_SHARDS}" in SHARD_REMEDY
