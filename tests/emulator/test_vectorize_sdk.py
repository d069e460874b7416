"""The official SDK as a client of Vectorize and Workers AI: both sides parse what the other sends."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypedDict

import cloudflare
import pytest
from cloudflare import Cloudflare

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import Server, serve
from tests.emulator.harness import ACCOUNT, codes

# The SDK passes raw bytes between its own methods in a way that makes it warn.
pytestmark = pytest.mark.filterwarnings("ignore:Passing raw bytes as `body` is deprecated:DeprecationWarning")

MODEL: Literal["@cf/baai/bge-small-en-v1.5"] = "@cf/baai/bge-small-en-v1.5"
NDJSON = {"Content-Type": "application/x-ndjson"}


class Place(TypedDict):
    account_id: str
    index_name: str


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(EmulatorOptions(mutation_lag=0)) as server:
        yield server


@pytest.fixture
def place(client: Cloudflare) -> Iterator[Place]:
    made = client.vectorize.indexes.create(
        account_id=ACCOUNT, name="sdk", description="d", config={"dimensions": 2, "metric": "cosine"}
    )
    assert made is not None
    assert made.name == "sdk"
    yield {"account_id": ACCOUNT, "index_name": "sdk"}
    client.vectorize.indexes.delete("sdk", account_id=ACCOUNT)


def vectors(*ids: str, **more: Any) -> bytes:
    rows = [{"id": each, "values": [1, place], **more} for place, each in enumerate(ids)]
    return b"".join(json.dumps(each).encode() + b"\n" for each in rows)


def test_the_sdk_manages_indexes(client: Cloudflare, place: Place) -> None:
    indexes = client.vectorize.indexes
    made = indexes.create(account_id=ACCOUNT, name="preset", config={"preset": MODEL})
    assert made is not None
    assert made.config is not None
    assert (made.config.dimensions, made.config.metric, made.config.preset) == (384, "cosine", MODEL)
    assert [index.name for index in indexes.list(account_id=ACCOUNT)] == ["preset", "sdk"]
    found = indexes.get(**place)
    assert found is not None
    assert (found.name, found.description) == ("sdk", "d")
    assert found.created_on is not None
    with pytest.raises(cloudflare.BadRequestError) as taken:
        indexes.create(account_id=ACCOUNT, name="preset", config={"preset": MODEL})
    assert codes(taken) == [3002]
    indexes.delete("preset", account_id=ACCOUNT)
    with pytest.raises(cloudflare.APIStatusError) as deleted:
        indexes.get("preset", account_id=ACCOUNT)
    assert codes(deleted) == [3005]
    with pytest.raises(cloudflare.NotFoundError) as never:
        indexes.info("never", account_id=ACCOUNT)
    assert codes(never) == [3000]


@pytest.mark.parametrize("verb", ["upsert", "insert"])
def test_the_sdk_sends_vectors_with_an_explicit_content_type(client: Cloudflare, place: Place, verb: str) -> None:
    indexes = client.vectorize.indexes
    send = {"upsert": indexes.upsert, "insert": indexes.insert}[verb]
    sent = send(**place, body=vectors("a", "b"), unparsable_behavior="error", extra_headers=NDJSON)
    assert sent is not None
    info = indexes.info(**place)
    assert info is not None
    assert (info.dimensions, info.vector_count, info.processed_up_to_mutation) == (2, 2, sent.mutation_id)
    assert info.processed_up_to_datetime is not None
    with pytest.raises(cloudflare.BadRequestError) as untold:
        send(**place, body=vectors("a"))
    assert codes(untold) == [40023]


def test_the_sdk_lists_reads_and_deletes_vectors(client: Cloudflare, place: Place) -> None:
    indexes = client.vectorize.indexes
    indexes.upsert(**place, body=vectors("a", "b", "c", metadata={"n": 1}, namespace="s"), extra_headers=NDJSON)
    found, cursor = [], ""
    for _ in range(2):
        page = indexes.list_vectors(**place, count=2, **({"cursor": cursor} if cursor else {}))  # type: ignore[arg-type]
        assert page is not None
        assert page.total_count == 3
        found += [vector.id for vector in page.vectors]
        assert page.is_truncated is (len(found) < 3)
        assert (page.cursor_expiration_timestamp is not None) is page.is_truncated
        cursor = page.next_cursor or ""
    assert (found, cursor) == (["a", "b", "c"], "")
    assert indexes.get_by_ids(**place, ids=["b"]) == [
        {"id": "b", "values": [1, 1], "namespace": "s", "metadata": {"n": 1}}
    ]
    gone = indexes.delete_by_ids(**place, ids=["a", "never"])
    assert gone is not None
    info = indexes.info(**place)
    assert info is not None
    assert (info.vector_count, info.processed_up_to_mutation) == (2, gone.mutation_id)
    with pytest.raises(cloudflare.BadRequestError) as too_many:
        indexes.delete_by_ids(**place, ids=["x"] * 101)
    assert codes(too_many) == [40007]


def test_the_sdk_queries_with_a_filter(client: Cloudflare, place: Place) -> None:
    indexes = client.vectorize.indexes
    made = indexes.metadata_index.create(**place, property_name="kind", index_type="string")
    assert made is not None
    assert made.mutation_id is not None
    listed = indexes.metadata_index.list(**place)
    assert listed is not None
    assert listed.metadata_indexes is not None
    assert [(each.property_name, each.index_type) for each in listed.metadata_indexes] == [("kind", "string")]
    indexes.upsert(**place, body=vectors("a", metadata={"kind": "x"}), extra_headers=NDJSON)
    indexes.upsert(**place, body=vectors("b", metadata={"kind": "y"}), extra_headers=NDJSON)
    answer = indexes.query(
        **place, vector=[1, 0], filter={"kind": "y"}, top_k=3, return_metadata="all", return_values=True
    )
    assert answer is not None
    assert answer.count == 1
    (match,) = answer.matches or []
    assert (match.id, match.score, match.values, match.metadata) == ("b", 1, [1, 0], {"kind": "y"})
    assert indexes.metadata_index.delete(**place, property_name="kind") is not None
    with pytest.raises(cloudflare.BadRequestError) as missing:
        indexes.metadata_index.delete(**place, property_name="kind")
    assert codes(missing) == [40005]


def test_the_sdk_sends_a_files_content(client: Cloudflare, place: Place, tmp_path: Path) -> None:
    file = tmp_path / "vectors.ndjson"
    file.write_bytes(vectors("a"))
    client.vectorize.indexes.upsert(**place, body=file.read_bytes(), extra_headers=NDJSON)
    page = client.vectorize.indexes.list_vectors(**place)
    assert page is not None
    assert [vector.id for vector in page.vectors] == ["a"]


def test_the_sdk_embeds_texts(client: Cloudflare, server: Server) -> None:
    before = server.requests.embedded_texts
    answer: Any = client.ai.run(MODEL, account_id=ACCOUNT, text=["first", "second"])
    assert answer["shape"] == [2, 384]
    assert [len(vector) for vector in answer["data"]] == [384, 384]
    single: Any = client.ai.run(MODEL, account_id=ACCOUNT, text="first", extra_body={"pooling": "cls"})
    assert single["shape"] == [1, 384]
    assert single["data"][0] != answer["data"][0]
    assert server.requests.embedded_texts - before == 3
    with pytest.raises(cloudflare.BadRequestError) as unknown:
        client.ai.run("@cf/no/model", account_id=ACCOUNT, text="x")
    assert codes(unknown) == [5007]
