"""Ids and refs of vectors, and the vectors that a listing of ids proves."""

import hashlib
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.targets.vectorize.index import (
    CHUNKS_LIMIT,
    HeldVectors,
    RefMaker,
    VectorRef,
    content_tag,
    key_tag,
    parse_ref,
    split_id,
)

ME = RefMaker("me", "model mean", "1 1200 200")
TEXT = st.text(min_size=0, max_size=40)


def checksum(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def ref(key: str = "a.md", text: str = "one", chunks: int = 3) -> VectorRef:
    return ME.ref(key, checksum(text), chunks)


@given(owner=TEXT, key=TEXT, text=TEXT, chunks=st.integers(1, CHUNKS_LIMIT))
def test_every_ref_and_id_is_read_back_as_it_was_written(owner: str, key: str, text: str, chunks: int) -> None:
    made = RefMaker(owner, "m", "c").ref(key, checksum(text), chunks)
    assert parse_ref(str(made)) == made
    ids = made.ids()
    for number, vector_id in ((1, ids[0]), (chunks, ids[-1])):
        assert len(vector_id.encode()) <= 64
        assert split_id(vector_id) == (str(made), number)


def test_the_ids_of_a_ref_are_different_and_in_order() -> None:
    ids = ref(chunks=300).ids()
    assert len(set(ids)) == 300
    assert ids == sorted(ids)


def test_each_differing_part_makes_another_ref() -> None:
    makers = [RefMaker(*parts) for parts in product(("me", "you"), ("m", "n"), ("1", "2"))]
    refs = {
        str(each.ref(key, checksum(text), chunks))
        for each, key, text, chunks in product(makers, ("a", "b"), ("x", "y"), (1, 2))
    }
    assert len(refs) == 8 * 2 * 2 * 2


def test_an_owner_and_a_key_of_the_same_name_have_no_tag_in_common() -> None:
    assert not key_tag("docs").startswith(RefMaker("docs", "m", "c").owner)
    assert not content_tag("docs").startswith(key_tag("docs"))


@pytest.mark.parametrize(
    "stranger",
    [
        "",
        "1",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        ref().ids()[0] + "x",
        ref().ids()[0][:-1],
        ref().ids()[0].replace("0001-", "0004-"),
        ref().ids()[0].replace("0001-", "0000-"),
        ref().ids()[0].upper(),
        ref().ids()[0].replace(".", ":"),
        str(ref()),
        ref().ids()[0] + "\n",
        "é" * 31 + "x",
    ],
)
def test_an_id_that_syncd_did_not_make_is_not_parsed(stranger: str) -> None:
    found = split_id(stranger)
    # Upper case changes the tags. The numbers must be hexadecimal in lower case.
    assert found is None or parse_ref(found[0]) is not None
    if stranger != ref().ids()[0].upper():
        assert found is None
    if stranger != str(ref()):
        assert parse_ref(stranger) is None


def test_a_ref_without_chunks_is_none() -> None:
    assert parse_ref(str(ref(chunks=1)).removesuffix("0001") + "0000") is None


# -- vectors that a listing shows


def test_a_listing_in_any_order_gives_refs_by_key_and_their_number_of_vectors() -> None:
    held, whole, part = HeldVectors(), ref("a.md", chunks=3), ref("b.md", chunks=3)
    for vector_id in (*reversed(whole.ids()), part.ids()[1], "stranger", part.ids()[1]):
        held.add_id(vector_id)
    assert (held.count(whole), held.count(part)) == (3, 1)
    assert held.any_id(part) == part.ids()[1]
    assert held.refs_of(ME.owner, key_tag("a.md")) == [whole]
    assert set(held.tags()) == {(ME.owner, key_tag("a.md")), (ME.owner, key_tag("b.md"))}
    assert held.foreign_ids == ["stranger"]


def test_two_contents_of_a_key_are_two_refs_until_one_is_dropped() -> None:
    held, old, new = HeldVectors(), ref(text="old"), ref(text="new")
    for vector_id in old.ids():
        held.add_id(vector_id)
    held.add(new)
    assert held.refs_of(ME.owner, key_tag("a.md")) == [old, new]
    held.remove(old)
    held.remove(old)
    assert held.refs_of(ME.owner, key_tag("a.md")) == [new]
    assert (held.count(old), held.count(new)) == (0, 3)
    held.remove(new)
    assert list(held.tags()) == []


def test_an_unknown_key_has_no_refs() -> None:
    assert HeldVectors().refs_of(ME.owner, key_tag("a.md")) == []
    assert HeldVectors().count(ref()) == 0
