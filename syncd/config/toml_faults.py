"""Explains a syntax error of TOML to a person: the line, the key, and how to write it. Quotes no value."""

import re

_PLACE = re.compile(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)$")
_KEY = re.compile(r"\s*([a-z_]{2,24})\s*[=:]")
_TABLE = re.compile(r"Cannot declare \((.*)\) twice")
_EXPLAINED = (
    ("Cannot overwrite", "the name stands here a second time; keep one of the two"),
    ("Cannot mutate", "the name stands here a second time; keep one of the two"),
    ("Invalid value", 'a text needs straight quotes, such as "docs" or "30s"; true and false are lower case'),
    ("Expected newline", "one value, and no more: a text in quotes, such as \"30s\", or in '…' if it holds a quote"),
    ("Invalid hex value", "a text with a backslash stands in '…', in place of \"…\""),
    ("Unescaped", "a text with a backslash stands in '…', in place of \"…\""),
    ("Illegal character '\\n'", 'the text has no closing "'),
    ("Illegal character", "a control character stands in the text; write the text again"),
    ("Expected '='", "a line is written key = value"),
    ("Expected ']' at the end of a table", "a heading is [mirrors.NAME], in square brackets and without spaces"),
    ("Invalid statement", "a line is written key = value, or a [heading], or a comment after #"),
    ("Unclosed array", 'a list is ["a", "b"], with commas and a closing ]'),
    ("Unclosed inline table", 'a table is { a = "b" }, on one line and with a closing }'),
    ("Invalid initial character for a key", 'a key is letters, digits, - and _; a table { a = "b" } has one line'),
)
"""The begin of a message of tomllib, and an explanation with the remedy."""


def explain_toml(text: str, message: str) -> tuple[int, str]:
    """Return the line of a syntax error, and its explanation. message: of tomllib."""
    place = _PLACE.search(message)
    lines = text.rstrip().split("\n")
    line = int(place[1]) if place and place[1] else len(lines)
    cause = message[: place.start()] if place else message
    if table := _TABLE.match(cause):
        name = ".".join(part.strip(" '\"") for part in table[1].split(",") if part.strip())
        return line, f"the section [{name}] stands here a second time; put all its keys under one heading"
    known = next((why for begin, why in _EXPLAINED if cause.startswith(begin)), cause)
    key = _KEY.match(lines[line - 1]) if line <= len(lines) else None
    return line, f"{key[1]}: {known}" if key else known
