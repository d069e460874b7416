"""The sections [mirrors.NAME.target], one for each type of target. Makes no I/O.

The text below a setting describes it for people: `make generate` makes the reference, the example and the JSON Schema
from it. A line "Example: …" at its end is a value in TOML, a line "Unit: …" the unit of a number.
"""

import re
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from syncd.config.instance_settings import ConfigSection, InstanceSettingsSection
from syncd.config.values import Size, WholeNumber, seconds
from syncd.core.model import FIELD_SOURCES, is_field_source

KV_MAX_VALUE_SIZE = 25 * 1024 * 1024
"""Bytes (KV limits)."""
KV_MIN_TTL_S = 60
"""Seconds (KV API: expiration_ttl)."""
AI_SEARCH_MAX_FILE_SIZE = 10 * 1024 * 1024
"""Bytes that AI Search takes of text and code (AI Search limits). Of most other types it takes 4 MiB."""
VECTORIZE_MAX_FILE_SIZE = 25 * 1024 * 1024
"""Bytes. Our own limit on the text that is read, split and embedded at a time. Vectorize gets the chunks only."""
CHUNK_SIZE_MIN, CHUNK_SIZE_MAX = 100, 8000
"""Characters. A shorter chunk has too little meaning. Most models (512 tokens) ignore the end of a longer one."""
AI_SEARCH_FIELDS = 3
"""An instance declares at most five fields (AI Search metadata docs), and syncd uses two."""
KV_FIELDS = 8
"""Our own limit: fields and owner marks share 1,024 bytes of metadata (KV limits)."""
VECTORIZE_FIELDS = 9
"""An index has at most ten metadata indexes (Vectorize limits), and syncd uses one."""
FIELD_NAME = "[a-z][a-z0-9_]{0,63}"
"""The name of a metadata field."""

WholeSeconds = Annotated[int, BeforeValidator(seconds), Field(ge=KV_MIN_TTL_S)]


def _fields(reserved: str, most: int, given: str = "") -> Callable[[dict[str, str]], dict[str, str]]:
    """Return a check of a metadata map. reserved: fields of syncd. given: fields that the target itself sets."""

    def check(fields: dict[str, str]) -> dict[str, str]:
        for name, source in fields.items():
            if not re.fullmatch(FIELD_NAME, name):
                raise ValueError(f"{name}: a field's name is 1-64 of a-z 0-9 _, beginning with a letter")
            if name in given.split():
                raise ValueError(f"{name} is set by the target itself, and searches can filter by it; leave it out")
            if name in reserved.split():
                raise ValueError(f"{name} is used by syncd itself; choose another name")
            if not is_field_source(source):
                raise ValueError(f'{name} should be one of {", ".join(FIELD_SOURCES)}, or "front:NAME"')
        if len(fields) > most:
            raise ValueError(f"should have at most {most} fields, not {len(fields)}")
        return fields

    return check


class AISearchSection(ConfigSection):
    """An AI Search instance with built-in storage."""

    type: Literal["ai-search"]
    """AI Search."""
    namespace: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "default"
    """The AI Search namespace. Every account has "default"."""
    instance: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]
    """The instance, 1-64 of a-z 0-9 - _ (a limit of the service). It must have built-in storage.

    Example: "docs"
    """
    max_file_size: Annotated[Size, Field(le=AI_SEARCH_MAX_FILE_SIZE)] = AI_SEARCH_MAX_FILE_SIZE
    """The largest file that is uploaded, up to 10 MiB. The limits of the service apply, too: 10 MiB for plain text
    and code, and for a PDF if the instance has use_ocr; 4 MiB for every other type (`syncd check --types`). Lower it
    to keep large files out of the index.
    """
    max_key_length: Annotated[WholeNumber, Field(ge=1, le=128)] = 128
    """The longest key, up to 128 characters with the prefix, which is the limit of the service. Lower it if other
    programs that use the keys take less.

    Unit: characters
    """
    create: bool = False
    """true creates a missing instance (and its namespace), and declares the fields of `metadata` and the two fields of
    the marks of syncd. false halts the mirror if the instance is missing, which also reveals a misspelt name.
    """
    metadata: Annotated[
        dict[str, str],
        AfterValidator(_fields("sha256 owner path prefix", AI_SEARCH_FIELDS, "folder filename timestamp")),
    ] = Field(default_factory=lambda: {"title": "title", "description": "description", "modified": "modified"})
    """Metadata that is uploaded with each file, for display and filters in searches: at most three fields, as name =
    source. An instance declares at most five, and syncd uses two. Sources: "title" (front matter, else the first
    heading, else the file name), "description" (front matter), "modified" (modification time of the file,
    2026-11-22T10:00:00Z), "folder", "front:NAME" (any field of the front matter; in HTML, of a meta tag). Every
    value is text of at most 500 characters, and filters see its first 64 bytes. The service adds folder and filename
    itself. An instance that does not declare a field stores it all the same, and `syncd check` reports it. syncd
    never changes the fields of an existing instance, because then the service would index everything again. A new
    map applies to later uploads. To upload everything again, let `create = true` create another instance. {} sends
    no metadata.
    """
    settings: InstanceSettingsSection = Field(default={}, validate_default=True)
    """Settings of an instance that `create = true` makes, with the names of Cloudflare's API (instances.create). A
    setting that is left out gets the default of the service. syncd never changes an existing instance: `syncd check`
    names each of these settings that differs in the instance, and the cost of its change. The embedding model can
    never be changed. A change of index_method, indexing_options or the chunks makes the service index all items
    again. The other settings apply to later searches.
    """

    @property
    def spec(self) -> str:
        """The target, as `init --target` reads it and `status` shows it."""
        return f"ai-search:{self.namespace}/{self.instance}"


class KVSection(ConfigSection):
    """A Workers KV namespace, named by its id or its title."""

    type: Literal["kv"]
    """Workers KV."""
    namespace_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = None
    """The namespace by its id of 32 hex digits, in place of `namespace_title`. It is needed if two namespaces have the
    same title.

    Example: "0123456789abcdef0123456789abcdef"
    """
    namespace_title: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    """The namespace by its title in the dashboard.

    Example: "docs"
    """
    max_file_size: Annotated[Size, Field(le=KV_MAX_VALUE_SIZE)] = 4 * 1024 * 1024
    """The largest file that is uploaded, up to 25 MiB, which is the limit of the service. Any type of file is taken,
    also an empty one. Raise it if larger files belong to the mirror; up to `transfers` files are held in memory at a
    time.
    """
    max_key_length: Annotated[WholeNumber, Field(ge=1, le=512)] = 128
    """The longest key, up to 512 characters with the prefix, and never more than 512 bytes, which is the limit of the
    service. Raise it for deep folders with long names.

    Unit: characters
    """
    expiration_ttl: WholeSeconds | None = None
    """Every entry expires this long after it was written. At least 60 s (a limit of the service) and twice
    `reconcile_interval`, because a pass writes the entry again at half its life. Set it if entries should vanish
    when syncd no longer runs. Default: no entry expires.

    Example: "1d"
    """
    stale_ttl: WholeSeconds | None = None
    """An entry whose file is gone stays this long, at least 60 s (a limit of the service). This costs a read and a
    write for each entry. Set it if readers may still ask for the key. Default: the entry is deleted at once.

    Example: "1h"
    """
    create: bool = False
    """true creates the namespace if no namespace has this title. false halts the mirror, which also reveals a misspelt
    title.
    """
    jurisdiction: Literal["eu", "fedramp", "us"] | None = None
    """The jurisdiction in which a namespace that `create = true` makes stores its data. It can never be changed.
    Default: no restriction.

    Example: "eu"
    """
    metadata: Annotated[dict[str, str], AfterValidator(_fields("sha256 owner size stale path prefix", KV_FIELDS))] = (
        Field(default={})
    )
    """Metadata that is stored with each entry: at most eight fields, as name = source, with the sources of an AI Search
    target. Values that do not fit into the 1,024 bytes of the service are left out, the longest first.

    Example: { title = "title" }
    """

    @model_validator(mode="after")
    def _named_once(self) -> "KVSection":
        if (self.namespace_id is None) == (self.namespace_title is None):
            raise ValueError("set one of namespace_id and namespace_title")
        return self

    @property
    def spec(self) -> str:
        """The target, as `init --target` reads it and `status` shows it."""
        return f"kv:{self.namespace_id or self.namespace_title}"


class VectorizeSection(ConfigSection):
    """A Vectorize index and its embeddings."""

    type: Literal["vectorize"]
    """Vectorize."""
    index: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    """The index, 1-64 of A-Z a-z 0-9 - _ (a limit of the service).

    Example: "docs"
    """
    model: Annotated[str, StringConstraints(pattern=r"^@[\w.-]+(/[\w.-]+)+$")] = "@cf/baai/bge-base-en-v1.5"
    """The embedding model of Workers AI. Choose another one for text that is not English. An index cannot mix vectors
    of two models: after a change the mirror halts until `syncd reconcile --force` agrees to embed all files again.
    """
    pooling: Literal["mean", "cls"] | None = None
    """How the model makes one vector of the tokens. An index cannot mix both ways. Default: "mean" for the English bge
    models, else the default of the model.

    Example: "mean"
    """
    chunk_size: Annotated[WholeNumber, Field(ge=CHUNK_SIZE_MIN, le=CHUNK_SIZE_MAX)] = 1000
    """The longest chunk, 100 to 8000 characters. A shorter chunk has too little meaning, and most models ignore the end
    of a longer one. The English bge models take 512 tokens, which is less text in code and much less in Chinese or
    Japanese: use another model or 400 there.

    Unit: characters
    """
    chunk_overlap: Annotated[WholeNumber, Field(ge=0)] = 150
    """The end of a chunk that the next chunk repeats, less than half of `chunk_size`. Raise it if answers are cut
    off at the border of two chunks.

    Unit: characters
    """
    max_file_size: Annotated[Size, Field(le=VECTORIZE_MAX_FILE_SIZE)] = 4 * 1024 * 1024
    """The largest file that is embedded, up to 25 MiB (our own limit, because the text of a file is held in memory).
    Types: Markdown, text, code in UTF-8, and HTML with the extra: pip install 'syncd[vectorize]'.
    """
    max_key_length: Annotated[WholeNumber, Field(ge=1, le=512)] = 128
    """The longest key, up to 512 characters with the prefix. Raise it for deep folders with long names.

    Unit: characters
    """
    create: bool = False
    """true creates a missing index with the dimensions of the model, and indexes the fields of `metadata`. false halts
    the mirror, which also reveals a misspelt name.
    """
    metadata: Annotated[dict[str, str], AfterValidator(_fields("sha256 owner key heading text", VECTORIZE_FIELDS))] = (
        Field(default_factory=lambda: {"title": "title", "folder": "folder", "modified": "modified"})
    )
    """Metadata of each vector, for filters: at most nine fields, as name = source, with the sources of an AI Search
    target. An index has at most ten metadata indexes, and syncd uses one.
    """

    @model_validator(mode="after")
    def _overlap_is_small(self) -> "VectorizeSection":
        if self.chunk_overlap * 2 >= self.chunk_size:
            raise ValueError("chunk_overlap should be less than half of chunk_size")
        return self

    @property
    def spec(self) -> str:
        """The target, as `init --target` reads it and `status` shows it."""
        return f"vectorize:{self.index}"

    @property
    def fixed_pooling(self) -> Literal["mean", "cls"] | None:
        """The pooling to request, so that a new default cannot mix vectors. None for a model without a choice."""
        english_bge = self.model.startswith("@cf/baai/bge-") and "-en-" in self.model
        return self.pooling or ("mean" if english_bge else None)


TargetSection = AISearchSection | KVSection | VectorizeSection
TARGET_SECTIONS = {"ai-search": AISearchSection, "kv": KVSection, "vectorize": VectorizeSection}
