"""A night at the operator's desk: systemd, the status page in Chromium, and the commands, on a booted machine.

One scenario, in the order in which a night may bring it. With PICTURES=DIRECTORY it writes a picture of each screen.
"""

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import Server, serve
from tests.e2e.browser import Page, browser_path, open_browser
from tests.e2e.harness import PATIENCE_S, until
from tests.e2e.test_browser import WITHOUT
from tests.system.conftest import Site
from tests.system.machine import LOOK_EVERY_S, Machine

pytestmark = [pytest.mark.slow, pytest.mark.skipif(browser_path() is None, reason=WITHOUT)]

UNIT = "syncd.service"
SEEN_WITHIN_S = 5.0
FILES = {"old": 20, "older": 14, "kept": 6}
"""Folder -> the number of its files."""


@dataclass(frozen=True, slots=True)
class Desk:
    """The machine, the page of its daemon, and the stand-in that may be killed."""

    site: Site
    page: Page
    server: Server

    @property
    def machine(self) -> Machine:
        return self.site.machine

    def syncd(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command as root, as docs/how-to/systemd.md says."""
        return self.machine.tries("/opt/syncd/bin/syncd", "-c", "/etc/syncd/config.toml", *arguments)

    def shows(self, selector: str, pattern: str, within_s: float = PATIENCE_S) -> None:
        """Wait until the text of an element of the page matches a pattern."""
        until(lambda: re.search(pattern, self.page.text(selector)), lambda: self.page.text(selector), within_s)

    def reads(self, headline: str, picture: str, within_s: float = PATIENCE_S) -> None:
        """Wait until the page has this headline, and take its picture."""
        self.shows("h1", f"^{re.escape(headline)}$", within_s)
        self.shoot(picture)

    def press(self, selector: str) -> None:
        self.page.run(f"document.querySelector({selector!r}).click()")

    def shoot(self, picture: str) -> None:
        if directory := os.environ.get("PICTURES"):
            self.page.picture(Path(directory) / f"operator-{picture}.png")

    def write(self, name: str) -> None:
        self.machine.write(f"/srv/docs/{name}", f"text of {name}")

    def remove(self, folder: str) -> None:
        """Move a folder away, so that all its files go at once."""
        self.machine.path(f"/srv/docs/{folder}").rename(self.machine.path(f"/srv/{folder}"))

    def kept(self) -> set[str]:
        """Return the names in the stand-in."""
        remote = self.site.remote()
        try:
            return set(remote.files())
        finally:
            remote.close()

    def uploads(self, name: str) -> None:
        """Write a file, and wait until it is in the stand-in."""
        self.write(name)
        self.machine.saw(UNIT, "put.done", key=name)


def names(*folders: str) -> set[str]:
    return {f"{folder}/{number:02}.md" for folder in folders for number in range(FILES[folder])}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def desk(machine: Machine, tmp_path: Path) -> Iterator[Desk]:
    program = browser_path()
    assert program is not None
    with (
        serve(EmulatorOptions(index_delay=0.0)) as server,
        open_browser(program, tmp_path / "profile") as browser,
        browser.page() as page,
    ):
        site, port = Site(machine, server), free_port()
        site.configure(more=f'[web]\nlisten = "127.0.0.1:{port}"\n')
        # With these two, commands use the state and the token of the service.
        config = machine.path("/etc/syncd/config.toml")
        config.write_text(f'state_dir = "/var/lib/syncd"\n{config.read_text()}')
        config.write_text(
            config.read_text().replace("[cloudflare]", '[cloudflare]\napi_token_file = "/etc/syncd/token"')
        )
        try:
            for name in names(*FILES):
                machine.write(f"/srv/docs/{name}", f"text of {name}")
            site.start()
            machine.saw(UNIT, "web.ready")
            page.size(1280, 900)
            page.open(f"http://127.0.0.1:{port}/")
            yield Desk(site, page, server)
        finally:
            site.clear()


def test_a_night_at_the_operators_desk(desk: Desk) -> None:
    desk.shows(".big", "^40 of 40 searchable$")
    desk.reads("Everything is in step.", "1-in-step")

    approved_on_the_page(desk)
    approved_at_the_shell(desk)
    a_bad_reload_is_reported(desk)
    what_was_done_is_told_after_a_restart(desk)
    a_killed_daemon_is_told(desk)
    a_stopped_daemon_is_told(desk)
    a_dead_remote_is_seen_while_nothing_is_sent(desk)


def approved_on_the_page(desk: Desk) -> None:
    desk.remove("old")
    desk.reads("docs is halted and needs you.", "2-refused")
    desk.shows("#trouble [data-why]", "max_delete = 25% allows 10")
    desk.uploads("while-refused.md")
    desk.press("[data-preview]")
    desk.shows("[data-yes]", "^Delete these 20 entries$")
    desk.shoot("3-preview")
    assert names("old") <= desk.kept(), "nothing goes before it is approved"
    desk.press("[data-yes]")
    desk.uploads("while-deleting.md")
    desk.shows("[data-job]", r"^[0-9:]+: 20 entries were deleted, as approved\.$")
    desk.reads("Everything is in step.", "4-approved")
    assert desk.kept() == names("older", "kept") | {"while-refused.md", "while-deleting.md"}


def approved_at_the_shell(desk: Desk) -> None:
    desk.remove("older")
    desk.reads("docs is halted and needs you.", "5-refused-again")
    plan = desk.syncd("plan")
    found = re.search(r"syncd approve (docs-[0-9a-f]{12})", plan.stdout)
    assert found, plan
    desk.uploads("while-refused-again.md")
    wrong = desk.syncd("approve", "docs-000000000000")
    assert (wrong.returncode, "the plan has changed" in wrong.stderr) == (4, True)
    right = desk.syncd("approve", found[1])
    assert (right.returncode, "14 delete" in right.stdout) == (0, True), right
    desk.reads("Everything is in step.", "6-approved-again")
    more = {"while-refused.md", "while-deleting.md", "while-refused-again.md"}
    assert desk.kept() == names("kept") | more


def a_bad_reload_is_reported(desk: Desk) -> None:
    config = desk.machine.path("/etc/syncd/config.toml")
    good = config.read_text()
    config.write_text(good.replace("path = ", "paht = "))
    pid = desk.machine.show(UNIT)["MainPID"]
    assert desk.machine.tries("systemctl", "reload", UNIT).returncode != 0
    told = "unknown key mirrors.docs.paht; did you mean path?"
    assert any(told in line for line in desk.machine.journal(UNIT))
    bad = desk.syncd("reload")
    assert bad.returncode == 2
    assert told in bad.stderr
    assert "a daemon that is running goes on with the former one" in bad.stderr
    desk.uploads("after-a-bad-reload.md")
    config.write_text(good)
    desk.machine.does("systemctl", "reload", UNIT)
    assert desk.syncd("reload").returncode == 0
    desk.machine.becomes(UNIT, ActiveState="active", MainPID=pid)
    desk.reads("Everything is in step.", "7-reloaded")


def what_was_done_is_told_after_a_restart(desk: Desk) -> None:
    desk.machine.does("systemctl", "restart", UNIT)
    told = desk.syncd("log", "--since", "10m", "--kind", "put,delete")
    assert told.returncode == 0
    lines = [line.split()[1:3] for line in told.stdout.splitlines()]
    assert lines.count(["delete", "old/00.md"]) == 1
    assert lines.count(["put", "after-a-bad-reload.md"]) == 1
    desk.reads("Everything is in step.", "8-restarted")
    desk.shows("#actions", r"after-a-bad-reload\.md")


def a_killed_daemon_is_told(desk: Desk) -> None:
    desk.site.drop_in(UNIT, "Restart=no")
    desk.machine.does("systemctl", "kill", "-s", "KILL", UNIT)
    no_contact(desk, "9-killed")
    told = desk.syncd("status").stdout
    assert re.match(r"daemon +not running: no contact since .*; it did not end by itself\n", told), told
    desk.site.start()
    desk.reads("Everything is in step.", "10-started")


def a_stopped_daemon_is_told(desk: Desk) -> None:
    desk.machine.does("systemctl", "stop", UNIT)
    no_contact(desk, "11-stopped")
    assert "it ended" in desk.syncd("status").stdout
    desk.site.start()
    desk.reads("Everything is in step.", "12-started")


def no_contact(desk: Desk, picture: str) -> None:
    desk.shows("h1", r"^No contact with syncd since [0-9:]+\.$", SEEN_WITHIN_S)
    desk.shows("#gone", "systemctl status syncd")
    desk.shows("[data-state-text]", "^last known: idle$")
    desk.shoot(picture)


def a_dead_remote_is_seen_while_nothing_is_sent(desk: Desk) -> None:
    until(lambda: "docs idle" in desk.syncd("status").stdout, every_s=LOOK_EVERY_S)
    desk.server.close()
    desk.reads("docs is in trouble and will try again.", "13-dead-remote", SEEN_WITHIN_S)
    desk.shows("#trouble [data-why]", "^could not connect: .* refuses the connection$")
    desk.shows("#trouble [data-next]", "Next try in|Trying now")
    told = desk.syncd("status").stdout
    assert re.search(r"docs degraded .*\n  could not connect: .* refuses the connection; ", told), told
    desk.machine.saw(UNIT, "remote.unreachable")
