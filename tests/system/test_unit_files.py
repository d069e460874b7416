"""The unit files by themselves: nothing in them is unknown to systemd, and the sandbox is as tight in each of them."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.skips import NotHere
from tests.system.conftest import UNITS

SERVICES = ("syncd.service", "syncd@.service", "syncd-reconcile.service")
WORST = {**dict.fromkeys(SERVICES, 13), "user/syncd.service": 65}
"""Tenths of what `systemd-analyze security` may find; a user's manager can take no privilege away by itself."""
WORST_WITH_SANDBOX = 17
BEGIN = "# syncd reads folders"


def analyze(scratch: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    if shutil.which("systemd-analyze") is None:
        raise NotHere("there is no systemd-analyze")
    env: Mapping[str, str] = {**os.environ, "XDG_RUNTIME_DIR": str(scratch)}
    return subprocess.run(["systemd-analyze", *arguments], env=env, capture_output=True, text=True, check=False)


def copied(scratch: Path, unit: str, *drop_ins: str) -> str:
    """A copy whose program is there on every machine; its path."""
    path = scratch / Path(unit).name
    text = (UNITS / unit).read_text()
    path.write_text(text.replace("/opt/syncd/bin/syncd", "/bin/true").replace("%h/syncd-venv/bin/syncd", "/bin/true"))
    for drop_in in drop_ins:
        folder = scratch / f"{path.name}.d"
        folder.mkdir()
        shutil.copy(UNITS / drop_in, folder)
    return str(path)


def scope(unit: str) -> str:
    return "--user" if unit.startswith("user/") else "--system"


@pytest.mark.parametrize("unit", [*WORST, "syncd-reconcile.timer"])
def test_systemd_has_nothing_to_say_against_it(tmp_path: Path, unit: str) -> None:
    copied(tmp_path, "syncd-reconcile.service")
    ended = analyze(tmp_path, scope(unit), "verify", copied(tmp_path, unit))
    assert (ended.returncode, ended.stderr) == (0, "")


def test_what_systemd_has_to_say_would_be_noticed(tmp_path: Path) -> None:
    path = copied(tmp_path, "syncd.service")
    Path(path).write_text(Path(path).read_text().replace("Restart=", "Restrat="))
    assert "Restrat" in analyze(tmp_path, "verify", path).stderr


@pytest.mark.parametrize("unit", WORST)
def test_little_is_exposed(tmp_path: Path, unit: str) -> None:
    path = copied(tmp_path, unit)
    ended = analyze(tmp_path, scope(unit), "security", "--offline=true", f"--threshold={WORST[unit]}", path)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout


def test_a_users_sandbox_is_nearly_as_tight(tmp_path: Path) -> None:
    path = copied(tmp_path, "user/syncd.service", "user/syncd.service.d/sandbox.conf")
    ended = analyze(tmp_path, "--user", "security", "--offline=true", f"--threshold={WORST_WITH_SANDBOX}", path)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout


def test_the_sandbox_is_the_same_in_every_service() -> None:
    def sandbox(unit: str) -> str:
        text = (UNITS / unit).read_text().partition("\n[Install]")[0]
        return text[text.index(BEGIN) :].replace("syncd-%i", "syncd").strip()

    assert len({sandbox(unit) for unit in SERVICES}) == 1
