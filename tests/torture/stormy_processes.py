"""The real program in a storm: its start, signals, end and output."""

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
"""Time limit of one try of a request. A hanging request takes longer."""
PATIENCE_S = 90.0
"""Maximum seconds of a command on a loaded machine."""
STOP_S = 10.0
"""`run` ends within 5 s of SIGTERM, as documented. A loaded machine gets twice that time."""
KILLED = -signal.SIGKILL
ENDED_EARLY = -signal.SIGTERM
"""The exit codes of `run` if SIGTERM comes before the first or after the last line of syncd's code."""
TARGETS: Mapping[Kind, str] = {
    "ai-search": f'instance = "{PLACE}"',
    "kv": f'namespace_title = "{PLACE}"',
    "vectorize": f'index = "{PLACE}"\nmodel = "{MODEL}"\nchunk_size = {HOW.size}\nchunk_overlap = {HOW.overlap}',
}
"""The settings of each kind of target."""
OWNED: Mapping[Kind, str] = {"ai-search": "", "kv": "", "vectorize": f'owner = "{OURS}"\n'}
"""The id of a vector contains the owner, so Vectorize needs a fixed one. The others use the default owner."""


@dataclass(frozen=True, slots=True)
class Clock:
    """A wrong clock: `start` seconds ahead, and `then` seconds ahead `after` seconds later."""

    start: float
    after: float
    then: float


@dataclass(slots=True)
class Process:
    """One syncd process. may: the exit codes that are no bug."""

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
        """Return the exit code, or None if the process was still running and was killed."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def said(self, text: str) -> int:
        """Return the number of occurrences of a text in the log."""
        return self.err.read_text(encoding="utf-8", errors="replace").count(text)


@dataclass(slots=True)
class Workshop:
    """The files of the processes: config, state directory, output. limit: maximum size of their files, or None."""

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
        """Write a config with one mirror and without a limit of deletes, because storms delete many files."""
        self.state.mkdir()
        (self.path / "syncd.toml").write_text(
            f'state_dir = "{self.state}"\n'
            f'[cloudflare]\naccount_id = "{ACCOUNT}"\nbase_url = "{self.base_url}"\n'
            f"quota = ''\ntpslimit = 0\ntimeout = {TIMEOUT_S}\nretry_for = 4\n"
            f'[mirrors.docs]\npath = "{self.folder}"\nsettle = 0.05\nsettle_max = 2\ndelete_after = 0.5\n'
            f'max_delete = "100%"\n'
            f'{OWNED[self.kind]}[mirrors.docs.target]\ntype = "{self.kind}"\n{TARGETS[self.kind]}\n'
        )

    def start(
        self, *arguments: str, clock: Clock | None = None, may: Sequence[int] = (), interval: float = 3600.0
    ) -> Process:
        """Start a command as a shell would. may: allowed exit codes besides 0, 1 (problems) and 5 (gave up).

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
            # SQLite's temporary files are on the same disk as the state file.
            "SQLITE_TMPDIR": str(self.state),
        }

    def ended(self, process: Process, seconds: float = PATIENCE_S) -> int | None:
        """Wait for the end of the process and check its exit code."""
        code = process.wait(seconds)
        if code is None:
            self.bugs.append(f"`{process.command}` had not ended after {seconds:g} s")
        return code

    def stopped(self, daemon: Process) -> None:
        """Send SIGTERM to `run`, and wait for its end."""
        daemon.send(signal.SIGCONT)
        daemon.send(signal.SIGTERM)
        self.ended(daemon, STOP_S)

    def lose_state(self) -> None:
        for file in self.state.glob("state.db*"):
            file.unlink()

    def judge(self) -> int:
        """Record wrong exit codes and tracebacks. Return the number of places with the token."""
        leaks = 0
        for process in self.started:
            code = process.popen.returncode
            text = process.out.read_bytes() + process.err.read_bytes()
            leaks += TOKEN.encode() in text
            early = code == ENDED_EARLY and not text
            if b"Traceback" in text or not (early or code in process.may):
                # A storm does not repeat exactly, so the traceback is shown at once.
                _, traceback, after = text.decode(errors="replace").strip().rpartition("Traceback")
                last = traceback + after if traceback else "".join(after.splitlines()[-1:])
                self.bugs.append(f"`{process.command}` ended with {code}: {last[:4000]}")
        files = [file for file in self.state.rglob("*") if file.is_file()]
        return leaks + sum(TOKEN.encode() in file.read_bytes() for file in files)


def until(true: Callable[[], bool], seconds: float, every_s: float = 0.1) -> bool:
    """Wait until a condition is true or the time is over. Return the condition."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(every_s)
    return True
