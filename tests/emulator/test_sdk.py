"""The official SDK as a client of AI Search: the stand-in parses its requests, and it parses the answers."""

from collections.abc import Iterator
from typing import TypedDict

import cloudflare
import pytest
from cloudflare import Cloudflare

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import Server, serve
from tests.emulator.harness import ACCOUNT, codes
from tests.emulator.harness_sdk import open_client


class Place(TypedDict):
    account_id: str
    name: str
    id: str


PLACE: Place = {"account_id": ACCOUNT, "name": "default", "id": "sdk"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(EmulatorOptions(index_delay=0.02)) as server:
        yield server


@pytest.fixture(autouse=True)
def instance(client: Cloudflare) -> Iterator[None]:
    client.aisearch.namespaces.instances.create("default", account_id=ACCOUNT, id="sdk")
    yield
    client.aisearch.namespaces.instances.delete("sdk", account_id=ACCOUNT, name="default")


def upload(client: Cloudflare, key: str, content: bytes) -> str:
    item = client.aisearch.namespaces.instances.items.upload(
        **PLACE,
        file={"file": (key, content), "metadata": '{"owner": "sdk"}', "wait_for_completion": True},
    )
    assert (item.key, item.status, item.file_size) == (key, "completed", len(content))
    assert item.warnings is not None
    assert item.warnings[0].code == "custom_metadata_field_not_filterable"
    assert item.metadata is not None
    assert item.metadata["owner"] == "sdk"
    return item.id


@pytest.mark.parametrize("key", ["a.md", "docs/über uns.md", "docs/a \\ name.txt"])
def test_the_sdk_uploads_reads_and_deletes(client: Cloudflare, key: str) -> None:
    items = client.aisearch.namespaces.instances.items
    item_id = upload(client, key, b"Bytes \x00 and more")
    found = items.get(item_id, **PLACE)
    assert (found.key, found.source_id, found.namespace, found.chunks_count) == (key, "builtin", "default", 1)
    assert found.created_at.tzinfo is not None
    assert items.download(item_id, **PLACE).read() == b"Bytes \x00 and more"
    assert items.delete(item_id, **PLACE).key == key
    with pytest.raises(cloudflare.NotFoundError) as caught:
        items.get(item_id, **PLACE)
    assert codes(caught) == [7041]


def test_the_sdk_lists_over_several_pages(client: Cloudflare) -> None:
    items = client.aisearch.namespaces.instances.items
    keys = [f"{number}.md" for number in range(7)]
    for key in keys:
        upload(client, key, b"x")
    listed = [item.key for item in items.list(**PLACE, per_page=3, sort_by="modified_at")]
    assert listed == keys[::-1]
    one = items.list(**PLACE, key="3.md", source="builtin", metadata_filter='{"folder": ""}', search="3")
    assert [item.key for item in one] == ["3.md"]


def test_the_sdk_indexes_again_by_key_and_by_id(client: Cloudflare) -> None:
    items = client.aisearch.namespaces.instances.items
    item_id = upload(client, "a.md", b"x")
    assert items.create_or_update(**PLACE, key="a.md", next_action="INDEX").status == "queued"
    done = items.create_or_update(**PLACE, key="a.md", next_action="INDEX", wait_for_completion=True)
    assert (done.id, done.status) == (item_id, "completed")
    assert items.sync(item_id, **PLACE, next_action="INDEX").next_action == "INDEX"
    assert items.sync(item_id, **PLACE, next_action="INDEX", wait_for_completion=True).status == "completed"


def test_the_sdk_reads_chunks_and_logs(client: Cloudflare) -> None:
    items = client.aisearch.namespaces.instances.items
    item_id = upload(client, "a.md", b"One paragraph.")
    chunks = items.chunks(item_id, **PLACE, limit=5, offset=0)
    assert [(chunk.text, chunk.start_byte, chunk.end_byte) for chunk in chunks] == [("One paragraph.", 0, 14)]
    assert chunks[0].item.key == "a.md"
    logs = items.logs(item_id, **PLACE, limit=2)
    assert [(line.action, line.file_key, line.chunk_count) for line in logs] == [
        ("completed", "a.md", 1),
        ("running", "a.md", None),
    ]


def test_the_sdk_searches_and_counts(client: Cloudflare) -> None:
    instances = client.aisearch.namespaces.instances
    upload(client, "fox.md", b"The quick brown fox.")
    upload(client, "dog.md", b"The lazy dog.")
    found = instances.search(
        "sdk",
        account_id=ACCOUNT,
        name="default",
        query="foxes",
        aisearch_options={"retrieval": {"filters": {"filename": "fox.md"}, "max_num_results": 3}},
    )
    assert [(chunk.item and chunk.item.key, chunk.score) for chunk in found.chunks] == [("fox.md", 1.0)]
    stats = instances.stats("sdk", account_id=ACCOUNT, name="default")
    assert (stats.completed, stats.queued, stats.degraded) == (2, 0, False)
    assert stats.engine is not None
    assert stats.engine.r2 is not None
    assert stats.engine.r2.object_count == 2


def test_the_sdk_manages_instances_and_namespaces(client: Cloudflare) -> None:
    spaces = client.aisearch.namespaces
    spaces.create(account_id=ACCOUNT, name="team", description="ours")
    assert {space.name for space in spaces.list(account_id=ACCOUNT)} == {"default", "team"}
    assert spaces.read("team", account_id=ACCOUNT).description == "ours"
    assert spaces.update("team", account_id=ACCOUNT, description="theirs").description == "theirs"
    made = spaces.instances.create("team", account_id=ACCOUNT, id="x", chunk_size=128)
    assert (made.id, made.namespace, made.chunk_size) == ("x", "team", 128)
    assert spaces.instances.read("x", account_id=ACCOUNT, name="team").created_at == made.created_at
    assert spaces.instances.update("x", account_id=ACCOUNT, name="team", paused=True).paused is True
    assert [one.id for one in spaces.instances.list("team", account_id=ACCOUNT)] == ["x"]
    assert list(spaces.instances.jobs.list("x", account_id=ACCOUNT, name="team")) == []
    spaces.instances.delete("x", account_id=ACCOUNT, name="team")
    spaces.delete("team", account_id=ACCOUNT)
    with pytest.raises(cloudflare.NotFoundError):
        spaces.read("team", account_id=ACCOUNT)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the SDK prefers the namespaced form
def test_the_sdk_uses_the_plain_path_and_the_token_check(client: Cloudflare) -> None:
    assert [one.id for one in client.aisearch.instances.list(account_id=ACCOUNT)] == ["sdk"]
    assert client.aisearch.instances.stats("sdk", account_id=ACCOUNT).completed == 0
    verified = client.user.tokens.verify()
    assert verified is not None
    assert verified.status == "active"


def test_the_sdk_reads_refusals(client: Cloudflare) -> None:
    with pytest.raises(cloudflare.NotFoundError):
        client.aisearch.namespaces.instances.read("nope", account_id=ACCOUNT, name="default")
    with pytest.raises(cloudflare.BadRequestError) as caught:
        client.aisearch.namespaces.instances.create("default", account_id=ACCOUNT, id="sdk")
    assert codes(caught) == [7022]


def test_the_sdk_signs_in_with_a_key_and_not_with_a_wrong_token() -> None:
    with (
        serve(EmulatorOptions(token="sesame")) as server,
        open_client(server.base_url, api_email="a@example.com", api_key="sesame") as by_key,
        open_client(server.base_url, api_token="wrong") as stranger,
    ):
        assert by_key.user.tokens.verify() is not None
        with pytest.raises(cloudflare.AuthenticationError) as caught:
            stranger.user.tokens.verify()
        assert codes(caught) == [10000]
