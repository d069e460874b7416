"""The config file: its path, its values, its syntax errors, and the line of each key for error messages.

This module imports nothing heavy, so that the completion of a shell is quick.
"""

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syncd.core.errors import ConfigError, shortage
from syncd.core.keys import shown_path
from syncd.core.plain_text import decode

CONFIG_VARIABLE = "SYNCD_CONFIG"
MCP_TOKEN_VARIABLE = "SYNCD_MCP_TOKEN"  # noqa: S105 - the name of a variable
"""The variable with the token that clients of `syncd mcp --http` send."""
PREFIX = "SYNCD_"
"""The beginning of the variables that set keys of the config."""
MIRROR_VARIABLES = f"{PREFIX}MIRRORS__"
CLOUDFLARE_VARIABLES: Mapping[str, str] = {
    "CLOUDFLARE_API_TOKEN": "api_token",
    "CLOUDFLARE_ACCOUNT_ID": "account_id",
    "CLOUDFLARE_EMAIL": "email",
    "CLOUDFLARE_API_KEY": "api_key",
    "CLOUDFLARE_API_BASE_URL": "base_url",
}
"""Variables of Cloudflare's own tools, and the keys of [cloudflare] that they set."""
_EFFORT = 5_000_000
"""Maximum characters that are parsed (our own limit). An array of many lines is parsed once for each line."""

_EXPLAINED = (
    ("Cannot overwrite", "the name stands here a second time; keep one of the two"),
    ("Cannot mutate", "the name stands here a second time; keep one of the two"),
    ("Invalid value", 'a text needs straight quotes, such as "docs" or "30s"; true and false are lower case'),
    ("Expected newline", "one value, and no more: a text in quotes, such as \"30s\", or in '…' if it holds a quote"),
    ("Invalid hex value", "a text with a backslash stands in '…', in place of \"…\""),
    ("Unescaped", "a text with a backslash stands in '…', in place of \"…\""),
    ("Illegal character '\\n'", 'the text has no closing "'),
    ("Illegal character", "a control character stands in the text; write the text again"),
    ("Expected '='", "a line is written key = value"),
    ("Expected ']' at the end of a table", "a heading is [mirrors.NAME], in square brackets and without spaces"),
    ("Invalid statement", "a line is written key = value, or a [heading], or a comment after #"),
    ("Unclosed array", 'a list is ["a", "b"], with commas and a closing ]'),
    ("Unclosed inline table", 'a table is { a = "b" }, on one line and with a closing }'),
    ("Invalid initial character for a key", 'a key is letters, digits, - and _; a table { a = "b" } has one line'),
)
"""The beginning of a message of tomllib, and an explanation with the remedy."""


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
    if any(f"{name.upper()}__".startswith(MIRROR_VARIABLES) for name in environ):
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
        line, why = _explain_toml(text, str(error))
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
        raise shortage(error, str(path)) or ConfigError(f"{path}: {error.strerror}; let syncd read it") from None


def replace_file(path: Path, data: bytes, check: Callable[[Path], None] = lambda _: None) -> None:
    """Replace a file in one step, so that no reader sees half of it. It keeps its mode and owner. It may be new.

    check: reads the new file before it takes the place of the old one.
    """
    old = path.stat() if path.exists() else None
    # The name is fixed, so that the next command removes the file of a killed one.
    new = path.with_name(f".{path.name}.syncd-new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600 if old else 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if old:
                os.fchmod(file.fileno(), old.st_mode & 0o7777)
            if old and (os.geteuid(), os.getegid()) != (old.st_uid, old.st_gid):
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
            file.flush()
            os.fsync(file.fileno())
        check(new)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _explain_toml(text: str, message: str) -> tuple[int, str]:
    """Return the line of a syntax error, and an explanation that quotes no value. message: of tomllib."""
    place = re.search(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)$", message)
    lines = text.rstrip().split("\n")
    line = int(place[1]) if place and place[1] else len(lines)
    cause = message[: place.start()] if place else message
    if table := re.match(r"Cannot declare \((.*)\) twice", cause):
        name = ".".join(part.strip(" '\"") for part in table[1].split(",") if part.strip())
        return line, f"the section [{name}] stands here a second time; put all its keys under one heading"
    known = next((why for begin, why in _EXPLAINED if cause.startswith(begin)), cause)
    key = re.match(r"\s*([a-z_]{2,24})\s*[=:]", lines[line - 1]) if line <= len(lines) else None
    return line, f"{key[1]}: {known}" if key else known


# -- the places of keys, for error messages

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """The place of one key. key: the key that stands there. For a value of [defaults], this is the key in [defaults].

    line: 0 if it is not known. where: the beginning of an error message.
    """

    key: KeyPath
    where: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class KeyPlaces:
    """The places of all keys. lines: {key: line} of the file. environ: the environment, which wins over the file."""

    path: Path
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)

    def of(self, key: KeyPath) -> KeyPlace:
        """Return the place of a key, or of the nearest table around it."""
        for length in range(len(key), 0, -1):
            around = key[:length]
            of_defaults = ("defaults", *around[2:]) if around[0] == "mirrors" and length > 2 else around
            for candidate in (around, of_defaults):
                named = key if length < len(key) else candidate
                if variable := self._variable(candidate):
                    return KeyPlace(named, f"environment variable {variable}")
                if line := self.lines.get(candidate):
                    return KeyPlace(named, f"{self.path}:{line}", line)
            # The table may be there only because of a variable for one of its keys.
            if length > 1 and (variable := self._variable(around, below=True)):
                return KeyPlace(key, f"environment variable {variable}")
        return KeyPlace(key, str(self.path))

    def _variable(self, key: KeyPath, *, below: bool = False) -> str | None:
        """Return the variable that sets a key. below: the first one that sets a key of this table."""
        wanted = f"{PREFIX}{'__'.join(key)}".upper()
        if below:
            return next((name for name in sorted(self.environ) if name.upper().startswith(f"{wanted}__")), None)
        if found := next((name for name in self.environ if name.upper() == wanted), None):
            return found
        ours = (name for name, option in CLOUDFLARE_VARIABLES.items() if key == ("cloudflare", option))
        return next((name for name in ours if self.environ.get(name)), None)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return {key: line} of a valid TOML text with LF line ends. A statement of several lines has its first line.

    The statements are found by the parser itself: lines are joined until it accepts them.
    """
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    statement, begin, effort = "", 1, 0
    for number, line in enumerate(text.split("\n"), 1):
        statement = f"{statement}\n{line}" if statement else line
        begin = begin if "\n" in statement else number
        effort += len(statement)
        if effort > _EFFORT:
            break
        try:
            inside = list(_paths(tomllib.loads(statement)))
        except (ValueError, RecursionError):
            continue
        if statement.lstrip().startswith("["):
            table = max(inside, key=len, default=())
            inside = [()]
        for key in inside:
            whole = (*table, *key)
            for length in range(1, len(whole) + 1):
                found.setdefault(whole[:length], begin)
        statement = ""
    return found


def _paths(values: Mapping[str, Any]) -> Iterator[KeyPath]:
    """Yield the path of each key in nested tables. In a list of tables, only the first one counts."""
    for key, value in values.items():
        yield (key,)
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict):
            yield from ((key, *path) for path in _paths(inner))
