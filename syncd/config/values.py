"""The kinds of values in the config, such as durations, sizes and patterns. Makes no I/O."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from syncd.core.budget import parse_quota
from syncd.core.globs import BadPattern, parse
from syncd.core.key_digests import Shard
from syncd.core.keys import to_os
from syncd.core.units import seconds, size


def local_path(value: Path) -> Path:
    """Return a path of this machine, with "~" as the home directory. Raises ValueError."""
    if "\0" in str(value):
        raise ValueError("should be a path without NUL characters")
    try:
        return Path(to_os(str(value))).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~ of a user without a home directory; write the whole path") from None


def patterns(value: list[str]) -> list[str]:
    """Return gitignore-style patterns. Raises ValueError for an invalid pattern."""
    for number, pattern in enumerate(value, 1):
        try:
            parse(number, pattern)
        except BadPattern as error:
            raise ValueError(f"pattern {number} is no gitignore-style pattern: {error.why}") from None
    return value


def max_delete(value: object) -> object:
    """Return a number of entries or a percentage. Raises ValueError."""
    text = str(value)
    if re.fullmatch(r"\d+", text):
        return int(text)
    if re.fullmatch(r"\d+(\.\d+)?%", text) and float(text[:-1]) <= 100:
        return text
    raise ValueError('should be a number of entries, such as 50, or a percentage, such as "25%"')


def quota(value: str) -> str:
    """Return the text of a quota. Raises ValueError."""
    parse_quota(value)
    return value


def shard(value: str) -> str:
    """Return the text of a shard. Raises ValueError."""
    Shard.parse(value)
    return value


LocalPath = Annotated[Path, AfterValidator(local_path)]
Patterns = Annotated[list[str], AfterValidator(patterns)]
MaxDelete = Annotated[int | str, BeforeValidator(max_delete)]
QuotaText = Annotated[str, AfterValidator(quota)]
ShardText = Annotated[str, AfterValidator(shard)]
Duration = Annotated[float, BeforeValidator(seconds), Field(allow_inf_nan=False)]
"""Seconds, as a number or a text such as "5m"."""
Seconds = Annotated[Duration, Field(ge=0)]
Size = Annotated[int, BeforeValidator(size), Field(ge=1)]
"""Bytes, as a number or a text such as "4MiB"."""
AccountId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
