"""The sections [mirrors.NAME.target.settings] of an AI Search instance, as `instances.create` takes them.

Limits: "AI Search: create an instance" and the SDK, cloudflare 5.9.0. Makes no I/O.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from syncd.config.values import Number, WholeNumber, seconds

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


def check_cache_ttl(value: int) -> int:
    """Return a time that the service takes. Raises ValueError."""
    if value not in CACHE_TTLS:
        raise ValueError(f"should be one of {', '.join(map(str, CACHE_TTLS))} seconds")
    return value


Model = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class IndexMethodSection(ConfigSection):
    """The indexes of an instance. Both together are hybrid search."""

    vector: bool
    """Whether a search looks for the meaning."""
    keyword: bool
    """Whether a search looks for the words."""

    @model_validator(mode="after")
    def _one_is_true(self) -> "IndexMethodSection":
        if not (self.vector or self.keyword):
            raise ValueError("one of vector and keyword should be true")
        return self


class IndexingOptionsSection(ConfigSection):
    """Options of the indexing. A change indexes all items again."""

    keyword_tokenizer: Literal["porter", "trigram"] | None = None
    """How the keyword index divides text. "porter" finds other forms of English words, "trigram" finds parts of words.

    Example: "porter"
    """
    use_ocr: bool | None = None
    """Whether the text of images and scanned PDFs is read. It has a price.

    Example: false
    """


class BoostSection(ConfigSection):
    """A metadata field that raises the rank of a hit."""

    field: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """A field: "timestamp", or one of `metadata`.

    Example: "modified"
    """
    direction: Literal["asc", "desc", "exists", "not_exists"] | None = None
    """The values that rank higher.

    Example: "desc"
    """


class RetrievalOptionsSection(ConfigSection):
    """Options of a search."""

    keyword_match_mode: Literal["and", "or"] | None = None
    """Whether a hit contains all words of a query or one of them.

    Example: "and"
    """
    boost_by: Annotated[list[BoostSection], Field(max_length=BOOSTS)] | None = None
    """Fields that raise the rank of a hit, at most three (a limit of the service).

    Example: [{ field = "modified", direction = "desc" }]
    """


class RouteSection(ConfigSection):
    """A route of a public endpoint."""

    disabled: bool | None = None
    """Whether the route is off.

    Example: true
    """


class MCPSection(RouteSection):
    """The route for agents. description: the text in which its search tool describes the documents."""

    description: str | None = None
    """The text in which the search tool describes the documents to agents.

    Example: "Our handbook"
    """


class PublicRateLimitSection(ConfigSection):
    """Requests in a period of milliseconds."""

    requests: Annotated[WholeNumber, Field(ge=1)] | None = None
    """Requests in a period.

    Unit: requests
    Example: 60
    """
    period_ms: Annotated[WholeNumber, Field(ge=1)] | None = None
    """The length of the period.

    Unit: milliseconds
    Example: 60000
    """
    technique: Literal["fixed", "sliding"] | None = None
    """The kind of the period: "fixed" or "sliding".

    Example: "sliding"
    """


class PublicEndpointSection(ConfigSection):
    """Access to the instance without a token."""

    enabled: bool | None = None
    """Whether the instance answers without a token.

    Example: true
    """
    authorized_hosts: list[str] | None = None
    """Hosts that may use the endpoint.

    Example: ["docs.example.org"]
    """
    mcp: MCPSection | None = None
    """The route for agents, /mcp.

    Example: { description = "Our handbook" }
    """
    search_endpoint: RouteSection | None = None
    """The route of searches.

    Example: { disabled = true }
    """
    chat_completions_endpoint: RouteSection | None = None
    """The route of chats.

    Example: { disabled = true }
    """
    rate_limit: PublicRateLimitSection | None = None
    """The limit on requests to the endpoint.

    Example: { requests = 60, period_ms = 60000, technique = "sliding" }
    """
    custom_domains: list[str] | None = None
    """Domains of the account under which the endpoint answers.

    Example: ["search.example.org"]
    """
    default_domain_enabled: bool | None = None
    """Whether the endpoint answers under the domain of the service, too. false needs one of `custom_domains`.

    Example: true
    """

    @model_validator(mode="after")
    def _has_a_domain(self) -> "PublicEndpointSection":
        if self.default_domain_enabled is False and not self.custom_domains:
            raise ValueError("default_domain_enabled = false needs one of custom_domains")
        return self


class InstanceSettingsSection(ConfigSection):
    """The settings of an instance. A setting without a value gets the default of the service, and is not compared."""

    embedding_model: Model | None = None
    """The embedding model. It can never be changed. Choose one that knows the language of the documents.

    Example: "@cf/qwen/qwen3-embedding-0.6b"
    """
    index_method: IndexMethodSection | None = None
    """The indexes. Both together are hybrid search, with room for 500,000 files in place of 1,000,000.

    Example: { vector = true, keyword = true }
    """
    indexing_options: IndexingOptionsSection | None = None
    """Options of the indexing: `keyword_tokenizer` ("porter", or "trigram", which finds parts of words) and `use_ocr`
    (reads the text of images and scanned PDFs, which has a price).

    Example: { keyword_tokenizer = "porter", use_ocr = false }
    """
    chunk: bool | None = None
    """Whether files are divided into chunks.

    Example: true
    """
    chunk_size: Annotated[WholeNumber, Field(ge=CHUNK_SIZE_MIN)] | None = None
    """The length of a chunk, at least 64 and at most the input of the embedding model (limits of the service). Lower it
    for short answers.

    Unit: tokens
    Example: 256
    """
    chunk_overlap: Annotated[WholeNumber, Field(ge=0, le=CHUNK_OVERLAP_MAX)] | None = None
    """The part of a chunk that the next one repeats, 0 to 30 (a limit of the service).

    Unit: percent
    Example: 10
    """
    retrieval_options: RetrievalOptionsSection | None = None
    """Options of a search: `keyword_match_mode` ("and" or "or") and `boost_by`, up to three fields that raise the rank
    of a hit: "timestamp" or one of `metadata`, with the direction asc, desc, exists or not_exists.

    Example: { keyword_match_mode = "and", boost_by = [{ field = "modified", direction = "desc" }] }
    """
    fusion_method: Literal["max", "rrf"] | None = None
    """How hybrid search joins its two lists.

    Example: "rrf"
    """
    max_num_results: Annotated[WholeNumber, Field(ge=1, le=MAX_RESULTS)] | None = None
    """The largest number of hits of a search, 1 to 50 (a limit of the service).

    Unit: hits
    Example: 10
    """
    score_threshold: Annotated[Number, Field(ge=0, le=1)] | None = None
    """The lowest score of a hit, 0 to 1. Raise it if searches find too much.

    Unit: score
    Example: 0.4
    """
    reranking: bool | None = None
    """Whether a second model sorts the hits.

    Example: false
    """
    reranking_model: Model | None = None
    """The model that sorts the hits.

    Example: "@cf/baai/bge-reranker-base"
    """
    rewrite_query: bool | None = None
    """Whether a model rewrites the query, which has a price.

    Example: false
    """
    rewrite_model: Model | None = None
    """The model that rewrites the query.

    Example: "@cf/meta/llama-3.3-70b-instruct-fp8-fast"
    """
    ai_search_model: Model | None = None
    """The model that answers chat completions.

    Example: "@cf/meta/llama-3.3-70b-instruct-fp8-fast"
    """
    ai_gateway_id: Model | None = None
    """The AI Gateway through which the models are asked.

    Example: "my-gateway"
    """
    cache: bool | None = None
    """Whether similar questions get the same answer.

    Example: true
    """
    cache_threshold: Literal["super_strict_match", "close_enough", "flexible_friend", "anything_goes"] | None = None
    """How similar two questions must be to get the same answer.

    Example: "close_enough"
    """
    cache_ttl: Annotated[int, BeforeValidator(seconds), AfterValidator(check_cache_ttl)] | None = None
    """How long answers are kept: 10m, 30m, 1h, 2h, 6h, 12h, 1d, 2d, 3d or 6d (the values of the service).

    Example: "2d"
    """
    public_endpoint_params: PublicEndpointSection | None = None
    """Search without a token, for agents at /mcp and for pages. It takes `enabled`, `authorized_hosts`, `mcp`,
    `search_endpoint` and `chat_completions_endpoint` (each with `disabled`), `rate_limit`, `custom_domains` and
    `default_domain_enabled`.

    Example: { enabled = true, mcp = { description = "Our handbook" } }
    """
