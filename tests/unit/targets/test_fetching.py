"""Downloads of values: exact bytes, in bulk if possible, a few at a time. Also the search for a namespace."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import cast

import pytest

from syncd.cloudflare.kv import KV, KVNamespace, KVNamespaceInfo, find_by_id_or_title, find_by_title
from syncd.core.errors import Halt, NotFound, Park, Retry, SyncdError, TargetMissing, TooMuch
from syncd.core.model import Entry
from syncd.targets.kv.target import BULK_GET_BYTES, fetch_values
from syncd.targets.shared import DOWNLOADS, fetch_each

Requests = list[tuple[str, ...]]


class Namespace:
    """A namespace of the API. lossy: a bulk get gives replacement characters for a value that is no text."""

    def __init__(self, stored: Mapping[str, bytes], *, lossy: bool = False, most: int = 100) -> None:
        self.stored = stored
        self.lossy = lossy
        self.most = most
        self.bulks: Requests = []
        self.singles: list[str] = []

    async def bulk_get(self, keys: Sequence[str]) -> Mapping[str, str | None]:
        self.bulks.append(tuple(keys))
        if len(keys) > self.most:
            raise TooMuch("too much")
        try:
            texts = {key: self.stored[key].decode(errors="replace" if self.lossy else "strict") for key in keys}
        except UnicodeDecodeError:
            raise Park("refused", "a non-text value") from None
        except KeyError:
            texts = {key: self.stored[key].decode() for key in keys if key in self.stored}
        return {key: texts.get(key) for key in keys}

    async def read_value(self, key: str) -> bytes:
        self.singles.append(key)
        if key not in self.stored:
            raise NotFound("gone")
        return self.stored[key]

    def entries(self) -> list[Entry]:
        return [ours(key, data) for key, data in self.stored.items()]


def ours(key: str, data: bytes) -> Entry:
    return Entry(key, key, checksum=hashlib.sha256(data).hexdigest(), size=len(data))


async def fetched(namespace: Namespace, entries: Sequence[Entry]) -> dict[str, bytes | SyncdError | None]:
    found = [(entry.key, data) async for entry, data in fetch_values(cast("KVNamespace", namespace), entries)]
    assert len(dict(found)) == len(found), "some entry came twice"
    return dict(found)


async def test_text_values_come_a_hundred_at_a_time() -> None:
    remote = Namespace({f"{n:03}": f"téxt {n}\r\n\0\ufeff".encode() for n in range(250)})
    assert await fetched(remote, remote.entries()) == remote.stored
    assert ([len(keys) for keys in remote.bulks], remote.singles) == ([100, 100, 50], [])


async def test_a_bulk_with_one_binary_value_is_read_one_by_one() -> None:
    remote = Namespace({f"{n:03}": b"\xff\xfe" if n == 7 else b"text" for n in range(150)})
    assert await fetched(remote, remote.entries()) == remote.stored
    assert (len(remote.bulks), len(remote.singles)) == (2, 100)


async def test_a_file_name_of_a_binary_type_is_left_out_of_the_bulk() -> None:
    remote = Namespace({f"{n:03}.{'PNG' if n == 7 else 'md'}": b"\xff\xfe" if n == 7 else b"text" for n in range(50)})
    assert await fetched(remote, remote.entries()) == remote.stored
    assert ([len(keys) for keys in remote.bulks], remote.singles) == ([49], ["007.PNG"])


async def test_a_text_that_differs_from_the_stored_bytes_is_read_alone() -> None:
    remote = Namespace({"a": b"text", "b": b"\xff\xfe"}, lossy=True)
    assert await fetched(remote, remote.entries()) == remote.stored
    assert remote.singles == ["b"]


async def test_values_without_a_checksum_are_read_alone() -> None:
    remote = Namespace({"a": b"text", "b": b"text"})
    entries = [Entry("a", "a", size=4), Entry("b", "b", checksum="0" * 64)]
    assert await fetched(remote, entries) == remote.stored
    assert (remote.bulks, remote.singles) == ([], ["a", "b"])


async def test_known_sizes_split_the_bulks() -> None:
    big = b"x" * (BULK_GET_BYTES // 2)
    remote = Namespace({"a": big, "b": big, "c": big, "d": big + big + b"x"})
    assert await fetched(remote, remote.entries()) == remote.stored
    assert (remote.bulks, remote.singles) == ([("a", "b"), ("c",)], ["d"])


async def test_a_bulk_get_that_is_too_large_is_halved() -> None:
    remote = Namespace({f"{n:03}": b"text" for n in range(10)}, most=5)
    assert await fetched(remote, remote.entries()) == remote.stored
    assert [len(keys) for keys in remote.bulks] == [10, 5, 5]


async def test_a_value_that_does_not_exist_is_none() -> None:
    remote = Namespace({"a": b"text"})
    entries = [*remote.entries(), ours("gone", b"text"), Entry("away", "away")]
    assert await fetched(remote, entries) == {"a": b"text", "gone": None, "away": None}


async def test_a_few_at_a_time_in_their_order_and_one_failure_is_one_outcome() -> None:
    entries = [Entry(str(n), str(n)) for n in range(20)]
    running = most = 0

    async def read(entry: Entry) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (20 - int(entry.key)))
        running -= 1
        if entry.key == "3":
            raise Retry("not now")
        return entry.key.encode()

    found = [(entry, data) async for entry, data in fetch_each(entries, read)]
    assert [entry for entry, _ in found] == entries
    assert [data for _, data in found if isinstance(data, bytes)] == [str(n).encode() for n in range(20) if n != 3]
    assert (isinstance(found[3][1], Retry), most) == (True, DOWNLOADS)


async def test_an_error_of_the_mirror_is_raised_and_the_other_downloads_are_cancelled() -> None:
    cancelled = []

    async def read(entry: Entry) -> bytes:
        if entry.key == "0":
            raise Halt("refused")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(entry.key)
            raise
        return b""

    with pytest.raises(Halt):
        _ = [fetched async for fetched in fetch_each([Entry(str(n), str(n)) for n in range(9)], read)]
    assert len(cancelled) == DOWNLOADS - 1


# -- finding a namespace


class Account:
    def __init__(self, *namespaces: tuple[str, str]) -> None:
        self._all = [KVNamespaceInfo(namespace_id, title) for namespace_id, title in namespaces]

    async def get_namespace(self, namespace_id: str) -> KVNamespaceInfo:
        for namespace in self._all:
            if namespace.id == namespace_id:
                return namespace
        raise TargetMissing("namespace not found")

    async def iter_namespaces(self):  # type: ignore[no-untyped-def]  # noqa: ANN201 - an async generator
        for namespace in self._all:
            yield namespace


A, B, C = "a" * 32, "b" * 32, "c" * 32
Find = Callable[[KV, str], Awaitable[str]]


@pytest.mark.parametrize("find", [find_by_title, find_by_id_or_title])
async def test_a_title_of_two_namespaces_halts_and_names_the_ids(find: Find) -> None:
    with pytest.raises(Halt) as halted:
        await find(cast("KV", Account((A, "docs"), (B, "docs"), (C, "other"))), "docs")
    assert (A in str(halted.value), B in str(halted.value), C in str(halted.value)) == (True, True, False)


async def test_an_id_wins_over_a_title_that_looks_like_one() -> None:
    account = cast("KV", Account((A, B), (B, "docs"), (C, A)))
    assert [await find_by_id_or_title(account, name) for name in (A, B, "docs")] == [A, B, B]
    with pytest.raises(TargetMissing, match="docs"):
        await find_by_id_or_title(account, C[:-1] + "d")
