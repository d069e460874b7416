"""The official SDK as a client of KV: the stand-in parses its requests, and it parses the answers."""

import base64
import io
from collections.abc import Iterator
from typing import Any, TypedDict

import cloudflare
import pytest
from cloudflare import Cloudflare
from cloudflare.types.kv.namespace_bulk_get_response import WorkersKVBulkGetResult, WorkersKVBulkGetResultWithMetadata

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import Server, serve
from tests.emulator.harness import ACCOUNT, codes
from tests.emulator.harness_sdk import open_client


class Place(TypedDict):
    account_id: str
    namespace_id: str


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(EmulatorOptions()) as server:
        yield server


@pytest.fixture
def place(client: Cloudflare) -> Iterator[Place]:
    made = client.kv.namespaces.create(account_id=ACCOUNT, title="sdk")
    assert made is not None
    yield {"account_id": ACCOUNT, "namespace_id": made.id}
    client.kv.namespaces.delete(made.id, account_id=ACCOUNT)


def test_the_sdk_manages_namespaces(client: Cloudflare) -> None:
    spaces = client.kv.namespaces
    titles = [f"space {number}" for number in range(7)]
    ids = {title: made.id for title in titles if (made := spaces.create(account_id=ACCOUNT, title=title))}
    listed = spaces.list(account_id=ACCOUNT, order="title", direction="desc", per_page=3)
    assert [space.title for space in listed] == titles[::-1]
    found = spaces.get(ids["space 3"], account_id=ACCOUNT)
    assert found is not None
    assert (found.title, found.supports_url_encoding) == ("space 3", True)
    assert spaces.update(ids["space 3"], account_id=ACCOUNT, title="renamed").title == "renamed"
    with pytest.raises(cloudflare.BadRequestError) as taken:
        spaces.create(account_id=ACCOUNT, title="renamed")
    assert codes(taken) == [10014]
    for each in ids.values():
        spaces.delete(each, account_id=ACCOUNT)
    with pytest.raises(cloudflare.NotFoundError) as gone:
        spaces.get(ids["space 0"], account_id=ACCOUNT)
    assert codes(gone) == [10013]


@pytest.mark.parametrize("key", ["a.md", "docs/über uns.md", "/lead?x=1&y#z%41", ":!*"])
def test_the_sdk_writes_reads_and_deletes_a_value(client: Cloudflare, place: Place, key: str) -> None:
    values = client.kv.namespaces.values
    values.update(key, **place, value=b"Bytes \x00\xff", metadata={"hash": "1"}, expiration_ttl=100)
    answer = values.get(key, **place)
    assert answer.read() == b"Bytes \x00\xff"
    assert int(answer.headers["expiration"]) > 1_700_000_000
    assert client.kv.namespaces.metadata.get(key, **place) == {"hash": "1"}
    values.delete(key, **place)
    values.delete(key, **place)
    for read in (values.get, client.kv.namespaces.metadata.get):
        with pytest.raises(cloudflare.NotFoundError) as caught:
            read(key, **place)
        assert codes(caught) == [10009]


@pytest.mark.parametrize("value", [b"bytes", ("name.txt", b"bytes", "text/plain"), io.BytesIO(b"bytes")])
@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, None), ({"metadata": {"n": [1]}}, {"n": [1]}), ({"metadata": '{"n": 2}'}, {"n": 2}), ({"metadata": 5}, 5)],
)
def test_the_sdk_writes_a_value_in_all_its_forms(
    client: Cloudflare, place: Place, value: Any, given: dict[str, Any], expected: Any
) -> None:
    if isinstance(value, io.BytesIO):
        value.seek(0)
    client.kv.namespaces.values.update("a", **place, value=value, **given)
    assert client.kv.namespaces.values.get("a", **place).read() == b"bytes"
    assert client.kv.namespaces.metadata.get("a", **place) == expected


def test_the_sdk_sends_text_as_metadata_without_quotes_which_is_refused(client: Cloudflare, place: Place) -> None:
    with pytest.raises(cloudflare.BadRequestError) as caught:
        client.kv.namespaces.values.update("a", **place, value=b"x", metadata="text")
    assert codes(caught) == [10001]


def test_the_sdk_writes_lists_and_deletes_in_bulk(client: Cloudflare, place: Place) -> None:
    keys = [f"docs/{number:03}.md" for number in range(25)]
    done = client.kv.namespaces.bulk_update(
        place["namespace_id"],
        account_id=ACCOUNT,
        body=[{"key": key, "value": key, "metadata": {"size": 1}, "expiration_ttl": 1000} for key in keys],
    )
    assert done is not None
    assert (done.successful_key_count, done.unsuccessful_keys) == (25, [])
    listed = list(client.kv.namespaces.keys.list(**place, limit=10, prefix="docs/"))
    assert [row.name for row in listed] == keys
    assert listed[0].metadata == {"size": 1}
    assert listed[0].expiration is not None
    gone = client.kv.namespaces.bulk_delete(place["namespace_id"], account_id=ACCOUNT, body=[*keys[1:], "never"])
    assert gone is not None
    assert (gone.successful_key_count, gone.unsuccessful_keys) == (25, [])
    assert [row.name for row in client.kv.namespaces.keys.list(**place)] == keys[:1]


def test_the_sdk_reads_in_bulk(client: Cloudflare, place: Place) -> None:
    spaces, at = client.kv.namespaces, place["namespace_id"]
    binary = base64.b64encode(b'{"n": 1}').decode()
    spaces.bulk_update(
        at,
        account_id=ACCOUNT,
        body=[{"key": "a", "value": "text"}, {"key": "b", "value": binary, "base64": True, "metadata": {"m": 1}}],
    )
    plain = spaces.bulk_get(at, account_id=ACCOUNT, keys=["a", "b"])
    assert isinstance(plain, WorkersKVBulkGetResult)
    assert plain.values == {"a": "text", "b": '{"n": 1}'}
    parsed = spaces.bulk_get(at, account_id=ACCOUNT, keys=["b"], type="json")
    assert isinstance(parsed, WorkersKVBulkGetResult)
    assert parsed.values == {"b": {"n": 1}}
    full = spaces.bulk_get(at, account_id=ACCOUNT, keys=["b", "none"], with_metadata=True)
    assert isinstance(full, WorkersKVBulkGetResult | WorkersKVBulkGetResultWithMetadata)
    assert full.to_dict() == {"values": {"b": {"value": '{"n": 1}', "metadata": {"m": 1}}, "none": None}}


def test_the_sdk_reads_refusals(client: Cloudflare, place: Place) -> None:
    with pytest.raises(cloudflare.BadRequestError) as caught:
        client.kv.namespaces.bulk_update(
            place["namespace_id"],
            account_id=ACCOUNT,
            body=[{"key": "a", "value": "x"}, {"key": "a", "value": "y"}],
        )
    assert codes(caught) == [10001]
    with pytest.raises(cloudflare.APIStatusError) as too_long:
        client.kv.namespaces.values.update("k" * 513, **place, value=b"x")
    assert too_long.value.status_code == 414


@pytest.mark.parametrize(
    ("options", "status"),
    [({"bulk_fail_over": 1}, 524), ({"bulk_max_bytes": 10}, 413), ({"kv_write_limit": True}, 429)],
)
def test_the_sdk_raises_the_failures_of_the_options(options: dict[str, Any], status: int) -> None:
    with (
        serve(EmulatorOptions(**options)) as server,
        open_client(server.base_url) as client,
    ):
        made = client.kv.namespaces.create(account_id=ACCOUNT, title="sdk")
        assert made is not None
        client.kv.namespaces.values.update("a", account_id=ACCOUNT, namespace_id=made.id, value=b"x")
        with pytest.raises(cloudflare.APIStatusError) as caught:
            client.kv.namespaces.bulk_update(
                made.id, account_id=ACCOUNT, body=[{"key": "a", "value": "x"}, {"key": "b", "value": "x"}]
            )
        assert caught.value.status_code == status
