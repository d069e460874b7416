"""What is measured on: a folder of aged files, a stand-in in a process of its own, and syncd as users start it."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self, TypeAlias

import httpx

Kind: TypeAlias = Literal["ai-search", "kv", "vectorize"]
ACCOUNT = "0123456789abcdef0123456789abcdef"
SYNCD = (sys.executable, "-m", "syncd")
AGED = 1_700_000_000
"""Modification time of every file: long enough ago for the stat cache to trust it."""
TEXT = "A paragraph of plain words, so that a file has half a kilobyte to send and the index something to cut.\n" * 4
LONGEST_S = 240.0
"""No child process lives longer; a hang shows as a failure."""
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: `python -m bench`, or less of it with --quick."""

    files: int = 1_000
    bulk_files: int = 10_000
    guides: int = 2_000
    many: int = 20_000
    idle_files: int = 100_000
    idle_passes: int = 2
    audited: int = 20_000
    folders: int = 200
    queue: int = 5_000
    edits: int = 200
    edits_between: int = 40
    gap_s: float = 0.15
    idle_s: float = 20.0
    starts: int = 10
    rounds: int = 3


QUICK = Sizes(
    files=200,
    bulk_files=3_000,
    guides=100,
    many=600,
    idle_files=5_000,
    audited=600,
    folders=20,
    queue=400,
    edits=20,
    edits_between=5,
    idle_s=2.0,
    starts=3,
    rounds=1,
)


def plant(root: Path, number: int, folders: int) -> None:
    """Make `number` small Markdown files, all of different content, spread over `folders` directories."""
    for at in range(number):
        file = root / f"part-{at % folders:04d}" / f"page-{at:06d}.md"
        if at < folders:
            file.parent.mkdir(parents=True)
        file.write_text(f"# Page {at}\n\n{TEXT}")
        os.utime(file, (AGED, AGED))


def write_through(file: Path, text: str) -> float:
    """Write a file in place as an editor does, down to the disk; return when it was closed (Unix time)."""
    with file.open("w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    return time.time()


class Standin:
    """`syncd emulate` as a process: it shares no interpreter lock with the client that is measured."""

    def __init__(self, *, latency: float = 0.0, index_delay: float = 0.2) -> None:
        options = ["--port", "0", "--latency", str(latency), "--index-delay", str(index_delay)]
        self.index_delay = index_delay
        self._process = subprocess.Popen([*SYNCD, "emulate", *options], stdout=subprocess.PIPE, text=True)
        self._out = piped(self._process.stdout)
        self.base_url = self._out.readline().strip()
        self._client = httpx.Client(trust_env=False, timeout=30, headers={"Authorization": "Bearer bench"})

    def reset(self) -> None:
        """Count from zero."""
        self._client.post(f"{self._own}/reset").raise_for_status()

    def requests(self) -> dict[str, Any]:
        """What was asked since the last reset: total, changing, and by route."""
        counted: dict[str, Any] = self._client.get(self._own).raise_for_status().json()
        return counted

    def items(self, instance: str) -> str:
        """The URL of an instance's items."""
        return f"{self.base_url}/accounts/{ACCOUNT}/ai-search/namespaces/default/instances/{instance}/items"

    def make(self, instance: str) -> None:
        """Make an instance, as a user's stands ready before the first pass."""
        url = self.items(instance).removesuffix(f"/{instance}/items")
        self._client.post(url, json={"id": instance}).raise_for_status()

    def vectors(self, index: str) -> int:
        """How many vectors a Vectorize index holds."""
        url = f"{self.base_url}/accounts/{ACCOUNT}/vectorize/v2/indexes/{index}/info"
        count: int = self._client.get(url).raise_for_status().json()["result"]["vectorCount"]
        return count

    def arrivals(self, instance: str) -> dict[str, float]:
        """Key -> when its present content came in (Unix time, to the millisecond), from the API's own listing.

        An item that is indexed was last seen `index_delay` after it came in. Asked once, after what is measured.
        """
        items = self.items(instance)
        found: dict[str, float] = {}
        page = 1
        while rows := self._page(items, page):
            for row in rows:
                if row["status"] != "completed":
                    raise RuntimeError(f"{row['key']} is still {row['status']}")
                found[row["key"]] = datetime.fromisoformat(row["last_seen_at"]).timestamp() - self.index_delay
            page += 1
        return found

    def _page(self, items: str, page: int) -> list[dict[str, Any]]:
        params: dict[str, str | int] = {"page": page, "per_page": 50, "sort_by": "modified_at"}
        rows: list[dict[str, Any]] = self._client.get(items, params=params).raise_for_status().json()["result"]
        return rows

    @property
    def _own(self) -> str:
        return self.base_url.removesuffix("/client/v4") + "/_syncd/requests"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        end(self._process)
        self._out.close()


@dataclass(frozen=True, slots=True)
class Run:
    """One syncd command that has ended well. Times in seconds, peak memory in MB; log: its JSON lines."""

    elapsed_s: float
    cpu_s: float
    peak_mb: float
    log: list[dict[str, Any]]

    def last(self, event: str) -> Mapping[str, Any]:
        """The last log line of an event."""
        return [line for line in self.log if line["event"] == event][-1]


_NAMES: Mapping[Kind, str] = {"ai-search": "instance", "kv": "namespace_title", "vectorize": "index"}
"""What each kind of target calls the name of what it writes to."""


class Room:
    """One folder in a temporary directory, and a config for it. `fresh` makes syncd and the target forget all."""

    def __init__(self, place: Path, standin: Standin, kind: Kind = "ai-search") -> None:
        self.tree = place / "tree"
        self.instance = ""
        self._kind = kind
        self._place = place
        self._standin = standin
        self.tree.mkdir()
        self.fresh()

    def forget(self) -> None:
        """Lose the state file, and with it journal, stat cache and remembered vectors."""
        shutil.rmtree(self._place / "state", ignore_errors=True)

    def fresh(self) -> None:
        """Start over: an empty state directory, another instance."""
        self.forget()
        self.instance = f"bench-{secrets.token_hex(4)}"
        name = _NAMES[self._kind]
        config = self._place / "syncd.toml"
        config.write_text(
            f'state_dir = "{self._place}/state"\n'
            f'[cloudflare]\naccount_id = "{ACCOUNT}"\napi_token = "bench"\n'
            f'base_url = "{self._standin.base_url}"\ntpslimit = 0\ntransfers = 8\n'
            f'[mirrors.bench]\npath = "{self.tree}"\nsettle = 0.05\n'
            f'[mirrors.bench.target]\ntype = "{self._kind}"\n{name} = "{self.instance}"\ncreate = true\n'
        )
        config.chmod(0o600)
        if self._kind == "ai-search":
            self._standin.make(self.instance)

    def target(self) -> str:
        """The URL that uploads go to."""
        return self._standin.items(self.instance)

    def command(self, *arguments: str) -> list[str]:
        """A command line of syncd on this room, with the log as JSON lines at the level info."""
        return [*SYNCD, "-c", str(self._place / "syncd.toml"), "--log-format", "json", *arguments]

    def reconcile(self, *options: str, log: bool = False) -> Run:
        """One full pass as a command, with options, timed from start to end of its process. log: keep what it logs."""
        return measured(self.command(*(["-v"] if log else []), "reconcile", *options))

    def run(self) -> "Daemon":
        """The daemon."""
        return Daemon(self.command("run"), self._place / "run.log")


@contextmanager
def room(standin: Standin, files: int, folders: int = 10, kind: Kind = "ai-search") -> Iterator[Room]:
    """A room with so many files and a target of that kind, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as place:
        made = Room(Path(place), standin, kind)
        plant(made.tree, files, min(files, folders))
        yield made


def measured(command: list[str], env: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end. RuntimeError, with what it said, if it does not end well. env: None for this one's."""
    with tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=env)
        guard = threading.Timer(LONGEST_S, process.kill)
        guard.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            guard.cancel()
        elapsed = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        lines = said.readlines()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {process.returncode}: {''.join(lines[-20:])}")
    return Run(elapsed, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, _parsed(lines))


class Daemon:
    """`syncd run` as a process, its log in a file. Leave the block to stop it with SIGTERM."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        with ExitStack() as stack:
            out = stack.enter_context(log.open("w"))
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=out)

    def has(self, event: str, **fields: object) -> bool:
        """Whether the log holds such a line."""
        return any(
            line["event"] == event and all(line.get(name) == value for name, value in fields.items())
            for line in _parsed(self._log.read_text().splitlines(keepends=True))
        )

    def wait_for(self, event: str, **fields: object) -> None:
        """Wait for such a line in the log. RuntimeError if the daemon ends, or LONGEST_S pass, without it."""
        end = time.monotonic() + LONGEST_S
        while not self.has(event, **fields):
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no {event} in the log: {self._log.read_text()[-2000:]}")
            time.sleep(POLL_S * 5)

    def memory_mb(self) -> tuple[float, float]:
        """Resident memory now, and its peak."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return int(fields["VmRSS"].split()[0]) / 1024, int(fields["VmHWM"].split()[0]) / 1024

    def cpu_s(self) -> float:
        """Seconds of processor time so far, in user and kernel mode."""
        return cpu_s(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self._process)


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a running process took so far, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def piped(stream: IO[str] | None) -> IO[str]:
    """A stream of a process that was started with a pipe for it."""
    if stream is None:
        raise AssertionError("started without a pipe")
    return stream


def end(process: subprocess.Popen[Any]) -> None:
    """Ask a process to end, and see to it that it does."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _parsed(lines: list[str]) -> list[dict[str, Any]]:
    """The JSON lines among what a command wrote to stderr; the last may be half written."""
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}\n")]
