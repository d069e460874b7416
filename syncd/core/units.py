"""Durations, sizes and counts as people write them: `90`, `500ms`, `1h`; `4096`, `4MiB`, `10MB`; `1 file`.

A plain number is seconds or bytes.
"""

import re

_NUMBER = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([A-Za-z]*)")
SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""The units of a duration, in seconds."""
_POWERS = {letter: number for number, letter in enumerate("kmgt", 1)}
BYTES: dict[str, int] = (
    {"": 1, "b": 1}
    | {f"{letter}b": 1000**power for letter, power in _POWERS.items()}
    | {f"{letter}ib": 1024**power for letter, power in _POWERS.items()}
)
"""The units of a size, in bytes and lower case: kB and MB are decimal, KiB and MiB binary."""
DURATION_FORM = 'should be a number of seconds, or a duration such as "500ms", "30s", "5m", "1h" or "1d"'
SIZE_FORM = 'should be a number of bytes, or a size such as "4MiB" or "10MB"'


def parse_duration(text: str) -> float:
    """Return a duration in seconds. Raises ValueError for an invalid text."""
    found = _NUMBER.fullmatch(text.strip())
    unit = SECONDS.get(found[2]) if found else None
    if found is None or unit is None:
        raise ValueError(DURATION_FORM)
    # Division by 1000, because 500 * 0.001 is not exact for every number.
    return float(found[1]) / 1000 if found[2] == "ms" else float(found[1]) * unit


def parse_size(text: str) -> int:
    """Return a size in bytes. Raises ValueError for an invalid text, or for a part of a byte."""
    found = _NUMBER.fullmatch(text.strip())
    unit = BYTES.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise ValueError(SIZE_FORM)
    whole, _, fraction = found[1].partition(".")
    number, rest = divmod(int(whole + fraction) * unit, int(10 ** len(fraction)))
    if rest:
        raise ValueError(SIZE_FORM)
    return number


def seconds(value: object) -> object:
    """Return the seconds of a text that ends in a unit. Any other value is left to the schema. Raises ValueError."""
    return parse_duration(value) if isinstance(value, str) and value[-1:].isalpha() else value


def size(value: object) -> object:
    """Return the bytes of a text that ends in a unit. Any other value is left to the schema. Raises ValueError."""
    return parse_size(value) if isinstance(value, str) and value[-1:].isalpha() else value


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: "1 request", "2 keys", "2 entries", "2 searches"."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y") and not noun.endswith(("ay", "ey", "oy", "uy")):
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun}{'es' if noun.endswith(('ch', 'sh', 's', 'x')) else 's'}"
