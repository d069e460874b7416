"""The KV of workerd as a server on loopback: installed with npm when first asked for, started, and stopped again."""

import fcntl
import hashlib
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.skips import NotHere

NODE = Path(__file__).parent / "node"
MANIFEST = NODE / "package.json"
INSTALL_S = 240.0
"""Seconds that the installation may take: a hundred megabytes, once."""
START_S = 30.0
"""Seconds until the server must have said its port, and again until it must be gone."""
QUICK = ("--no-audit", "--no-fund", "--no-package-lock", "--fetch-retries=1", "--fetch-retry-mintimeout=500")
INSTALL = ("npm", "install", "--ignore-scripts", *QUICK)
TRY = """
require("miniflare");
const { status, error } = require("child_process").spawnSync(require("workerd").default, ["--version"]);
if (status !== 0) throw error ?? new Error("workerd does not run here");
"""


def installed(cache: Path) -> Path:
    """Where the packages lie that tests/contract/node asks for; cache: the directory to keep them in.

    Raises NotHere without node or npm, if npm fails or takes over INSTALL_S, and where workerd does not run.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NotHere("node and npm are not there")
    manifest = MANIFEST.read_bytes()
    place = cache / hashlib.sha256(manifest).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    done, failed = place / "installed", place / "failed"
    with _alone(place / "lock") as waited:
        # Who had to wait for an attempt need not make another.
        if not done.exists() and not (waited and failed.exists()):
            (place / MANIFEST.name).write_bytes(manifest)
            fault = _fault(INSTALL, place) or _fault(("node", "-e", TRY), place)
            if fault:
                failed.write_text(fault)
            else:
                done.touch()
        if not done.exists():
            raise NotHere(failed.read_text())
    return place


@contextmanager
def served(packages: Path, scratch: Path) -> Iterator[str]:
    """The base URL of the API while it runs; packages: from `installed`, scratch: where values may lie meanwhile."""
    command = ("node", str(NODE / "miniflare_kv.mjs"))
    with (scratch / "stderr").open("w+") as stderr, _process(command, packages, stderr.fileno(), scratch) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        port = process.stdout.readline().strip() if ready else ""
        assert port, f"no port within {START_S:g} s: {(scratch / 'stderr').read_text()}"
        yield f"http://127.0.0.1:{port}/client/v4"
        process.stdin.close()
        process.wait(START_S)


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Nobody else is in here; yields whether somebody was. Tests run in several processes."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield True
        else:
            yield False


def _fault(command: Sequence[str], place: Path) -> str:
    """Run it to its end: what went wrong, in a line, or nothing."""
    with _process(command, place, subprocess.STDOUT) as process:
        try:
            said, _ = process.communicate(timeout=INSTALL_S)
        except subprocess.TimeoutExpired:
            return f"{command[0]} took over {INSTALL_S:g} s"
    if process.returncode == 0:
        return ""
    lines = [line for line in said.splitlines() if "rror" in line]
    return f"{command[0]} ended with {process.returncode}: {(lines or [''])[0]}"


@contextmanager
def _process(
    command: Sequence[str], place: Path, stderr: int, scratch: Path | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """A process that has ended, with all that it started, when this does."""
    more: Mapping[str, str] = {} if scratch is None else {"TMPDIR": str(scratch)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        cwd=place,
        env={**os.environ, **more},
        stdin=pipe,
        stdout=pipe,
        stderr=stderr,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
