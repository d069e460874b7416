"""HTML to Markdown, by markdownify; see docs/decisions/0012-html-to-text.md for what is guarded and why.

Slow to import, so it is imported where it is needed.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from bs4 import BeautifulSoup
from bs4.element import CData, NavigableString, PageElement, PreformattedString, Tag
from bs4.exceptions import ParserRejectedMarkup
from markdownify import ATX, MarkdownConverter

DEPTH_LIMIT = 100
"""Deeper elements are not converted one by one: the library calls itself four times for each level.

A quote, list item or definition counts as INDENTING levels: every line of it is indented once more for each.
"""

INDENTING = 5

MANY = 200
"""The library counts the siblings of each list item and each part of a table; beyond this many it need not."""


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
"""Which open elements a start tag closes: HTML lets their end tags be left out, and the parser would nest them."""

_INDENTED = _names("blockquote li dd")
_HEADING = re.compile(r"h[1-6]")
_XML_DECLARATION = re.compile(r"<\?xml[^>]{0,200}>")
# Longer runs would make the library's expressions quadratic.
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
# Closes whatever the file leaves open: for each open tag or comment html.parser would read on to the end of the file,
# again and again. In other files this is a comment; what is left over of it is in a template, which is dropped.
_CLOSER = """<!--'><template "><template>--></template>"""


def markdown(html: str) -> str:
    """The visible text of an HTML page with its headings, lists, tables and code as Markdown.

    The `title` of the page becomes a level-1 heading if there is no other. Menus, scripts, forms and what is hidden
    are left out. ValueError if the parser rejects it.
    """
    source = _LONG_SPACE.sub("\n", _XML_DECLARATION.sub("", html))
    try:
        soup = _Soup(f"\n{source}{_CLOSER}", "html.parser")
    except ParserRejectedMarkup as error:
        raise ValueError(str(error)) from error
    _without_closer(soup)
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    flat = _prepared(soup) > DEPTH_LIMIT
    text = _flat(soup) if flat else _Converter(**_OPTIONS).convert_soup(soup)
    if title and not any(heading.get_text(strip=True) for heading in soup.find_all("h1")):
        text = f"# {title}\n\n{text}"
    return text


def _without_closer(soup: BeautifulSoup) -> None:
    """Newer parsers read on to the end of the file in some tags that nothing closed: there the closer is text."""
    last = next(reversed(soup.find_all(string=True)), None)
    if isinstance(last, NavigableString) and last.endswith(_CLOSER):
        last.replace_with(type(last)(last.removesuffix(_CLOSER)))


class _Soup(BeautifulSoup):
    def handle_starttag(self, name: str, *others: Any, **named: Any) -> Tag | None:
        while self.currentTag and self.currentTag.name in _CLOSES.get(name, ()):
            self.handle_endtag(self.currentTag.name)
        return super().handle_starttag(name, *others, **named)


class _Converter(MarkdownConverter):
    """The library's types leave out what it invites to override."""

    def process_tag(self, node: Tag, parent_tags: set[str] | None = None) -> str:
        if _is_dropped(node):
            return ""
        return str(super().process_tag(node, parent_tags=parent_tags))  # type: ignore[misc]

    def process_text(self, el: NavigableString, parent_tags: set[str] | None = None) -> str:
        if _is_markup(el):
            return ""
        return str(super().process_text(el, parent_tags=parent_tags))  # type: ignore[misc]

    def escape(self, text: str, parent_tags: set[str]) -> str:  # noqa: ARG002 - the library's signature
        """Only what the chunker would take for structure: backslashes elsewhere would only disturb the embedding."""
        return _LINE_MARKS.sub(r"\1\\\2", text)

    def convert_pre(self, el: Tag, text: str, parent_tags: set[str]) -> str:  # noqa: ARG002 - the library's signature
        """The library's own always has three backticks, whatever is inside."""
        longest = max((len(run) for run in _BACKTICKS.findall(text)), default=2)
        fence = "`" * max(3, longest + 1)
        inside = text.strip("\n")
        return f"\n\n{fence}\n{inside}\n{fence}\n\n" if inside.strip() else ""


def _is_dropped(tag: Tag) -> bool:
    return tag.name in _DROPPED or "hidden" in tag.attrs


def _is_markup(text: NavigableString) -> bool:
    """Comments, declarations and the like, which are no text."""
    return isinstance(text, PreformattedString) and not isinstance(text, CData)


def _prepared(soup: BeautifulSoup) -> int:
    """Takes out of very long lists and tables what would be counted again and again; says how deep the page is."""
    depths = {id(soup): 0}
    counts: Counter[tuple[int, str]] = Counter()
    for tag in _tags(soup.descendants):
        parent = tag.parent or soup
        depths[id(tag)] = depths[id(parent)] + (INDENTING if tag.name in _INDENTED else 1)
        counts[id(parent), tag.name] += 1
        if counts[id(parent), tag.name] > MANY:
            match parent.name, tag.name:
                case "ol", "li":
                    parent.name = "ul"
                case "thead", "tr":
                    parent.name = "tbody"
                case "table", "thead" | "tbody":
                    tag.name = "tfoot"
    return max(depths.values())


def _tags(nodes: Iterator[PageElement]) -> Iterator[Tag]:
    return (node for node in nodes if isinstance(node, Tag))


def _flat(soup: BeautifulSoup) -> str:
    """Headings and paragraphs without any nesting, however deep the page is."""
    parts: list[str] = []
    dropped = {id(soup): False}
    heading: dict[int, Tag | None] = {id(soup): None}
    current: Tag | None = None
    for node in soup.descendants:
        parent = id(node.parent or soup)
        inside = heading[parent]
        if isinstance(node, Tag):
            dropped[id(node)] = dropped[parent] or _is_dropped(node)
            heading[id(node)] = inside or (node if _HEADING.fullmatch(node.name) else None)
            if node.name in _BLOCKS and not inside:
                parts.append("\n\n")
        elif isinstance(node, NavigableString) and not dropped[parent] and not _is_markup(node):
            if inside is not current:
                parts.append(f"\n\n{'#' * int(inside.name[1])} " if inside else "\n\n")
                current = inside
            parts.append(_SPACE.sub(" ", node))
    return _BLANK_LINES.sub("\n\n", "".join(parts)).strip("\n")
