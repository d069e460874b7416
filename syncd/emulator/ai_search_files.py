"""The documented facts about files: the accepted types with their sizes, and the errors of indexing.

Sources: "AI Search: limits and pricing", "AI Search: data source" and "AI Search: indexing error codes".
"""

MAX_FILE_SIZE = 4 * 1024 * 1024
"""Maximum bytes of one upload, except for the types with MAX_LARGE_FILE_SIZE."""

MAX_LARGE_FILE_SIZE = 10 * 1024 * 1024
"""Bytes of a plain text or code file, and of a PDF if the instance reads pictures of text (use_ocr)."""

# fmt: off
PLAIN_TYPES = (
    ".txt", ".rst", ".log", ".log.gz", ".ini", ".conf", ".env", ".properties", ".gitignore", ".editorconfig", ".toml",
    ".markdown", ".md", ".mdx", ".mdoc", ".tex", ".latex", ".sh", ".bat", ".ps1", ".sgml", ".json",
    ".sql", ".yaml", ".yml", ".css", ".js", ".php", ".py", ".rb", ".java", ".c", ".cpp",
    ".cxx", ".h", ".hpp", ".go", ".rs", ".swift", ".dart", ".el",
)
# fmt: on
TEXTUAL_RICH_TYPES = (".svg", ".html", ".htm", ".xml", ".csv")
# fmt: off
BINARY_TYPES = (
    ".pdf", ".jpeg", ".jpg", ".png", ".webp", ".gif", ".bmp", ".xlsx", ".xlsm", ".xlsb", ".xls",
    ".et", ".docx", ".ods", ".odt", ".numbers",
)
# fmt: on
FILE_TYPES = PLAIN_TYPES + TEXTUAL_RICH_TYPES + BINARY_TYPES
"""Accepted endings of a key; any other ending is 7060."""

PACKED_TYPES = (".log.gz",)
"""Plain types with the lower limit: whether the service counts packed or unpacked bytes is unknown."""


def max_file_size(key: str, *, use_ocr: bool) -> int:
    """Return the limit for the upload of this key in bytes. use_ocr: the instance's indexing option."""
    name = key.lower()
    if name.endswith(".pdf"):
        return MAX_LARGE_FILE_SIZE if use_ocr else MAX_FILE_SIZE
    large = name.endswith(PLAIN_TYPES) and not name.endswith(PACKED_TYPES)
    return MAX_LARGE_FILE_SIZE if large else MAX_FILE_SIZE


# fmt: off
ITEM_ERRORS = (
    "unknown_error", "over_size", "unsupported_type", "file_not_found", "invalid_url", "file_is_corrupt",
    "file_is_password_locked", "invalid_pdf", "unable_to_convert_to_markdown", "markdown_too_large",
    "markdown_conversion_empty", "file_content_empty", "chunk_too_large_for_storage", "timeout_error",
    "file_length_exceed_embedding_model", "file_too_large_for_embedder", "error_embedding_data_with_workers_ai",
    "workers_ai_invalid_input", "workers_ai_free_allocation_exceeded", "workers_ai_internal_error",
    "workers_ai_out_of_capacity_error", "workers_ai_timeout_error", "embedder_modality_unsupported",
    "ai_gateway_insufficient_wholesale_credits", "error_external_model_unknown_error",
    "error_external_model_rate_limited", "error_external_model_unauthorized", "ai_gateway_request_blocked_firewall",
    "ai_gateway_dlp_blocked", "ai_gateway_response_blocked_firewall", "ai_gateway_rate_limited", "r2_unknown_error",
    "r2_internal_error", "vectorize_rate_limited", "vectorize_not_found", "vectorize_unauthorized",
    "vectorize_in_invalid_state", "managed_resources_config_error", "vectorize_ingestion_timeout",
    "vectorize_upstream_error", "hybrid_search_indexing_failed", "ai_search_is_full",
)
"""Errors of one item."""

INSTANCE_ERRORS = (
    "r2_not_enabled", "bucket_not_found", "bucket_unauthorized", "external_source_missing_api_token",
    "bucket_name_invalid", "invalid_custom_header", "ai_gateway_not_configured", "hybrid_search_is_full",
)
# fmt: on
"""Errors that pause the whole instance. Where the service shows them besides is unknown; here the item has them too."""

INDEXING_ERRORS = ITEM_ERRORS + INSTANCE_ERRORS
