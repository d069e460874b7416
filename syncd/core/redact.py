"""What may be printed: text without secrets, that forges no line and moves no cursor. Imports little, for all print."""

import base64
import traceback
import unicodedata
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

HIDDEN = "[hidden]"
LEAST_ENCODED = 8
"""Characters of a secret from which on it is looked for in other forms: of a shorter one they could be anything."""
_secrets: list[str] = []


def add_secrets(secrets: Collection[str]) -> None:
    """From now on, take these out of whatever is masked, besides those before them: a former token stays a secret."""
    _secrets.extend(form for secret in secrets for form in encoded_forms(secret) if form not in _secrets)


def encoded_forms(secret: str) -> list[str]:
    """A secret as it stands, and as it stands in URLs and inside base64; none for an empty one."""
    if len(secret) < LEAST_ENCODED:
        return [secret] if secret else []
    data = secret.encode("utf-8", "surrogatepass")
    inside = []
    for before in range(3):
        # Without the characters that depend on what stands before and after it.
        whole = base64.b64encode(b"\0" * before + data).decode("ascii").rstrip("=")
        end = len(whole) - bool((before + len(data)) % 3)
        inside.append(whole[-(-before * 8 // 6) : end])
    return list(dict.fromkeys([secret, quote(secret, safe=""), *inside]))


def redact(value: Any) -> Any:
    """The value without the secrets, whatever library put them there; itself if it holds none."""
    return _mask(value) if _secrets else value


def redact_text(text: str) -> str:
    """A text without the secrets."""
    for secret in _secrets:
        text = text.replace(secret, HIDDEN)
    return text


def _mask(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return redact_text(value)
        case dict():
            return {_mask(key): _mask(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_mask(inner) for inner in value]
        case _:
            # Whatever it is, its representation is what would be printed.
            shown = repr(value)
            clean = redact_text(shown)
            return value if clean == shown else clean


def traceback_of(error: BaseException) -> str:
    """The traceback of a bug for stderr: no local variables, no secret, no line that can pass for one of the log."""
    return indented(redact_text("".join(traceback.format_exception(error)).rstrip("\n")))


def printable(text: str) -> str:
    """Text for a terminal without secrets; control, format and surrogate characters and line ends appear escaped."""
    text = redact_text(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(char.encode("unicode_escape").decode() if _unsafe(char) else char for char in text)


def _unsafe(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] == "C" or category in ("Zl", "Zp")


def indented(trace: str) -> str:
    """A traceback keeps its lines, but none of them can pass for a line of the log."""
    return "\n".join("  " + printable(line) for line in trace.split("\n"))
