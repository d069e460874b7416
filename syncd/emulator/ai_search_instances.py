"""The endpoints of AI Search for namespaces and for instances, and the settings of an instance.

Sources of the settings: the parameters of instances.create and instances.update in the SDK 5.9.0, and "AI Search:
instance parameters" of the documentation.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response

from syncd.emulator.ai_search_index import SYSTEM_FIELDS
from syncd.emulator.ai_search_store import (
    DEFAULT_NAMESPACE,
    ROOT,
    InstanceRow,
    as_instance,
    find_instance,
    instance_endpoints,
    instance_of,
    instance_statistics,
    instance_status,
    namespace_of,
    reindex_all,
    remove_instance,
)
from syncd.emulator.requests import ApiError, Call, Endpoint, invalid, ok, page_rows, timestamp, validate
from syncd.emulator.workers_ai import MODELS

MAX_INSTANCES = 5000
"""Of one account (paid plan)."""

MAX_INSTANCE_SEARCH_LENGTH = 64
"""Characters of the parameter `search` of the list of instances."""

MAX_NAMESPACES = 100
MAX_DESCRIPTION_LENGTH = 256
MAX_RESULTS = 50
MAX_CUSTOM_FIELDS = 5

_NAMESPACES = """
SELECT name, description, created_at FROM (
    SELECT name, description, created_at FROM ai_namespaces WHERE account = :account
    UNION ALL SELECT 'default', NULL, 0.0
) WHERE :search = '' OR instr(lower(name || ' ' || coalesce(description, '')), :search) ORDER BY name
"""


# 1-64 lowercase letters, digits, hyphens, underscores (API reference); a hyphen is single and inside (SDK types).
_Name = Annotated[str, Field(max_length=64, pattern="^[a-z0-9_]+(-[a-z0-9_]+)*$")]


class _NamespaceFields(BaseModel):
    description: str | None = Field(default=None, max_length=MAX_DESCRIPTION_LENGTH)


class _NewNamespace(_NamespaceFields):
    name: _Name


class _NewInstance(BaseModel):
    id: _Name


async def _list_namespaces(call: Call) -> Response:
    return page_rows(call, _all_namespaces(call, (call.query("search") or "").lower()))


async def _create_namespace(call: Call) -> Response:
    new = validate(_NewNamespace, await call.body())
    known = [row["name"] for row in _all_namespaces(call)]
    if new.name in known:
        raise ApiError(409, 7064, "namespace_already_exists")
    if len(known) >= MAX_NAMESPACES:
        raise ApiError(403, 7062, "max_namespaces_reached")
    row = (call.path["account_id"], new.name, new.description, call.backend.clock())
    call.backend.store.execute("INSERT INTO ai_namespaces VALUES (?, ?, ?, ?)", row)
    return ok(_namespace(call, new.name), status=201)


async def _get_namespace(call: Call) -> Response:
    return ok(_namespace(call, namespace_of(call)))


async def _update_namespace(call: Call) -> Response:
    name = _changeable_namespace(call)
    description = validate(_NamespaceFields, await call.body()).description
    sql = "UPDATE ai_namespaces SET description = ? WHERE account = ? AND name = ?"
    call.backend.store.execute(sql, (description, call.path["account_id"], name))
    return ok(_namespace(call, name))


async def _delete_namespace(call: Call) -> Response:
    name = _changeable_namespace(call)
    place = (call.path["account_id"], name)
    if call.backend.store.one("SELECT 1 FROM ai_instances WHERE account = ? AND namespace = ?", place):
        raise ApiError(400, 7066, "namespace_not_empty")
    shown = _namespace(call, name)
    call.backend.store.execute("DELETE FROM ai_namespaces WHERE account = ? AND name = ?", place)
    return ok(shown)


def _changeable_namespace(call: Call) -> str:
    name = namespace_of(call)
    if name == DEFAULT_NAMESPACE:
        raise ApiError(400, 7065, "cannot_modify_default_namespace")
    return name


def _namespace(call: Call, name: str) -> dict[str, Any]:
    return next(row for row in _all_namespaces(call) if row["name"] == name)


def _all_namespaces(call: Call, search: str = "") -> list[dict[str, Any]]:
    rows = call.backend.store.all(_NAMESPACES, {"account": call.path["account_id"], "search": search})
    return [dict(row) | {"created_at": timestamp(row["created_at"])} for row in rows]


async def _list_instances(call: Call) -> Response:
    call.choice("order_by", ("created_at",))
    order = "number" if call.choice("order_by_direction", ("desc", "asc")) == "asc" else "number DESC"
    sql = f"SELECT * FROM ai_instances WHERE account = ? AND namespace = ? AND instr(id, ?) ORDER BY {order}"  # noqa: S608
    namespace = namespace_of(call)
    if "name" not in call.path:
        namespace = call.query("namespace") or namespace
    search = (call.query("search") or "").lower()
    if len(search) > MAX_INSTANCE_SEARCH_LENGTH:
        raise invalid(f"search has at most {MAX_INSTANCE_SEARCH_LENGTH} characters")
    rows = call.backend.store.all(sql, (call.path["account_id"], namespace, search))
    return page_rows(call, [_render(call, as_instance(row)) for row in rows])


async def _create_instance(call: Call) -> Response:
    body = await call.body()
    config, store = _changed({}, body), call.backend.store
    place = (call.path["account_id"], namespace_of(call), validate(_NewInstance, body).id)
    if find_instance(call.backend, place) is not None:
        raise ApiError(400, 7022, "ai_search_with_this_name_already_exist")
    if store.value("SELECT count(*) FROM ai_instances WHERE account = ?", place[:1]) >= MAX_INSTANCES:
        raise ApiError(403, 7013, "max_instances_reached")
    now = call.backend.clock()
    sql = "INSERT INTO ai_instances (account, namespace, id, config, created_at, modified_at) VALUES (?, ?, ?, ?, ?, ?)"
    store.execute(sql, (*place, json.dumps(config), now, now))
    created = find_instance(call.backend, place)
    return ok(created and _render(call, created), status=201)


async def _get_instance(call: Call) -> Response:
    return ok(_render(call, instance_of(call)))


async def _update_instance(call: Call) -> Response:
    instance, body = instance_of(call), await call.body()
    before = all_settings(instance.config)
    for name in _PERMANENT:
        if name in body and body[name] != before[name]:
            if call.backend.options.permanent == "refuse":
                raise invalid(f"{name} cannot be changed after the creation of an instance")
            del body[name]
    config = _changed(instance.config, body)
    after = all_settings(config)
    sql = "UPDATE ai_instances SET config = ?, modified_at = ? WHERE number = ?"
    with call.backend.store.transaction():
        call.backend.store.execute(sql, (json.dumps(config), call.backend.clock(), instance.number))
        if any(before[name] != after[name] for name in _REINDEXING):
            reindex_all(call.backend, instance_of(call))
    return ok(_render(call, instance_of(call)))


async def _delete_instance(call: Call) -> Response:
    instance = instance_of(call)
    shown = _render(call, instance)
    remove_instance(call.backend, instance)
    return ok(shown)


async def _get_statistics(call: Call) -> Response:
    return ok(instance_statistics(call.backend, instance_of(call)))


def _render(call: Call, instance: InstanceRow) -> dict[str, Any]:
    times = {"created_at": timestamp(instance.created_at), "modified_at": timestamp(instance.modified_at)}
    fixed = {"id": instance.id, "namespace": instance.namespace, "account_id": instance.account}
    state = {"enable": True, "engine_version": 3, "status": instance_status(call.backend, instance)}
    settings = {"paused": call.backend.options.paused} | instance.config
    if call.backend.options.show_defaults:
        settings = all_settings(settings)
    return {name: settings[name] for name in settings if name not in _HIDDEN} | state | fixed | times


DEFAULT_MODEL = "@cf/qwen/qwen3-embedding-0.6b"
_CACHE_TTLS = Literal[600, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 259200, 518400]
_SYNC_INTERVALS = Literal[900, 1800, 3600, 7200, 14400, 21600, 43200, 86400]

_PERMANENT = ("type", "embedding_model")
"""Settings of the creation. The documentation calls them permanent, although the SDK's update takes embedding_model."""

_REINDEXING = ("chunk", "chunk_size", "chunk_overlap", "custom_metadata", "index_method", "indexing_options")
"""Settings whose change indexes every item again."""

_MERGED = ("indexing_options", "retrieval_options")
"""In these objects, an update changes only the given fields. It replaces all other objects as a whole."""

_READ_ONLY = ("id", "namespace", "account_id", "status", "created_at", "modified_at", "engine_version")
"""Fields of an answer that a request cannot set. Whether the service refuses or ignores them is unknown."""

_HIDDEN = frozenset(
    {"chunk", "summarization", "summarization_model"}
    | {f"system_prompt_{name}" for name in ("ai_search", "index_summarization", "rewrite_query")}
)
"""Settings that the SDK does not have in answers."""


class _IndexMethod(BaseModel):
    vector: bool
    keyword: bool


class _IndexingOptions(BaseModel):
    keyword_tokenizer: Literal["porter", "trigram"] = "porter"
    use_ocr: bool = False


class _CustomField(BaseModel):
    field_name: Annotated[str, Field(min_length=1)]
    data_type: Literal["text", "number", "boolean", "datetime"]


class _Boost(BaseModel):
    field: Annotated[str, Field(max_length=64)]
    direction: Literal["asc", "desc", "exists", "not_exists"] | None = None


class _RetrievalOptions(BaseModel):
    keyword_match_mode: Literal["and", "or"] = "and"
    boost_by: Annotated[list[_Boost], Field(max_length=3)] = []


class _Switch(BaseModel):
    disabled: bool = False
    description: str | None = None


class _RateLimit(BaseModel):
    requests: int | None = None
    period_ms: int | None = None
    technique: Literal["fixed", "sliding"] | None = None


class _PublicEndpoint(BaseModel):
    enabled: bool = False
    default_domain_enabled: bool = True
    authorized_hosts: list[str] = []
    custom_domains: list[str] | None = None
    mcp: _Switch = _Switch()
    search_endpoint: _Switch = _Switch()
    chat_completions_endpoint: _Switch = _Switch()
    rate_limit: _RateLimit | None = None


class _Settings(BaseModel):
    """The settings that are checked. Other fields are stored as they are."""

    type: Literal["r2", "web-crawler"] | None = None
    source: str | None = None
    paused: bool = False
    embedding_model: str | None = DEFAULT_MODEL
    index_method: _IndexMethod = _IndexMethod(vector=True, keyword=True)
    hybrid_search_enabled: bool = True
    fusion_method: Literal["max", "rrf"] = "rrf"
    indexing_options: _IndexingOptions | None = _IndexingOptions()
    chunk: bool = True
    chunk_size: Annotated[int, Field(ge=64)] = 256
    chunk_overlap: Annotated[int, Field(ge=0, le=30)] = 10
    custom_metadata: Annotated[list[_CustomField], Field(max_length=MAX_CUSTOM_FIELDS)] | None = []
    retrieval_options: _RetrievalOptions | None = _RetrievalOptions()
    max_num_results: Annotated[float, Field(ge=1, le=MAX_RESULTS)] = 10
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.4
    reranking: bool = False
    reranking_model: str | None = None
    rewrite_query: bool = False
    rewrite_model: str | None = None
    ai_search_model: str | None = None
    ai_gateway_id: str | None = None
    cache: bool = True
    cache_threshold: Literal["super_strict_match", "close_enough", "flexible_friend", "anything_goes"] = "close_enough"
    cache_ttl: _CACHE_TTLS = 172_800
    sync_interval: _SYNC_INTERVALS = 21_600
    token_id: str | None = None
    source_params: dict[str, Any] | None = None
    public_endpoint_params: _PublicEndpoint | None = None
    summarization: bool = False


DEFAULTS: dict[str, Any] = _Settings().model_dump()


def _changed(config: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of an instance after a request. Raises ApiError 400 for a value outside the schema."""
    given = {name: value for name, value in body.items() if name not in _READ_ONLY}
    parsed = validate(_Settings, given)
    names = [field.field_name.lower() for field in parsed.custom_metadata or []]
    if len(set(names) - SYSTEM_FIELDS) < len(names):
        raise invalid("a custom_metadata field is reserved or declared twice")
    if not (parsed.index_method.vector or parsed.index_method.keyword):
        raise invalid("index_method needs vector or keyword")
    endpoint = parsed.public_endpoint_params
    if endpoint is not None:
        given["public_endpoint_params"] = endpoint.model_dump()
        if not endpoint.default_domain_enabled and not endpoint.custom_domains:
            raise ApiError(400, 7096, "disabling_the_default_domain_requires_at_least_one_custom_domain")
    for name in _MERGED:
        if name in given:
            given[name] = all_settings(config)[name] | (given[name] or {})
    after = config | given
    _check_model(after)
    return after


def _check_model(config: dict[str, Any]) -> None:
    """Raise ApiError 400 for an unknown model of Workers AI, and for chunks of more tokens than the model takes."""
    name = config.get("embedding_model") or DEFAULT_MODEL
    model = MODELS.get(name)
    if model is None:
        if name.startswith("@cf/"):
            raise ApiError(400, 7010, "invalid_model")
        return
    if config.get("chunk_size", DEFAULTS["chunk_size"]) > model.context:
        raise ApiError(400, 7036, "invalid_chunk_size")


def all_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings, with a default for each setting that no client has set."""
    shown = DEFAULTS | config
    for name in _MERGED:
        shown[name] = DEFAULTS[name] | (config.get(name) or {})
    return shown


ENDPOINTS = [
    Endpoint("GET", f"{ROOT}/namespaces", _list_namespaces),
    Endpoint("POST", f"{ROOT}/namespaces", _create_namespace),
    Endpoint("GET", f"{ROOT}/namespaces/{{name}}", _get_namespace),
    Endpoint("PUT", f"{ROOT}/namespaces/{{name}}", _update_namespace),
    Endpoint("DELETE", f"{ROOT}/namespaces/{{name}}", _delete_namespace),
    *instance_endpoints("GET", "", _list_instances),
    *instance_endpoints("POST", "", _create_instance),
    *instance_endpoints("GET", "/{id}", _get_instance),
    *instance_endpoints("PUT", "/{id}", _update_instance),
    *instance_endpoints("DELETE", "/{id}", _delete_instance),
    *instance_endpoints("GET", "/{id}/stats", _get_statistics),
]
