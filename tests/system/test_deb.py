"""The Debian package on a booted Debian. .ci/packages builds the package and the root, and runs these tests.

TEST_DEB: the package. TEST_DEB_NEXT: a later version, whose config file differs. TEST_DEB_ROOT: a root of the same
Debian.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import serve
from tests.e2e.harness import ACCOUNT, TOKEN
from tests.skips import NotHere
from tests.system.conftest import Site
from tests.system.machine import Machine, booted

UNIT = "syncd.service"
CONFIG, TOKEN_FILE = "/etc/syncd/config.toml", "/etc/syncd/token"
DPKG_S = 300.0
"""A loaded machine unpacks a hundred megabytes slowly."""
LEFT_BY_DEBIAN = {"/etc/group-", "/etc/gshadow-", "/etc/passwd-", "/etc/shadow-", "/etc/.pwd.lock", "/var/lib/private"}
"""Files and folders of the system, which the first package or unit of their kind makes."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    names = ("TEST_DEB", "TEST_DEB_NEXT", "TEST_DEB_ROOT")
    package, following, root = (Path(os.environ.get(name, "")) for name in names)
    if not all(os.environ.get(name) for name in names):
        raise NotHere("the tests of the Debian package need a package and a root of Debian; .ci/packages makes them")
    shown = {package.parent: "/opt/now", following.parent: "/opt/next"}
    with booted(tmp_path_factory.mktemp("debian"), shown, root) as made:
        yield made


@pytest.fixture
def site(debian: Machine) -> Iterator[Site]:
    with serve(EmulatorOptions(index_delay=0.0)) as server:
        yield Site(debian, server)


def dpkg(machine: Machine, *arguments: str) -> str:
    return machine.does("sh", "-c", f"DEBIAN_FRONTEND=noninteractive dpkg {' '.join(arguments)} 2>&1", within_s=DPKG_S)


def files(machine: Machine) -> set[str]:
    """All files that a package may leave behind. Logs, caches and the database of dpkg are not of the package."""
    others = [part for each in ("/var/log", "/var/cache", "/var/lib/dpkg") for part in ("-path", each, "-prune", "-o")]
    found = machine.does("find", "/", "-xdev", *others, "-print", within_s=DPKG_S).splitlines()
    return {path for path in found if not path.startswith("/var/lib/systemd/deb-systemd-helper")} - LEFT_BY_DEBIAN


def owner(machine: Machine, path: str) -> str:
    return machine.does("stat", "-c", "%U:%G %a", path).strip()


def configure(site: Site) -> str:
    """Do what the package says after its installation; return the config."""
    machine = site.machine
    text = machine.path(CONFIG).read_text()
    assert 'account_id = ""' in text
    text = text.replace('account_id = ""', f'account_id = "{ACCOUNT}"\nbase_url = "{site.server.base_url}"')
    text += '[mirrors.docs]\npath = "/srv/docs"\nsettle = 0.05\n'
    text += '[mirrors.docs.target]\ntype = "ai-search"\ninstance = "docs"\ncreate = true\n'
    machine.path(CONFIG).write_text(text)
    machine.does("install", "-m", "600", "/dev/stdin", TOKEN_FILE, given=TOKEN)
    return text


def test_it_is_installed_started_upgraded_removed_and_purged(site: Site) -> None:
    machine = site.machine
    before = files(machine)

    # Installed: everything is in place, nothing runs, and the message says how to go on.
    said = dpkg(machine, "--install", "/opt/now/*.deb")
    assert "sudo systemctl enable --now syncd" in said
    assert machine.tries("systemctl", "is-enabled", UNIT).stdout.strip() == "disabled"
    assert machine.show(UNIT)["ActiveState"] == "inactive"
    assert machine.tries("systemctl", "--global", "is-enabled", UNIT).stdout.strip() == "disabled"
    assert machine.does("syncd", "--version").startswith("syncd ")
    assert "cloudflare.account_id: should be" in machine.tries("syncd", "check").stdout
    assert (owner(machine, "/etc/syncd"), owner(machine, CONFIG)) == ("root:syncd 750", "root:syncd 640")
    assert machine.tries("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", CONFIG).returncode != 0
    wanted = {"/usr/share/bash-completion/completions/syncd", "/usr/share/zsh/vendor-completions/_syncd"}
    assert wanted <= files(machine)

    # Started too early, it fails once, with the reason.
    assert machine.tries("systemctl", "start", UNIT).returncode != 0
    shown = machine.show(UNIT)
    assert (shown["ActiveState"], shown["NRestarts"]) == ("failed", "0")
    machine.does("systemctl", "reset-failed")

    # Configured and started: it mirrors, as the user of the package.
    config = configure(site)
    machine.write("/srv/docs/a.md", "before")
    machine.does("systemctl", "enable", "--now", UNIT)
    site.holds(a="before")
    pid = machine.show(UNIT)["MainPID"]
    assert owner(machine, f"/proc/{pid}").split(":")[0] == "syncd"
    assert "syncd" in machine.path("/etc/passwd").read_text()
    assert "1 in step" in machine.does("syncd", "status")

    # Upgraded: the edited config stays, and the daemon runs the new version.
    dpkg(machine, "--force-confold", "--install", "/opt/next/*.deb")
    assert machine.path(CONFIG).read_text() == config
    assert (owner(machine, CONFIG), owner(machine, TOKEN_FILE)) == ("root:syncd 640", "root:root 600")
    shown = machine.becomes(UNIT, ActiveState="active", SubState="running")
    assert shown["MainPID"] != pid
    machine.write("/srv/docs/b.md", "later")
    site.holds(a="before", b="later")
    assert [event["key"] for event in machine.events(UNIT, "put.done")] == ["a.md", "b.md"]

    # Removed: config and state are left, and nothing else.
    dpkg(machine, "--remove", "syncd")
    assert machine.does("find", "/proc", "-maxdepth", "1", "-user", "syncd") == ""
    left = {path for path in files(machine) - before if not path.startswith(("/etc/syncd", "/var/lib/private/syncd/"))}
    link = "/etc/systemd/system/multi-user.target.wants"
    assert left <= {"/srv/docs", "/srv/docs/a.md", "/srv/docs/b.md", "/var/lib/private/syncd", "/var/lib/syncd",
                    link, f"{link}/{UNIT}"}  # fmt: skip

    # Installed again: the service is enabled as before, and its state is known.
    dpkg(machine, "--force-confold", "--install", "/opt/next/*.deb")
    machine.does("systemctl", "start", UNIT)
    machine.write("/srv/docs/c.md", "again")
    site.holds(a="before", b="later", c="again")
    assert [event["key"] for event in machine.events(UNIT, "put.done")] == ["a.md", "b.md", "c.md"]

    # Purged: nothing is left, but the user, whose number must not pass to another.
    dpkg(machine, "--purge", "syncd")
    left = {path for path in files(machine) - before if not path.startswith("/srv/docs")}
    assert left <= {link}
    assert "syncd" in machine.does("getent", "passwd", "syncd")
    assert machine.does("systemctl", "--failed", "--no-legend", "--plain").split() == []
