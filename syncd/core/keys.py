"""Names: the key of a path, how a name is shown, and what a key may not be. PURE."""

import unicodedata

NOT_UTF8 = "name is not valid UTF-8; rename the file"


def normal(name: str) -> str:
    """A name in Unicode NFC, the form every key has, whatever form the file system uses."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def shown(name: str) -> str:
    """A file name made safe for people, JSON and SQLite: bytes that are not UTF-8 appear backslash-escaped."""
    for errors in ("strict", "surrogateescape"):
        try:
            return name.encode("utf-8", errors).decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:
            continue
    # Half a surrogate pair, which no disk has, but a remote may.
    return name.encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")


def name_fault(name: str) -> str | None:
    """Return why a path or a part of it cannot be (part of) a key, or None if it can."""
    if name.isascii() and name.isprintable():
        return None
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"its {NOT_UTF8}"
    if any(unicodedata.category(char) == "Cc" for char in name):
        return "its name has a control character; rename the file"
    return None
