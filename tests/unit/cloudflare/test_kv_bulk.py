import base64
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncd.cloudflare import kv_bodies
from syncd.cloudflare.kv_bodies import (
    METADATA_LIMIT,
    VALUE_LIMIT,
    BulkBody,
    Pair,
    check_key,
    encode_metadata,
    encode_pair,
)
from syncd.core.errors import Park
from syncd.core.problems import KV_KEY_BYTES


def body_of(*pairs: Pair, **limits: int) -> BulkBody:
    body = BulkBody(**limits)
    for pair in pairs:
        assert body.add(pair)
    return body


def as_sent(body: BulkBody) -> bytes:
    sent = b"".join(body.pieces())
    assert len(sent) == body.size
    return sent


def read(body: BulkBody) -> dict[str, tuple[bytes, dict[str, Any]]]:
    """Return the pairs as a server reads them: key -> value and the other fields."""
    found = {}
    for row in json.loads(as_sent(body)):
        value = row.pop("value")
        content = base64.b64decode(value, validate=True) if row.pop("base64", False) else value.encode()
        found[row.pop("key")] = (content, row)
    return found


KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=120).filter(lambda key: key not in {".", ".."})
VALUES = st.one_of(
    st.binary(max_size=200),
    st.text(st.characters(codec="utf-8"), max_size=100).map(str.encode),
    st.text('\x00"\\\r\n\t\ufeffé😀', max_size=100).map(str.encode),
)


# values


@given(KEYS, VALUES)
@example("a", b"")
@example("a", b"\xef\xbb\xbfBOM\r\n")
@example('"\\\x00\x1f\x7f/ü', b"nul \x00 in text that is long enough to stay a text all the same")
@example("a", b"\xed\xa0\x80")
def test_every_value_comes_back_byte_for_byte(key: str, value: bytes) -> None:
    assert read(body_of(encode_pair(key, value))) == {key: (value, {})}


@given(st.lists(st.tuples(KEYS, VALUES), max_size=8, unique_by=lambda pair: pair[0]))
def test_every_batch_comes_back_whole_and_its_size_is_exact(pairs: list[tuple[str, bytes]]) -> None:
    body = body_of(*(encode_pair(key, value) for key, value in pairs))
    assert {key: value for key, (value, _) in read(body).items()} == dict(pairs)
    assert body.keys == tuple(key for key, _ in pairs)
    assert len(body) == len(pairs)


@given(value=VALUES, block=st.sampled_from([3, 6, 9]))
def test_the_seams_between_blocks_do_not_show(value: bytes, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kv_bodies, "BLOCK", block)
        assert read(body_of(encode_pair("a", value))) == {"a": (value, {})}


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("filling", [b"a", "é".encode(), "😀".encode(), b"\xff"])
def test_values_around_a_block_come_back(more: int, filling: bytes) -> None:
    value = (filling * 70_000 * 3)[: 2 * 192 * 1024 + more]
    assert read(body_of(encode_pair("a", value))) == {"a": (value, {})}


@given(VALUES)
def test_the_shorter_of_both_encodings_travels(value: bytes) -> None:
    packed = len(base64.b64encode(value)) + len(',"base64":true')
    try:
        plain = len(json.dumps(value.decode(), ensure_ascii=False).encode()) - len('""')
    except UnicodeDecodeError:
        plain = packed + 1
    pair = encode_pair("a", value)
    assert (b'"base64":true' in pair.pieces[-1]) == (plain > packed)
    assert pair.size == len('{"key":"a","value":""}') + min(plain, packed)


@pytest.mark.parametrize(
    ("value", "packed"),
    [
        (b"", False),
        (b"# Title\n\nText \xc3\xa9\r\n", False),
        (b"\xef\xbb\xbfbom", False),
        (b"\xff\xfe", True),
        (b"\x89PNG\r\n\x1a\n", True),
        (b"\xed\xa0\x80 a surrogate is no UTF-8", True),
        (b"\xc3", True),
        (b"\x00" * 100, True),
    ],
)
def test_text_travels_as_text_and_the_rest_as_base64(value: bytes, packed: bool) -> None:
    assert (b'"base64":true' in as_sent(body_of(encode_pair("a", value)))) is packed


def test_a_pair_carries_its_metadata_and_expiration() -> None:
    pair = encode_pair("a", b"x", metadata={"sha256": "ab", "n": 1, "ö": None}, expiration_ttl=1_800)
    assert read(body_of(pair))["a"] == (
        b"x",
        {"metadata": {"sha256": "ab", "n": 1, "ö": None}, "expiration_ttl": 1_800},
    )
    assert read(body_of(encode_pair("a", b"\xff", metadata={}, expiration_ttl=60)))["a"] == (
        b"\xff",
        {"metadata": {}, "expiration_ttl": 60},
    )


def test_the_body_is_as_plain_as_json_can_be() -> None:
    assert as_sent(body_of(encode_pair("é/b", b"x\n"), encode_pair("b", b"\xff"))) == (
        '[{"key":"é/b","value":"x\\n"},{"key":"b","value":"/w==","base64":true}]'.encode()
    )
    assert as_sent(BulkBody()) == b"[]"


# limits


@pytest.mark.parametrize(("size", "fits"), [(KV_KEY_BYTES - 1, True), (KV_KEY_BYTES, True), (KV_KEY_BYTES + 1, False)])
@pytest.mark.parametrize("letter", ["a", "é"])
def test_a_key_is_limited_in_bytes(size: int, fits: bool, letter: str) -> None:
    key = letter * (size // len(letter.encode())) + "x" * (size % len(letter.encode()))
    assert len(key.encode()) == size
    if fits:
        assert encode_pair(key, b"").key == key
        return
    with pytest.raises(Park, match="512") as caught:
        encode_pair(key, b"")
    assert caught.value.kind == "key_too_long"


@pytest.mark.parametrize("key", ["", ".", "..", "bad\udcff", "\ud800"])
def test_a_key_that_kv_does_not_take_is_refused(key: str) -> None:
    with pytest.raises(Park) as caught:
        encode_pair(key, b"")
    assert caught.value.kind == "invalid_key"
    assert str(caught.value).encode()


@pytest.mark.parametrize("key", ["...", "./a", "/", " ", "a\nb", "\x00", "\x7f", "%2e"])
def test_odd_keys_travel_in_a_bulk(key: str) -> None:
    assert set(read(body_of(encode_pair(key, b"x")))) == {key}


@pytest.mark.parametrize("key", ["a\nb", "\x00", "\x7f", "\x85", "tab\t"])
def test_no_url_contains_control_characters(key: str) -> None:
    with pytest.raises(Park, match="use syncd kv keys, or syncd kv rm") as caught:
        check_key(key, in_url=True)
    assert caught.value.kind == "invalid_key"


@pytest.mark.parametrize(("size", "fits"), [(METADATA_LIMIT - 1, True), (METADATA_LIMIT, True), (1025, False)])
@pytest.mark.parametrize("letter", ["x", "é"])
def test_metadata_is_limited_as_json(size: int, fits: bool, letter: str) -> None:
    room = size - len('{"a":""}')
    text = letter * (room // len(letter.encode())) + "x" * (room % len(letter.encode()))
    if fits:
        assert len(encode_metadata({"a": text})) == size
        return
    with pytest.raises(Park, match="1024") as caught:
        encode_metadata({"a": text})
    assert caught.value.kind == "refused"


@pytest.mark.parametrize("metadata", [{"a": float("nan")}, {"a": "\ud800"}])
def test_metadata_that_is_no_json_is_a_mistake(metadata: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"JSON compliant|surrogates"):
        encode_pair("a", b"", metadata=metadata)


@pytest.mark.parametrize(("pairs", "fits"), [(2, True), (3, True), (4, False)])
def test_a_body_takes_so_many_pairs(pairs: int, fits: bool) -> None:
    body = BulkBody(max_pairs=3)
    taken = [body.add(encode_pair(f"{n}", b"")) for n in range(pairs)]
    assert all(taken[:3])
    assert taken[-1] is fits
    assert len(read(body)) == min(pairs, 3)


@pytest.mark.parametrize(("room", "fits"), [(-1, False), (0, True), (1, True)])
def test_a_body_takes_so_many_bytes(room: int, fits: bool) -> None:
    one, other = encode_pair("a", b"xyz"), encode_pair("b", b"\xff")
    whole = body_of(one, other).size
    body = body_of(one, max_bytes=whole + room)
    assert body.add(other) is fits
    assert set(read(body)) == ({"a", "b"} if fits else {"a"})


@pytest.mark.parametrize(("room", "fits"), [(-1, False), (0, True), (1, True)])
def test_a_pair_that_fits_into_no_body_is_a_mistake(room: int, fits: bool) -> None:
    pair = encode_pair("a", b"xyz")
    body = BulkBody(max_bytes=pair.size + 2 + room)
    if fits:
        assert body.add(pair)
        return
    with pytest.raises(ValueError, match="no bulk"):
        body.add(pair)


def test_a_key_stands_in_a_body_once() -> None:
    body = body_of(encode_pair("a", b"old"))
    assert not body.add(encode_pair("a", b"new"))
    assert read(body)["a"][0] == b"old"


def test_the_largest_value_fits_into_a_body_of_syncd() -> None:
    pair = encode_pair("k" * KV_KEY_BYTES, b"\xff" * VALUE_LIMIT, metadata={"a": "x" * 1000})
    assert body_of(pair, max_pairs=1000, max_bytes=90_000_000).size < 35_100_000


# parts of a body


def test_a_part_shares_the_bytes_of_the_whole() -> None:
    pairs = [encode_pair(f"{n}", bytes([n])) for n in range(5)]
    part = body_of(*pairs).only(["2", "3", "4"])
    assert part.keys == ("2", "3", "4")
    assert all(part._pairs[pair.key] is pair for pair in pairs[2:])


def test_failed_keys_make_a_body_of_their_own() -> None:
    body = body_of(*(encode_pair(key, key.encode()) for key in "abc"))
    assert read(body.only(["c", "a", "stranger"])) == {"a": (b"a", {}), "c": (b"c", {})}
    assert len(body.only([])) == 0


def test_no_content_shows_in_a_repr() -> None:
    assert "hush" not in repr(encode_pair("a", b"hush")) + repr(body_of(encode_pair("a", b"hush")))
