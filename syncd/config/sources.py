"""The sources of the config: environment, systemd credential, TOML file. `load` merges and validates them."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource, InitSettingsSource

from syncd.config.checks import (
    CREDENTIAL,
    check_mirrors,
    describe,
    mirror_fault,
    no_mirror_fault,
    refuse_writable,
    variable_faults,
)
from syncd.config.file import (
    CLOUDFLARE_VARIABLES,
    PREFIX,
    KeyPlaces,
    config_path,
    file_values,
    home,
    key_lines,
    text_of,
)
from syncd.config.schema import Config, permissions
from syncd.config.values import local_path
from syncd.core.errors import ConfigError, ConfigFaults, shortage
from syncd.core.keys import from_os
from syncd.core.plain_text import decode

_LOGIN = ("api_token", "api_token_file", "email", "api_key")
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
"""The variable with the directory of the credentials that systemd gives to a service."""


def load(flag: Path | None = None, environ: Mapping[str, str] | None = None, *, account_only: bool = False) -> Config:
    """Read the config. flag: the path given with --config. account_only: accept a config without a mirror.

    The sources are, strongest first: environment, systemd credential, file, default state directory.
    Raises ConfigError with a line for each fault, which names the place, the key and the remedy, never a secret.
    """
    environ = os.environ if environ is None else environ
    path = config_path(flag, environ)
    values = file_values(path.absolute())
    has_secret = holds_secret(values)
    if has_secret:
        refuse_writable(path, f"{path}: cloudflare")
    faults = variable_faults(environ)
    found = _EnvironmentSource(environ)(), _credential_values(environ), values, _default_values(environ)
    no_mirror = not (account_only or any(source.get("mirrors") for source in found))
    missing = [no_mirror_fault(_places(path, environ))] if no_mirror else []
    try:
        config = Config(sources=[InitSettingsSource(Config, values) for values in _with_one_login(found)])  # type: ignore[call-arg]
    except ValidationError as error:
        raise ConfigFaults([*faults, *describe(error, _places(path, environ)), *missing]) from None
    faults += missing
    base = path.absolute().parent
    config = _with_absolute_paths(config, base)
    if conflicting := list(check_mirrors(config, [*_token_files(found, base), *([path] if has_secret else [])])):
        places = _places(path, environ)
        faults += [mirror_fault(places, name, fault) for name, fault in conflicting]
    if faults:
        raise ConfigFaults(faults)
    return config


def _places(path: Path, environ: Mapping[str, str]) -> KeyPlaces:
    """Return the places of the keys in the sources. Reads the file again, because only an error needs the places."""
    try:
        return KeyPlaces(path, key_lines(text_of(path)), environ)
    except ConfigError:
        return KeyPlaces(path, {}, environ)


def _with_absolute_paths(config: Config, base: Path) -> Config:
    """Resolve relative paths against the directory of the config file."""

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


def _token_files(sources: Iterable[dict[str, Any]], base: Path) -> Iterator[Path]:
    """Yield the token file of each source, also one that is not read because a stronger source has a login."""
    for values in sources:
        section = values.get("cloudflare")
        file = section.get("api_token_file") if isinstance(section, dict) else None
        if file and isinstance(file, str):
            with contextlib.suppress(ValueError):
                yield Path(os.path.normpath(base / local_path(Path(file))))


# -- the sources


class _EnvironmentSource(EnvSettingsSource):
    """SYNCD_* variables, and Cloudflare's own variables below them. An empty Cloudflare variable counts as unset."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(Config, case_sensitive=False, env_prefix=PREFIX, env_nested_delimiter="__")
        cloudflare = {
            f"{PREFIX}CLOUDFLARE__{key}": environ[variable]
            for variable, key in CLOUDFLARE_VARIABLES.items()
            if environ.get(variable)
        }
        ours = {variable: text for variable, text in environ.items() if variable.startswith(PREFIX)}
        self.env_vars = {
            variable.lower(): from_os(text) for names in (cloudflare, ours) for variable, text in names.items()
        }

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Decode a JSON list or object. Any other text is left to the schema."""
        del field_name, field
        if value.startswith(("[", "{")):
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(value)
        return value


def _with_one_login(sources: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the values of each source, the strongest first, with one login in all of them.

    A login is a token, or an e-mail address with a key. If a stronger source has a complete login, the login of a
    weaker source is left out, so that two logins never mix.
    """
    stronger: dict[str, Any] = {}
    for values in sources:
        section = values.get("cloudflare")
        if not isinstance(section, dict):
            yield values
            continue
        dropped: tuple[str, ...] = ("email", "api_key") if _has_token(section) else ()
        if _has_token(stronger) or _has_key(stronger):
            dropped = _LOGIN
        kept = {key: value for key, value in section.items() if key not in dropped}
        stronger = kept | stronger
        yield values | {"cloudflare": kept}


def _has_token(section: Mapping[str, Any]) -> bool:
    return bool(section.get("api_token_file") or section.get("api_token"))


def _has_key(section: Mapping[str, Any]) -> bool:
    return bool(section.get("email") and section.get("api_key"))


def _credential_values(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the token file that systemd's LoadCredential put into $CREDENTIALS_DIRECTORY, if there is one."""
    directory = environ.get(CREDENTIALS_DIRECTORY)
    path = Path(directory or "") / CREDENTIAL
    if not directory or not path.is_file():
        return {}
    read_secret(path, f"credential {CREDENTIAL}")
    # The value is the path and not the token, so that the file is read again when it changes.
    return {"cloudflare": {"api_token_file": str(path)}}


def _default_values(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the defaults that depend on the environment: the state directory, and no mirrors."""
    at_home = home()
    if environ.get("STATE_DIRECTORY"):
        # systemd separates several directories with colons. The first one is the state directory.
        path = Path(environ["STATE_DIRECTORY"].split(":")[0])
    elif environ.get("XDG_STATE_HOME"):
        path = Path(environ["XDG_STATE_HOME"]) / "syncd"
    elif at_home:
        path = at_home / ".local" / "state" / "syncd"
    else:
        return {"mirrors": {}}
    return {"state_dir": from_os(str(path)), "mirrors": {}}


# -- secrets


def login(config: Config) -> tuple[str, str | None]:
    """Return (API token, None) or (global API key, e-mail address). Raises ConfigError if there is neither.

    The token file is read at every call.
    """
    section = config.cloudflare
    if section.api_token_file:
        return read_secret(section.api_token_file, "cloudflare.api_token_file"), None
    if section.api_token and section.api_token.get_secret_value().strip():
        return section.api_token.get_secret_value().strip(), None
    if section.api_key and section.email:
        return section.api_key.get_secret_value(), section.email
    raise ConfigError(
        "no API token: set CLOUDFLARE_API_TOKEN, or cloudflare.api_token_file to a file that holds it"
        f" (needed: {permissions(config)})"
    )


def secrets(config: Config) -> list[str]:
    """Return every token and key of the config, which must never be printed."""
    section = config.cloudflare
    given = (section.api_token, section.api_key, config.notify.webhook, *config.notify.urls)
    found = [secret.get_secret_value().strip() for secret in given if secret]
    if section.api_token_file:
        with contextlib.suppress(ConfigError):
            found.append(read_secret(section.api_token_file, "cloudflare.api_token_file"))
    return [secret for secret in found if secret]


def read_secret(path: Path, name: str) -> str:
    """Read a secret of one line. Raises ConfigError, which names the key and not the path: the path may be a token."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            # A pipe is empty at the second reading, and a device may have no end.
            raise ConfigError(f"{name}: should name a regular file, because the file is read again and again")
        secret = decode(path.read_bytes()).strip()
    except ValueError:
        raise ConfigError(f"{name}: the file is not text; it should hold the token alone") from None
    except OSError as error:
        refused = ConfigError(f"{name}: {error.strerror}; it should name a file that syncd may read")
        raise shortage(error, name) or refused from None
    if not secret or any(char.isspace() for char in secret):
        raise ConfigError(f"{name}: the file should hold the token alone, on one line")
    refuse_writable(path, name)
    return secret


def holds_secret(values: Mapping[str, Any]) -> bool:
    """Return whether the config file contains a token or key."""
    section = values.get("cloudflare")
    return isinstance(section, dict) and bool(section.get("api_token") or section.get("api_key"))
