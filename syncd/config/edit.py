"""Changes keys of a mirror in the config file, one line each, and leaves every other byte as it is.

The changed text must parse to the old values with the wanted changes. Otherwise nothing is written, and an error names
the lines that the person must change. So a TOML construct that the line editor does not know cannot damage a config.
"""

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from syncd.config.file import KeyPath, key_lines, replace_file
from syncd.core.errors import ConfigError

_VALUE = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|[^\s#,{}\[\]"\']+')
"""A value on one line, except an array or a table."""
Changes = Mapping[KeyPath, Any]
"""Key below the mirror -> new value: a text, a number or a truth value."""


def as_toml(value: object) -> str:
    """Return the TOML notation of a text, a number or a truth value."""
    return json.dumps(value, ensure_ascii=False)


def edited(text: str, mirror: str, changes: Changes) -> str | None:
    """Return the text of a config with changed keys of a mirror, None if the keys cannot be changed one line each."""
    try:
        wanted = tomllib.loads(text)
        for key, value in changes.items():
            whole = ("mirrors", mirror, *key)
            _set(wanted, whole, value)
            found = next((new for new in _candidates(text, whole, value) if _has_values(new, wanted)), None)
            if found is None:
                return None
            text = found
    except (ValueError, TypeError, RecursionError):
        return None
    return text


def _has_values(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except ValueError:
        return False


def _set(values: dict[str, Any], key: KeyPath, value: object) -> None:
    for part in key[:-1]:
        values = values.setdefault(part, {})
    values[key[-1]] = value


def _candidates(text: str, key: KeyPath, value: object) -> Iterator[str]:
    """Yield candidates for the changed text. A missing key is added below another key of its table, or of one above."""
    lines = text.split("\n")
    places = key_lines(text)
    if key in places:
        number = places[key] - 1
        name = re.escape(key[-1])
        for found in re.finditer(rf"(?<![\w-])(?:{name}|\"{name}\"|'{name}')\s*=\s*", lines[number]):
            if old := _VALUE.match(lines[number], found.end()):
                line = f"{lines[number][: old.start()]}{as_toml(value)}{lines[number][old.end() :]}"
                yield "\n".join([*lines[:number], line, *lines[number + 1 :]])
        return
    for length in range(len(key) - 1, 1, -1):
        written = f"{'.'.join(key[length:])} = {as_toml(value)}"
        for at in sorted({line for known, line in places.items() if known[:-1] == key[:length]}):
            indent = lines[at - 1][: len(lines[at - 1]) - len(lines[at - 1].lstrip())]
            yield "\n".join([*lines[:at], f"{indent}{written}", *lines[at:]])


def changed_lines(mirror: str, changes: Changes) -> Sequence[str]:
    """Return the lines with which a person makes the changes by hand."""
    return [f"mirrors.{mirror}.{'.'.join(key)} = {as_toml(value)}" for key, value in changes.items()]


def change_config(path: Path, mirror: str, changes: Changes, check: Callable[[Path], None]) -> None:
    """Change keys of a mirror in the config file atomically, and keep the mode and the owner of the file.

    check: reads the changed file before it replaces the old one, and raises ConfigError if the config has a fault.
    Raises ConfigError that names the lines to change if the file cannot be changed.
    """
    lines = "; ".join(changed_lines(mirror, changes))
    by_hand = f"change the config yourself: {lines}; then: syncd reload"
    # A symbolic link is kept, and its target is changed.
    real = Path(os.path.realpath(path))
    try:
        old = real.read_bytes()
        text = edited(old.decode("utf-8"), mirror, changes) if b"\r" not in old else None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; {by_hand}") from None
    except UnicodeDecodeError:
        text = None
    if text is None:
        raise ConfigError(f"{path}: syncd cannot change its lines safely; {by_hand}")
    try:
        replace_file(real, text.encode(), check)
    except OSError as error:
        raise ConfigError(f"{path} cannot be replaced ({error.strerror}); {by_hand}") from None
