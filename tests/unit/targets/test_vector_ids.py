"""The id of a vector carries all that a listing has to prove."""

import hashlib
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.cloudflare.vectorize_lines import ID_LIMIT
from syncd.targets.vectorize.ids import PIECES_LIMIT, Ref, content_tag, key_tag, maker, parse_ref, split_id
from syncd.targets.vectorize.sets import Sets

ME = maker("me", "model mean", "1 1200 200")
TEXT = st.text(min_size=0, max_size=40)


def checksum(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def ref(key: str = "a.md", text: str = "one", pieces: int = 3) -> Ref:
    return ME.ref(key, checksum(text), pieces)


@given(owner=TEXT, key=TEXT, text=TEXT, pieces=st.integers(1, PIECES_LIMIT))
def test_every_ref_and_id_is_read_back_as_it_was_written(owner: str, key: str, text: str, pieces: int) -> None:
    made = maker(owner, "m", "c").ref(key, checksum(text), pieces)
    assert parse_ref(str(made)) == made
    for number, vector_id in ((1, made.ids()[0]), (pieces, made.ids()[-1])):
        assert len(vector_id.encode()) <= ID_LIMIT
        assert split_id(vector_id) == (str(made), number)


def test_the_ids_of_a_ref_are_different_and_in_order() -> None:
    ids = ref(pieces=300).ids()
    assert len(set(ids)) == 300
    assert ids == sorted(ids)


def test_whatever_differs_makes_other_refs() -> None:
    makers = [maker(*parts) for parts in product(("me", "you"), ("m", "n"), ("1", "2"))]
    refs = {
        str(each.ref(key, checksum(text), pieces))
        for each, key, text, pieces in product(makers, ("a", "b"), ("x", "y"), (1, 2))
    }
    assert len(refs) == 8 * 2 * 2 * 2


def test_an_owner_and_a_key_of_the_same_name_have_no_tag_in_common() -> None:
    assert not key_tag("docs").startswith(maker("docs", "m", "c").owner)
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
def test_an_id_that_syncd_did_not_make_is_nobodys(stranger: str) -> None:
    found = split_id(stranger)
    # Upper case changes what the tags say; the numbers in it would still have to be hexadecimal in lower case.
    assert found is None or parse_ref(found[0]) is not None
    if stranger != ref().ids()[0].upper():
        assert found is None
    if stranger != str(ref()):
        assert parse_ref(stranger) is None


def test_a_ref_of_no_pieces_is_none() -> None:
    assert parse_ref(str(ref(pieces=1)).removesuffix("0001") + "0000") is None


# Sets of them


def test_a_listing_in_any_order_gives_refs_by_key_and_how_much_of_them_is_there() -> None:
    sets, whole, part = Sets(), ref("a.md", pieces=3), ref("b.md", pieces=3)
    sets.see([*reversed(whole.ids()), part.ids()[1], "stranger", part.ids()[1]])
    assert (sets.held(whole), sets.held(part)) == (3, 1)
    assert sets.some_id(part) == part.ids()[1]
    assert sets.of_key(ME.owner, key_tag("a.md")) == [whole]
    assert set(sets.places()) == {(ME.owner, key_tag("a.md")), (ME.owner, key_tag("b.md"))}
    assert sets.strangers == ["stranger"]


def test_two_contents_of_a_key_are_two_refs_until_one_is_dropped() -> None:
    sets, old, new = Sets(), ref(text="old"), ref(text="new")
    sets.see(old.ids())
    sets.put(new)
    assert sets.of_key(ME.owner, key_tag("a.md")) == [old, new]
    sets.drop(old)
    sets.drop(old)
    assert sets.of_key(ME.owner, key_tag("a.md")) == [new]
    assert (sets.held(old), sets.held(new)) == (0, 3)
    sets.drop(new)
    assert list(sets.places()) == []


def test_a_key_nobody_has_seen_has_no_refs() -> None:
    assert Sets().of_key(ME.owner, key_tag("a.md")) == []
    assert Sets().held(ref()) == 0
