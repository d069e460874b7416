"""Concurrent work with its errors and cancellations, groups of many items, and metadata within a limit."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.errors import Retry
from syncd.targets.base import for_each, in_groups
from syncd.targets.shared import fit_metadata, json_size


async def refused(item: int) -> None:
    await asyncio.sleep(0)
    if item == 2:
        raise Retry("not now")
    await asyncio.Event().wait()


async def test_the_first_error_ends_the_others_and_is_raised_as_it_is() -> None:
    with pytest.raises(Retry, match="not now"):
        await for_each([1, 2, 3], refused, 3)


async def test_an_error_leaves_no_request_to_cancel_behind() -> None:
    """In Python 3.11.2, such a request turns every later timeout into a cancellation, which ends the daemon."""
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(Retry):
        await for_each([1, 2, 3], refused, 3)
    assert task.cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.Event().wait()


async def test_a_cancellation_from_outside_stays_one() -> None:
    task = asyncio.ensure_future(for_each([1, 3], refused, 2))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_for_each_works_on_all_items_with_limited_concurrency() -> None:
    now, most, done = 0, 0, []

    async def work(item: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        done.append(item)

    await for_each(range(10), work, 3)
    assert sorted(done) == list(range(10))
    assert most == 3
    await for_each([], work, 3)


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([], []),
        ([1, 1], [[1, 1]]),
        ([1, 1, 1], [[1, 1, 1]]),
        ([1, 1, 1, 1], [[1, 1, 1], [1]]),
        ([5, 4], [[5, 4]]),
        ([5, 5], [[5, 5]]),
        ([5, 6], [[5], [6]]),
        ([1, 11, 1], [[1], [11], [1]]),
        ([11], [[11]]),
    ],
)
def test_groups_have_a_limit_of_items_and_of_size(sizes: list[int], groups: list[list[int]]) -> None:
    assert list(in_groups(sizes, lambda size: size, 3, 10)) == groups


def test_the_longest_fields_are_left_out_first_and_never_the_marks() -> None:
    marks, fields = {"sha256": "f" * 64, "size": 3}, {"a": "x" * 50, "b": "\u00e9" * 30, "c": "z"}
    whole = json_size({**marks, **fields})
    assert fit_metadata(marks, fields, whole) == {**fields, **marks}
    assert fit_metadata(marks, fields, whole - 1) == {"a": "x" * 50, "c": "z", **marks}
    assert fit_metadata(marks, fields, 0) == marks
    assert fit_metadata({"a": "ours"}, {"a": "theirs"}, 1000) == {"a": "ours"}


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=40), max_size=6), st.integers(20, 300))
def test_fitted_metadata_is_within_the_limit(fields: dict[str, str], limit: int) -> None:
    kept = fit_metadata({"m": "mark"}, fields, limit)
    assert len(json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")) <= limit
    assert kept["m"] == "mark"
