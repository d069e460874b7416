"""The fields that a Markdown file begins with: YAML between `---`, or TOML between `+++`. PURE.

Every value becomes a text as it is written: no date, number or `yes` is understood. A list of plain values becomes
one text with commas; what is deeper is left out.
"""

import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

from syncd.text.chunk_markdown import front_span

SIZE_LIMIT = 16 * 1024
"""Characters of front matter that are parsed (our own limit: the parsers take a few milliseconds for so much)."""
ITEMS_LIMIT = 50
"""Values of one list that are taken (our own limit)."""


class Front(NamedTuple):
    """fields: by their names in lower case. end: where the text proper begins. fault: why nothing could be read."""

    fields: Mapping[str, str]
    end: int = 0
    fault: str | None = None


def read(text: str) -> Front:
    """The front matter at the very start of a text. What cannot be read gives no fields, and says why."""
    span = front_span(text)
    if span is None:
        return Front({})
    inside = text[span.start : span.stop]
    if len(inside) > SIZE_LIMIT:
        return Front({}, span.end, f"it is over {SIZE_LIMIT} characters")
    try:
        found = _yaml(inside) if span.kind == "yaml" else tomllib.loads(inside)
    except Exception as error:  # noqa: BLE001 - whatever a text makes a parser raise, it is the text's
        return Front({}, span.end, " ".join(str(error).split()) or type(error).__name__)
    fields: dict[str, str] = {}
    for name, value in found.items() if isinstance(found, dict) else ():
        if isinstance(name, str) and (said := _text(value)):
            fields.setdefault(name.strip().lower(), said)
    return Front(fields, span.end)


def _yaml(text: str) -> Any:
    # It takes 10 ms to import, and most folders hold none. The loader written in C has no limit to its depth.
    import yaml  # type: ignore[import-untyped]

    try:
        return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes texts, lists and mappings only
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(said for each in value[:ITEMS_LIMIT] if not isinstance(each, list) and (said := _text(each)))
    if isinstance(value, dict):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    said = str(value).strip()
    return "" if said in {"~", "null"} else said
