"""The sections [mirrors.NAME.target.settings] of an AI Search instance, as `instances.create` takes them.

Limits: "AI Search: create an instance" and the SDK, cloudflare 5.9.0. Makes no I/O.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from syncd.core.units import seconds

CACHE_TTLS = (600, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 259200, 518400)
"""Seconds (AI Search API: cache_ttl)."""
CHUNK_SIZE_MIN = 64
"""Tokens. The maximum is the input of the embedding model, which the service checks (API error 7036)."""
CHUNK_OVERLAP_MAX = 30
"""Percent of a chunk (AI Search: chunking)."""
MAX_RESULTS = 50
"""Hits of one search (AI Search limits)."""
BOOSTS = 3
"""Fields that raise the rank of a hit (AI Search API: boost_by)."""
ELSEWHERE = {
    "id": "name the instance with the key instance of the target",
    "namespace": "name it with the key namespace of the target",
    "custom_metadata": "the fields come from the key metadata of the target",
    "hybrid_search_enabled": "use index_method = { vector = true, keyword = true }",
    **dict.fromkeys(
        ("type", "source", "source_params", "sync_interval", "token_id"),
        "it belongs to an instance with an external source, and a mirror uploads to the built-in storage",
    ),
}
"""Settings of the API that this section does not take, and the remedy that an error names for each."""


class ConfigSection(BaseModel):
    """A section of the config. It rejects unknown keys, cannot be changed, and shows no value in an error.

    defer_build: pydantic builds the model of a section only as a part of the whole config, which saves time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)


def _cache_ttl(value: int) -> int:
    if value not in CACHE_TTLS:
        raise ValueError(f"should be one of {', '.join(map(str, CACHE_TTLS))} seconds")
    return value


Model = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class IndexMethodSection(ConfigSection):
    """The indexes of an instance. Both together are hybrid search."""

    vector: bool
    keyword: bool

    @model_validator(mode="after")
    def _one_is_true(self) -> "IndexMethodSection":
        if not (self.vector or self.keyword):
            raise ValueError("one of vector and keyword should be true")
        return self


class IndexingOptionsSection(ConfigSection):
    """Options of the indexing. A change indexes all items again."""

    keyword_tokenizer: Literal["porter", "trigram"] | None = None
    use_ocr: bool | None = None


class BoostSection(ConfigSection):
    """A metadata field that raises the rank of a hit."""

    field: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    direction: Literal["asc", "desc", "exists", "not_exists"] | None = None


class RetrievalOptionsSection(ConfigSection):
    """Options of a search."""

    keyword_match_mode: Literal["and", "or"] | None = None
    boost_by: Annotated[list[BoostSection], Field(max_length=BOOSTS)] | None = None


class RouteSection(ConfigSection):
    """A route of a public endpoint."""

    disabled: bool | None = None


class MCPSection(RouteSection):
    """The route for agents. description: the text in which its search tool describes the documents."""

    description: str | None = None


class PublicRateLimitSection(ConfigSection):
    """Requests in a period of milliseconds."""

    requests: Annotated[int, Field(ge=1)] | None = None
    period_ms: Annotated[int, Field(ge=1)] | None = None
    technique: Literal["fixed", "sliding"] | None = None


class PublicEndpointSection(ConfigSection):
    """Access to the instance without a token."""

    enabled: bool | None = None
    authorized_hosts: list[str] | None = None
    mcp: MCPSection | None = None
    search_endpoint: RouteSection | None = None
    chat_completions_endpoint: RouteSection | None = None
    rate_limit: PublicRateLimitSection | None = None
    custom_domains: list[str] | None = None
    default_domain_enabled: bool | None = None

    @model_validator(mode="after")
    def _has_a_domain(self) -> "PublicEndpointSection":
        if self.default_domain_enabled is False and not self.custom_domains:
            raise ValueError("default_domain_enabled = false needs one of custom_domains")
        return self


class InstanceSettingsSection(ConfigSection):
    """The settings of an instance. A setting without a value gets the default of the service, and is not compared."""

    embedding_model: Model | None = None
    index_method: IndexMethodSection | None = None
    indexing_options: IndexingOptionsSection | None = None
    chunk: bool | None = None
    chunk_size: Annotated[int, Field(ge=CHUNK_SIZE_MIN)] | None = None
    chunk_overlap: Annotated[int, Field(ge=0, le=CHUNK_OVERLAP_MAX)] | None = None
    retrieval_options: RetrievalOptionsSection | None = None
    fusion_method: Literal["max", "rrf"] | None = None
    max_num_results: Annotated[int, Field(ge=1, le=MAX_RESULTS)] | None = None
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    reranking: bool | None = None
    reranking_model: Model | None = None
    rewrite_query: bool | None = None
    rewrite_model: Model | None = None
    ai_search_model: Model | None = None
    ai_gateway_id: Model | None = None
    cache: bool | None = None
    cache_threshold: Literal["super_strict_match", "close_enough", "flexible_friend", "anything_goes"] | None = None
    cache_ttl: Annotated[int, BeforeValidator(seconds), AfterValidator(_cache_ttl)] | None = None
    public_endpoint_params: PublicEndpointSection | None = None
