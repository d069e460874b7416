"""The KV of workerd as a server on loopback. npm installs it on first use."""

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
"""Time limit of the installation, which downloads a hundred megabytes once."""
START_S = 30.0
"""Time limit until the server prints its port, and time limit until it ends after a stop."""
QUICK = ("--no-audit", "--no-fund", "--no-package-lock", "--fetch-retries=1", "--fetch-retry-mintimeout=500")
INSTALL = ("npm", "install", "--ignore-scripts", *QUICK)
TRY = """
require("miniflare");
const { status, error } = require("child_process").spawnSync(require("workerd").default, ["--version"]);
if (status !== 0) throw error ?? new Error("workerd does not run here");
"""


def installed(cache: Path) -> Path:
    """Return the directory with the packages of tests/contract/node; cache: the directory that keeps them.

    Raise NotHere without node or npm, if npm fails or exceeds INSTALL_S, and if workerd does not run.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NotHere("node and npm are not installed")
    manifest = MANIFEST.read_bytes()
    place = cache / hashlib.sha256(manifest).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    done, failed = place / "installed", place / "failed"
    with _exclusive(place / "lock") as waited:
        # A process that waited for another one's attempt does not try again.
        if not done.exists() and not (waited and failed.exists()):
            (place / MANIFEST.name).write_bytes(manifest)
            fault = _error_of(INSTALL, place) or _error_of(("node", "-e", TRY), place)
            if fault:
                failed.write_text(fault)
            else:
                done.touch()
        if not done.exists():
            raise NotHere(failed.read_text())
    return place


@contextmanager
def served(packages: Path, scratch: Path) -> Iterator[str]:
    """Run the server and yield its base URL; packages: from `installed`, scratch: a directory for its values."""
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
def _exclusive(path: Path) -> Iterator[bool]:
    """Hold a lock between processes and yield whether another process held it before."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield True
        else:
            yield False


def _error_of(command: Sequence[str], place: Path) -> str:
    """Run the command and return its error in one line, or "" for success."""
    with _process(command, place, subprocess.STDOUT) as process:
        try:
            output, _ = process.communicate(timeout=INSTALL_S)
        except subprocess.TimeoutExpired:
            return f"{command[0]} took over {INSTALL_S:g} s"
    if process.returncode == 0:
        return ""
    lines = [line for line in output.splitlines() if "rror" in line]
    return f"{command[0]} ended with {process.returncode}: {(lines or [''])[0]}"


@contextmanager
def _process(
    command: Sequence[str], place: Path, stderr: int, scratch: Path | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """Run a process. At the end of the block, kill it with its children."""
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
