"""The configuration: one TOML file, the environment, a systemd credential. Every mistake is one line (exit 2)."""

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from syncd import shards
from syncd.cloudflare.base_url import check_base_url
from syncd.config import sources as config_sources
from syncd.config.faults import faults, one_line, unknown_key
from syncd.config.secret_files import refuse_writable
from syncd.config.targets import PERMISSIONS, AISearchTarget, KVTarget, Section, Target, VectorizeTarget
from syncd.config.web import Notify, Web
from syncd.errors import ConfigError
from syncd.globs import BadPattern, parse
from syncd.os_names import from_os, to_os
from syncd.rules import INCLUDE_ALL

_LOGIN = ("api_token", "api_token_file", "email", "api_key")


def _max_delete(value: object) -> object:
    text = str(value)
    if re.fullmatch(r"\d+", text):
        return int(text)
    if re.fullmatch(r"\d+(\.\d+)?%", text) and float(text[:-1]) <= 100:
        return text
    raise ValueError('should be a number of entries, such as 50, or a percentage, such as "25%"')


def _shard(value: str) -> str:
    shards.parse(value)
    return value


def _patterns(value: list[str]) -> list[str]:
    for number, pattern in enumerate(value, 1):
        try:
            parse(number, pattern)
        except BadPattern as error:
            raise ValueError(f"pattern {number} is no gitignore-style pattern: {error.why}") from None
    return value


def _path(value: Path) -> Path:
    if "\0" in str(value):
        raise ValueError("should be a path without NUL characters")
    try:
        return Path(to_os(str(value))).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~ of a user who has no home; write the path in full") from None


LocalPath = Annotated[Path, AfterValidator(_path)]
Patterns = Annotated[list[str], AfterValidator(_patterns)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
AccountId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class Cloudflare(Section):
    """How to reach the API. Times in seconds, tpslimit in requests per second."""

    account_id: AccountId
    api_token: SecretStr | None = None
    api_token_file: LocalPath | None = None
    email: str | None = None
    api_key: SecretStr | None = None
    base_url: Annotated[str, AfterValidator(check_base_url)] = "https://api.cloudflare.com/client/v4"
    tpslimit: Seconds = 3.5
    transfers: Annotated[int, Field(ge=1, le=256)] = 8
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    retry_for: Seconds = 120.0


class MirrorConfig(Section):
    """One [mirrors.NAME] section, with [defaults] filled in. Times in seconds."""

    path: LocalPath
    include: Patterns = Field(default_factory=lambda: list(INCLUDE_ALL))
    exclude: Patterns = Field(default_factory=list)
    gitignore: bool = True
    links: Literal["skip", "inside"] = "skip"
    key_prefix: str = ""
    owner: Annotated[str, StringConstraints(max_length=64)] = ""
    prune: Literal["owned", "all", "never"] = "owned"
    max_delete: Annotated[int | str, BeforeValidator(_max_delete)] = "25%"
    delete_after: Seconds = 30.0
    settle: Seconds = 0.5
    settle_max: Seconds = 30.0
    reconcile_interval: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 3600.0
    audit_interval: Seconds = 86400.0
    watch: Literal["auto", "inotify", "poll", "off"] = "auto"
    poll_interval: Annotated[float, Field(ge=0.1, allow_inf_nan=False)] = 30.0
    shard: Annotated[str, AfterValidator(_shard)] = ""
    long_names: Literal["reject", "shorten"] = "reject"
    target: Annotated[Target, Field(discriminator="type")]


class _Layer(PydanticBaseSettingsSource):
    """Values that were read already; pydantic-settings merges the layers key by key."""

    def __init__(self, settings_cls: type[BaseSettings], values: dict[str, Any]) -> None:
        super().__init__(settings_cls)
        self._values = values

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        del field
        return self._values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._values


class Config(BaseSettings):
    """All of it, checked. Make one with `load`."""

    model_config = SettingsConfigDict(extra="forbid", hide_input_in_errors=True)

    state_dir: LocalPath
    cloudflare: Cloudflare
    web: Web = Web()
    notify: Notify = Notify()
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
        """Take nothing but the layers that `load` hands in, strongest first."""
        del env_settings, dotenv_settings, file_secret_settings
        layers = init_settings()["layers"]
        return tuple(_Layer(settings_cls, layer) for layer in layers)

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        """[defaults] stands under every mirror; a mirror's own value wins."""
        defaults = values.pop("defaults", {})
        if not isinstance(defaults, dict):
            raise ValueError("defaults: should be a table, [defaults]")  # noqa: TRY004 - what the library collects
        target = defaults.get("target")
        of_targets = {**AISearchTarget.model_fields, **KVTarget.model_fields, **VectorizeTarget.model_fields}
        for where, section, known in (
            ("defaults", defaults, MirrorConfig.model_fields),
            ("defaults.target", target if isinstance(target, dict) else {}, of_targets),
        ):
            if unknown := section.keys() - known.keys():
                raise ValueError(unknown_key(where, min(unknown), list(known)))
        mirrors = values.get("mirrors")
        if isinstance(mirrors, dict):
            values["mirrors"] = {
                name: _over(defaults, mirror) if isinstance(mirror, dict) else mirror
                for name, mirror in mirrors.items()
            }
        return values


class _AccountConfig(Config):
    """For commands that need the account only: no mirror has to be configured."""

    mirrors: dict[str, MirrorConfig] = Field(default_factory=dict)


def load(flag: Path | None = None, environ: Mapping[str, str] | None = None, *, account_only: bool = False) -> Config:
    """Read the configuration. flag: the path given with --config. account_only: no mirror has to be there.

    Raises ConfigError with one line that names the key and what would be right, never a secret.
    """
    environ = config_sources.process_environment() if environ is None else environ
    path = config_sources.config_path(flag, environ)
    values = config_sources.file_values(path)
    secret_file = path if config_sources.holds_secret(values) else None
    if secret_file:
        refuse_writable(path, f"{path}: cloudflare")
    environment = config_sources.environment_values(environ, known_keys())
    credential = config_sources.credential_values(environ)
    layers = [environment, credential, values]
    if state_dir := _default_state_dir(environ):
        layers.append({"state_dir": from_os(str(state_dir))})
    _keep_strongest_login(layers)
    try:
        config = (_AccountConfig if account_only else Config)(layers=layers)  # type: ignore[call-arg]
    except ValidationError as error:
        raise ConfigError(f"{path}: {one_line(error, Config)}") from None
    config = _with_absolute_paths(config, path.absolute().parent)
    for name, why in faults(config, secret_file):
        raise ConfigError(f"{path}: mirrors.{name}{why}")
    return config


def known_keys() -> frozenset[str]:
    """Every key, as its path with "__" between; "*" stands for the name of a mirror."""
    sections: dict[str, type[Section]] = {"cloudflare": Cloudflare, "web": Web, "notify": Notify}
    keys = {f"{name}__{key}" for name, section in sections.items() for key in section.model_fields}
    of_mirrors = {f"{start}__{key}" for start in ("mirrors__*", "defaults") for key in MirrorConfig.model_fields}
    return frozenset({*Config.model_fields, "defaults", *keys, *of_mirrors})


def login(config: Config) -> tuple[str, str | None]:
    """Return (API token, None) or (global API key, e-mail address). Raises ConfigError if there is neither."""
    section = config.cloudflare
    if section.api_token_file:
        return config_sources.read_secret(section.api_token_file, "cloudflare.api_token_file"), None
    if section.api_token and section.api_token.get_secret_value().strip():
        return section.api_token.get_secret_value().strip(), None
    if section.api_key and section.email:
        return section.api_key.get_secret_value(), section.email
    raise ConfigError(
        "no API token: set CLOUDFLARE_API_TOKEN, or cloudflare.api_token_file to a file that holds it"
        f" (permission: {permissions(config)})"
    )


def permissions(config: Config) -> str:
    """What a token must be allowed for the mirrors that are configured; for those that might be, if there is none."""
    types = {mirror.target.type for mirror in config.mirrors.values()}
    return "; ".join(text for kind, text in PERMISSIONS.items() if kind in types or not types)


def secrets(config: Config) -> list[str]:
    """Return what must never be printed: every token and key the configuration holds or names."""
    section = config.cloudflare
    given = (section.api_token, section.api_key, config.notify.webhook)
    found = [secret.get_secret_value().strip() for secret in given if secret]
    if section.api_token_file:
        with contextlib.suppress(ConfigError):
            found.append(config_sources.read_secret(section.api_token_file, "cloudflare.api_token_file"))
    return [secret for secret in found if secret]


def _over(defaults: dict[str, Any], mirror: dict[str, Any]) -> dict[str, Any]:
    both = {**defaults, **mirror}
    under, over = defaults.get("target"), mirror.get("target")
    if isinstance(under, dict) and isinstance(over, dict):
        both["target"] = {**under, **over}
    return both


def _keep_strongest_login(layers: list[dict[str, Any]]) -> None:
    """Drop the logins of all layers weaker than the first that has a whole one, so that two never mix."""
    found = False
    for layer in layers:
        section = layer.get("cloudflare")
        if not isinstance(section, dict):
            continue
        has_token = bool(section.get("api_token_file") or section.get("api_token"))
        has_key = bool(section.get("email") and section.get("api_key"))
        for key in _LOGIN if found else ("email", "api_key") if has_token else ():
            section.pop(key, None)
        found = found or has_token or has_key


def _default_state_dir(environ: Mapping[str, str]) -> Path | None:
    if environ.get("STATE_DIRECTORY"):
        # systemd separates several with colons; the first is ours.
        return Path(environ["STATE_DIRECTORY"].split(":")[0])
    if environ.get("XDG_STATE_HOME"):
        return Path(environ["XDG_STATE_HOME"]) / "syncd"
    home = config_sources.home()
    return home / ".local" / "state" / "syncd" if home else None


def _with_absolute_paths(config: Config, base: Path) -> Config:
    """Paths in the config are relative to the file's own directory."""

    def absolute(path: Path) -> Path:
        return Path(os.path.normpath(base / path))

    mirrors = {
        name: mirror.model_copy(update={"path": absolute(mirror.path)}) for name, mirror in config.mirrors.items()
    }
    token_file = config.cloudflare.api_token_file
    cloudflare = config.cloudflare.model_copy(update={"api_token_file": absolute(token_file) if token_file else None})
    return config.model_copy(
        update={"mirrors": mirrors, "cloudflare": cloudflare, "state_dir": absolute(config.state_dir)}
    )
