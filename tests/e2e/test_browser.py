"""The status page in a real browser, over a real daemon. Skipped where there is no browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import Browser, Page, browser_path
from tests.e2e.harness import Daemon, Workspace, open_workspace

WITHOUT = "there is no Chromium or Chrome here (Debian: the package chromium)"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(browser_path() is None, reason=WITHOUT)]

HOSTILE = "<img src=x onerror='document.title=1'>\u202e.md"
SECOND = '[mirrors.gone.target]\ntype = "ai-search"\ninstance = "gone"\ncreate = true'


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(tmp_path, index_delay=0.1, fail_index="bad") as workspace:
        workspace.configure(
            more=f'[web]\nlisten = "127.0.0.1:0"\n[mirrors.gone]\npath = "{workspace.path}/gone"\n{SECOND}'
        )
        for name in ("a.md", "bad.md", "empty.md", HOSTILE):
            workspace.write(name, "" if name == "empty.md" else f"text of {name}")
        yield workspace


@pytest.fixture
def daemon(workspace: Workspace) -> Iterator[Daemon]:
    with workspace.daemon() as daemon:
        daemon.saw("web.ready")
        daemon.saw("index.failed")
        daemon.saw("mirror.halted")
        yield daemon


@pytest.fixture
def page(daemon: Daemon, browser: Browser) -> Iterator[Page]:
    with browser.page() as page:
        page.size(1280, 900)
        page.open(daemon.events("web.ready")[0]["url"])
        page.until("document.querySelectorAll('.mirror').length === 2 && document.querySelector('#actions li')")
        yield page


def text(page: Page, selector: str) -> str:
    return str(page.run(f"document.querySelector({selector!r}).innerText"))


def test_the_page_shows_the_state_and_follows_changes(page: Page, workspace: Workspace, daemon: Daemon) -> None:
    assert text(page, "h1") == "gone is halted and needs you."
    assert "gone: No such file or directory" in text(page, "#trouble [data-why]")
    page.until("document.querySelector('#mirror-docs .problems').innerText.includes('bad.md')")
    page.until("document.querySelector('#mirror-docs [data-upload] p').innerText === 'Upload: 3 in step'")
    assert text(page, "#mirror-docs [data-index] p") == "Index: 2 searchable · 1 could not be indexed"
    assert text(page, "#mirror-docs .big") == "2 of 3 searchable"

    workspace.write("later.md", "written while one looks")
    page.until("document.querySelector('#actions li code').innerText === 'later.md'")
    (workspace.path / "gone").mkdir()
    (workspace.path / "gone/b.md").write_text("it is there")
    page.until("document.querySelector('#mirror-gone [data-state-text]').innerText === 'idle'")
    page.until("document.querySelector('h1').innerText === 'In step, but for 1 file.'")
    daemon.stop()
    page.until("document.querySelector('#link').dataset.state === 'lost'")
    assert [each for each in page.complaints() if "ERR_" not in each] == []


def test_a_hostile_name_is_shown_as_text(page: Page) -> None:
    page.until("[...document.querySelectorAll('#actions code')].some(each => each.innerText.startsWith('<img'))")
    shown = page.run("[...document.querySelectorAll('code')].map(each => each.innerText).find(each => each[0] === '<')")
    assert shown == HOSTILE.replace("\u202e", "\\u202e")
    assert page.run("document.querySelectorAll('img').length") == 0
    assert page.run("document.title") == "gone is halted and needs you · syncd"


def test_the_page_loads_only_its_own_files_and_its_policy_holds(page: Page, daemon: Daemon) -> None:
    url = daemon.events("web.ready")[0]["url"]
    assert {each for each in page.requested() if not each.startswith(url)} <= {"about:blank"}
    assert page.complaints() == []
    page.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
    page.run("fetch('http://localhost:1/').catch(() => 0)")
    assert page.run("window.ran") is None
    assert any("Content Security Policy" in each for each in page.complaints())


def test_no_element_overflows_at_any_width(page: Page) -> None:
    out = "[...document.querySelectorAll('main *')].filter(each => each.getBoundingClientRect().right > innerWidth)"
    for width in (320, 360, 390, 768, 1280, 2560):
        page.size(width, 800)
        page.until(f"document.documentElement.clientWidth === {width}")
        assert page.run("document.documentElement.scrollWidth") == width
        # The charts are drawn anew for the width.
        page.until(f"{out}.length === 0")


def test_the_buttons_work_by_keyboard_and_show_their_effect(page: Page, daemon: Daemon) -> None:
    before = len([event for event in daemon.events("pass.done") if event["scope"] == "all"])
    reached: list[str] = []
    while not (reached and reached[-1] == "Full pass now: docs"):
        page.press("Tab", 9)
        reached.append(page.run("document.activeElement.ariaLabel ?? document.activeElement.innerText"))
        assert len(reached) < 20, reached
    outline = page.run("getComputedStyle(document.activeElement).outlineStyle")
    assert (reached[0], outline) == ("Skip to the mirrors", "solid")
    page.press("Enter", 13, "\r")
    page.until("document.querySelector('#mirror-docs [data-answer]').innerText === 'Asked for a full pass.'")
    daemon.saw("pass.done", before + 1, mirror="docs", scope="all")
    page.press("Tab", 9)
    page.press("Enter", 13, "\r")
    page.until("document.querySelector('#mirror-docs [data-answer]').innerText.startsWith('Asked to try')")
    daemon.saw("index.again")


def test_every_text_can_be_read_in_light_and_dark(page: Page) -> None:
    for scheme, ground in (("light", "rgb(250, 249, 246)"), ("dark", "rgb(20, 22, 26)")):
        page.scheme(scheme)
        assert page.run("getComputedStyle(document.documentElement).backgroundColor") == ground
        assert page.run(CONTRAST) == [], scheme


# WCAG 2.1, 1.4.3: the relative luminance of text and ground, at least 4.5 to 1.
CONTRAST = """
(() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const ground = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const colour = parse(getComputedStyle(each).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((each) => each.nodeType === 3 && each.textContent.trim());
    if (!own || !node.getClientRects().length) continue;
    const [one, other] = [light(parse(getComputedStyle(node).color)), light(ground(node))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) faint.push(`${node.className} ${node.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return faint;
})()
"""


def test_the_page_comes_back_when_the_daemon_does(page: Page, workspace: Workspace, daemon: Daemon) -> None:
    port = daemon.events("web.ready")[0]["url"].split(":")[-1].strip("/")
    token = page.run("document.querySelector('meta[name=syncd-token]').content")
    daemon.stop()
    page.until("document.querySelector('#link').dataset.state === 'lost'")
    workspace.config.write_text(workspace.config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    with workspace.daemon() as second:
        second.saw("web.ready")
        page.until(f"(document.querySelector('meta[name=syncd-token]')?.content ?? {token!r}) !== {token!r}")
        page.until("document.querySelector('#mirror-docs button')")
        # The log of the first daemon is there, and its minutes in the chart.
        page.until("[...document.querySelectorAll('#actions li .key')].some((each) => each.innerText === 'a.md')")
        page.until("document.querySelector('#sum-changes').innerText === '3 changes'")
        page.run("document.querySelector('#mirror-docs button').click()")
        page.until("document.querySelector('#mirror-docs [data-answer]').innerText === 'Asked for a full pass.'")


def test_without_javascript_the_page_says_so_and_shows_no_empty_control(page: Page, daemon: Daemon) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.open(daemon.events("web.ready")[0]["url"])
    # The style sheet, which hides the empty parts, comes after the text.
    page.until("document.styleSheets.length && document.readyState === 'complete'")
    assert "This page needs JavaScript" in page.run("document.body.innerText")
    assert "connecting" not in page.run("document.body.innerText")
    assert page.run("[...document.querySelectorAll('input, select, button')].filter(e => e.offsetParent).length") == 0
