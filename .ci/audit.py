"""Asks PyPI for known vulnerabilities of the locked packages; run by `make check`. Exit code 1 if there is one.

When the service cannot be asked, one line says so and the check goes on: it must work offline, too.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[1] / "requirements-dev.txt"
PATIENCE_S = 30
CONNECT_S = "5"

IGNORED: dict[str, str] = {}
"""Advisory id -> why it is no matter here. Only for what no version of the package mends; an entry without a reason is
a mistake."""


def main() -> int:
    """Run pip-audit over the lock and judge what it found."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--require-hashes", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", CONNECT_S]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return skipped(f"no answer within {PATIENCE_S} s")
    try:
        packages = json.loads(ended.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return skipped((ended.stderr.strip().splitlines() or ["it said nothing"])[-1][:200])
    return judge(packages)


def judge(packages: list[dict[str, Any]]) -> int:
    """Print what is known of each package; return the exit code."""
    asked = [package for package in packages if "vulns" in package]
    if not asked:
        return skipped("the service knows none of the packages")
    found = [(package, each) for package in asked for each in package["vulns"]]
    bad = [(package, each) for package, each in found if IGNORED.keys().isdisjoint({each["id"], *each["aliases"]})]
    for package, each in bad:
        mended = ", ".join(each["fix_versions"]) or "no version yet"
        print(f"audit: {package['name']} {package['version']}: {each['id']}; mended in {mended}: make lock")
    print(f"audit: {len(asked)} packages, {len(bad)} known vulnerabilities, {len(found) - len(bad)} ignored")
    return 1 if bad else 0


def skipped(why: str) -> int:
    """Say that nothing was asked."""
    print(f"audit: skipped, PyPI's advisories could not be asked: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
