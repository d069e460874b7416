"""The settings of an instance: their values, their defaults, and the effect of a change.

Sources: the parameters of instances.create and instances.update in the SDK 5.9.0, and "AI Search: instance parameters"
of the documentation.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from syncd.emulator.ai_search_index import read_schema
from syncd.emulator.limits import MAX_RESULTS
from syncd.emulator.requests import ApiError, invalid, validate
from syncd.emulator.workers_ai import MODELS

DEFAULT_MODEL = "@cf/qwen/qwen3-embedding-0.6b"
_CACHE_TTLS = Literal[600, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 259200, 518400]
_SYNC_INTERVALS = Literal[900, 1800, 3600, 7200, 14400, 21600, 43200, 86400]

_PERMANENT = ("type", "embedding_model")
"""Settings of the creation. The documentation calls them permanent, although the SDK's update takes embedding_model."""

_REINDEXING = ("chunk", "chunk_size", "chunk_overlap", "custom_metadata", "index_method", "indexing_options")
"""Settings whose change indexes every item again."""

_MERGED = ("indexing_options", "retrieval_options")
"""Objects of which an update changes the given fields only. All other objects are replaced wholesale."""

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
    custom_metadata: Any = []
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


def created_settings(body: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a new instance; ApiError 400 for a value outside the schema."""
    config = _read(body)
    _check_model(config)
    return config


def _read(body: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in body.items() if name not in _READ_ONLY}
    parsed = validate(_Settings, given)
    try:
        read_schema(given.get("custom_metadata") or [])
    except ValueError as reason:
        raise invalid(str(reason)) from reason
    if not (parsed.index_method.vector or parsed.index_method.keyword):
        raise invalid("index_method needs vector or keyword")
    endpoint = parsed.public_endpoint_params
    if endpoint is not None:
        given["public_endpoint_params"] = endpoint.model_dump()
        if not endpoint.default_domain_enabled and not endpoint.custom_domains:
            raise ApiError(400, 7096, "disabling_the_default_domain_requires_at_least_one_custom_domain")
    return given


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


def updated_settings(config: dict[str, Any], body: dict[str, Any], *, permanent: str) -> dict[str, Any]:
    """Return the settings of an instance after an update; ApiError 400 if it is refused.

    permanent: "refuse" refuses a change of a permanent setting, "ignore" keeps the old value without a word.
    """
    changes = _read(body)
    before = all_settings(config)
    for name in _PERMANENT:
        if name in changes and changes[name] != before[name]:
            if permanent == "refuse":
                raise invalid(f"{name} cannot be changed after the creation of an instance")
            del changes[name]
    for name in _MERGED:
        if name in changes:
            changes[name] = before[name] | (changes[name] or {})
    after = config | changes
    _check_model(after)
    return after


def needs_reindexing(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Return whether the change from one to the other indexes every item again."""
    old, new = all_settings(before), all_settings(after)
    return any(old[name] != new[name] for name in _REINDEXING)


def shown_settings(config: dict[str, Any], *, defaults: bool) -> dict[str, Any]:
    """Return the settings that an answer shows. defaults: whether it shows a setting that no client has set."""
    settings = all_settings(config) if defaults else config
    return {name: value for name, value in settings.items() if name not in _HIDDEN}


def all_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings, with a default for each setting that no client has set."""
    shown = DEFAULTS | config
    for name in _MERGED:
        shown[name] = DEFAULTS[name] | (config.get(name) or {})
    return shown
