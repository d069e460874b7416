"""Text of people: decodes files of any editor (UTF-8, UTF-16 or UTF-32), and formats times and sizes. PURE."""

import codecs
from datetime import UTC, datetime

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    # Before UTF-16, because its mark is the start of this one.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks and their encodings."""


def decode(data: bytes, *, errors: str = "strict") -> str:
    """Return the text of a file without its byte order mark. Raises ValueError with the fault and the remedy.

    errors: the error handler of bytes.decode for UTF-8.
    """
    mark, encoding = next(((mark, name) for mark, name in MARKS if data.startswith(mark)), (b"", _unmarked(data)))
    try:
        text = data[len(mark) :].decode(encoding, errors if encoding == "utf-8" else "strict")
    except UnicodeDecodeError:
        name = encoding.removesuffix("-le").removesuffix("-be").upper()
        raise ValueError(f"it is not {name} text; save it as UTF-8") from None
    if "\0" in text:
        raise ValueError("it holds NUL characters, so it is no text; save it as UTF-8")
    return text


def _unmarked(data: bytes) -> str:
    """Guess the encoding without a mark. ASCII text in UTF-16 has a NUL after (LE) or before (BE) each character."""
    low, high = data[0::2].count(0), data[1::2].count(0)
    if low == high or len(data) % 2:
        return "utf-8"
    return "utf-16-le" if high > low else "utf-16-be"


def utc_time(moment: float, timespec: str = "seconds") -> str:
    """Return a time in UTC, such as "2026-11-22T10:00:00Z". moment: seconds since the epoch."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def megabytes(size: int) -> str:
    """Return a size in bytes in decimal units for people, such as "5.2 MB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"
