"""Printable text: without secrets, and without characters that forge a line or move the cursor.

Every command imports this module, so it imports little.
"""

import base64
import traceback
import unicodedata
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

HIDDEN = "[hidden]"
LEAST_ENCODED = 8
"""Minimum characters of a secret that is also searched for in encoded forms. Shorter forms match unrelated text."""
_secrets: list[str] = []


def add_secrets(secrets: Collection[str]) -> None:
    """Add secrets that `redact` and `redact_text` remove. Earlier ones stay: an old token is still a secret."""
    _secrets.extend(form for secret in secrets for form in encoded_forms(secret) if form not in _secrets)


def encoded_forms(secret: str) -> list[str]:
    """Return a secret in plain form, in URL encoding, and as a part of base64. An empty secret has no forms."""
    if len(secret) < LEAST_ENCODED:
        return [secret] if secret else []
    data = secret.encode("utf-8", "surrogatepass")
    inside = []
    for before in range(3):
        # Without the characters that depend on the neighbouring bytes.
        whole = base64.b64encode(b"\0" * before + data).decode("ascii").rstrip("=")
        end = len(whole) - bool((before + len(data)) % 3)
        inside.append(whole[-(-before * 8 // 6) : end])
    return list(dict.fromkeys([secret, quote(secret, safe=""), *inside]))


def redact(value: Any) -> Any:
    """Return a value of any type without secrets. A value that contains none is returned itself."""
    return _redact(value) if _secrets else value


def redact_text(text: str) -> str:
    """Return a text without secrets."""
    for secret in _secrets:
        text = text.replace(secret, HIDDEN)
    return text


def _redact(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return redact_text(value)
        case dict():
            return {_redact(key): _redact(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_redact(inner) for inner in value]
        case _:
            # The log prints the representation of any other object.
            shown = repr(value)
            clean = redact_text(shown)
            return value if clean == shown else clean


def traceback_of(error: BaseException) -> str:
    """Return the traceback of a bug for stderr: without local variables and secrets, and indented."""
    return indented(redact_text("".join(traceback.format_exception(error)).rstrip("\n")))


def printable(text: str) -> str:
    """Return a text for a terminal: without secrets; control, format, surrogate and line end characters escaped."""
    text = redact_text(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(char.encode("unicode_escape").decode() if _unsafe(char) else char for char in text)


def _unsafe(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] == "C" or category in ("Zl", "Zp")


def indented(trace: str) -> str:
    """Return a traceback with indented lines, so that no line looks like a line of the log."""
    return "\n".join("  " + printable(line) for line in trace.split("\n"))
