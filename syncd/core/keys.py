"""Keys and file names: their conversion from and to the names of the operating system, validity, and display.

Python decodes file names by the locale of the process. Keys must not depend on the locale, so the functions here treat
every file name as UTF-8.
"""

import os
import re
import sys
import unicodedata

NOT_UTF8 = "name is not valid UTF-8; rename it"
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|(u[0-9a-f]{4}|U[0-9a-f]{8})|([nrt]))")
_OS_IS_UTF8 = sys.getfilesystemencoding() == "utf-8"


def normal(name: str) -> str:
    """Return a name in Unicode NFC. Every key is in NFC, even if the file system stores another form."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def shown(name: str) -> str:
    """Return a name that is safe in messages, JSON and SQLite. Bytes that are not UTF-8 appear backslash-escaped."""
    for errors in ("strict", "surrogateescape"):
        try:
            return name.encode("utf-8", errors).decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:
            continue
    # No file name contains a lone surrogate, but a remote key may.
    return name.encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")


def spellings(text: str) -> list[str]:
    """Return the names that a command may have shown as this text: the text, and its escapes as bytes or characters."""
    if "\\" not in text:
        return [text]
    as_bytes = _ESCAPE.sub(lambda found: _character(found, 0xDC00), text)
    try:
        as_bytes = as_bytes.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        as_bytes = text
    return list(dict.fromkeys((text, as_bytes, _ESCAPE.sub(_character, text))))


def _character(found: re.Match[str], byte_base: int = 0) -> str:
    """Return the character of an escape. byte_base: added to a byte that is no ASCII character."""
    byte, code, letter = found.groups()
    if letter:
        return {"n": "\n", "r": "\r", "t": "\t"}[letter]
    number = int(byte or code[1:], 16)
    if byte and number >= 0x80:
        number += byte_base
    return chr(number) if number <= sys.maxunicode else found[0]


def shown_path(path: object) -> str:
    """Return a path of this process that is safe in messages, as `shown` does for a name."""
    return shown(from_os(str(path)))


def name_fault(name: str) -> str | None:
    """Return the reason why a path, or a part of a path, cannot be a key or a part of a key. None: it can be one."""
    if name.isascii() and name.isprintable():
        return None
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"its {NOT_UTF8}"
    if any(unicodedata.category(char) == "Cc" for char in name):
        return "its name has a control character; rename it"
    return None


def from_os(name: str | bytes) -> str:
    """Return a name from the operating system as UTF-8 text. Bytes that are not UTF-8 become surrogates."""
    if isinstance(name, str):
        if _OS_IS_UTF8:
            return name
        name = os.fsencode(name)
    return name.decode("utf-8", "surrogateescape")


def to_os(name: str) -> str:
    """Return the str that the functions of `os` accept for a name in this locale. The inverse of `from_os`."""
    return name if _OS_IS_UTF8 else os.fsdecode(to_bytes(name))


def to_bytes(name: str) -> bytes:
    """Return the bytes that the disk stores for a name of `from_os`."""
    return name.encode("utf-8", "surrogateescape")


LAST = "\U0010ffff"
"""Sorts after every key, because no key starts with it."""


def keys_below(prefix: str) -> tuple[str, str]:
    """Return the key range (first, upto) of all keys that begin with any prefix, also with the empty one."""
    return (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)) if prefix else ("", LAST)


def overlap(prefix: str, other: str) -> bool:
    """Return whether a key can begin with both prefixes."""
    return prefix.startswith(other) or other.startswith(prefix)


def directories_above(path: str) -> list[str]:
    """Return the directories ("", "a/", "a/b/") above a path."""
    return [path[:end] for end in (0, *(at + 1 for at, char in enumerate(path) if char == "/"))]


def prefix_of(key: str, marked_length: object) -> str:
    """Return the key prefix of the mirror that wrote an entry. marked_length: its length in the mark of the entry."""
    length = marked_length
    if isinstance(length, str) and length.isdecimal() and len(length) < 5:
        length = int(length)
    return key[:length] if isinstance(length, int) and 0 <= length <= len(key) else ""
