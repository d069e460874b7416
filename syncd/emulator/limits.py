"""Limits of the APIs, and the file types that AI Search accepts. Source: Cloudflare's documentation."""

MAX_JSON_SIZE = 16 * 1024 * 1024
"""Bytes of a JSON body. This limit is the stand-in's own."""

MAX_FILE_SIZE = 4 * 1024 * 1024
"""Bytes of one upload of any type but those with MAX_LARGE_FILE_SIZE. Source: "AI Search: limits and pricing"."""

MAX_LARGE_FILE_SIZE = 10 * 1024 * 1024
"""Bytes of a plain text or code file, and of a PDF if the instance reads pictures of text (use_ocr)."""

MAX_KEY_LENGTH = 128
"""Characters of an item's key."""

MAX_ITEM_ID_LENGTH = 64
MAX_SOURCE_LENGTH = 512
MAX_FILTER_LENGTH = 2048
"""Characters of the list parameters item_id, source and metadata_filter."""

MAX_METADATA_SIZE = 10 * 1024
"""Bytes of an item's metadata as compact JSON, the system's own fields included."""

FILTERABLE_BYTES = 64
"""Filters see this many leading bytes of a text field."""

MAX_CUSTOM_FIELDS = 5
MAX_INSTANCES = 5000
"""Of one account (paid plan)."""

MAX_INSTANCE_SEARCH_LENGTH = 64
"""Characters of the parameter `search` of the list of instances."""

MAX_SEARCHED_INSTANCES = 10
"""Instances of one search in a namespace."""

MAX_NAMESPACES = 100
MAX_DESCRIPTION_LENGTH = 256
MAX_ITEMS_PER_PAGE = 50
MAX_PER_PAGE = 100
MAX_RESULTS = 50
MAX_WAIT = 40.0
"""Seconds that wait_for_completion delays an answer at most."""

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


MAX_KV_NAMESPACES = 1000
"""Of one account."""

MAX_KV_PER_PAGE = 1000
MAX_KV_TITLE_SIZE = 512
MAX_KV_KEY_SIZE = 512
MAX_KV_METADATA_SIZE = 1024
"""Bytes of metadata as compact JSON."""

MAX_KV_VALUE_SIZE = 25 * 1024 * 1024
MIN_KV_TTL = 60
"""Seconds from a write to the earliest allowed expiration."""

KV_WRITE_INTERVAL = 1.0
"""Minimum number of seconds between two writes to one key."""

MAX_KV_BULK_ITEMS = 10_000
MAX_KV_BULK_SIZE = 100_000_000
"""Bytes of the whole request: 100 megabytes, not mebibytes."""

MAX_KV_BULK_GET = 100
"""Keys of one bulk read. The values together have the limit of one value."""

MIN_KV_LIST = 10
MAX_KV_LIST = 1000

MAX_INDEX_NAME_SIZE = 64
MAX_DIMENSIONS = 1536
"""Users report that the service also refuses fewer than 32 dimensions. Its documentation has no lower bound, and small
vectors make readable tests.
"""

MAX_METADATA_INDEXES = 10
"""Metadata indexes of one index of Vectorize."""

MAX_VECTOR_ID_SIZE = 64
MAX_VECTOR_NAMESPACE_SIZE = 64
MAX_VECTOR_METADATA_SIZE = 10 * 1024
"""Bytes of metadata as compact JSON."""

MAX_PROPERTY_LENGTH = 512
"""Characters of the name of a metadata property in a filter."""

MAX_VECTORS = 5000
MAX_VECTORS_SIZE = 100_000_000
"""Bytes of a whole upsert or insert: megabytes, like the limits of KV."""

MAX_DELETED_IDS = 100
MAX_READ_IDS = 20
"""Ids of one delete_by_ids and of one get_by_ids. Undocumented; users of the service report both."""

MAX_VECTOR_LIST = 1000
VECTOR_CURSOR_LIFE = 300.0
"""Seconds until a cursor of the listing expires. The documentation says only "cursors have an expiration timestamp"."""

MAX_TOP_K = 100
MAX_TOP_K_WITH_CONTENT = 50
"""Matches of one query; the second limit applies if the query returns values or all metadata."""
