"""The schema of the config: every section and key, with its type, default and limits. Makes no I/O."""

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from syncd.config.daemon_sections import Notify, Web
from syncd.config.instance_settings import ELSEWHERE, ConfigSection, InstanceSettingsSection
from syncd.core.base_url import check_base_url
from syncd.core.budget import parse_quota
from syncd.core.errors import ConfigError
from syncd.core.globs import BadPattern, parse
from syncd.core.key_digests import Shard
from syncd.core.keys import to_os
from syncd.core.model import FIELD_SOURCES, WatchSetting, is_field_source
from syncd.core.rules import INCLUDE_ALL
from syncd.core.units import seconds, size

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
PERMISSIONS = {
    "ai-search": "Account / AI Search: Edit and Account / AI Search: Run",
    "kv": "Account / Workers KV Storage: Edit",
    "vectorize": "Account / Vectorize: Edit and Account / Workers AI: Read",
}
"""The permissions that a token needs for each type of target."""
REMOVED = {
    "oversize": "it was removed; a file over max_file_size is reported as too_large",
    "replace": "it was removed; changed files always replace their items in place",
}
"""Keys of earlier versions, and the remedy in place of a suggestion."""


# -- values


def _path(value: Path) -> Path:
    if "\0" in str(value):
        raise ValueError("should be a path without NUL characters")
    try:
        return Path(to_os(str(value))).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~ of a user without a home directory; write the whole path") from None


def _patterns(value: list[str]) -> list[str]:
    for number, pattern in enumerate(value, 1):
        try:
            parse(number, pattern)
        except BadPattern as error:
            raise ValueError(f"pattern {number} is no gitignore-style pattern: {error.why}") from None
    return value


def _max_delete(value: object) -> object:
    text = str(value)
    if re.fullmatch(r"\d+", text):
        return int(text)
    if re.fullmatch(r"\d+(\.\d+)?%", text) and float(text[:-1]) <= 100:
        return text
    raise ValueError('should be a number of entries, such as 50, or a percentage, such as "25%"')


def _quota(value: str) -> str:
    parse_quota(value)
    return value


def _shard(value: str) -> str:
    Shard.parse(value)
    return value


LocalPath = Annotated[Path, AfterValidator(_path)]
Patterns = Annotated[list[str], AfterValidator(_patterns)]
Duration = Annotated[float, BeforeValidator(seconds), Field(allow_inf_nan=False)]
"""Seconds, as a number or a text such as "5m"."""
Seconds = Annotated[Duration, Field(ge=0)]
WholeSeconds = Annotated[int, BeforeValidator(seconds), Field(ge=KV_MIN_TTL_S)]
Size = Annotated[int, BeforeValidator(size), Field(ge=1)]
"""Bytes, as a number or a text such as "4MiB"."""
AccountId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


# -- targets


def _fields(reserved: str, most: int, given: str = "") -> Callable[[dict[str, str]], dict[str, str]]:
    """Return a check of a metadata map. reserved: fields of syncd. given: fields that the target itself sets."""

    def check(fields: dict[str, str]) -> dict[str, str]:
        for name, source in fields.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
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
    """An AI Search instance. Instance ids: 1-64 of a-z 0-9 - _ (API reference)."""

    type: Literal["ai-search"]
    namespace: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "default"
    instance: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]
    max_file_size: Annotated[Size, Field(le=AI_SEARCH_MAX_FILE_SIZE)] = AI_SEARCH_MAX_FILE_SIZE
    max_key_length: Annotated[int, Field(ge=1, le=128)] = 128
    create: bool = False
    settings: InstanceSettingsSection = Field(default={}, validate_default=True)
    metadata: Annotated[
        dict[str, str],
        AfterValidator(_fields("sha256 owner path prefix", AI_SEARCH_FIELDS, "folder filename timestamp")),
    ] = Field(default_factory=lambda: {"title": "title", "description": "description", "modified": "modified"})

    @property
    def spec(self) -> str:
        """The target, as `init --target` reads it and `status` shows it."""
        return f"ai-search:{self.namespace}/{self.instance}"


class KVSection(ConfigSection):
    """A Workers KV namespace, named by its id or its title. Sizes in bytes, times in seconds."""

    type: Literal["kv"]
    namespace_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = None
    namespace_title: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    max_file_size: Annotated[Size, Field(le=KV_MAX_VALUE_SIZE)] = 4 * 1024 * 1024
    max_key_length: Annotated[int, Field(ge=1, le=512)] = 128
    expiration_ttl: WholeSeconds | None = None
    stale_ttl: WholeSeconds | None = None
    create: bool = False
    jurisdiction: Literal["eu", "fedramp", "us"] | None = None
    metadata: Annotated[dict[str, str], AfterValidator(_fields("sha256 owner size stale path prefix", KV_FIELDS))] = (
        Field(default={})
    )

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
    """A Vectorize index and its embeddings. Chunk sizes in characters, file sizes in bytes."""

    type: Literal["vectorize"]
    index: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    model: Annotated[str, StringConstraints(pattern=r"^@[\w.-]+(/[\w.-]+)+$")] = "@cf/baai/bge-base-en-v1.5"
    pooling: Literal["mean", "cls"] | None = None
    chunk_size: Annotated[int, Field(ge=CHUNK_SIZE_MIN, le=CHUNK_SIZE_MAX)] = 1000
    chunk_overlap: Annotated[int, Field(ge=0)] = 150
    max_file_size: Annotated[Size, Field(le=VECTORIZE_MAX_FILE_SIZE)] = 4 * 1024 * 1024
    max_key_length: Annotated[int, Field(ge=1, le=512)] = 128
    create: bool = False
    metadata: Annotated[dict[str, str], AfterValidator(_fields("sha256 owner key heading text", VECTORIZE_FIELDS))] = (
        Field(default_factory=lambda: {"title": "title", "folder": "folder", "modified": "modified"})
    )

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


# -- sections


class Cloudflare(ConfigSection):
    """Access to the API. Times in seconds, tpslimit in requests per second, quota in requests per window."""

    account_id: AccountId
    api_token: SecretStr | None = None
    api_token_file: LocalPath | None = None
    email: str | None = None
    api_key: SecretStr | None = None
    base_url: Annotated[str, AfterValidator(check_base_url)] = "https://api.cloudflare.com/client/v4"
    quota: Annotated[str, AfterValidator(_quota)] = "1050/300s"
    tpslimit: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 100.0
    transfers: Annotated[int, Field(ge=1, le=256)] = 8
    timeout: Annotated[Duration, Field(gt=0)] = 60.0
    retry_for: Seconds = 120.0


class MirrorConfig(ConfigSection):
    """A [mirrors.NAME] section, merged with [defaults]. Times in seconds."""

    path: LocalPath
    include: Patterns = Field(default_factory=lambda: list(INCLUDE_ALL))
    exclude: Patterns = Field(default=[])
    gitignore: bool = True
    links: Literal["skip", "inside"] = "skip"
    key_prefix: str = ""
    owner: Annotated[str, StringConstraints(max_length=64)] = ""
    prune: Literal["owned", "all", "never"] = "owned"
    max_delete: Annotated[int | str, BeforeValidator(_max_delete)] = "25%"
    delete_after: Seconds = 30.0
    settle: Seconds = 0.5
    settle_max: Seconds = 30.0
    reconcile_interval: Annotated[Duration, Field(ge=1)] = 3600.0
    audit_interval: Seconds = 86400.0
    watch: WatchSetting = "auto"
    poll_interval: Annotated[Duration, Field(ge=0.1)] = 30.0
    shard: Annotated[str, AfterValidator(_shard)] = ""
    long_names: Literal["reject", "shorten"] = "reject"
    target: Annotated[TargetSection, Field(discriminator="type")]


class Config(BaseSettings):
    """The whole config, validated. `sources.load` makes it.

    defaults: read with the keys of a mirror, merged into every mirror before validation, and None afterwards.
    """

    model_config = SettingsConfigDict(extra="forbid", case_sensitive=True, hide_input_in_errors=True, defer_build=True)

    state_dir: LocalPath
    cloudflare: Cloudflare
    web: Web = Field(default={}, validate_default=True)
    notify: Notify = Field(default={}, validate_default=True)
    defaults: MirrorConfig | None = None
    mirrors: dict[str, MirrorConfig] = Field(min_length=1)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the sources that `load` passes, strongest first."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return tuple(init_settings()["sources"])

    def with_mirrors(self, names: Collection[str]) -> "Config":
        """Return this config with some of its mirrors only."""
        return self.model_copy(
            update={"mirrors": {name: mirror for name, mirror in self.mirrors.items() if name in names}}
        )

    @model_validator(mode="before")
    @classmethod
    def _merge_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Merge [defaults] into every mirror. A mirror's own value wins."""
        defaults = values.pop("defaults", {})
        if not isinstance(defaults, dict):
            # The schema reports it together with all other faults.
            return values | {"defaults": defaults}
        mirrors = values.get("mirrors")
        if isinstance(mirrors, dict):
            values["mirrors"] = {
                name: _merged(defaults, mirror) if isinstance(mirror, dict) else mirror
                for name, mirror in mirrors.items()
            }
        return values


class AccountConfig(Config):
    """The config for commands that need the account only: it may have no mirror."""

    mirrors: dict[str, MirrorConfig] = Field(default={})


def _merged(defaults: dict[str, Any], mirror: dict[str, Any]) -> dict[str, Any]:
    merged = {**defaults, **mirror}
    if isinstance(defaults.get("target"), dict) and isinstance(mirror.get("target"), dict):
        merged["target"] = {**defaults["target"], **mirror["target"]}
        settings = [values["target"].get("settings") for values in (defaults, mirror)]
        if all(isinstance(table, dict) for table in settings):
            merged["target"]["settings"] = _deep(*settings)
    return merged


def _deep(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Merge nested tables. A value of the second one wins."""
    merged = {**defaults, **values}
    for name, value in values.items():
        if isinstance(value, dict) and isinstance(defaults.get(name), dict):
            merged[name] = _deep(defaults[name], value)
    return merged


def unknown_key(section: str, key: str, known: Sequence[str]) -> str:
    """Return the message for an unknown key, with the nearest known key."""
    import difflib

    close = difflib.get_close_matches(key, known, n=1)
    nearest = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    remedy = _moved(section, key, known) or REMOVED.get(key) or nearest
    return f"unknown key {f'{section}.' if section else ''}{key}; {remedy}"


def _moved(section: str, key: str, known: Sequence[str]) -> str | None:
    """Return the remedy for a key of AI Search that stands in the wrong table, None for any other key."""
    if "settings" in known and key in InstanceSettingsSection.model_fields:
        return f"it is a setting of the instance; write it below [{section}.settings]"
    if not section.endswith(".target.settings"):
        return None
    if key in AISearchSection.model_fields.keys() - ELSEWHERE.keys():
        return f"it is no setting of the instance; write it below [{section.removesuffix('.settings')}]"
    return ELSEWHERE.get(key)


def known_keys() -> frozenset[str]:
    """Return every key as its path joined with "__". "*" stands for the name of a mirror."""
    sections: dict[str, type[ConfigSection]] = {"cloudflare": Cloudflare, "web": Web, "notify": Notify}
    keys = {f"{name}__{key}" for name, section in sections.items() for key in section.model_fields}
    of_mirrors = {f"{start}__{key}" for start in ("mirrors__*", "defaults") for key in MirrorConfig.model_fields}
    return frozenset({*Config.model_fields, *keys, *of_mirrors})


def mirror_config(config: Config, name: str) -> MirrorConfig:
    """Return the section of one mirror. Raises ConfigError with the nearest name, or with all names."""
    try:
        return config.mirrors[name]
    except KeyError:
        import difflib

        near = difflib.get_close_matches(name, config.mirrors, n=1)
        meant = f"did you mean {near[0]}?" if near else f"there is: {', '.join(config.mirrors)}"
        raise ConfigError(f"no mirror {name!r} is configured; {meant}") from None


def permissions(config: Config) -> str:
    """Return the permissions that a token needs for the configured mirrors, or for all types if there is no mirror."""
    types = {mirror.target.type for mirror in config.mirrors.values()}
    return "; ".join(text for kind, text in PERMISSIONS.items() if kind in types or not types)
