"""The config file: where it lies, and its values. Imports nothing heavy, so that the completion of a shell is quick."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from syncd.core.errors import ConfigError
from syncd.core.keys import shown_path
from syncd.core.plain_text import decode

CONFIG_VARIABLE = "SYNCD_CONFIG"
MCP_TOKEN_VARIABLE = "SYNCD_MCP_TOKEN"  # noqa: S105 - the name of a variable
"""The variable with the token that clients of `syncd mcp --http` send."""
MIRROR_VARIABLES = "SYNCD_MIRRORS__"
"""The beginning of the variables that define mirrors."""


def config_path(flag: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the config file. Raises ConfigError if the named file is missing, or if none is found.

    If none is found but the environment defines a mirror, the environment is the config. Then this returns the first
    place.
    """
    named = flag or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    if named:
        if not os.path.isfile(named):  # noqa: PTH113 - without permission this returns False
            if os.path.exists(named):  # noqa: PTH110 - the same
                kind = "a directory" if os.path.isdir(named) else "no regular file"  # noqa: PTH112 - the same
                raise ConfigError(
                    f"config file {shown_path(named)} is {kind}; name the file, such as: syncd --config syncd.toml"
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
    if any(name.upper().startswith(MIRROR_VARIABLES) for name in environ):
        return candidates[0]
    tried = ", ".join(map(str, candidates))
    raise ConfigError(f"no config file (tried {tried}); make one with: syncd init PATH --target SPEC")


def _refusal(path: Path) -> str | None:
    """Return the reason why this user cannot find out whether a file exists, None if the user can."""
    try:
        path.lstat()
    except PermissionError as error:
        return error.strerror
    except (OSError, ValueError):
        return None
    return None


def home() -> Path | None:
    """Return the user's home directory, or None if there is none."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def at_home(path: Path) -> Path:
    """Return a path with "~" as the home directory. A name such as "~draft.md" that names no user stays as it is."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def file_values(path: Path) -> dict[str, Any]:
    """Read the TOML file, if there is one. Raises ConfigError that names the line of a syntax error."""
    if not os.path.lexists(path):
        return {}
    text = text_of(path)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        from syncd.config.toml_faults import explain_toml

        line, why = explain_toml(text, str(error))
        raise ConfigError(f"{path}:{line} is not valid TOML: {why}") from None
    except RecursionError:
        raise ConfigError(f"{path} is not valid TOML: it is nested too deeply") from None
    except Exception as error:  # noqa: BLE001 - such as a number of 5,000 digits; its text may quote a secret
        why = f"a value cannot be understood ({type(error).__name__}); look for a number that is too large"
        raise ConfigError(f"{path} is not valid TOML: {why}") from None


def text_of(path: Path) -> str:
    """Read a file in any Unicode encoding. Raises ConfigError."""
    try:
        return decode(path.read_bytes()).replace("\r\n", "\n").replace("\r", "\n")
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; let syncd read it") from None
