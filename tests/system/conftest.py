"""Fixtures: a booted machine with the wheel of this checkout and one mirror, and the image of this checkout."""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import Server, serve
from tests.e2e.harness import ACCOUNT, TOKEN, Remote, until
from tests.system.machine import LOOK_EVERY_S, Machine, booted
from tests.system.podman import IMAGE, Podman, podman

REPOSITORY = Path(__file__).parents[2]
UNITS = REPOSITORY / "systemd"
BUILD_S = 60.0
PYTHON, PACKAGES, WHEEL = "/opt/python", "/opt/packages", "/opt/wheel"
"""Where the machine sees the interpreter of these tests (a unit sees nothing below /root), its packages, the wheel."""


@dataclass(frozen=True, slots=True)
class Site:
    """A machine with a stand-in of the API, which runs in this process: the machine shares its loopback."""

    machine: Machine
    server: Server

    def remote(self, instance: str = "docs") -> Remote:
        return Remote(self.server.base_url, instance)

    def configure(self, place: str = "/etc/syncd", instance: str = "docs", more: str = "", token: str = TOKEN) -> None:
        """Write a config and a token. The mirror, its folder /srv/INSTANCE and its instance have one name."""
        self.machine.path(f"/srv/{instance}").mkdir(exist_ok=True)
        target = f'[mirrors.{instance}.target]\ntype = "ai-search"\ninstance = "{instance}"\ncreate = true\n'
        self.machine.write(
            f"{place}/config.toml",
            f'[cloudflare]\naccount_id = "{ACCOUNT}"\nbase_url = "{self.server.base_url}"\nquota = ""\ntpslimit = 0\n'
            f'[mirrors.{instance}]\npath = "/srv/{instance}"\nsettle = 0.05\ndelete_after = 0\n{target}{more}',
        )
        self.machine.write(f"{place}/token", token, 0o600)

    def drop_in(self, unit: str, *lines: str) -> None:
        """Change a unit as `systemctl edit` does."""
        self.machine.write(f"/etc/systemd/system/{unit}.d/override.conf", "[Service]\n" + "\n".join(lines) + "\n")
        self.machine.does("systemctl", "daemon-reload")

    def start(self, unit: str = "syncd.service") -> dict[str, str]:
        """Start a unit that must come up; return its properties."""
        started = self.machine.tries("systemctl", "start", unit)
        assert started.returncode == 0, self.machine.journal(unit)
        return self.machine.show(unit)

    def holds(self, instance: str = "docs", **files: str) -> None:
        """Wait until the stand-in holds exactly these files: name without .md, and text."""
        wanted = {f"{name}.md": text.encode() for name, text in files.items()}
        remote = self.remote(instance)
        try:
            until(
                lambda: remote.files() == wanted, lambda: f"{wanted} instead of {remote.files()}", every_s=LOOK_EVERY_S
            )
        finally:
            remote.close()

    def clear(self) -> None:
        """Undo all that a test may have done to the machine."""
        self.machine.tries("systemctl", "kill", "-s", "CONT", "syncd*")
        self.machine.does("systemctl", "stop", "syncd*")
        self.machine.tries("systemctl", "reset-failed")
        for place in ("/etc/syncd", "/etc/credstore.encrypted", "/var/lib/private", *self._places("srv/*", "home/*")):
            shutil.rmtree(self.machine.path(place), ignore_errors=True)
        for link in self._places("var/lib/syncd*"):
            self.machine.path(link).unlink()
        for drop_ins in self._places("etc/systemd/system/*.d"):
            shutil.rmtree(self.machine.path(drop_ins))
        self.machine.does("systemctl", "daemon-reload")
        self.machine.does("journalctl", "--rotate", "--vacuum-time=1us", "-q")

    def _places(self, *patterns: str) -> list[str]:
        root = self.machine.path("")
        return [f"/{path.relative_to(root)}" for pattern in patterns for path in root.glob(pattern)]


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    prefix, dist = Path(sys.base_prefix), tmp_path_factory.mktemp("wheel")
    hidden = any(prefix.is_relative_to(home) for home in ("/root", "/home"))
    python = PYTHON if hidden else str(prefix)
    shown = {Path(sysconfig.get_path("purelib")): PACKAGES, dist: WHEEL}
    if not prefix.is_relative_to("/usr"):
        shown[prefix] = python
    with booted(tmp_path_factory.mktemp("machine"), shown) as made:
        built = _wheel(dist)
        _install(made, f"{python}/bin/python3.{sys.version_info.minor}", f"{WHEEL}/{built.name}")
        yield made


@pytest.fixture
def site(machine: Machine) -> Iterator[Site]:
    with serve(EmulatorOptions(index_delay=0.0)) as server:
        made = Site(machine, server)
        made.configure()
        try:
            yield made
        finally:
            made.clear()


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with podman(tmp_path_factory.mktemp("podman")) as made:
        yield made


@pytest.fixture(scope="session")
def base(engine: Podman) -> str:
    return engine.base()


@pytest.fixture(scope="session")
def image(engine: Podman, base: str) -> str:
    """The image of this checkout, without a token or a config."""
    engine.build(REPOSITORY, base, "now")
    return f"{IMAGE}:now"


def _wheel(into: Path) -> Path:
    """Build the wheel of this checkout; nothing is fetched, for its builder is one of the developer's tools."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--no-build-isolation", "-w", str(into), str(REPOSITORY)], check=True, timeout=BUILD_S)
    [built] = into.glob("syncd-*.whl")
    return built


def _install(machine: Machine, python: str, wheel: str) -> None:
    """Make /opt/syncd as docs/how-to/systemd.md says, with the dependencies that these tests run with."""
    config = machine.path("/etc/ld.so.conf")
    config.write_text(f"{Path(python).parents[1]}/lib\n{config.read_text()}")
    machine.does("ldconfig")
    machine.does(python, "-m", "venv", "--without-pip", "/opt/syncd")
    [packages] = machine.path("/opt/syncd/lib").glob("python3.*/site-packages")
    (packages / "dependencies.pth").write_text(f"{PACKAGES}\n")
    pip = [f"PYTHONPATH={PACKAGES}", python, "-m", "pip", "--disable-pip-version-check", "--python", "/opt/syncd"]
    machine.does("env", *pip, "install", "-q", "--no-index", "--no-deps", wheel)
    for unit in UNITS.glob("syncd*"):
        shutil.copy(unit, machine.path("/etc/systemd/system"))
    machine.path("/etc/systemd/user").mkdir()
    shutil.copy(UNITS / "user/syncd.service", machine.path("/etc/systemd/user"))
    machine.does("systemctl", "daemon-reload")
