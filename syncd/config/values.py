"""The kinds of values in the config, such as durations, sizes, patterns and addresses. Performs no I/O."""

import re
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, StringConstraints

from syncd.core.globs import BadPattern, parse
from syncd.core.keys import to_os
from syncd.core.names import Shard
from syncd.core.requests import is_loopback, parse_quota

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


def no_truth(value: object) -> object:
    """Return a truth value as text, which is no number, because pydantic takes `true` for 1."""
    return str(value).lower() if isinstance(value, bool) else value


def seconds(value: object) -> object:
    """Return the seconds of a text with a unit. Any other value is left to the schema. Raises ValueError."""
    return _with_unit(no_truth(value), float, parse_duration)


def size(value: object) -> object:
    """Return the bytes of a text with a unit. Any other value is left to the schema. Raises ValueError."""
    return _with_unit(no_truth(value), int, parse_size)


def _with_unit(value: object, plain: Callable[[str], float], parse: Callable[[str], float]) -> object:
    """Return the number of a text that is no plain number."""
    if isinstance(value, str):
        try:
            plain(value)
        except ValueError:
            return parse(value)
    return value


_LISTEN = (
    'should be a loopback address and a port, such as "127.0.0.1:8385", "[::1]:8385" or "localhost:8385";'
    " for access from another machine, use ssh -L or a proxy with a password"
)
_METRICS_LISTEN = 'should be an IP address and a port, such as "0.0.0.0:9385", "[::]:9385" or "127.0.0.1:9385"'
_WEBHOOK = "should be an https:// address; plain http is allowed for loopback only"


def given(value: object) -> object:
    """Return a path as it is given. Raises ValueError for an empty text, which would be the directory of the config."""
    if value == "":
        raise ValueError("should be a path, not an empty text")
    return value


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


def text_for(parse: Callable[[str], object]) -> AfterValidator:
    """Return the validator of a text that `parse` understands, or that is empty. It raises ValueError."""

    def check(value: str) -> str:
        if value:
            parse(value)
        return value

    return AfterValidator(check)


# -- addresses


def listen_address(text: str) -> tuple[str, int]:
    """Return (address to bind, port) of a `web.listen`. Port 0 binds a free port. Raises ValueError."""
    return _address(text, _loopback, _LISTEN)


def metrics_address(text: str) -> tuple[str, int]:
    """Return (address to bind, port) of a `web.metrics_listen`. Any address is allowed. Raises ValueError."""
    return _address(text, lambda host: str(ip_address(host)), _METRICS_LISTEN)


def _address(text: str, bound: Callable[[str], str], fault: str) -> tuple[str, int]:
    """Return (address to bind, port). bound: returns the address of a host. Raises ValueError with the fault."""
    try:
        url = urlsplit(f"//{text}")
        host, port = bound(url.hostname or ""), url.port
    except ValueError:
        raise ValueError(fault) from None
    if port is None or url.netloc != text or "@" in text:
        raise ValueError(fault)
    return host, port


def _loopback(host: str) -> str:
    if not is_loopback(host):
        raise ValueError(host)
    return "127.0.0.1" if host == "localhost" else host


def check_webhook(value: SecretStr) -> SecretStr:
    """Return the address of a webhook. Raises ValueError."""
    text = value.get_secret_value()
    if not text:
        return value
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError(_WEBHOOK) from None
    if not host or url.scheme not in ("http", "https") or (url.scheme == "http" and not is_loopback(host)):
        raise ValueError(_WEBHOOK)
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("should contain only ASCII characters and no spaces")
    return value


def check_apprise_url(value: SecretStr) -> SecretStr:
    """Return an address of apprise. Raises ValueError."""
    if not re.match(r"[a-zA-Z0-9]+://", value.get_secret_value()):
        raise ValueError("should be an address of apprise, such as mailtos://…, ntfys://… or pagerduty://…")
    return value


LocalPath = Annotated[Path, BeforeValidator(given), AfterValidator(local_path)]
Patterns = Annotated[list[str], AfterValidator(patterns)]
MaxDelete = Annotated[int | str, BeforeValidator(max_delete)]
QuotaText = Annotated[str, text_for(parse_quota)]
ShardText = Annotated[str, text_for(Shard.parse)]
WholeNumber = Annotated[int, BeforeValidator(no_truth)]
Number = Annotated[float, BeforeValidator(no_truth)]
Duration = Annotated[float, BeforeValidator(seconds), Field(allow_inf_nan=False)]
"""Seconds, as a number or a text such as "5m"."""
Seconds = Annotated[Duration, Field(ge=0)]
Size = Annotated[int, BeforeValidator(size), Field(ge=1)]
"""Bytes, as a number or a text such as "4MiB"."""
AccountId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
ListenAddress = Annotated[str, text_for(listen_address)]
MetricsAddress = Annotated[str, text_for(metrics_address)]
Webhook = Annotated[SecretStr, AfterValidator(check_webhook)]
AppriseUrl = Annotated[SecretStr, AfterValidator(check_apprise_url)]
