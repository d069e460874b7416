"""The parts of a soak: many small folders, one daemon, a stand-in that is killed and restarted, hostile connections."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

import httpx

import syncd
from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import Emulator, Server
from tests.e2e.harness import ACCOUNT, TOKEN
from tests.torture.faulty_standin import FaultyStandin, weather

ROOT = Path(syncd.__file__).parents[1]
READY = b'"watch.ready"'
STOP_S = 5.0
"""Maximum seconds from SIGTERM to the end of `run`, as documented."""
PATIENCE_S = 120.0
NAMES = 12
"""Number of different file names in a folder, so that no folder grows."""
GARBAGE = 4096


def free_port() -> int:
    """Return a free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class FlappingStandin:
    """A stand-in process with a fixed port and store, which can be killed and restarted."""

    def __init__(self, place: Path, seed: int) -> None:
        self.port = free_port()
        self.kills = 0
        self._store = place / "store.db"
        self._seed = seed
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/client/v4"

    def start(self, strength: float = 0.0) -> None:
        """Start the stand-in. strength: the share of requests that fail."""
        command = [sys.executable, __file__, str(self.port), str(self._store), str(strength), str(self._seed)]
        path = os.pathsep.join([str(ROOT), str(Path(__file__).parent), str(ROOT / "tests/e2e")])
        self._process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def kill(self) -> None:
        """Kill the stand-in without a clean end."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
            self.kills += 1


class Folders:
    """The folders of all mirrors, alternating KV and AI Search, and the edits of them."""

    def __init__(self, place: Path, count: int, files: int, chance: Random) -> None:
        self.written = 0
        self._chance = chance
        self._roots = [place / "folders" / f"m{number}" for number in range(count)]
        for root in self._roots:
            (root / "guides").mkdir(parents=True)
            for number in range(files):
                self._write(root, number)

    def sections(self) -> Iterator[str]:
        """Yield the sections of the config file."""
        for number, root in enumerate(self._roots):
            place = f'instance = "{root.name}"' if number % 2 else f'namespace_title = "{root.name}"'
            kind = "ai-search" if number % 2 else "kv"
            yield f'[mirrors.{root.name}]\npath = "{root}"\n[mirrors.{root.name}.target]\ntype = "{kind}"\n{place}\n'
            yield "create = true\n"

    def edit(self, count: int) -> None:
        """Write some files and remove some."""
        for _ in range(count):
            root = self._chance.choice(self._roots)
            number = self._chance.randrange(NAMES)
            if self._chance.random() < 0.2:
                self._path(root, number).unlink(missing_ok=True)
            else:
                self._write(root, number)

    def _write(self, root: Path, number: int) -> None:
        self.written += 1
        self._path(root, number).write_text(f"# page {number}\n\n{self._chance.random()} {'word ' * 50}\n")

    def _path(self, root: Path, number: int) -> Path:
        return root / ("guides", ".")[number % 2] / f"p{number}.md"


class Crowd:
    """Hostile connections to the page: half-open ones, slow heads, garbage, and many at a time."""

    def __init__(self, port: int, chance: Random) -> None:
        self.made = 0
        self._port = port
        self._chance = chance
        self._open: list[socket.socket] = []

    def come(self, count: int) -> None:
        """Open more connections, and send garbage or nothing on each."""
        for _ in range(count):
            with contextlib.suppress(OSError):
                one = socket.create_connection(("127.0.0.1", self._port), timeout=0.5)
                one.setblocking(False)
                self._open.append(one)
                self.made += 1
                one.send(
                    self._chance.choice((b"", b"GET /metr", self._chance.randbytes(GARBAGE), b"GET / HTTP/1.1\r\n"))
                )

    def dribble(self) -> None:
        """Send one more byte of a head on each connection."""
        for one in self._open:
            with contextlib.suppress(OSError):
                one.send(b"x")

    def go(self) -> None:
        """Close all connections."""
        for one in self._open:
            one.close()
        self._open.clear()


@dataclass(frozen=True, slots=True)
class Sample:
    """The resources of one process at a moment. Memory in KiB. log: lines since its start."""

    rss: int
    pss: int
    descriptors: int
    threads: int
    children: int
    log: int


@dataclass(slots=True)
class Daemon:
    """`syncd run` with all folders, and its measurement."""

    place: Path
    base_url: str
    folders: Folders
    page: int = field(default_factory=free_port)
    bugs: list[str] = field(default_factory=list)
    stops_s: list[float] = field(default_factory=list)
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def log(self) -> Path:
        return self.place / "log"

    def configure(self, interval: float) -> None:
        """Write the config. interval: seconds between full passes."""
        (self.place / "syncd.toml").write_text(
            f'state_dir = "{self.place / "state"}"\n'
            f'[cloudflare]\naccount_id = "{ACCOUNT}"\nbase_url = "{self.base_url}"\n'
            f"quota = ''\ntpslimit = 0\ntimeout = 5\nretry_for = 5\n"
            f'[web]\nlisten = "127.0.0.1:{self.page}"\n'
            f'[defaults]\nsettle = 0.2\nsettle_max = 5\ndelete_after = 1\nmax_delete = "100%"\n'
            f"reconcile_interval = {interval:g}\n" + "".join(self.folders.sections())
        )

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "syncd", "--config", str(self.place / "syncd.toml"), *arguments]

    def _environment(self) -> dict[str, str]:
        home = {"PATH": os.environ["PATH"], "HOME": str(self.place), "PYTHONPATH": str(ROOT)}
        return home | {"CLOUDFLARE_API_TOKEN": TOKEN}

    def start(self) -> None:
        """Start the daemon with a new log."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command("--log-format", "json", "run"), env=self._environment(), stdout=log, stderr=log
            )

    def ready(self, count: int) -> None:
        """Wait until a number of mirrors are watched."""
        end = time.monotonic() + PATIENCE_S
        while self.log.read_bytes().count(READY) < count:
            if time.monotonic() > end or not self.alive:
                self.bugs.append("`run` does not get ready")
                return
            time.sleep(0.2)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """Send SIGTERM and check the end: exit code 0, or the signal itself before the first log line."""
        process, self._process = self._process, None
        if process is None:
            return
        ended_itself = process.poll() is not None
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_S * 2)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        self.stops_s.append(time.monotonic() - began)
        text = self.log.read_bytes()
        early = code == -signal.SIGTERM and not text
        if b"Traceback" in text or TOKEN.encode() in text or ended_itself or not (code == 0 or early):
            last = text.decode(errors="replace").strip().splitlines()[-1:]
            self.bugs.append(f"`run` ended with {code}: {' '.join(last)[:300]}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def healthy(self) -> bool:
        """Return whether /healthz reports ok."""
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{self.page}/healthz", timeout=5).status_code == httpx.codes.OK
        return False

    def in_step(self) -> str:
        """Return the reason why a pass by hand is not in step, "" if it is."""
        command = self._command("-q", "reconcile")
        ended = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        return "" if ended.returncode == 0 else f"`reconcile` ended with {ended.returncode}: {ended.stderr[-300:]}"

    def sample(self) -> Sample:
        """Measure the process. Raise FileNotFoundError if it has ended."""
        assert self._process is not None
        proc = Path(f"/proc/{self._process.pid}")
        status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
        pss = next(line for line in (proc / "smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
        children = sum(len(each.read_text().split()) for each in proc.glob("task/*/children"))
        return Sample(
            rss=int(status["VmRSS"].split()[0]),
            pss=int(pss.split()[1]),
            descriptors=sum(1 for _ in (proc / "fd").iterdir()),
            threads=int(status["Threads"]),
            children=children,
            log=self.log.read_bytes().count(b"\n"),
        )


def _serve(port: int, store: Path, strength: float, seed: int) -> None:
    faulty = FaultyStandin(Emulator(EmulatorOptions(store=store)), seed, lambda _: False)
    if strength:
        faulty.rates = weather(strength) | {"503": strength / 2}

    def end(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit

    signal.signal(signal.SIGTERM, end)
    app: Emulator = faulty  # type: ignore[assignment]
    with Server(app, port):
        print("ready", flush=True)
        signal.pause()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
