"""What may be printed: text without secrets, that forges no line and moves no cursor. Imports little, for all print."""

import traceback
import unicodedata
from collections.abc import Collection
from typing import Any

HIDDEN = "[hidden]"
_secrets: list[str] = []


def hide(secrets: Collection[str]) -> None:
    """From now on, take these out of whatever is masked; there is one such list for the process."""
    _secrets[:] = [secret for secret in secrets if secret]


def masked(value: Any) -> Any:
    """The value without the secrets, whatever library put them there; itself if it holds none."""
    return _mask(value) if _secrets else value


def masked_text(text: str) -> str:
    """A text without the secrets."""
    for secret in _secrets:
        text = text.replace(secret, HIDDEN)
    return text


def _mask(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return masked_text(value)
        case dict():
            return {_mask(key): _mask(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_mask(inner) for inner in value]
        case _:
            # Whatever it is, its representation is what would be printed.
            shown = repr(value)
            clean = masked_text(shown)
            return value if clean == shown else clean


def traceback_of(error: BaseException) -> str:
    """The traceback of a bug for stderr: no local variables, no secret, no line that can pass for one of the log."""
    return indented(masked_text("".join(traceback.format_exception(error)).rstrip("\n")))


def printable(text: str) -> str:
    """Text for a terminal: control, format and surrogate characters and line ends appear backslash-escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char.encode("unicode_escape").decode() if _unsafe(char) else char for char in text)


def _unsafe(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] == "C" or category in ("Zl", "Zp")


def indented(trace: str) -> str:
    """A traceback keeps its lines, but none of them can pass for a line of the log."""
    return "\n".join("  " + printable(line) for line in trace.split("\n"))
