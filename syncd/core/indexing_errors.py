"""The documented indexing errors of AI Search and their consequences.

Source: "AI Search: indexing error codes" (the text of the general availability, September 2026). A value that is not
listed counts as temporary, is tried a few times, and is then named.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Consequence = Literal["content", "setting", "again", "later", "full"]
"""What follows from an error.

content: the same bytes fail every time, so they are not sent again. setting: a person changes something outside the
file, so nothing is tried until then. again: it may pass within minutes. later: a rate limit or a quota, tried with long
pauses. full: the instance takes no more, so the mirror halts.
"""


class IndexingFault(NamedTuple):
    """An error value of the remote. remedy: an action of a person; None if syncd tries again by itself."""

    meaning: str
    remedy: str | None
    consequence: Consequence


def _content(meaning: str, remedy: str) -> IndexingFault:
    return IndexingFault(meaning, remedy, "content")


def _setting(meaning: str, remedy: str) -> IndexingFault:
    return IndexingFault(meaning, remedy, "setting")


def _again(meaning: str) -> IndexingFault:
    return IndexingFault(meaning, None, "again")


def _later(meaning: str) -> IndexingFault:
    return IndexingFault(meaning, None, "later")


_CONVERTER = "its text could not be extracted"
_TOO_LONG = "its text is too long for the embedding model"
_RULES = "see the rules of the instance's AI Gateway, and the content"
_SOURCE = "see the source of the instance in the dashboard, and resume the instance"
_FULL = "ask Cloudflare for a higher limit, use another instance, or delete files that need not be searched"

_FILE: Mapping[str, IndexingFault] = {
    "unknown_error": _again("the service failed without saying why"),
    "over_size": _content("the file is too large to be indexed", "split it, or leave it out with exclude"),
    "unsupported_type": _content("files of this type are not indexed", "convert it, or leave it out with exclude"),
    "file_not_found": _again("the service does not find the file that it stored"),
    "invalid_url": _setting("the URL of the item is not valid", _SOURCE),
    "file_is_corrupt": _content("the file is damaged", "fix it, or save it again"),
    "file_is_password_locked": _content("the file is locked with a password", "remove the password"),
    "invalid_pdf": _content("the file is no valid PDF", "export it again"),
    "unable_to_convert_to_markdown": _content(
        _CONVERTER, "save it in another format; for scanned PDFs turn on OCR of the instance"
    ),
    "markdown_too_large": _content("its text is too long", "split the file"),
    "markdown_conversion_empty": _content(
        "no text was found in it",
        "add text, or leave it out with exclude; for scanned PDFs turn on OCR of the instance",
    ),
    "file_content_empty": _content("it has no text but headings", "add text, or leave it out with exclude"),
    "chunk_too_large_for_storage": _content(
        "a piece of its text is too long", "break up very long lines or tables, or set a smaller chunk_size"
    ),
    "timeout_error": _again("the service took too long"),
    "file_length_exceed_embedding_model": _content(_TOO_LONG, "split the file"),
    "file_too_large_for_embedder": _content(_TOO_LONG, "split the file"),
}

_MODELS: Mapping[str, IndexingFault] = {
    "error_embedding_data_with_workers_ai": _again("Workers AI gave no embeddings"),
    "workers_ai_invalid_input": _content(
        "the embedding model refuses its content", "change it, or leave it out with exclude"
    ),
    "workers_ai_free_allocation_exceeded": _later("AI Search has used up its allocation of Workers AI"),
    "workers_ai_internal_error": _again("Workers AI failed"),
    "workers_ai_out_of_capacity_error": _later("Workers AI has no capacity left"),
    "workers_ai_timeout_error": _again("Workers AI took too long"),
    "embedder_modality_unsupported": _content(
        "the embedding model does not take this kind of file",
        "leave it out with exclude, or use an instance with another embedding model",
    ),
    "ai_gateway_insufficient_wholesale_credits": _setting(
        "the account has no credits left in AI Gateway", "add credits in the dashboard"
    ),
    "error_external_model_unknown_error": _again("the model of another provider failed"),
    "error_external_model_rate_limited": _later("the model of another provider asks for fewer requests"),
    "error_external_model_unauthorized": _setting(
        "the model's provider refuses the credentials", "correct the provider's key in AI Gateway"
    ),
    "ai_gateway_request_blocked_firewall": _setting("Guardrails of AI Gateway blocked its text", _RULES),
    "ai_gateway_dlp_blocked": _setting("data loss prevention of AI Gateway blocked its text", _RULES),
    "ai_gateway_response_blocked_firewall": _setting("Guardrails of AI Gateway blocked the answer to its text", _RULES),
    "ai_gateway_rate_limited": _later("AI Gateway asks for fewer requests"),
}

_STORAGE: Mapping[str, IndexingFault] = {
    "r2_unknown_error": _again("the storage of the service failed"),
    "r2_internal_error": _again("the storage of the service failed"),
    "vectorize_rate_limited": _later("Vectorize asks for fewer requests"),
    "vectorize_not_found": _setting(
        "the Vectorize index of the instance does not exist", "check the instance in the dashboard, or contact support"
    ),
    "vectorize_unauthorized": _setting(
        "the instance has no access to its Vectorize index", "check the instance and its service token in the dashboard"
    ),
    "vectorize_in_invalid_state": _later("the Vectorize index of the instance is not ready"),
    "managed_resources_config_error": _setting("the service has not set up the instance correctly", "contact support"),
    "vectorize_ingestion_timeout": _again("Vectorize did not confirm the vectors in time"),
    "vectorize_upstream_error": _again("Vectorize failed"),
    "hybrid_search_indexing_failed": _again("the index for hybrid search failed"),
    "ai_search_is_full": IndexingFault("the AI Search instance is full", _FULL, "full"),
}

_INSTANCE: Mapping[str, IndexingFault] = {
    "r2_not_enabled": _setting("R2 is not enabled", _SOURCE),
    "bucket_not_found": _setting("the bucket of the instance does not exist", _SOURCE),
    "bucket_unauthorized": _setting("the instance has no access to its bucket", _SOURCE),
    "external_source_missing_api_token": _setting("the instance has no credentials for its source", _SOURCE),
    "bucket_name_invalid": _setting("the name of the bucket is not valid", _SOURCE),
    "invalid_custom_header": _setting("a header of the crawler is not valid", _SOURCE),
    "ai_gateway_not_configured": _setting(
        "the AI Gateway of the instance does not exist", "set ai_gateway_id to an existing gateway, resume the instance"
    ),
    "hybrid_search_is_full": IndexingFault(
        "the index for hybrid search of the AI Search instance is full, and the service has paused the instance",
        f"{_FULL}; then resume the instance",
        "full",
    ),
}
"""Errors that pause the whole instance. Where else the service shows them is not documented."""

WEBSITE = frozenset(
    {
        *("too_many_redirects", "invalid_host_after_redirect", "subdomains_not_allowed", "blocked_by_robots_txt"),
        *("blocked_by_robots_txt_path", "blocked_by_content_signal", "excluded_by_path_filter"),
        *("network_connection_lost", "crawl_got_http_error", "crawl_got_http_401", "crawl_got_http_403"),
        *("crawl_got_http_429", "blocked_by_payment", "blocked_by_waf", "blocked_by_bot_management"),
        *("blocked_by_turnstile", "http_4xx", "http_5xx", "unreachable_timeout", "unreachable_dns"),
        *("page_limit_reached", "link_depth_exceeded", "browser_run_unknown_error", "browser_run_timeout_error"),
        *("browser_run_authentication_error", "browser_run_no_body_status_error", "browser_run_rate_limit_error"),
        *("browser_run_network_connection_closed_error", "browser_run_server_refused_connection_error"),
    }
)
"""Errors of crawls. An uploaded item has none of them."""

FAULTS: Mapping[str, IndexingFault] = {
    **_FILE,
    **_MODELS,
    **_STORAGE,
    **_INSTANCE,
    **dict.fromkeys(sorted(WEBSITE), _setting("a crawl of the website failed", _SOURCE)),
}
"""The documented error values."""

UNKNOWN = _again("indexing failed")
"""The fault of an error value that is not documented, or of an error without a value."""


def _with(*consequences: Consequence) -> frozenset[str]:
    return frozenset(error for error, fault in FAULTS.items() if fault.consequence in consequences)


CONTENT_FAULTS = _with("content")
"""Errors that the same bytes cause every time."""
FULL = _with("full")
"""Errors of an instance that takes no more."""
LATER = _with("later")
"""Errors that are tried again with LATER_TRIES_S."""
NOT_TRIED = _with("content", "setting", "full")
"""Errors after which syncd does not index an entry again by itself. Any other error counts as temporary."""

TRIES_S = (60.0, 120.0, 240.0, 480.0, 960.0)
"""Delays in seconds before syncd indexes an entry again after a temporary error. After the last try, only `syncd retry`
indexes the entry again.

The sum is half an hour, because indexings of AI Search have been observed to hang for this time.
"""
LATER_TRIES_S = (300.0, 900.0, 2700.0, 7200.0, 14400.0, 28800.0, 43200.0)
"""The same for LATER. The sum is 27 hours: the service says "later" and names no time. A daily quota is over then."""


def tries_of(error: str | None) -> tuple[float, ...]:
    """Return the delays before the tries after an error; none if syncd does not try again by itself."""
    if error in NOT_TRIED:
        return ()
    return LATER_TRIES_S if error in LATER else TRIES_S
