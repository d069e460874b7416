"""The real program as the storms start, hit and end it, and what it leaves behind."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import syncd
from tests.e2e.harness import ACCOUNT, TOKEN
from tests.torture.stormy_folder import Kind
from tests.torture.stormy_remote import PLACE
from tests.torture.stormy_vectors import HOW, MODEL, OURS

HERE = Path(__file__).parent
TIMEOUT_S = 1.0
"""For one try of a request; what hangs, hangs for longer."""
PATIENCE_S = 90.0
"""How long a command may take on a loaded machine."""
STOP_S = 10.0
"""`run` ends 5 s after SIGTERM (its promise); a loaded machine is given as long again."""
KILLED = -signal.SIGKILL
ENDED_EARLY = -signal.SIGTERM
"""How `run` ends if SIGTERM comes before the interpreter has run anything of syncd, or after it has run all of it."""
TARGETS: Mapping[Kind, str] = {
    "ai-search": f'instance = "{PLACE}"',
    "kv": f'namespace_title = "{PLACE}"',
    "vectorize": f'index = "{PLACE}"\nmodel = "{MODEL}"\nchunk_size = {HOW.size}\nchunk_overlap = {HOW.overlap}',
}
"""The target's settings besides its type."""
OWNED: Mapping[Kind, str] = {"ai-search": "", "kv": "", "vectorize": f'owner = "{OURS}"\n'}
"""Of a vector the owner is in the id, which is worked out here; of the others the default owner serves."""


@dataclass(frozen=True, slots=True)
class Clock:
    """A wrong one: `start` seconds ahead, and `then` seconds `after` seconds of running."""

    start: float
    after: float
    then: float


@dataclass(slots=True)
class Process:
    """One syncd. may: the exit codes that are no bug."""

    popen: "subprocess.Popen[bytes]"
    command: str
    out: Path
    err: Path
    may: frozenset[int]

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def send(self, number: int) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def wait(self, seconds: float = PATIENCE_S) -> int | None:
        """Its exit code; None if it was still running then, and had to be killed."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def said(self, text: str) -> int:
        """How often a text stands in its log."""
        return self.err.read_text(encoding="utf-8", errors="replace").count(text)


@dataclass(slots=True)
class Workshop:
    """Where they run: config, state directory, output. limit: bytes that no file of theirs may exceed, or None."""

    path: Path
    base_url: str
    kind: Kind
    started: list[Process] = field(default_factory=list)
    bugs: list[str] = field(default_factory=list)
    limit: int | None = None

    @property
    def folder(self) -> Path:
        return self.path / "folder"

    @property
    def state(self) -> Path:
        return self.path / "state"

    def configure(self) -> None:
        """One mirror. Any number of deletes passes: the brake has tests of its own, and storms delete much."""
        self.state.mkdir()
        (self.path / "syncd.toml").write_text(
            f'state_dir = "{self.state}"\n'
            f'[cloudflare]\naccount_id = "{ACCOUNT}"\nbase_url = "{self.base_url}"\n'
            f"tpslimit = 0\ntimeout = {TIMEOUT_S}\nretry_for = 4\n"
            f'[mirrors.docs]\npath = "{self.folder}"\nsettle = 0.05\nsettle_max = 2\ndelete_after = 0.5\n'
            f'max_delete = "100%"\n'
            f'{OWNED[self.kind]}[mirrors.docs.target]\ntype = "{self.kind}"\n{TARGETS[self.kind]}\n'
        )

    def start(
        self, *arguments: str, clock: Clock | None = None, may: Sequence[int] = (), interval: float = 3600.0
    ) -> Process:
        """Start a command as a shell would. may: exit codes that are fine besides 0, 1 (problems) and 5 (gave up).

        interval: seconds between two full passes of `run`.
        """
        program = ["-m", "syncd"]
        if clock:
            program = [str(HERE / "warped.py"), *map(str, (clock.start, clock.after, clock.then))]
        number = len(self.started)
        out, err = self.path / f"{number}.out", self.path / f"{number}.err"
        command = ["--config", str(self.path / "syncd.toml"), "--log-format", "json", "-v", *arguments]
        with out.open("wb") as to_out, err.open("wb") as to_err:
            popen = subprocess.Popen(
                [sys.executable, *program, *command],
                env=self._environment() | {"SYNCD_MIRRORS__DOCS__RECONCILE_INTERVAL": str(interval)},
                cwd=self.path,
                stdin=subprocess.DEVNULL,
                stdout=to_out,
                stderr=to_err,
            )
        if self.limit is not None:
            resource.prlimit(popen.pid, resource.RLIMIT_FSIZE, (self.limit, resource.RLIM_INFINITY))
        started = Process(popen, " ".join(arguments), out, err, frozenset((0, 1, 5, KILLED, *may)))
        self.started.append(started)
        return started

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.path),
            "PYTHONPATH": str(Path(syncd.__file__).parents[1]),
            "CLOUDFLARE_API_TOKEN": TOKEN,
            # What is spilled there is on the same disk as the state file.
            "SQLITE_TMPDIR": str(self.state),
        }

    def ended(self, process: Process, seconds: float = PATIENCE_S) -> int | None:
        """Wait for its end and judge it."""
        code = process.wait(seconds)
        if code is None:
            self.bugs.append(f"`{process.command}` had not ended after {seconds:g} s")
        return code

    def stopped(self, daemon: Process) -> None:
        """Ask `run` to end, and see that it does."""
        daemon.send(signal.SIGCONT)
        daemon.send(signal.SIGTERM)
        self.ended(daemon, STOP_S)

    def lose_state(self) -> None:
        for file in self.state.glob("state.db*"):
            file.unlink()

    def judge(self) -> int:
        """Note every exit code that is a bug and every trace; return in how many places the token was found."""
        leaks = 0
        for process in self.started:
            code = process.popen.returncode
            text = process.out.read_bytes() + process.err.read_bytes()
            leaks += TOKEN.encode() in text
            early = code == ENDED_EARLY and not text
            if b"Traceback" in text or not (early or code in process.may):
                last = text.decode(errors="replace").strip().splitlines()[-1:]
                self.bugs.append(f"`{process.command}` ended with {code}: {' '.join(last)[:300]}")
        files = [file for file in self.state.rglob("*") if file.is_file()]
        return leaks + sum(TOKEN.encode() in file.read_bytes() for file in files)


def until(true: Callable[[], bool], seconds: float, every_s: float = 0.1) -> bool:
    """Wait until it is true, or the time is over; return whether it is."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(every_s)
    return True
