"""Where a key of the config stands: the line of the file, or the environment variable. For error messages only."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PREFIX = "SYNCD_"
CLOUDFLARE_VARIABLES: Mapping[str, str] = {
    "CLOUDFLARE_API_TOKEN": "api_token",
    "CLOUDFLARE_ACCOUNT_ID": "account_id",
    "CLOUDFLARE_EMAIL": "email",
    "CLOUDFLARE_API_KEY": "api_key",
    "CLOUDFLARE_API_BASE_URL": "base_url",
}
"""Variables of Cloudflare's own tools, and the keys of [cloudflare] that they set."""
_EFFORT = 5_000_000
"""Characters that are parsed at most. Our own limit; an array of many lines is parsed once for each line."""

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """The place of one key. key: the key that stands there, which for a value of [defaults] is the one in [defaults].

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
        return KeyPlace(key, str(self.path))

    def _variable(self, key: KeyPath) -> str | None:
        wanted = f"{PREFIX}{'__'.join(key)}".upper()
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
            values = tomllib.loads(statement)
        except (ValueError, RecursionError):
            continue
        if statement.lstrip().startswith("["):
            table = max(_paths(values), key=len, default=())
            inside: Sequence[KeyPath] = [()]
        else:
            inside = list(_paths(values))
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
