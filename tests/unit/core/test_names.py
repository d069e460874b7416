"""Short names fit, are readable and prove only their own key. The shard of a key never changes."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.names import (
    DIGITS,
    LEAST_LENGTH,
    MAX_SHARDS,
    SHARD_REMEDY,
    WHOLE,
    Shard,
    fits,
    full_key,
    keeps_prefix,
    looks_shortened,
    remote_name,
    shard_index,
)
from syncd.core.plain_text import truncated

PARTS = st.text(st.sampled_from("abcXYZ0189 ~.-_\u00e9\u65e5\U0001f600\u0301"), min_size=1, max_size=120)
KEYS = st.lists(PARTS, min_size=1, max_size=6).map("/".join)
LENGTHS = st.integers(LEAST_LENGTH, 200)
BYTES = st.none() | st.integers(LEAST_LENGTH, 600)
LONG = "guides/installation/" + "a-very-long-folder/" * 6 + "the-whole-story-of-it.md"


def test_a_long_name_can_still_be_read() -> None:
    name = remote_name(LONG, 128)
    assert re.fullmatch(r"guides/installation/a-very-long-folder/.*~[0-9a-f]{12}~the-whole-story-of-it\.md", name)
    assert len(name) == 128
    assert full_key(name, LONG) == LONG


@pytest.mark.parametrize(("length", "shortened"), [(127, False), (128, False), (129, True)])
def test_only_a_key_over_the_limit_is_shortened(length: int, shortened: bool) -> None:
    key = "x" * (length - 3) + ".md"
    assert (remote_name(key, 128) != key) is shortened


@pytest.mark.parametrize(("size", "shortened"), [(511, False), (512, False), (513, True)])
def test_bytes_have_a_limit_of_their_own(size: int, shortened: bool) -> None:
    key = "\u00e9" * 200 + "x" * (size - 400)
    name = remote_name(key, 1000, 512)
    assert (name != key) is shortened
    assert len(name.encode()) <= 512


@pytest.mark.parametrize(
    ("key", "length", "most", "head", "tail"),
    [
        ("a" * 100 + "/" + "b" * 100, 74, None, "a" * 40, "b" * 20),
        ("a" * 100 + "/b", 74, None, "a" * 59, "b"),
        ("\u00e9" * 100, 1000, 74, "\u00e9" * 20, "\u00e9" * 10),
        ("\u00e9" * 50 + "/\u65e5", 1000, 74, "\u00e9" * 28, "\u65e5"),
    ],
)
def test_a_third_of_a_name_is_for_its_end(key: str, length: int, most: int | None, head: str, tail: str) -> None:
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    assert remote_name(key, length, most) == f"{head}~{digest}~{tail}", (
        "a new version must find the entries of an old one"
    )


@given(KEYS, LENGTHS, BYTES)
def test_a_name_fits_stays_the_same_and_proves_its_key(key: str, length: int, most: int | None) -> None:
    name = remote_name(key, length, most)
    assert fits(name, length, most)
    assert name == remote_name(key, length, most)
    if fits(key, length, most) and not looks_shortened(key):
        assert name == key
        assert full_key(name, "another") == name
    else:
        assert looks_shortened(name)
        assert full_key(name, key) == key


@given(st.lists(KEYS, min_size=2, max_size=6, unique=True), LENGTHS, BYTES)
def test_different_keys_have_different_names_even_those_that_are_names(
    keys: list[str], length: int, most: int | None
) -> None:
    every = {*keys, *(remote_name(key, length, most) for key in keys)}
    assert len({remote_name(key, length, most) for key in every}) == len(every)


@given(KEYS, KEYS, LENGTHS)
def test_a_name_proves_no_other_key(key: str, forged: str, length: int) -> None:
    name = remote_name(key, length)
    assert full_key(name, forged) == (key if forged == key and name != key else name)


@pytest.mark.parametrize(
    "said", [None, 7, ["a"], "", LONG + "x", "x" + LONG, LONG.replace("story", "st\u00f6ry"), "\ud800"]
)
def test_a_key_without_proof_is_not_used(said: object) -> None:
    name = remote_name(LONG, 128)
    assert full_key(name, said) == name


def test_a_name_whose_start_and_end_overlap_is_no_proof() -> None:
    mark = remote_name(LONG, 128).rpartition("/")[2]
    mark = "~" + mark.split("~")[1] + "~"
    file = LONG.rpartition("/")[2]
    proof = LONG.removesuffix(file) + mark + file
    assert full_key(proof, LONG) == LONG
    forged = LONG.removesuffix("d") + mark + file
    assert full_key(forged, LONG) == forged


def test_a_name_proves_its_key_under_other_limits_too() -> None:
    assert full_key(remote_name(LONG, 100), LONG) == LONG


@pytest.mark.parametrize("ending", [".md", ".log.gz", ".editorconfig", ".markdown"])
@pytest.mark.parametrize("length", [LEAST_LENGTH, 128])
def test_the_ending_stays(ending: str, length: int) -> None:
    assert remote_name("x" * 300 + ending, length).endswith(ending)


def test_no_character_is_cut_in_two() -> None:
    name = remote_name("\U0001f600" * 400 + ".md", 512, 512)
    assert name.encode().decode() == name
    assert 500 < len(name.encode()) <= 512
    accents = remote_name("x" * 200 + "e\u0301" * 30, LEAST_LENGTH)
    assert "~\u0301" not in accents


@given(KEYS, KEYS, LENGTHS, BYTES)
def test_a_prefix_that_is_kept_is_kept(prefix: str, rest: str, length: int, most: int | None) -> None:
    if keeps_prefix(prefix, length, most):
        assert remote_name(f"{prefix}/{rest}", length, most).startswith(prefix)


@pytest.mark.parametrize(("length", "kept"), [(33, True), (34, True), (35, False)])
def test_two_thirds_of_the_room_are_for_the_start(length: int, kept: bool) -> None:
    assert keeps_prefix("p" * length, LEAST_LENGTH) is kept
    assert LEAST_LENGTH - DIGITS - 2 == 50
    assert keeps_prefix("p" * length, 200, LEAST_LENGTH) is kept, "as bytes"


@pytest.mark.parametrize(("prefix", "kept"), [("\u00e9" * 17, True), ("\u00e9" * 17 + "x", False), ("x" * 35, False)])
def test_two_thirds_of_the_bytes_are_for_the_start(prefix: str, kept: bool) -> None:
    assert keeps_prefix(prefix, 1000, LEAST_LENGTH) is kept


def test_the_start_of_a_text_has_so_many_characters_and_bytes() -> None:
    assert truncated("abc", 2) == "ab"
    assert [truncated("a\u00e9b", 9, most) for most in (0, 1, 2, 3, 4)] == ["", "a", "a", "a\u00e9", "a\u00e9b"]


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
    assert tuple(shard_index(key, count) for count in (2, 3, 4, 7, 1024)) == parts


def test_the_documented_formula_is_the_one_in_use() -> None:
    for number in range(100):
        key = f"handbook/p\u00e4ge-{number}.md"
        digest = hashlib.sha256(key.encode()).hexdigest()
        assert shard_index(key, 13) == int(digest[:16], 16) % 13


@given(st.text(), st.integers(1, MAX_SHARDS))
def test_every_key_falls_into_exactly_one_part(key: str, count: int) -> None:
    assert 0 <= shard_index(key, count) < count
    assert Shard(shard_index(key, count), count).holds(key)
    assert not Shard((shard_index(key, count) + 1) % count, count).holds(key) or count == 1


def test_a_key_with_half_a_surrogate_pair_has_a_shard() -> None:
    assert sum(Shard(index, 4).holds("a\ud800") for index in range(4)) == 1


def test_the_parts_are_about_equal() -> None:
    sizes = [0] * 4
    for number in range(20_000):
        sizes[shard_index(f"part-{number % 200:04d}/page-{number:06d}.md", 4)] += 1
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
    assert Shard.parse(text) == shard
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
        Shard.parse(text)
    assert str(caught.value) == SHARD_REMEDY


def test_the_remedy_contains_the_limit() -> None:
    assert f"n <= {MAX_SHARDS}" in SHARD_REMEDY
