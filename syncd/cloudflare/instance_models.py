"""Models of AI Search instances, and the settings of an instance in requests and answers.

Settings have the names of `instances.create` and `instances.update` (cloudflare 5.9.0). Settings of an external source
(source, source_params, sync_interval, token_id) are left out, because syncd uploads to the built-in storage.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import PlainValidator

from syncd.cloudflare.decoding import (
    Flag,
    OptionalBool,
    OptionalInt,
    OptionalNumber,
    OptionalText,
    Text,
    decode,
    decode_page,
    decode_rows,
    encodable,
)
from syncd.core.errors import Retry

_T = TypeVar("_T")


def _nested(kind: type[_T]) -> PlainValidator:
    """Return the decoder of an optional object. Another type reads as absent."""

    def read(value: object) -> _T | None:
        try:
            return decode(kind, value, "setting")
        except Retry:
            return None

    return PlainValidator(read)


def _each(read: Callable[[list[Any]], tuple[_T, ...]]) -> PlainValidator:
    """Return the decoder of an optional list. Another type reads as absent."""
    return PlainValidator(lambda value: read(list(value)) if isinstance(value, list | tuple) else None)


def _texts(values: list[Any]) -> tuple[str, ...]:
    return tuple(encodable(value) for value in values if isinstance(value, str))


OptionalTexts = Annotated[tuple[str, ...] | None, _each(_texts)]


# -- settings


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexMethod:
    """The indexes that an instance keeps: of embeddings (vector), of words (keyword), or both (hybrid search)."""

    vector: OptionalBool = None
    keyword: OptionalBool = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexingOptions:
    """keyword_tokenizer: porter or trigram. use_ocr: read the text in PDFs and images."""

    keyword_tokenizer: OptionalText = None
    use_ocr: OptionalBool = None


@dataclass(frozen=True, slots=True)
class Boost:
    """A metadata field that raises the rank of a hit. direction: asc, desc, exists or not_exists."""

    field: Text
    direction: OptionalText = None


def _boosts(values: list[Any]) -> tuple[Boost, ...]:
    return decode_page(Boost, values, "boost").rows


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalOptions:
    """keyword_match_mode: and, or."""

    keyword_match_mode: OptionalText = None
    boost_by: Annotated[tuple[Boost, ...] | None, _each(_boosts)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicRoute:
    """One of the routes of a public endpoint. description: of the MCP route only, shown to agents."""

    disabled: OptionalBool = None
    description: OptionalText = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicRateLimit:
    """The rate limit of a public endpoint. period_ms: milliseconds. technique: fixed or sliding."""

    requests: OptionalInt = None
    period_ms: OptionalInt = None
    technique: OptionalText = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicEndpoint:
    """Access to an instance without a token. An update replaces the whole object."""

    enabled: OptionalBool = None
    authorized_hosts: OptionalTexts = None
    mcp: Annotated[PublicRoute | None, _nested(PublicRoute)] = None
    search_endpoint: Annotated[PublicRoute | None, _nested(PublicRoute)] = None
    chat_completions_endpoint: Annotated[PublicRoute | None, _nested(PublicRoute)] = None
    rate_limit: Annotated[PublicRateLimit | None, _nested(PublicRateLimit)] = None
    custom_domains: OptionalTexts = None
    default_domain_enabled: OptionalBool = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSettings:
    """The settings of an instance that its creation takes. None: not given, or not shown.

    chunk_size: tokens. chunk_overlap: percent. cache_ttl: seconds. score_threshold: 0 to 1.
    """

    embedding_model: OptionalText = None
    index_method: Annotated[IndexMethod | None, _nested(IndexMethod)] = None
    indexing_options: Annotated[IndexingOptions | None, _nested(IndexingOptions)] = None
    chunk: OptionalBool = None
    chunk_size: OptionalInt = None
    chunk_overlap: OptionalInt = None
    retrieval_options: Annotated[RetrievalOptions | None, _nested(RetrievalOptions)] = None
    fusion_method: OptionalText = None
    max_num_results: OptionalInt = None
    score_threshold: OptionalNumber = None
    reranking: OptionalBool = None
    reranking_model: OptionalText = None
    rewrite_query: OptionalBool = None
    rewrite_model: OptionalText = None
    ai_search_model: OptionalText = None
    ai_gateway_id: OptionalText = None
    cache: OptionalBool = None
    cache_threshold: OptionalText = None
    cache_ttl: OptionalInt = None
    public_endpoint_params: Annotated[PublicEndpoint | None, _nested(PublicEndpoint)] = None


def settings_body(settings: InstanceSettings) -> dict[str, Any]:
    """Return the settings that are given, as the JSON of a request has them."""
    return _given(asdict(settings))


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values without None, at any depth."""
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return _given(value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


# -- instances


@dataclass(frozen=True, slots=True)
class _DeclaredField:
    field_name: Text
    data_type: OptionalText = None


def _declared_fields(value: object) -> dict[str, str]:
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    declared = decode_rows(_DeclaredField, rows, "field")
    return {field.field_name: field.data_type or "text" for field in declared}


@dataclass(frozen=True, slots=True)
class Instance(InstanceSettings):
    """One AI Search instance. type: None for built-in storage. custom_metadata: maps field names to data types."""

    id: Text
    namespace: OptionalText = None
    type: OptionalText = None
    paused: Flag = False
    custom_metadata: Annotated[Mapping[str, str], PlainValidator(_declared_fields)] = field(default_factory=dict)
