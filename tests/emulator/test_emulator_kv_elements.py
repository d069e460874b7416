"""The array of a bulk request, taken apart while it arrives."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.emulator.kv.elements import Elements

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(['"', "\\", '\\"', "[{", "]},", "\\\\"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def taken_apart(body: bytes, size: int) -> list[Any]:
    elements = Elements()
    texts = [text for start in range(0, len(body), size) for text in elements.feed(body[start : start + size])]
    elements.close()
    return [json.loads(text) for text in texts]


@given(st.lists(JSON, max_size=4), st.integers(1, 40), st.booleans(), st.sampled_from([None, 1]))
def test_the_elements_are_the_same_however_the_body_is_cut(
    value: list[Any], size: int, escaped: bool, indent: int | None
) -> None:
    body = json.dumps(value, ensure_ascii=escaped, indent=indent).encode()
    assert taken_apart(body, size) == value


@given(st.text('[]{},:" \\a1', max_size=12), st.integers(1, 4))
def test_what_json_refuses_is_refused_and_the_rest_is_taken(text: str, size: int) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    if isinstance(expected, list):
        assert taken_apart(text.encode(), size) == expected
    else:
        with pytest.raises(ValueError):  # noqa: PT011 - its own or that of json
            taken_apart(text.encode(), size)


def test_no_more_is_held_than_one_element() -> None:
    piece = b'{"key": "k", "value": "' + b'line \\"quoted\\"\\n' * 4000 + b'"},'
    elements = Elements()
    list(elements.feed(b"["))
    tracemalloc.start()
    try:
        count = sum(1 for _ in range(300) for half in (piece[:30_000], piece[30_000:]) for _ in elements.feed(half))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 300
    assert peak < 6 * len(piece)
