"""Every method of the newest SDK in the resources of the stand-in: each is answered, or refused in words.

The methods are found by reflection, so a method that a new SDK adds fails here until it has its arguments.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import cloudflare
import pytest
from cloudflare import Cloudflare
from cloudflare._base_client import BaseSyncPage
from cloudflare._resource import SyncAPIResource

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import Server, serve
from tests.emulator.harness import ACCOUNT, NDJSON
from tests.emulator.harness_sdk import open_client

RESOURCES = ("ai", "aisearch", "kv", "vectorize")
NOT_PLAYED = "The stand-in does not implement this route"


def _methods(resource: SyncAPIResource, path: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield each public method below a resource, with its dotted path."""
    for name in dir(type(resource)):
        member = getattr(type(resource), name)
        if name.startswith(("_", "with_")):
            continue
        if isinstance(member, (property, cached_property)):
            below = getattr(resource, name)
            if isinstance(below, SyncAPIResource):
                yield from _methods(below, f"{path}.{name}")
        elif callable(member):
            yield f"{path}.{name}", getattr(resource, name)


def _found() -> dict[str, Callable[..., Any]]:
    client = Cloudflare(api_token="token")
    return {path: method for name in RESOURCES for path, method in _methods(getattr(client, name), name)}


CHAT = {"messages": [{"role": "user", "content": "fox"}]}
SEVERAL = {"aisearch_options": {"instance_ids": ["docs"]}}
TOKEN = {"name": "mine", "cf_api_id": "id", "cf_api_key": "key"}

PLAIN = {"id": "docs"}
DOCS = {"name": "default", "id": "docs"}
NEW = {"id": "new"}
JOB = {"job_id": "JOB"}
ITEM = {"item_id": "ITEM"}
KV = {"namespace_id": "KV"}
INDEX = {"index_name": "index"}
PROPERTY = {"property_name": "kind"}
VECTORS = {"body": b'{"id": "a", "values": [1, 0]}\n', "extra_headers": NDJSON}

# A text in capitals is replaced by the id of that thing.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "aisearch.instances.chat_completions": PLAIN | CHAT,
    "aisearch.instances.create": NEW,
    "aisearch.instances.delete": PLAIN,
    "aisearch.instances.jobs.create": {"id": "spare"},
    "aisearch.instances.jobs.get": PLAIN | JOB,
    "aisearch.instances.jobs.list": PLAIN,
    "aisearch.instances.jobs.logs": PLAIN | JOB,
    "aisearch.instances.list": {},
    "aisearch.instances.read": PLAIN,
    "aisearch.instances.search": PLAIN | {"query": "fox"},
    "aisearch.instances.stats": PLAIN,
    "aisearch.instances.update": PLAIN | {"cache": False},
    "aisearch.namespaces.chat_completions": {"name": "default"} | CHAT | SEVERAL,
    "aisearch.namespaces.create": {"name": "new"},
    "aisearch.namespaces.delete": {"name": "team"},
    "aisearch.namespaces.instances.chat_completions": DOCS | CHAT,
    "aisearch.namespaces.instances.create": {"name": "default"} | NEW,
    "aisearch.namespaces.instances.delete": DOCS,
    "aisearch.namespaces.instances.items.chunks": DOCS | ITEM,
    "aisearch.namespaces.instances.items.create_or_update": DOCS | {"key": "a.md", "next_action": "INDEX"},
    "aisearch.namespaces.instances.items.delete": DOCS | ITEM,
    "aisearch.namespaces.instances.items.download": DOCS | ITEM,
    "aisearch.namespaces.instances.items.get": DOCS | ITEM,
    "aisearch.namespaces.instances.items.list": DOCS,
    "aisearch.namespaces.instances.items.logs": DOCS | ITEM,
    "aisearch.namespaces.instances.items.sync": DOCS | ITEM | {"next_action": "INDEX"},
    "aisearch.namespaces.instances.items.upload": DOCS | {"file": {"file": ("b.md", b"fox")}},
    "aisearch.namespaces.instances.jobs.create": DOCS | {"id": "spare"},
    "aisearch.namespaces.instances.jobs.get": DOCS | JOB,
    "aisearch.namespaces.instances.jobs.list": DOCS,
    "aisearch.namespaces.instances.jobs.logs": DOCS | JOB,
    "aisearch.namespaces.instances.jobs.update": DOCS | JOB | {"action": "cancel"},
    "aisearch.namespaces.instances.list": {"name": "default"},
    "aisearch.namespaces.instances.read": DOCS,
    "aisearch.namespaces.instances.search": DOCS | {"query": "fox"},
    "aisearch.namespaces.instances.stats": DOCS,
    "aisearch.namespaces.instances.update": DOCS | {"cache": False},
    "aisearch.namespaces.list": {},
    "aisearch.namespaces.read": {"name": "default"},
    "aisearch.namespaces.search": {"name": "default", "query": "fox"} | SEVERAL,
    "aisearch.namespaces.update": {"name": "team", "description": "ours"},
    "aisearch.tokens.create": TOKEN,
    "aisearch.tokens.delete": {"id": "TOKEN"},
    "aisearch.tokens.list": {},
    "aisearch.tokens.read": {"id": "TOKEN"},
    "aisearch.tokens.update": {"id": "TOKEN"} | TOKEN,
    "kv.namespaces.bulk_delete": KV | {"body": ["a"]},
    "kv.namespaces.bulk_get": KV | {"keys": ["a"]},
    "kv.namespaces.bulk_update": KV | {"body": [{"key": "a", "value": "x"}]},
    "kv.namespaces.create": {"title": "new", "jurisdiction": "eu"},
    "kv.namespaces.delete": KV,
    "kv.namespaces.get": KV,
    "kv.namespaces.keys.bulk_delete": KV | {"body": ["a"]},
    "kv.namespaces.keys.bulk_get": KV | {"keys": ["a"]},
    "kv.namespaces.keys.bulk_update": KV | {"body": [{"key": "a", "value": "x"}]},
    "kv.namespaces.keys.list": KV,
    "kv.namespaces.list": {},
    "kv.namespaces.metadata.get": KV | {"key_name": "a"},
    "kv.namespaces.update": KV | {"title": "other"},
    "kv.namespaces.values.delete": KV | {"key_name": "a"},
    "kv.namespaces.values.get": KV | {"key_name": "a"},
    "kv.namespaces.values.update": KV | {"key_name": "a", "value": b"x"},
    "vectorize.indexes.create": {"name": "new", "config": {"dimensions": 2, "metric": "cosine"}},
    "vectorize.indexes.delete": INDEX,
    "vectorize.indexes.delete_by_ids": INDEX | {"ids": ["a"]},
    "vectorize.indexes.get": INDEX,
    "vectorize.indexes.get_by_ids": INDEX | {"ids": ["a"]},
    "vectorize.indexes.info": INDEX,
    "vectorize.indexes.insert": INDEX | VECTORS,
    "vectorize.indexes.list": {},
    "vectorize.indexes.list_vectors": INDEX,
    "vectorize.indexes.metadata_index.create": INDEX | {"property_name": "owner", "index_type": "string"},
    "vectorize.indexes.metadata_index.delete": INDEX | PROPERTY,
    "vectorize.indexes.metadata_index.list": INDEX,
    "vectorize.indexes.query": INDEX | {"vector": [1, 0]},
    "vectorize.indexes.upsert": INDEX | VECTORS,
    "ai.run": {"model_name": "@cf/baai/bge-small-en-v1.5", "text": "fox"},
}
READS = {
    *("get", "get_by_ids", "bulk_get", "read", "download", "chunks", "info", "stats"),
    *("list", "list_vectors", "logs", "query", "search", "chat_completions"),
}
"""Names of methods that change nothing, so their tests share one stand-in."""
READING = [path for path in ARGUMENTS if path.rpartition(".")[2] in READS]
CHANGING = [path for path in ARGUMENTS if path not in READING]
REFUSED: dict[str, dict[str, Any]] = {
    "ai.authors.list": {},
    "ai.finetunes.assets.create": {"finetune_id": "x", "file": b"x", "file_name": "x"},
    "ai.finetunes.create": {"model": "x", "name": "x"},
    "ai.finetunes.list": {},
    "ai.finetunes.public.list": {},
    "ai.models.list": {},
    "ai.models.schema.get": {"model": "x"},
    "ai.tasks.list": {},
    "ai.to_markdown.supported": {},
}
BROKEN: dict[str, dict[str, Any]] = {"ai.to_markdown.transform": {"file": {"files": b"x"}}}
"""Methods that end in a TypeError within the SDK, before any request."""


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(EmulatorOptions(index_delay=5, mutation_lag=0)) as server:
        yield server


@pytest.fixture(scope="module")
def standing() -> Iterator[tuple[Cloudflare, SimpleNamespace]]:
    """Yield a client of a stand-in that no test changes, and the ids of its things."""
    with pytest.MonkeyPatch.context() as patch, serve(EmulatorOptions(index_delay=3600, mutation_lag=0)) as server:
        patch.delenv("CLOUDFLARE_EMAIL", raising=False)
        with open_client(server.base_url) as client:
            yield client, _things(client)


def _things(client: Cloudflare) -> SimpleNamespace:
    """Create one thing of each kind, and return the ids."""
    account: dict[str, Any] = {"account_id": ACCOUNT}
    ai_search = client.aisearch
    ai_search.namespaces.create(**account, name="team")
    docs = ai_search.namespaces.instances
    docs.create("default", **account, id="docs")
    docs.create("default", **account, id="spare")
    item = docs.items.upload("docs", **account, name="default", file={"file": ("a.md", b"fox")})
    job = docs.jobs.create("docs", **account, name="default")
    token = ai_search.tokens.create(**account, name="mine", cf_api_id="id", cf_api_key="key")
    kv = client.kv.namespaces.create(**account, title="docs")
    assert kv is not None
    client.kv.namespaces.values.update("a", **account, namespace_id=kv.id, value=b"x", metadata="{}")
    client.vectorize.indexes.create(**account, name="index", config={"dimensions": 2, "metric": "cosine"})
    client.vectorize.indexes.metadata_index.create("index", **account, property_name="kind", index_type="string")
    return SimpleNamespace(ITEM=item.id, JOB=job.id, TOKEN=token.id, KV=kv.id)


@pytest.fixture
def things(client: Cloudflare) -> SimpleNamespace:
    return _things(client)


def _call(client: Cloudflare, things: SimpleNamespace, path: str, arguments: dict[str, Any]) -> Any:
    method: Any = client
    for name in path.split("."):
        method = getattr(method, name)
    ids = {
        name: getattr(things, value) if isinstance(value, str) and hasattr(things, value) else value
        for name, value in arguments.items()
    }
    result = method(**ids, account_id=ACCOUNT)
    return list(result) if isinstance(result, BaseSyncPage) else result


def test_each_method_of_the_sdk_has_its_arguments_here() -> None:
    methods = _found()
    assert len(methods) > 80
    assert sorted(methods) == sorted(ARGUMENTS | REFUSED | BROKEN)


@pytest.mark.parametrize("path", CHANGING)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_method_that_changes_things_is_answered(client: Cloudflare, things: SimpleNamespace, path: str) -> None:
    _call(client, things, path, ARGUMENTS[path])


@pytest.mark.parametrize("path", READING)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_method_that_reads_is_answered(standing: tuple[Cloudflare, SimpleNamespace], path: str) -> None:
    result = _call(*standing, path, ARGUMENTS[path])
    if path.endswith((".list", ".logs")) and "vectors" not in path:
        assert result is not None
    if path.endswith(("chat_completions", "search")):
        assert result.chunks == [], "the item is still being indexed"


@pytest.mark.parametrize("path", REFUSED)
def test_a_method_that_the_stand_in_does_not_play_is_refused_in_words(
    standing: tuple[Cloudflare, SimpleNamespace], path: str
) -> None:
    with pytest.raises(cloudflare.InternalServerError) as caught:
        _call(*standing, path, REFUSED[path])
    assert caught.value.status_code == 501
    assert NOT_PLAYED in str(caught.value)


@pytest.mark.parametrize("path", BROKEN)
def test_a_method_that_is_broken_in_the_sdk_sends_nothing(
    client: Cloudflare, things: SimpleNamespace, server: Server, path: str
) -> None:
    before = server.requests.total
    with pytest.raises(TypeError):
        _call(client, things, path, BROKEN[path])
    assert server.requests.total == before
