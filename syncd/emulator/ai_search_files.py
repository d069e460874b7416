"""The documented facts about files: the accepted types with their sizes, and the errors of indexing.

Sources: "AI Search: limits and pricing", "AI Search: data source" and "AI Search: indexing error codes".
"""

MAX_FILE_SIZE = 4 * 1024 * 1024
"""Bytes of one upload of any type but those with MAX_LARGE_FILE_SIZE."""

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


ITEM_ERRORS = {
    "unknown_error": "Vector ingestion did not confirm, giving up",
    "over_size": "The file is larger than the limit of its type",
    "unsupported_type": "The type of the file is not supported",
    "file_not_found": "The object does not exist in the bucket",
    "invalid_url": "The URL is not valid",
    "file_is_corrupt": "The file is corrupt",
    "file_is_password_locked": "The document is encrypted and no password was given",
    "invalid_pdf": "The file is not a valid PDF",
    "unable_to_convert_to_markdown": "The converter returned no result for this file",
    "markdown_too_large": "The converted text is too large",
    "markdown_conversion_empty": "The conversion returned no text",
    "file_content_empty": "No text was found in the file",
    "chunk_too_large_for_storage": "A chunk is too large for the storage",
    "timeout_error": "The processing timed out",
    "file_length_exceed_embedding_model": "The file is too long for the embedding model",
    "file_too_large_for_embedder": "The file has too many bytes for the embedding model",
    "error_embedding_data_with_workers_ai": "Workers AI returned no embeddings",
    "workers_ai_invalid_input": "Workers AI rejected the input",
    "workers_ai_free_allocation_exceeded": "The managed Workers AI allocation for AI Search was exceeded",
    "workers_ai_internal_error": "Workers AI had an internal error",
    "workers_ai_out_of_capacity_error": "Workers AI had no capacity",
    "workers_ai_timeout_error": "Workers AI timed out",
    "embedder_modality_unsupported": "The embedding model does not support this kind of file",
    "ai_gateway_insufficient_wholesale_credits": "The account has no credits left in AI Gateway",
    "error_external_model_unknown_error": "The external model failed",
    "error_external_model_rate_limited": "The external model limited the rate",
    "error_external_model_unauthorized": "The external model refused the credentials",
    "ai_gateway_request_blocked_firewall": "Guardrails blocked the request",
    "ai_gateway_dlp_blocked": "Data loss prevention blocked the content",
    "ai_gateway_response_blocked_firewall": "Guardrails blocked the response",
    "ai_gateway_rate_limited": "AI Gateway limited the rate",
    "r2_unknown_error": "R2 failed",
    "r2_internal_error": "R2 had an internal error",
    "vectorize_rate_limited": "Vectorize limited the rate",
    "vectorize_not_found": "The Vectorize index was not found",
    "vectorize_unauthorized": "The instance has no access to its Vectorize index",
    "vectorize_in_invalid_state": "The Vectorize index is not ready",
    "managed_resources_config_error": "The managed resources are not configured correctly",
    "vectorize_ingestion_timeout": "Vectorize did not process the mutation in time",
    "vectorize_upstream_error": "Vectorize had a temporary upstream error",
    "hybrid_search_indexing_failed": "The indexing for hybrid search failed",
    "ai_search_is_full": "The instance is full",
}
"""Errors of one item, with the stand-in's message in its log. The service's own messages are not documented."""

INSTANCE_ERRORS = {
    "r2_not_enabled": "R2 is not enabled",
    "bucket_not_found": "The bucket was not found",
    "bucket_unauthorized": "The instance has no access to the bucket",
    "external_source_missing_api_token": "The credentials of the source are missing",
    "bucket_name_invalid": "The name of the bucket is not valid",
    "invalid_custom_header": "A header of the crawler is not valid",
    "ai_gateway_not_configured": "The gateway of the instance was not found",
    "hybrid_search_is_full": "The index for hybrid search is full",
}
"""Errors that pause the whole instance. Where the service shows them besides is unknown; here the item has them too."""

INDEXING_ERRORS = ITEM_ERRORS | INSTANCE_ERRORS
