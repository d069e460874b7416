"""The contract over the KV of workerd, Cloudflare's own runtime. It checks the assumptions of the stand-in.

The tests are skipped without node or npm, and if npm cannot install the packages of tests/contract/node.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import count

import pytest

from syncd.cloudflare.kv import KVNamespace
from syncd.cloudflare.kv_bodies import METADATA_LIMIT, VALUE_LIMIT, BulkBody, Pair, encode_pair
from syncd.cloudflare.request import compact_json
from syncd.core.errors import NotFound, Park
from syncd.targets.base import Target
from syncd.targets.kv.writing import BULK_VALUE, send_bulk
from tests.contract.harness import MIB, FilesContract, KVRemote, apply, at_once, content, gone, listing, new, put
from tests.contract.workerd import installed, served

# The first test may install the packages.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STRANGE_KEYS = [
    "p//",
    "p/ a ",
    "p/../x",
    "p/./",
    "p/a?b=c#d",
    "p/\u00fc",
    "p/u\u0308",
    "p/\ud7ff\ue000\U0010ffff",
    "p/&amp;",
    'p/"',
]
CONTROL_KEYS = ["p/a\nb", "p/a\tb", "p/\x01", "p/\x7f", "p/\x00"]


@pytest.fixture(scope="module")
def base_url(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    cache = getattr(pytestconfig, "cache", None)
    packages = installed(cache.mkdir("workerd") if cache else tmp_path_factory.mktemp("workerd"))
    with served(packages, tmp_path_factory.mktemp("workerd")) as url:
        yield url


class TestKVTargetOnWorkerd(FilesContract):
    """One server for all tests, one namespace for each test."""

    numbers = count()

    @pytest.fixture
    async def remote(self, base_url: str) -> AsyncIterator[KVRemote]:
        async with AsyncExitStack() as stack:
            yield await KVRemote(base_url, f"docs-{next(self.numbers)}", stack).open()

    @pytest.fixture
    async def namespace(self, remote: KVRemote) -> KVNamespace:
        return await remote.namespace()

    async def test_a_listing_of_several_pages_shows_every_key_once(
        self, target: Target, namespace: KVNamespace
    ) -> None:
        keys = [f"p/{number}.md" for number in range(1100)]
        await apply(target, [new(key) for key in keys])
        assert [key.name async for key in namespace.iter_keys("p/")] == sorted(keys)
        assert [key.name async for key in namespace.iter_keys("p/9")] == sorted(
            key for key in keys if key.startswith("p/9")
        )

    @pytest.mark.parametrize("key", [*STRANGE_KEYS, "p/" + "x" * 510, "p/" + "\U0001f600" * 127 + "xx"])
    async def test_a_strange_key_is_stored_and_deleted(self, target: Target, namespace: KVNamespace, key: str) -> None:
        await put(target, key, b"one")
        assert set(await listing(target)) == {key}
        found = await target.confirm(key, None)
        assert found is not None
        assert await target.checksum(found, None) == content(b"one").checksum
        assert await namespace.bulk_get([key]) == {key: "one"}
        await namespace.write_value(key, b"two")
        assert await namespace.read_value(key) == b"two"
        await apply(target, [gone(key, key)])
        assert await listing(target) == {}

    async def test_keys_with_control_characters_are_stored_and_deleted_in_bulk(self, target: Target) -> None:
        await apply(target, [new(key) for key in CONTROL_KEYS])
        assert set(await listing(target)) == set(CONTROL_KEYS)
        await apply(target, [gone(key, key) for key in CONTROL_KEYS])
        assert await listing(target) == {}

    async def test_a_key_may_begin_with_a_slash(self, namespace: KVNamespace) -> None:
        for key in ("/", "//", "/a/../b"):
            await namespace.write_value(key, key.encode())
            assert await namespace.read_value(key) == key.encode()
        assert [key.name async for key in namespace.iter_keys("/")] == ["/", "//", "/a/../b"]

    async def test_invalid_pairs_fail_alone(self, namespace: KVNamespace) -> None:
        bad: dict[str, dict[str, object]] = {
            "k" * 513: {},
            "metadata": {"metadata": "m" * METADATA_LIMIT},
            "ttl": {"expiration_ttl": 59},
            "..": {},
        }
        body = BulkBody()
        for key in ("a", "b", "c"):
            body.add(encode_pair(key, key.encode()))
        for key, more in bad.items():
            raw = compact_json({"key": key, "value": "", **more})
            body.add(Pair(key, (raw,), len(raw)))
        failed = await send_bulk(body.keys, lambda keys: namespace.bulk_write(body.only(keys)), at_once)
        assert {key: type(error) for key, error in failed.items()} == dict.fromkeys(bad, Park)
        assert [key.name async for key in namespace.iter_keys()] == ["a", "b", "c"]

    # miniflare checks base64 with a regular expression, which fails for longer values in a bulk request.
    @pytest.mark.parametrize(
        "data", [b"x" * BULK_VALUE, b"\xff" * 2 * MIB, b"\xff" * VALUE_LIMIT], ids=["text", "base64", "alone"]
    )
    async def test_a_large_value_is_stored_and_read(self, target: Target, data: bytes) -> None:
        await put(target, "p/a.md", data)
        found = await target.confirm("p/a.md", None)
        assert found is not None
        assert await target.checksum(found, None) == content(data).checksum

    async def test_metadata_of_the_largest_size_is_stored_and_read(self, namespace: KVNamespace) -> None:
        metadata = {"m": "\u00e9" * ((METADATA_LIMIT - 8) // 2)}
        assert len(compact_json(metadata)) == METADATA_LIMIT
        body = BulkBody()
        body.add(encode_pair("bulk", b"", metadata=metadata))
        assert not await namespace.bulk_write(body)
        await namespace.write_value("single", b"", metadata)
        assert {key.name: key.metadata async for key in namespace.iter_keys()} == {"bulk": metadata, "single": metadata}
        assert await namespace.read_metadata("bulk") == metadata

    async def test_expiring_values_have_an_expiration(self, namespace: KVNamespace) -> None:
        body = BulkBody()
        body.add(encode_pair("bulk", b"\xff", metadata={"a": 1}, expiration_ttl=60))
        await namespace.bulk_write(body)
        await namespace.write_value("marked", b"\xff", {"a": 1}, expiration_ttl=60)
        await namespace.write_value("plain", b"\xff", expiration_ttl=60)
        rows = {key.name: key async for key in namespace.iter_keys()}
        assert {name: row.metadata for name, row in rows.items()} == {
            "bulk": {"a": 1},
            "marked": {"a": 1},
            "plain": None,
        }
        for name, row in rows.items():
            assert row.expiration is not None
            assert await namespace.read_value(name) == b"\xff"
        await namespace.write_value("plain", b"")
        [plain] = [key async for key in namespace.iter_keys("plain")]
        assert plain.expiration is None, "a write without an expiration removes it"

    async def test_a_missing_key_is_not_found(self, namespace: KVNamespace) -> None:
        with pytest.raises(NotFound):
            await namespace.read_value("a")
        with pytest.raises(NotFound):
            await namespace.read_metadata("a")
        await namespace.delete_value("a")
        assert await namespace.bulk_get(["a"]) == {"a": None}
