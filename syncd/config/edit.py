"""Changes keys of a mirror in the config file, one line each, and leaves every other byte as it is.

The edit is conservative. The result must parse to the old values with the wanted changes, else nothing is written and
the person changes the lines. So a construct that the line editor does not know cannot damage a config.
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
"""A value of one line that is no array and no table."""
Changes = Mapping[KeyPath, Any]
"""Key below the mirror -> new value: a text, a number or a truth value."""


def as_toml(value: object) -> str:
    """Return a text, a number or a truth value as TOML writes it."""
    return json.dumps(value, ensure_ascii=False)


def edited(text: str, mirror: str, changes: Changes) -> str | None:
    """Return the text of a config with changed keys of a mirror, None if the keys cannot be changed one line each."""
    try:
        wanted = tomllib.loads(text)
        for key, value in changes.items():
            whole = ("mirrors", mirror, *key)
            _set(wanted, whole, value)
            found = next((each for each in _candidates(text, whole, value) if _means(each, wanted)), None)
            if found is None:
                return None
            text = found
    except (ValueError, TypeError, RecursionError):
        return None
    return text


def _means(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except ValueError:
        return False


def _set(values: dict[str, Any], key: KeyPath, value: object) -> None:
    for part in key[:-1]:
        values = values.setdefault(part, {})
    values[key[-1]] = value


def _candidates(text: str, key: KeyPath, value: object) -> Iterator[str]:
    """Yield texts that may have the key changed. A key that is not there is added below another one of its table."""
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


def described(mirror: str, changes: Changes) -> Sequence[str]:
    """Return the lines that a person changes."""
    return [f"mirrors.{mirror}.{'.'.join(key)} = {as_toml(value)}" for key, value in changes.items()]


def change_config(path: Path, mirror: str, changes: Changes, check: Callable[[Path], None]) -> None:
    """Change keys of a mirror in the config file, in one step, and keep its mode and owner.

    check: reads the changed file before it takes the place of the old one, and raises ConfigError if it cannot be used.
    Raises ConfigError that names the lines to change if the file cannot be changed.
    """
    lines = "; ".join(described(mirror, changes))
    by_hand = f"change the config yourself: {lines}; then: syncd reload"
    # A link stays a link: the file that it leads to is changed.
    real = Path(os.path.realpath(path))
    try:
        old = real.read_bytes()
        text = edited(old.decode("utf-8"), mirror, changes) if b"\r" not in old else None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; {by_hand}") from None
    except UnicodeDecodeError:
        text = None
    if text is None:
        raise ConfigError(f"{path}: the lines cannot be changed by a program without a risk; {by_hand}")
    try:
        replace_file(real, text.encode(), check)
    except OSError as error:
        raise ConfigError(f"{path} cannot be replaced ({error.strerror}); {by_hand}") from None
