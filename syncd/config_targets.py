"""The sections that name a target, one for each type."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

KV_MAX_VALUE_SIZE = 25 * 1024 * 1024
"""Bytes (KV limits)."""
KV_MIN_TTL_S = 60
"""Seconds (KV API: expiration_ttl)."""
AI_SEARCH_MAX_FILE_SIZE = 10 * 1024 * 1024
"""Bytes; what AI Search takes of text since its general availability. 4 MiB, the default, holds for every type."""


class Section(BaseModel):
    """A part of the configuration: no unknown keys, no change, no value in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class AISearchTarget(Section):
    """An AI Search instance. Instance ids: 1-64 of a-z 0-9 - _ (API reference)."""

    type: Literal["ai-search"]
    namespace: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "default"
    instance: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]
    max_file_size: Annotated[int, Field(ge=1, le=AI_SEARCH_MAX_FILE_SIZE)] = 4 * 1024 * 1024
    max_key_length: Annotated[int, Field(ge=1, le=128)] = 128
    create: bool = False

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

    @model_validator(mode="after")
    def _named_once(self) -> "KVTarget":
        if (self.namespace_id is None) == (self.namespace_title is None):
            raise ValueError("set one of namespace_id and namespace_title")
        return self

    @property
    def spec(self) -> str:
        """The target as `init --target` and `status` write it."""
        return f"kv:{self.namespace_id or self.namespace_title}"
