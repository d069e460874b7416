"""Query PyPI for known vulnerabilities of the locked packages; run by `make check`. Exit code 1 if there is one.

If the service does not answer, the script prints one line and succeeds, because the check must work offline, too.
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
"""Advisory id -> reason to ignore it. Only for advisories that no version of the package fixes."""


def main() -> int:
    """Run pip-audit over the lock and return the exit code."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--require-hashes", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", CONNECT_S]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return skipped(f"no answer within {PATIENCE_S} s")
    try:
        packages = json.loads(ended.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return skipped((ended.stderr.strip().splitlines() or ["no output"])[-1][:200])
    return judge(packages)


def judge(packages: list[dict[str, Any]]) -> int:
    """Print the vulnerabilities of each package; return the exit code."""
    asked = [package for package in packages if "vulns" in package]
    if not asked:
        return skipped("the service has no data on the packages")
    found = [(package, vulnerability) for package in asked for vulnerability in package["vulns"]]
    bad = [(package, vulnerability) for package, vulnerability in found if not _is_ignored(vulnerability)]
    for package, vulnerability in bad:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        print(f"audit: {package['name']} {package['version']}: {vulnerability['id']}; fixed in {fixed}; run: make lock")
    print(f"audit: {len(asked)} packages, {len(bad)} known vulnerabilities, {len(found) - len(bad)} ignored")
    return 1 if bad else 0


def _is_ignored(vulnerability: dict[str, Any]) -> bool:
    return not IGNORED.keys().isdisjoint({vulnerability["id"], *vulnerability["aliases"]})


def skipped(why: str) -> int:
    """Print why the audit was skipped."""
    print(f"audit: skipped, PyPI's advisory service is not available: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
