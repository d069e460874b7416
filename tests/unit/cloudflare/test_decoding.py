"""For any JSON of the remote, wrong required fields are errors, and wrong optional fields are absent."""

import json
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from pydantic import Field

from syncd.cloudflare.decoding import (
    CURSOR_LIMIT,
    NUMBER_LIMIT,
    Flag,
    Number,
    OptionalInt,
    OptionalText,
    OptionalTime,
    RemoteMetadata,
    Text,
    decode,
    decode_page,
    decode_rows,
    parse_cursor,
)
from syncd.core.errors import Retry


@dataclass(frozen=True, slots=True)
class Thing:
    id: Text
    score: Number = 0.0
    size: Annotated[OptionalInt, Field(validation_alias="fileSize")] = None
    note: OptionalText = None
    seen: OptionalTime = None
    paused: Flag = False
    metadata: RemoteMetadata = field(default_factory=dict)


DEEP: Any = json.loads("[" * 900 + "]" * 900)
LONG = json.loads("9" * 4300)
ODD: list[Any] = [None, 7, LONG, True, 0.5, float("nan"), float("inf"), "", "\ud800", [], {}, DEEP, {"\udcff": DEEP}]


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("name", ["fileSize", "note", "seen", "paused", "metadata", "unknown", "\ud800", "é"])
def test_no_optional_field_spoils_an_object(name: str, value: Any) -> None:
    thing = decode(Thing, {"id": "a", name: value}, "thing")
    assert thing.id == "a"
    json.dumps([thing.note, thing.size, thing.metadata]).encode()
    (thing.note or "").encode()


@pytest.mark.parametrize("value", [value for value in ODD if value not in ("", 7)])
def test_a_required_text_is_checked(value: Any) -> None:
    with pytest.raises(Retry, match=r"unexpected answer: thing has a .*'id'") as caught:
        decode(Thing, {"id": value}, "thing")
    assert caught.value.ambiguous
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("score", "known"),
    [
        (0, True),
        (1.5, True),
        (NUMBER_LIMIT - 1, True),
        (NUMBER_LIMIT, True),
        (NUMBER_LIMIT + 2, False),
        (LONG, False),
        (True, False),
        ("1", False),
        (float("nan"), False),
        (None, False),
    ],
)
def test_a_required_number_is_checked(score: Any, *, known: bool) -> None:
    if known:
        assert decode(Thing, {"id": "a", "score": score}, "thing").score == score
        return
    with pytest.raises(Retry, match="'score'"):
        decode(Thing, {"id": "a", "score": score}, "thing")


@pytest.mark.parametrize(
    ("size", "expected"),
    [(3, 3), (3.0, 3), (NUMBER_LIMIT, NUMBER_LIMIT), (NUMBER_LIMIT + 1, None), (-LONG, None), (True, None)],
)
def test_a_count_is_a_whole_number(size: Any, expected: int | None) -> None:
    found = decode(Thing, {"id": "a", "fileSize": size}, "thing").size
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("time", ["0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "2026-13-01", "soon", ""])
def test_a_time_out_of_range_is_absent(time: str) -> None:
    assert decode(Thing, {"id": "a", "seen": time}, "thing").seen is None


def test_an_unreadable_row_is_a_fault_that_names_its_field() -> None:
    page = decode_page(Thing, [{"id": "a"}, {"id": "b\ud800"}, 3, {"id": "c", "\ud800": 1}], "thing")
    assert [thing.id for thing in page.rows] == ["a", "c"]
    assert page.faults == ("thing has a 'id' that is not valid Unicode: 'b\\\\ud800'", "thing is no object")
    with pytest.raises(Retry, match="not valid Unicode"):
        decode_rows(Thing, [{"id": "b\ud800"}], "thing")


@pytest.mark.parametrize("length", [CURSOR_LIMIT - 1, CURSOR_LIMIT, CURSOR_LIMIT + 1])
def test_a_cursor_is_limited(length: int) -> None:
    if length <= CURSOR_LIMIT:
        assert parse_cursor("x" * length) == "x" * length
        return
    with pytest.raises(Retry, match=f"a cursor of {length} characters"):
        parse_cursor("x" * length)
