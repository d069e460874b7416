"""What an HTML page says of itself: its title, its first heading, its `meta` tags. PURE."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

META_LIMIT = 100
"""`meta` tags of one page that are looked at (our own limit)."""


@dataclass(slots=True)
class Page:
    """title, heading: "" if there is none. meta: content by name, lower case; the first of a name counts.

    fault: why the page was not read further, if it was not.
    """

    title: str = ""
    heading: str = ""
    meta: dict[str, str] = field(default_factory=dict)
    fault: str | None = None


def read(html: str) -> Page:
    """Read the start of a page; whatever is wrong with it, what was understood until then is returned."""
    parser = _Parser()
    try:
        parser.feed(html)
    except Exception as error:  # noqa: BLE001 - whatever a page makes the parser raise, it is the page's
        parser.page.fault = f"{type(error).__name__}: {error}"
    return parser.page


class _Parser(HTMLParser):
    """Takes the first `title` and `h1` that hold text. Those of an SVG in the page come later, so they do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._open = ""
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "meta":
            self._take_meta({name: value or "" for name, value in attrs})
        elif (tag == "title" and not self.page.title) or (tag == "h1" and not self.page.heading):
            self._open, self._text = tag, []

    def handle_data(self, data: str) -> None:
        if self._open:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag and tag == self._open:
            text = " ".join("".join(self._text).split())
            if tag == "title":
                self.page.title = text
            else:
                self.page.heading = text
            self._open = ""

    def _take_meta(self, attrs: dict[str, str]) -> None:
        name = attrs.get("name", "").strip().lower()
        if name and len(self.page.meta) < META_LIMIT:
            self.page.meta.setdefault(name, attrs.get("content", ""))
