"""Small text files that people save with whatever editor they have: UTF-8 or UTF-16, with or without a mark. PURE."""

import codecs

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    # Before UTF-16, whose mark begins alike.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks, and the encoding that each stands for."""


def decode(data: bytes, *, errors: str = "strict") -> str:
    """Return the text of a file, without its byte order mark. Raises ValueError saying what is wrong.

    errors: what to do with bytes that are no UTF-8, as of bytes.decode.
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
    """Guess from the NULs beside ASCII characters in UTF-16: behind each in one byte order, else before it."""
    low, high = data[0::2].count(0), data[1::2].count(0)
    if low == high or len(data) % 2:
        return "utf-8"
    return "utf-16-le" if high > low else "utf-16-be"


def megabytes(size: int) -> str:
    """Return a size in bytes in decimal units for people, such as "5.2 MB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"
