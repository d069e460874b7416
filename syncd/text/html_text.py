"""Converts HTML to Markdown with markdownify. docs/decisions/0012-html-to-text.md describes the limits.

The import is slow, so only a process of `converter` imports this module, for its first page.
"""

import re
from collections import Counter
from typing import Any

from bs4 import BeautifulSoup
from bs4.element import CData, NavigableString, PreformattedString, Tag
from bs4.exceptions import ParserRejectedMarkup
from markdownify import ATX, MarkdownConverter

DEPTH_LIMIT = 100
"""A deeper page becomes flat text, because the library recurses four calls for each level."""

INDENTED_LEVELS = 5
"""The levels that a quote, a list item or a definition counts as. The library indents each of their lines again."""

COUNTED_SIBLINGS = 200
"""Maximum number of list items or table parts that the library counts. It counts all siblings for each of them."""


def _names(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_DROPPED = _names(
    "head title script style template noscript nav svg math canvas object iframe audio video select button input"
)
_BLOCKS = _names(
    "address article aside blockquote br dd details div dl dt figcaption figure footer form header hr li main ol p pre "
    "section summary table td th tr ul h1 h2 h3 h4 h5 h6"
)
_CLOSES = {
    **dict.fromkeys(_BLOCKS - _names("br td th"), _names("p")),
    "li": _names("p li"),
    **dict.fromkeys(("dt", "dd"), _names("p dt dd")),
    **dict.fromkeys(("td", "th"), _names("p td th")),
    "tr": _names("p td th tr"),
}
"""Start tag -> open elements that it closes. Their end tags are optional in HTML, and the parser would nest them."""

_INDENTED = _names("blockquote li dd")
_HEADING = re.compile(r"h[1-6]")
_XML_DECLARATION = re.compile(r"<\?xml[^>]{0,200}>")
# The expressions of the library take quadratic time for a longer run of white space.
_LONG_SPACE = re.compile(r"[ \t\n]{200,}")
_SPACE = re.compile(r"\s+")
_BLANK_LINES = re.compile(r"\n{3,}")
_LINE_MARKS = re.compile(r"^(\s{0,3})(#{1,6}(?=\s|$)|`{3,}|~{3,}|=+(?=\s*$)|-+(?=\s*$)|\+{3}(?=\s*$))", re.MULTILINE)
_BACKTICKS = re.compile(r"^\s*(`{3,})", re.MULTILINE)
_OPTIONS: dict[str, Any] = {
    "heading_style": ATX,
    "escape_asterisks": False,
    "escape_underscores": False,
    "strip_pre": None,
}
_CLOSER = """<!--'><template "><template>--></template>"""
"""A text that closes an open tag or comment at the end. Without it, html.parser reads to the end for each open tag.

In a file without open tags, the text is a comment and an empty template, and the converter drops both.
"""


def markdown(html: str) -> str:
    """Return the visible text of an HTML page with its headings, lists, tables and code as Markdown.

    The `title` becomes a level-1 heading if the page has no other. Menus, scripts, forms and hidden elements are left
    out. Raises ValueError if the parser rejects the page.
    """
    source = _LONG_SPACE.sub("\n", _XML_DECLARATION.sub("", html))
    try:
        soup = _Soup(f"\n{source}{_CLOSER}", "html.parser")
    except ParserRejectedMarkup as error:
        raise ValueError(str(error)) from error
    _remove_closer(soup)
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    depth = _prepare(soup)
    text = _flat_text(soup) if depth > DEPTH_LIMIT else _Converter(**_OPTIONS).convert_soup(soup)
    if title and not any(heading.get_text(strip=True) for heading in soup.find_all("h1")):
        text = f"# {title}\n\n{text}"
    return text


def _remove_closer(soup: BeautifulSoup) -> None:
    """Remove _CLOSER from the text of an unclosed tag. Newer parsers read this text to the end of the file."""
    last = next(reversed(soup.find_all(string=True)), None)
    if isinstance(last, NavigableString) and last.endswith(_CLOSER):
        last.replace_with(type(last)(last.removesuffix(_CLOSER)))


class _Soup(BeautifulSoup):
    """Closes elements whose end tags are absent."""

    def handle_starttag(self, name: str, *others: Any, **named: Any) -> Tag | None:
        while self.currentTag and self.currentTag.name in _CLOSES.get(name, ()):
            self.handle_endtag(self.currentTag.name)
        return super().handle_starttag(name, *others, **named)


class _Converter(MarkdownConverter):
    """Converts elements. The annotations of the library lack the methods that it documents for overriding."""

    def process_tag(self, node: Tag, parent_tags: set[str] | None = None) -> str:
        if _is_dropped(node):
            return ""
        return str(super().process_tag(node, parent_tags=parent_tags))  # type: ignore[misc]

    def process_text(self, el: NavigableString, parent_tags: set[str] | None = None) -> str:
        if _is_markup(el):
            return ""
        return str(super().process_text(el, parent_tags=parent_tags))  # type: ignore[misc]

    def escape(self, text: str, parent_tags: set[str]) -> str:  # noqa: ARG002 - the signature of the library
        """Escape only marks that `sections` reads as structure. Other backslashes would disturb the embedding."""
        return _LINE_MARKS.sub(r"\1\\\2", text)

    def convert_pre(self, el: Tag, text: str, parent_tags: set[str]) -> str:  # noqa: ARG002 - the signature of the library
        """Return a fenced block. The fence of the library has three backticks, even if the text contains three."""
        longest = max((len(run) for run in _BACKTICKS.findall(text)), default=2)
        fence = "`" * max(3, longest + 1)
        inside = text.strip("\n")
        return f"\n\n{fence}\n{inside}\n{fence}\n\n" if inside.strip() else ""


def _is_dropped(tag: Tag) -> bool:
    return tag.name in _DROPPED or "hidden" in tag.attrs


def _is_markup(text: NavigableString) -> bool:
    """Return whether a node is a comment, a declaration or another node without text."""
    return isinstance(text, PreformattedString) and not isinstance(text, CData)


def _prepare(soup: BeautifulSoup) -> int:
    """Rename the parts of long lists and tables, so that the library does not count them. Return the depth."""
    depths = {id(soup): 0}
    counts: Counter[tuple[int, str]] = Counter()
    for tag in soup.descendants:
        if not isinstance(tag, Tag):
            continue
        parent = tag.parent or soup
        depths[id(tag)] = depths[id(parent)] + (INDENTED_LEVELS if tag.name in _INDENTED else 1)
        counts[id(parent), tag.name] += 1
        if counts[id(parent), tag.name] > COUNTED_SIBLINGS:
            match parent.name, tag.name:
                case "ol", "li":
                    parent.name = "ul"
                case "thead", "tr":
                    parent.name = "tbody"
                case "table", "thead" | "tbody":
                    tag.name = "tfoot"
    return max(depths.values())


def _flat_text(soup: BeautifulSoup) -> str:
    """Return the headings and the paragraphs of a page without nesting."""
    parts: list[str] = []
    dropped = {id(soup): False}
    headings: dict[int, Tag | None] = {id(soup): None}
    previous: Tag | None = None
    for node in soup.descendants:
        parent = id(node.parent or soup)
        heading = headings[parent]
        if isinstance(node, Tag):
            dropped[id(node)] = dropped[parent] or _is_dropped(node)
            headings[id(node)] = heading or (node if _HEADING.fullmatch(node.name) else None)
            if node.name in _BLOCKS and not heading:
                parts.append("\n\n")
        elif isinstance(node, NavigableString) and not dropped[parent] and not _is_markup(node):
            if heading is not previous:
                parts.append(f"\n\n{'#' * int(heading.name[1])} " if heading else "\n\n")
                previous = heading
            parts.append(_SPACE.sub(" ", node))
    return _BLANK_LINES.sub("\n\n", "".join(parts)).strip("\n")
