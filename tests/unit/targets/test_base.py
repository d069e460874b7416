"""Concurrent work: errors, cancellations, and requests to cancel that remain after them."""

import asyncio

import pytest

from syncd.core.errors import Retry
from syncd.targets.base import for_each, in_groups


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
