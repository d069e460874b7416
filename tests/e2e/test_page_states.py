"""The page in each state that an operator meets, at three widths, in light and dark. Skipped without a browser.

With PICTURES=DIRECTORY the tests write pictures of the states there.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.axe import NoAxe, fetch_axe, violations
from tests.e2e.browser import Browser, Page, browser_path
from tests.e2e.harness import Daemon, Workspace, open_workspace
from tests.e2e.test_browser import CONTRAST, WITHOUT
from tests.skips import NotHere

pytestmark = [pytest.mark.slow, pytest.mark.skipif(browser_path() is None, reason=WITHOUT)]

WIDTHS = ((390, 844), (800, 1000), (1440, 900))
WEB = '[web]\nlisten = "127.0.0.1:0"\n'
HEADLINE = "document.querySelector('h1').innerText"
STATE = "document.querySelector('[data-state-text]').innerText"
Opened = Iterator[tuple[Page, Workspace, Daemon]]


class Place(NamedTuple):
    """A directory, and the browser that shows its page."""

    path: Path
    browser: Browser


@pytest.fixture
def place(tmp_path: Path, browser: Browser) -> Place:
    return Place(tmp_path, browser)


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    try:
        return fetch_axe(tmp_path_factory.mktemp("axe"))
    except NoAxe as why:
        raise NotHere(str(why)) from None


@contextmanager
def opened(place: Place, files: dict[str, str], **options: Any) -> Opened:
    """Run a daemon over some files and open its page."""
    with open_workspace(place.path, **{"index_delay": 0.1, **options}) as workspace:
        workspace.configure(more=WEB)
        workspace.config.write_text(workspace.config.read_text().replace("quota = ''", 'quota = "1050/300s"'))
        for name, text in files.items():
            workspace.write(name, text)
        with workspace.daemon() as daemon, place.browser.page() as page:
            daemon.saw("web.ready")
            page.size(1440, 900)
            page.open(daemon.events("web.ready")[0]["url"])
            page.until("document.querySelectorAll('.mirror').length === 1")
            yield page, workspace, daemon


def guides(number: int) -> dict[str, str]:
    return {f"guides/chapter-{each:03}.md": f"# Chapter {each}\n" + "text " * (each + 9) for each in range(number)}


@contextmanager
def first_pass(place: Place) -> Opened:
    with opened(place, guides(400), index_delay=60.0, latency=0.2) as room:
        room[0].until(f"{STATE}.includes('first pass') && {STATE}.includes('to go')")
        yield room


@contextmanager
def in_step(place: Place) -> Opened:
    with opened(place, {**guides(60), "notes/empty.md": "", "notes/logo.bin": "x"}) as room:
        room[0].until(f"{HEADLINE} === 'Everything is in step.'")
        room[0].until("document.querySelector('.big').innerText === '60 of 60 searchable'")
        yield room


@contextmanager
def halted(place: Place) -> Opened:
    with opened(place, guides(60)) as room:
        page, workspace, _ = room
        page.until("document.querySelector('.big').innerText === '60 of 60 searchable'")
        for each in range(40):
            (workspace.docs / f"guides/chapter-{each:03}.md").unlink()
        page.until(f"{HEADLINE} === 'docs is halted and needs you.'")
        yield room


@contextmanager
def dead_remote(place: Place) -> Opened:
    with opened(place, guides(20)) as room:
        page, workspace, _ = room
        page.until("document.querySelector('.big').innerText === '20 of 20 searchable'")
        workspace.server.close()
        workspace.write("new.md", "the remote does not get this")
        page.until(f"{HEADLINE} === 'docs is in trouble and will try again.'")
        yield room


@contextmanager
def dead_daemon(place: Place) -> Opened:
    with opened(place, guides(20)) as room:
        page, _, daemon = room
        page.until("document.querySelector('.big').innerText === '20 of 20 searchable'")
        daemon.stop()
        page.until(f"{HEADLINE}.startsWith('No contact with syncd since ')")
        yield room


@contextmanager
def problems(place: Place) -> Opened:
    files = guides(20) | {f"broken/bad{each:03}.md": "text" for each in range(140)}
    files |= {f"long/{'a-very-long-name-' * 8}{each}.md": "x" for each in range(36)}
    files |= {f"images/photo-{each:03}.heic": "x" for each in range(140)} | {
        f"empty/{each}.md": "" for each in range(84)
    }
    with opened(place, files, fail_index="bad") as room:
        room[0].until(f"{HEADLINE} === 'In step, but for 176 files.'")
        yield room


@contextmanager
def empty(place: Place) -> Opened:
    with opened(place, {}) as room:
        room[0].until(f"{HEADLINE} === 'There is nothing to mirror yet.'")
        yield room


States = Callable[[Place], AbstractContextManager[tuple[Page, Workspace, Daemon]]]
STATES: list[States] = [first_pass, in_step, halted, dead_remote, dead_daemon, problems, empty]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_a_state_is_shown_without_a_fault(state: States, place: Place, axe: str) -> None:
    pictures = os.environ.get("PICTURES")
    with state(place) as (page, _, _):
        if state is problems:
            page.run("[...document.querySelectorAll('details')].slice(0, 2).forEach((each) => { each.open = true; })")
            page.until("document.querySelectorAll('.group li').length >= 20")
        for width, height in WIDTHS:
            page.size(width, height)
            page.until(f"document.documentElement.clientWidth === {width}")
            page.until(f"document.documentElement.scrollWidth === {width}")
            for scheme in ("dark", "light"):
                page.scheme(scheme)
                # axe cannot tell the colours of a transition.
                page.until("document.getAnimations().length === 0")
                assert page.run(CONTRAST) == [], (width, scheme)
                assert violations(page, axe) == [], (width, scheme)
                if pictures:
                    page.picture(Path(pictures) / f"{state.__name__}-{width}-{scheme}.png")
        assert [each for each in page.complaints() if "ERR_" not in each] == []


def test_a_refused_plan_is_previewed_and_approved(place: Place, axe: str) -> None:
    with halted(place) as (page, workspace, daemon):
        page.run("document.querySelector('[data-preview]').click()")
        page.until("!document.querySelector('[data-yes]').hidden")
        assert page.run("document.querySelectorAll('[data-plan-list] li').length") == 40
        assert page.run("document.activeElement.innerText") == "Keep everything"
        assert violations(page, axe) == []
        workspace.write("new.md", "an upload meanwhile")
        daemon.saw("put.done", key="new.md")
        assert len(workspace.remote.items()) == 61, "looking changes nothing"
        page.run("document.querySelector('[data-yes]').click()")
        page.until(f"{STATE} === 'idle'")
        page.until("document.querySelector('[data-job]').innerText.endsWith(': 40 entries were deleted, as approved.')")
        assert page.run("document.querySelector('dialog').open") is False
        workspace.in_step()


def test_a_plan_that_has_changed_since_the_preview_is_not_made(place: Place) -> None:
    with halted(place) as (page, workspace, _):
        page.run("document.querySelector('[data-preview]').click()")
        page.until("!document.querySelector('[data-yes]').hidden")
        (workspace.docs / "guides/chapter-050.md").unlink()
        page.run("document.querySelector('[data-yes]').click()")
        page.until("document.querySelector('[data-plan-text]').innerText.includes('the plan has changed')")
        assert len(workspace.remote.items()) == 60
        page.run("document.querySelector('[data-look]').click()")
        page.until("document.querySelector('[data-yes]').innerText === 'Delete these 41 entries'")


def test_a_dead_remote_is_shown_with_its_reason_and_the_next_try(place: Place) -> None:
    with dead_remote(place) as (page, _, _):
        assert "connect" in page.run("document.querySelector('#trouble [data-why]').innerText")
        page.until("/Next try in|Trying now/.test(document.querySelector('#trouble [data-next]').innerText)")
        assert page.run("document.querySelector('#contact time').innerText.length") > 0


def test_problems_are_searched_explained_and_tried_again(place: Place) -> None:
    with problems(place) as (page, _, daemon):
        assert page.run("document.querySelector('.group.harmless').open") is False
        titles = page.run("[...document.querySelectorAll('.group .title')].map((each) => each.innerText)")
        assert titles[0] == "Stored, but could not be indexed"
        assert titles[-2:] == ["Type that is not indexed", "Empty"]
        page.run(
            "(() => { const at = document.querySelector('.search input'); at.value = 'BAD07';"
            " at.dispatchEvent(new Event('input')); })()"
        )
        page.until("document.querySelector('[data-found]').innerText === '10 found'")
        row = "document.querySelector('.group[open] li')"
        page.run(f"{row}.querySelector('[aria-label=\"Explain: broken/bad070.md\"]').click()")
        page.until(f"{row}.querySelector('.explained').innerText.includes('unable_to_convert_to_markdown')")
        before = len(daemon.events("index.again"))
        page.run(f"{row}.querySelector('[aria-label=\"Retry: broken/bad070.md\"]').click()")
        page.until(f"{row}.querySelector('.answer').innerText === 'It is due now.'")
        daemon.saw("index.again", before + 1)
