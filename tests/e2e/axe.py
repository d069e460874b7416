"""The accessibility checks of axe-core, which is fetched from the package index when the tests run.

axe-core is under the MPL 2.0 and 650 kB large, so no copy of it is in the repository.
"""

import base64
import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from tests.e2e.browser import Page

VERSION = "4.14.1"
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
"""The digest of the package that the index states (dist.integrity)."""
FETCH_S = 60.0


class NoAxe(Exception):
    """axe-core cannot be fetched, with the reason."""


def fetch_axe(folder: Path) -> str:
    """Return the source of axe-core. Raises NoAxe."""
    npm = shutil.which("npm")
    if npm is None:
        raise NoAxe("there is no npm here to fetch axe-core with")
    command = [npm, "pack", "--silent", f"axe-core@{VERSION}", "--pack-destination", str(folder)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S, cwd=folder, check=False)
    except subprocess.TimeoutExpired:
        raise NoAxe(f"the package index did not deliver axe-core within {FETCH_S:.0f} s") from None
    if ended.returncode:
        raise NoAxe(f"the package index does not deliver axe-core: {ended.stderr.strip()[:200]}")
    package = folder / f"axe-core-{VERSION}.tgz"
    digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    assert digest == SHA512, f"{package.name} is not the one that was looked at"
    with tarfile.open(package) as archive:
        found = archive.extractfile("package/axe.min.js")
        assert found is not None
        return found.read().decode()


def violations(page: Page, axe: str) -> list[str]:
    """Return what axe finds on the page as it is shown now, one line for each rule."""
    if not page.run("Boolean(window.axe)"):
        page.run(f"{axe};1")
    found: list[dict[str, Any]] = page.run(
        "axe.run(document, {resultTypes: ['violations']}).then((told) => told.violations.map("
        "(rule) => ({id: rule.id, help: rule.help, nodes: rule.nodes.slice(0, 3).map((node) => node.html)})))"
    )
    return [f"{rule['id']}: {rule['help']}: {' | '.join(rule['nodes'])}" for rule in found]
