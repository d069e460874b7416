"""The audit of dependencies in `make check`: strict where it was answered, one line where it was not."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.deploy.harness import load_script

SCRIPT = Path(__file__).parents[3] / ".ci/audit.py"


@pytest.fixture
def audit() -> ModuleType:
    return load_script(".ci/audit.py")


def package(*advisories: str) -> dict[str, Any]:
    vulns = [{"id": each, "aliases": [f"CVE-{each}"], "fix_versions": ["2.0"]} for each in advisories]
    return {"name": "thing", "version": "1.0", "vulns": vulns}


def test_a_known_vulnerability_fails_with_its_id_and_its_fix(
    audit: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.judge([package("PYSEC-1"), {"name": "other", "skip_reason": "unknown"}]) == 1
    assert "thing 1.0: PYSEC-1; fixed in 2.0" in capsys.readouterr().out


def test_only_a_listed_id_is_ignored(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    audit.IGNORED.update({"CVE-PYSEC-1": "no version fixes it, and syncd does not call it"})
    assert audit.judge([package("PYSEC-1")]) == 0
    assert "1 ignored" in capsys.readouterr().out
    assert audit.judge([package("PYSEC-1", "PYSEC-2")]) == 1


def test_every_ignored_advisory_has_a_reason(audit: ModuleType) -> None:
    assert all(reason.strip() for reason in audit.IGNORED.values())


def test_packages_that_nobody_knows_were_not_audited(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.judge([{"name": "thing", "skip_reason": "not found"}]) == 0
    assert capsys.readouterr().out.startswith("audit: skipped")


@pytest.mark.parametrize(
    ("tool", "output"),
    [
        ("import sys; print('no route to host', file=sys.stderr); sys.exit(1)", "no route to host"),
        ("print('<html>')", "no output"),
    ],
)
def test_offline_the_audit_prints_one_line_and_succeeds(tmp_path: Path, tool: str, output: str) -> None:
    (tmp_path / "pip_audit.py").write_text(tool)
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run([sys.executable, SCRIPT], env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.count("\n"), output in ended.stdout) == (0, 1, True)
