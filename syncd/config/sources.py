"""Where configuration comes from: the file, the environment, a systemd credential; and how to say what is wrong."""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from syncd.config.secret_files import CREDENTIAL, refuse_writable
from syncd.errors import ConfigError
from syncd.os_names import from_os, shown_path
from syncd.plain_text import decode

PREFIX = "SYNCD_"
CONFIG_VARIABLE = "SYNCD_CONFIG"
_SERVICE_LINK = re.compile(
    r"(^|_)(service_host|service_port(_[a-z0-9_]+)?|port(_[0-9]+_(tcp|udp|sctp)(_(proto|port|addr))?)?)$"
)
"""How the names end that Kubernetes makes of a service."""
_IPV6_AND_PORT = re.compile(r"\[[0-9A-Fa-f:.]+\]:\d+")
"""The one text that begins like a list and is none."""

CLOUDFLARE_VARIABLES: Mapping[str, str] = {
    "CLOUDFLARE_API_TOKEN": "api_token",
    "CLOUDFLARE_ACCOUNT_ID": "account_id",
    "CLOUDFLARE_EMAIL": "email",
    "CLOUDFLARE_API_KEY": "api_key",
    "CLOUDFLARE_API_BASE_URL": "base_url",
}


def config_path(flag: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the config file to read. Raises ConfigError if a named one is missing, or none is found."""
    named = flag or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    if named:
        if not os.path.isfile(named):  # noqa: PTH113 - says no, too, where we may not look
            if os.path.exists(named):  # noqa: PTH110 - the same
                raise ConfigError(
                    f"config file {shown_path(named)} is no regular file; name one with: syncd --config PATH"
                )
            if refused := _refusal(named):
                raise ConfigError(f"config file {shown_path(named)}: {refused}; let this user read it")
            raise ConfigError(
                f"config file {shown_path(named)} does not exist; make one with: syncd init PATH --target SPEC"
            )
        return named
    candidates = [Path("syncd.toml"), Path("/etc/syncd/config.toml")]
    if environ.get("XDG_CONFIG_HOME"):
        candidates.insert(1, Path(environ["XDG_CONFIG_HOME"]) / "syncd" / "config.toml")
    elif at_home := home():
        candidates.insert(1, at_home / ".config" / "syncd" / "config.toml")
    for candidate in candidates:
        if os.path.isfile(candidate):  # noqa: PTH113 - as above
            return candidate
    tried = ", ".join(map(str, candidates))
    raise ConfigError(f"no config file (tried {tried}); make one with: syncd init PATH --target SPEC")


def home() -> Path | None:
    """The user's home directory; None for a user who has none."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def _refusal(path: Path) -> str | None:
    """Return why the system does not say whether a file is there, None if it says so."""
    try:
        path.lstat()
    except PermissionError as error:
        return error.strerror
    except (OSError, ValueError):
        return None
    return None


def file_values(path: Path) -> dict[str, Any]:
    """Read the TOML file. Raises ConfigError naming the line that is not TOML."""
    try:
        text = decode(path.read_bytes()).replace("\r\n", "\n").replace("\r", "\n")
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; let syncd read it") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path} is not valid TOML: it is nested too deeply") from None
    except Exception as error:  # noqa: BLE001 - such as a number of 5,000 digits; its own words may quote a secret
        why = f"a value cannot be understood ({type(error).__name__}); look for a number that is too large"
        raise ConfigError(f"{path} is not valid TOML: {why}") from None


def environment_values(environ: Mapping[str, str], known: frozenset[str]) -> dict[str, Any]:
    """Turn SYNCD_A__B=x into {"a": {"b": x}}, and understand Cloudflare's own variables, which weigh less.

    known: every key there is, as its path with "__", with "*" for a mirror's name. A variable with another section, or
    one that resembles a key, is a ConfigError, so that a misspelt one is not silently ignored; see `strange`.
    """
    values: dict[str, Any] = {}
    for variable, key in CLOUDFLARE_VARIABLES.items():
        if environ.get(variable):
            values.setdefault("cloudflare", {})[key] = from_os(environ[variable])
    sections = {key.partition("__")[0] for key in known}
    for variable in _ours(environ):
        path = _name(variable).split("__")
        if path[0] not in sections:
            near = None if "__" in variable else _near(path[0], known)
            if near is None and "__" not in variable:
                continue
            meant = f"did you mean {PREFIX}{near.upper()}?" if near else ""
            meant = meant or f"use {PREFIX}<SECTION>__<KEY>, with section one of {', '.join(sorted(sections))}"
            raise ConfigError(f"environment variable {variable} names no config key; {meant}")
        _place(values, path, _decoded(variable, from_os(environ[variable])))
    return values


def strange(environ: Mapping[str, str], known: frozenset[str]) -> list[str]:
    """Variables that begin like ours and name nothing, such as Kubernetes sets for a service named syncd."""
    sections = {key.partition("__")[0] for key in known}
    names = ((variable, _name(variable)) for variable in _ours(environ))
    return [variable for variable, name in names if "__" not in variable and name not in sections]


def _ours(environ: Mapping[str, str]) -> list[str]:
    return [
        variable
        for variable in sorted(environ)
        if variable.startswith(PREFIX) and variable != CONFIG_VARIABLE and not variable.startswith("SYNCD_COMPLETE")
    ]


def _name(variable: str) -> str:
    return variable.removeprefix(PREFIX).lower()


def _near(name: str, known: frozenset[str]) -> str | None:
    """The key that a name without "__" may stand for: misspelt, with one underscore too few, or without its section."""
    if _SERVICE_LINK.search(name):
        return None
    if name.startswith(("mirrors_", "defaults_")) and name.endswith(
        tuple(f"_{key.rpartition('__')[2]}" for key in known if "*" in key)
    ):
        return "mirrors__<NAME>__<KEY>" if name.startswith("mirrors_") else "defaults__<KEY>"
    spelt = {key.replace("__", "_"): key for key in known if "*" not in key}
    spelt |= {key.rpartition("__")[2]: key for key in known if "*" not in key}
    close = difflib.get_close_matches(name, spelt, n=1, cutoff=0.8)
    return spelt[close[0]] if close else None


def credential_values(environ: Mapping[str, str]) -> dict[str, Any]:
    """The token that systemd's LoadCredential put into $CREDENTIALS_DIRECTORY, if it did."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return {}
    path = Path(directory) / CREDENTIAL
    if not path.is_file():
        return {}
    read_secret(path, f"credential {CREDENTIAL}")
    # As a file, so that it is read again when it changes.
    return {"cloudflare": {"api_token_file": str(path)}}


def read_secret(path: Path, name: str) -> str:
    """Read a one-line secret. Raises ConfigError naming the key; not the file, for a token may stand in its place."""
    try:
        secret = decode(path.read_bytes()).strip()
    except ValueError:
        raise ConfigError(f"{name}: the file is not text; it should hold the token alone") from None
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}; it should name a file that syncd may read") from None
    if not secret or any(char.isspace() for char in secret):
        raise ConfigError(f"{name}: the file should hold the token alone, on one line")
    refuse_writable(path, name)
    return secret


def _place(values: dict[str, Any], path: list[str], value: object) -> None:
    for part in path[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"environment: {PREFIX}{'__'.join(path).upper()} lies under a key that has a value")
    values[path[-1]] = value


def _decoded(variable: str, text: str) -> object:
    """Lists are written as JSON; everything else is text, which the config turns into what it needs."""
    if not text.startswith("[") or _IPV6_AND_PORT.fullmatch(text):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(f'environment variable {variable} is no JSON list; write it like \'["a", "b"]\'') from None


def holds_secret(values: Mapping[str, Any]) -> bool:
    """True if a token or key stands in the config file itself."""
    section = values.get("cloudflare")
    return isinstance(section, dict) and bool(section.get("api_token") or section.get("api_key"))


def process_environment() -> Mapping[str, str]:
    """The environment of this process."""
    return os.environ
