"""Text that people write and read.

It is decoded from UTF-8, UTF-16 or UTF-32, and printed without secrets and without characters that forge a line or move
the cursor. Times, sizes and counts have one format.

Every command imports this module, so it imports little.
"""

import base64
import codecs
import traceback
import unicodedata
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

HIDDEN = "[hidden]"
LEAST_SECRET = 8
"""Minimum characters of a secret that is removed from texts. A shorter secret, such as "x", occurs in other words too.

The tokens of Cloudflare have 40 characters or more, its global keys 37.
"""
_CONTROLS = bytes(set(range(1, 32)) - set(b"\t\n\f\r\x1b"))
"""The control characters that text does not contain, except NUL."""
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    # UTF-32-LE stands before UTF-16-LE, because the UTF-16-LE mark is the start of the UTF-32-LE mark.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks and their encodings."""
_secrets: list[str] = []


def add_secrets(secrets: Collection[str]) -> None:
    """Add secrets that `redact` and `redact_text` remove, unless they are too short. Earlier secrets stay."""
    _secrets.extend(form for secret in secrets for form in encoded_forms(secret) if form not in _secrets)


def encoded_forms(secret: str) -> list[str]:
    """Return a secret in plain form, in URL encoding, and as a part of base64; [] for a secret that is too short."""
    if len(secret) < LEAST_SECRET:
        return []
    data = secret.encode("utf-8", "surrogatepass")
    inside = []
    for before in range(3):
        # The first and the last character may depend on the neighbouring bytes, so they are left out.
        whole = base64.b64encode(b"\0" * before + data).decode("ascii").rstrip("=")
        end = len(whole) - bool((before + len(data)) % 3)
        inside.append(whole[-(-before * 8 // 6) : end])
    return list(dict.fromkeys([secret, quote(secret, safe=""), *inside]))


def redact(value: Any) -> Any:
    """Return a value of any type without secrets. Tuples become lists."""
    if not _secrets:
        return value
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return redact_text(value)
        case dict():
            return {redact(key): redact(inner) for key, inner in value.items()}
        case list() | tuple():
            return [redact(inner) for inner in value]
        case _:
            # The log prints the representation of any other object.
            shown = repr(value)
            clean = redact_text(shown)
            return value if clean == shown else clean


def redact_text(text: str) -> str:
    """Return a text without secrets."""
    for secret in _secrets:
        text = text.replace(secret, HIDDEN)
    return text


def traceback_of(error: BaseException) -> str:
    """Return the traceback of a bug for stderr: without local variables and secrets, and indented."""
    return indented(redact_text("".join(traceback.format_exception(error)).rstrip("\n")))


def printable(text: str) -> str:
    """Return a text for a terminal: without secrets; control, format, surrogate and line end characters escaped."""
    text = redact_text(text)
    if text.isascii() and text.isprintable():
        return text
    # `encode` would import the codec from a file, which fails if no descriptor is left.
    return "".join(codecs.unicode_escape_encode(char)[0].decode() if _unsafe(char) else char for char in text)


def _unsafe(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] == "C" or category in ("Zl", "Zp")


def indented(trace: str) -> str:
    """Return a traceback with indented lines, so that no line looks like a line of the log."""
    return "\n".join("  " + printable(line) for line in trace.split("\n"))


def decode(data: bytes, *, errors: str = "strict") -> str:
    """Return the text of a file without its byte order mark. Raises ValueError with the fault and the remedy.

    errors: the error handler of bytes.decode for UTF-8.
    """
    mark, encoding = next(
        ((mark, name) for mark, name in BYTE_ORDER_MARKS if data.startswith(mark)), (b"", _unmarked(data))
    )
    try:
        text = data[len(mark) :].decode(encoding, errors if encoding == "utf-8" else "strict")
    except UnicodeDecodeError:
        # Without a mark, the encoding is a guess.
        name = encoding.removesuffix("-le").removesuffix("-be").upper() if mark else "UTF-8"
        raise ValueError(f"it is not {name} text; save it as UTF-8") from None
    if "\0" in text:
        raise ValueError("it holds NUL characters, so it is no text; save it as UTF-8")
    return text


def _unmarked(data: bytes) -> str:
    """Guess the encoding of data without a mark: ASCII in UTF-16 has a NUL after (LE) or before (BE) each character."""
    low, high = data[0::2].count(0), data[1::2].count(0)
    if low == high or len(data) % 2 or (max(low, high) < len(data) // 8 and _is_utf8(data)):
        return "utf-8"
    return "utf-16-le" if high > low else "utf-16-be"


def _is_utf8(data: bytes) -> bool:
    """Return whether data is UTF-8, apart from its NULs.

    In UTF-16 a letter of most alphabets has a NUL or a control character among its two bytes.
    """
    if len(data.translate(None, _CONTROLS)) < len(data):
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def truncated(text: str, length: int, max_bytes: int | None = None) -> str:
    """Return the start of a text, at most `length` characters and `max_bytes` bytes of UTF-8."""
    text = text[:length]
    if max_bytes is None or len(encoded := text.encode()) <= max_bytes:
        return text
    return encoded[:max_bytes].decode("utf-8", "ignore")


# -- times, sizes and counts

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def span(seconds: float) -> str:
    """Return a length of time for people: "7 s", "6 min", "3 h 20 min", "2 d 4 h"."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    # The time is rounded to the smallest unit that is printed, so that 59 min 40 s becomes 1 h.
    small = 3600 if whole >= 86400 else 60
    whole = round(whole / small) * small
    place = next(place for place, (unit, _) in enumerate(_UNITS) if whole >= unit)
    (unit, name), (below, below_name) = _UNITS[place], (*_UNITS, (1.0, "s"))[place + 1]
    rest = int(whole % unit // below)
    more = f" {rest} {below_name}" if rest and below_name != "s" else ""
    return f"{int(whole // unit)} {name}{more}"


def utc_time(moment: float, timespec: str = "seconds") -> str:
    """Return a time in UTC, such as "2026-11-22T10:00:00Z". moment: seconds since the epoch."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def shown_size(size: int) -> str:
    """Return a size in bytes in the units of Cloudflare's documentation, such as "5.2 MiB" or "4 MiB"."""
    for unit, scale in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size >= scale:
            return f"{size / scale:.1f}".removesuffix(".0") + f" {unit}"
    return f"{size} B"


def over_limit(size: int, limit: int) -> str:
    """Return the text for a size over a limit. Both are shown in bytes if they would look the same in larger units."""
    sizes = shown_size(size), shown_size(limit)
    if sizes[0] == sizes[1]:
        sizes = f"{size:,} bytes", f"{limit:,} bytes ({sizes[1]})"
    return f"{sizes[0]} is over the target's {sizes[1]}"


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: "1 request", "2 keys", "2 entries", "2 searches"."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y") and not noun.endswith(("ay", "ey", "oy", "uy")):
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun}{'es' if noun.endswith(('ch', 'sh', 's', 'x')) else 's'}"
