"""Build the documentation site of docs/ into build/docs/site, and check it; run by `make docs`.

Zensical reports broken links between pages and broken anchors. This script checks what Zensical does not: that the
navigation names every page and no other, that images and files exist, and that no page loads from another host.

The pages are built from a copy. In the copy, a link to a file outside docs/ leads to the project's address.
"""

import html.parser
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BUILD = ROOT / "build" / "docs"
SITE = BUILD / "site"
DECISIONS = Path("decisions/index.md")
"""The list of decisions. It is generated, because a list by hand would miss the newest."""

LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^ *(```|~~~)")
ITEM = re.compile(r"^ *(?:[-*+]|\d+\.) +(?=\S)")
LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
}
NEEDED = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch", "manifest"}
"""The kinds of <link> that make a browser ask a host."""

POLICY = "default-src 'self';"
"""The beginning of the policy of each page, which keeps the scripts of the theme from asking other hosts."""


def pages(nav: list[object]) -> Iterator[str]:
    """Yield the pages that a navigation names."""
    for item in nav:
        for value in item.values() if isinstance(item, dict) else [item]:
            if isinstance(value, list):
                yield from pages(value)
            else:
                yield str(value)


def nav_faults(nav: list[object], docs: Path) -> Iterator[str]:
    """Yield pages that the navigation misses, names twice, or names although they do not exist."""
    named = list(pages(nav))
    there = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md") if path.parent.name != "decisions"}
    there.add(DECISIONS.as_posix())
    for page in sorted({page for page in named if named.count(page) > 1}):
        yield f"zensical.toml: nav names {page} twice"
    for page in sorted(set(named) - there):
        yield f"zensical.toml: nav names {page}, which does not exist"
    for page in sorted(there - set(named)):
        yield f"zensical.toml: nav does not name {page}"


def on_the_site(text: str, page: Path, root: Path, repository: str) -> str:
    """Return the text of a page with links to files outside docs/ that lead to the repository."""
    docs = root / "docs"

    def target(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        full = Path(os.path.normpath(page.parent / path))
        if full == docs / "decisions":
            return os.path.relpath(docs / DECISIONS, page.parent) + anchor
        if full.is_relative_to(docs) or not full.is_relative_to(root):
            return match[0]
        kind = "tree" if full.is_dir() else "blob"
        return f"{repository}/{kind}/main/{full.relative_to(root).as_posix()}{anchor}"

    lines, fenced = [], False
    for line in text.splitlines(keepends=True):
        fenced ^= bool(FENCE.match(line))
        lines.append(line if fenced else LINK.sub(target, line))
    return indented("".join(lines))


def indented(text: str) -> str:
    """Return a page with four spaces for each level of a list, as Zensical's Markdown wants it.

    Elsewhere the content of an item may stand below its first letter, as the formatted pages have it.
    """
    lines: list[str] = []
    columns: list[int] = []
    fenced = False
    for line in text.splitlines(keepends=True):
        rest = line.lstrip(" ")
        column = len(line) - len(rest)
        if not rest.strip():
            lines.append(line)
            continue
        while not fenced and columns and column < columns[-1]:
            columns.pop()
        lines.append(" " * (4 * len(columns) + column - (columns[-1] if columns else 0)) + rest)
        fenced ^= bool(FENCE.match(line))
        if not fenced and (marker := ITEM.match(line)):
            columns.append(marker.end())
    return "".join(lines)


def list_of_decisions(docs: Path) -> str:
    """Return the page that lists the decisions by number."""
    rows = []
    for path in sorted((docs / "decisions").glob("*.md")):
        title = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# 0123456789.:")
        rows.append(f"| {path.name[:4]} | [{title}]({path.name}) |\n")
    return (
        "# Decisions\n\nEach page gives the context of a decision, the decision, its reasons and its consequences.\n\n"
        f"| number | decision |\n|---|---|\n{''.join(rows)}"
    )


def stage(repository: str, address: str) -> None:
    """Write the copy of docs/ and the config that Zensical builds from."""
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.copytree(DOCS, BUILD / "docs")
    shutil.copytree(ROOT / ".ci" / "docs-theme", BUILD / "theme")
    for path in sorted(DOCS.rglob("*.md")):
        text = on_the_site(path.read_text(encoding="utf-8"), path, ROOT, repository)
        (BUILD / "docs" / path.relative_to(DOCS)).write_text(text, encoding="utf-8")
    (BUILD / "docs" / DECISIONS).write_text(list_of_decisions(DOCS), encoding="utf-8")
    # The address of the JSON Schema, which "#:schema" names in config files.
    (BUILD / "docs" / "schema").mkdir()
    shutil.copy(ROOT / "syncd" / "config" / "syncd.schema.json", BUILD / "docs" / "schema" / "syncd.json")
    config = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    config = config.replace("[project]\n", f'[project]\nsite_url = "{address}"\n', 1)
    # Not `repo_url`: with it, a script of the theme asks api.github.com for the number of stars.
    config += (
        f'\n[[project.extra.social]]\nicon = "fontawesome/brands/git-alt"\nlink = "{repository}"\nname = "Source"\n'
    )
    (BUILD / "zensical.toml").write_text(config, encoding="utf-8")


class Page(html.parser.HTMLParser):
    """The ids, links and loads of one page of the site."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the attributes that matter."""
        values = {name: value or "" for name, value in attrs}
        self.ids.update(value for name in ("id", "name") if (value := values.get(name)))
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values.get("content", "")
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and set(values.get("rel", "").split()) & NEEDED:
            self.loads.append(values.get("href", ""))
        elif tag in LOADS and "src" in values:
            self.loads.append(values["src"])


def is_outside(address: str) -> bool:
    """Return whether an address names a host."""
    return bool(urlsplit(address).netloc)


def site_faults(site: Path) -> Iterator[str]:
    """Yield links, images and files that are not there, and loads from other hosts."""
    found: dict[Path, Page] = {}
    for path in sorted(site.rglob("*.html")):
        found[path] = page = Page()
        page.feed(path.read_text(encoding="utf-8"))
    for path, page in found.items():
        where = path.relative_to(site)
        yield from (f"{where}: loads {load}" for load in page.loads if is_outside(load))
        if not page.policy.startswith(POLICY):
            yield f"{where}: has no policy against loads from other hosts"
        if where.name != "404.html":  # its links are absolute, and hold under the site's own address only
            yield from (f"{where}: {fault}" for fault in link_faults(path, found))
    for path in sorted(site.rglob("*.css")):
        for load in re.findall(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')]+)", path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)}: loads {load}"


def link_faults(path: Path, found: Mapping[Path, Page]) -> Iterator[str]:
    """Yield the relative links and loads of a page that lead nowhere."""
    for link in (*found[path].links, *found[path].loads):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file():
            yield f"{link} does not exist"
        elif parts.fragment and target in found and unquote(parts.fragment) not in found[target].ids:
            yield f"{link} has no such anchor"


def main() -> int:
    """Build and check the site; return the exit code."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    stage(urls["Source"], urls["Documentation"])
    built = subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "--clean"], cwd=BUILD, check=False)
    faults = list(nav_faults(nav, DOCS))
    if built.returncode:
        faults.append("zensical refused the pages (see above)")
    else:
        faults += site_faults(SITE)
    for fault in faults:
        print(f"docs: {fault}")
    print(f"docs: {len(list(SITE.rglob('*.html')))} pages in {SITE.relative_to(ROOT)}, {len(faults)} mistakes")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
