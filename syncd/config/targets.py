"""The sections that name a target, one for each type."""

import re
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from syncd.text.sources import SOURCES, is_source

KV_MAX_VALUE_SIZE = 25 * 1024 * 1024
"""Bytes (KV limits)."""
KV_MIN_TTL_S = 60
"""Seconds (KV API: expiration_ttl)."""
AI_SEARCH_MAX_FILE_SIZE = 10 * 1024 * 1024
"""Bytes; what AI Search takes of text since its general availability. 4 MiB, the default, holds for every type."""

VECTORIZE_MAX_FILE_SIZE = 25 * 1024 * 1024
"""Bytes; no limit of Vectorize's, which sees pieces only, but of what is read, cut and embedded at a time."""
CHUNK_SIZE_MIN, CHUNK_SIZE_MAX = 100, 8000
"""Characters. Less finds words, not meaning; more is cut off by most models (512 tokens), and by 10 KiB of metadata."""
PERMISSIONS = {
    "ai-search": "Account / AI Search: Edit",
    "kv": "Account / Workers KV Storage: Edit",
    "vectorize": "Account / Vectorize: Edit and Account / Workers AI: Read",
}
"""What a token must be allowed for each type of target."""


class Section(BaseModel):
    """A part of the configuration: no unknown keys, no change, no value in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _fields(reserved: str, most: int, given: str = "") -> Callable[[dict[str, str]], dict[str, str]]:
    """Check a metadata map. reserved: names that syncd uses; given: those that the target fills by itself."""

    def check(fields: dict[str, str]) -> dict[str, str]:
        for name, source in fields.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
                raise ValueError(f"{name}: a field's name is 1-64 of a-z 0-9 _, beginning with a letter")
            if name in given.split():
                raise ValueError(f"{name} is made by the target itself and can be filtered by; leave it out")
            if name in reserved.split():
                raise ValueError(f"{name} is a field of syncd's own; choose another name")
            if not is_source(source):
                raise ValueError(f'{name} should be one of {", ".join(SOURCES)}, or "front:NAME"')
        if len(fields) > most:
            raise ValueError(f"should have at most {most} fields, not {len(fields)}")
        return fields

    return check


AI_SEARCH_FIELDS = 3
"""An instance declares five at most (AI Search metadata docs), and two are our marks."""
KV_FIELDS = 8
"""Our own limit: they share 1,024 bytes with our marks (KV limits)."""
VECTORIZE_FIELDS = 9
"""An index has ten metadata indexes at most (Vectorize limits), and one is on our mark."""


class AISearchTarget(Section):
    """An AI Search instance. Instance ids: 1-64 of a-z 0-9 - _ (API reference)."""

    type: Literal["ai-search"]
    namespace: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "default"
    instance: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]
    max_file_size: Annotated[int, Field(ge=1, le=AI_SEARCH_MAX_FILE_SIZE)] = 4 * 1024 * 1024
    max_key_length: Annotated[int, Field(ge=1, le=128)] = 128
    replace: Literal["inplace", "alternate"] = "inplace"
    create: bool = False
    metadata: Annotated[
        dict[str, str],
        AfterValidator(_fields("sha256 owner path prefix", AI_SEARCH_FIELDS, "folder filename timestamp")),
    ] = Field(default_factory=lambda: {"title": "title", "description": "description", "modified": "modified"})

    @property
    def spec(self) -> str:
        """The target as `init --target` and `status` write it."""
        return f"ai-search:{self.namespace}/{self.instance}"


class KVTarget(Section):
    """A Workers KV namespace, by its id or by its title. Sizes in bytes, times in seconds."""

    type: Literal["kv"]
    namespace_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = None
    namespace_title: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    max_file_size: Annotated[int, Field(ge=1, le=KV_MAX_VALUE_SIZE)] = 4 * 1024 * 1024
    max_key_length: Annotated[int, Field(ge=1, le=512)] = 128
    expiration_ttl: Annotated[int, Field(ge=KV_MIN_TTL_S)] | None = None
    stale_ttl: Annotated[int, Field(ge=KV_MIN_TTL_S)] | None = None
    create: bool = False
    metadata: Annotated[dict[str, str], AfterValidator(_fields("sha256 owner size stale path prefix", KV_FIELDS))] = (
        Field(default_factory=dict)
    )

    @model_validator(mode="after")
    def _named_once(self) -> "KVTarget":
        if (self.namespace_id is None) == (self.namespace_title is None):
            raise ValueError("set one of namespace_id and namespace_title")
        return self

    @property
    def spec(self) -> str:
        """The target as `init --target` and `status` write it."""
        return f"kv:{self.namespace_id or self.namespace_title}"


class VectorizeTarget(Section):
    """A Vectorize index, and how text becomes vectors. Chunk sizes in characters, file sizes in bytes."""

    type: Literal["vectorize"]
    index: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    model: Annotated[str, StringConstraints(pattern=r"^@[\w.-]+(/[\w.-]+)+$")] = "@cf/baai/bge-base-en-v1.5"
    pooling: Literal["mean", "cls"] | None = None
    chunk_size: Annotated[int, Field(ge=CHUNK_SIZE_MIN, le=CHUNK_SIZE_MAX)] = 1000
    chunk_overlap: Annotated[int, Field(ge=0)] = 150
    max_file_size: Annotated[int, Field(ge=1, le=VECTORIZE_MAX_FILE_SIZE)] = 4 * 1024 * 1024
    max_key_length: Annotated[int, Field(ge=1, le=512)] = 128
    create: bool = False
    metadata: Annotated[dict[str, str], AfterValidator(_fields("sha256 owner key heading text", VECTORIZE_FIELDS))] = (
        Field(default_factory=lambda: {"title": "title", "folder": "folder", "modified": "modified"})
    )

    @model_validator(mode="after")
    def _mostly_new(self) -> "VectorizeTarget":
        if self.chunk_overlap * 2 >= self.chunk_size:
            raise ValueError("chunk_overlap should be less than half of chunk_size")
        return self

    @property
    def spec(self) -> str:
        """The target as `init --target` and `status` write it."""
        return f"vectorize:{self.index}"

    @property
    def fixed_pooling(self) -> Literal["mean", "cls"] | None:
        """What is sent to the model, so that its default may change without mixing vectors. None: it takes none."""
        english_bge = self.model.startswith("@cf/baai/bge-") and "-en-" in self.model
        return self.pooling or ("mean" if english_bge else None)


Target = AISearchTarget | KVTarget | VectorizeTarget
