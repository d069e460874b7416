"""The checks of `make docs`: navigation, links, images, and loads from other hosts."""

import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.deploy.harness import load_script

ROOT = Path(__file__).parents[3]
POLICY = """<meta http-equiv="Content-Security-Policy" content="default-src 'self'; img-src data:">"""


@pytest.fixture(scope="module")
def docs() -> ModuleType:
    return load_script(".ci/docs.py")


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.html").write_text(text)
    return folder


def test_the_navigation_names_every_page_once(docs: ModuleType) -> None:
    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    assert list(docs.nav_faults(nav, ROOT / "docs")) == []


def test_a_page_that_is_missing_doubled_or_not_named_is_a_fault(docs: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "decisions").mkdir()
    for name in ("index.md", "extra.md", "decisions/0001-a.md"):
        (tmp_path / name).write_text("# A")
    nav = [{"Home": "index.md"}, {"More": ["index.md", "gone.md", "decisions/index.md"]}]
    assert list(docs.nav_faults(nav, tmp_path)) == [
        "zensical.toml: nav names index.md twice",
        "zensical.toml: nav names gone.md, which does not exist",
        "zensical.toml: nav does not name extra.md",
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[a](../../README.md#commands)", "[a](https://x.example/r/blob/main/README.md#commands)"),
        ("[a](../../systemd)", "[a](https://x.example/r/tree/main/systemd)"),
        ("[a](../decisions)", "[a](../decisions/index.md)"),
        ("[a](../design.md)", "[a](../design.md)"),
        ("[a](#part) [b](https://y.example)", "[a](#part) [b](https://y.example)"),
        ("```\n[a](../../README.md)\n```", "```\n[a](../../README.md)\n```"),
    ],
)
def test_links_to_files_outside_the_docs_lead_to_the_repository(docs: ModuleType, before: str, after: str) -> None:
    assert docs.on_the_site(before, ROOT / "docs/how-to/page.md", ROOT, "https://x.example/r") == after


def test_lists_get_the_indent_that_the_builder_wants(docs: ModuleType) -> None:
    for before, after in [
        (
            "1. a\n   b\n\n   ```sh\n   if x\n     - y\n   ```\n",
            "1. a\n    b\n\n    ```sh\n    if x\n      - y\n    ```\n",
        ),
        ("2. c\n   - d\n     e\n10. f\n    g\n", "2. c\n    - d\n        e\n10. f\n    g\n"),
        ("- a\n\nh\n\n    code\n```\n- x\n  y\n```\n", "- a\n\nh\n\n    code\n```\n- x\n  y\n```\n"),
    ]:
        assert docs.indented(before) == after


def test_the_list_of_decisions_holds_each_of_them(docs: ModuleType) -> None:
    page = docs.list_of_decisions(ROOT / "docs")
    for path in (ROOT / "docs/decisions").glob("*.md"):
        assert f"| {path.name[:4]} | [" in page
        assert f"]({path.name})" in page


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<a href="b.html#part">', ""),
        ('<a href="https://x.example/">', ""),
        ('<link rel="canonical" href="https://x.example/">', ""),
        ('<a href="c.html">', "a.html: c.html does not exist"),
        ('<a href="b.html#gone">', "a.html: b.html#gone has no such anchor"),
        ('<img src="gone.png">', "a.html: gone.png does not exist"),
        ('<script src="https://x.example/a.js">', "a.html: loads https://x.example/a.js"),
        ('<script src="//x.example/a.js">', "a.html: loads //x.example/a.js"),
        ('<link rel="stylesheet" href="https://x.example/a.css">', "a.html: loads https://x.example/a.css"),
    ],
)
def test_broken_links_and_loads_from_other_hosts_are_faults(
    docs: ModuleType, tmp_path: Path, html: str, fault: str
) -> None:
    site = write(tmp_path, a=POLICY + html, b=POLICY + '<p id="part">')
    assert list(docs.site_faults(site)) == ([fault] if fault else [])


def test_each_page_forbids_scripts_to_load_from_other_hosts(docs: ModuleType, tmp_path: Path) -> None:
    site = write(tmp_path, a="<p>", b=POLICY.replace("'self'", "*"))
    assert list(docs.site_faults(site)) == [
        "a.html: has no policy against loads from other hosts",
        "b.html: has no policy against loads from other hosts",
    ]


def test_a_style_sheet_may_not_load_from_another_host(docs: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("a { background: url(data:x) } b { background: url('https://x.example/b.png') }")
    assert list(docs.site_faults(tmp_path)) == ["a.css: loads https://x.example/b.png"]
