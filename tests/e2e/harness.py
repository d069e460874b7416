"""A folder, a config file and the real program, with a stand-in on loopback."""

import hashlib
import json
import multiprocessing
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import Server, serve
from syncd.state.directory import INSTALLATION_NAME
from tests.e2e.syncd_child import PRELOAD, Stream, child

TOKEN = "a-token-that-nobody-may-see-4711"
ACCOUNT = "0123456789abcdef0123456789abcdef"
PATIENCE_S = 30.0
"""Maximum seconds for any step on a loaded machine. Usually a step takes a fraction of this."""
CHECK_EVERY_S = 0.03
REPOSITORY = Path(__file__).parents[2]
ROOT_READS_ALL = (1, 2)
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""

Program = Callable[..., None]
"""A function with the parameters of `child` that runs a command in its process."""

forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(PRELOAD)


def until(
    condition: Callable[[], object], what: object = "", within_s: float = PATIENCE_S, every_s: float = CHECK_EVERY_S
) -> None:
    """Wait until a condition is true. what: the message of the failure, or a function that returns it."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {within_s} s: {what() if callable(what) else what or condition}")
        time.sleep(every_s)


def lose_state(state: Path) -> None:
    """Delete the state, except the id by which a machine without an id of its own is recognized."""
    for path in state.iterdir():
        if path.name != INSTALLATION_NAME:
            path.unlink()


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the regular files below a folder, except those that the built-in rules exclude in a git checkout."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and ".git" not in path.relative_to(folder).parts
    }


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of a command."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return stdout, which must be one JSON value."""
        return json.loads(self.out)


class Remote:
    """The content of the stand-in, read by a client whose requests are not counted."""

    def __init__(self, base_url: str, instance: str = "docs", token: str = TOKEN) -> None:
        self.host = base_url.removesuffix("/client/v4")
        self._items = f"{base_url}/accounts/{ACCOUNT}/ai-search/namespaces/default/instances/{instance}/items"
        self._instances = self._items.removesuffix(f"/{instance}/items")
        # Without verification no certificates are loaded, which takes 25 ms.
        self._http = httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_S, verify=False)

    def close(self) -> None:
        self._http.close()

    def counted(self) -> dict[str, Any]:
        """Return the numbers of requests."""
        numbers: dict[str, Any] = self._http.get(f"{self.host}/_syncd/requests").json()
        return numbers

    def forget_requests(self) -> None:
        self._http.post(f"{self.host}/_syncd/requests/reset").raise_for_status()

    def create(self, instance: str) -> None:
        self._http.post(self._instances, json={"id": instance}).raise_for_status()

    def instance(self, **changes: object) -> dict[str, Any]:
        """Change settings of the instance, as a person does in the dashboard. Return the instance."""
        answer = self._http.request("PUT" if changes else "GET", self._items.removesuffix("/items"), json=changes)
        found: dict[str, Any] = answer.raise_for_status().json()["result"]
        return found

    def items(self) -> list[dict[str, Any]]:
        """Return every item of the listing, none if the instance is missing."""
        items: list[dict[str, Any]] = []
        while True:
            page: dict[str, str | int] = {"per_page": 50, "page": len(items) // 50 + 1, "sort_by": "modified_at"}
            answer = self._http.get(self._items, params=page)
            if answer.status_code == 404:
                return []
            rows = answer.raise_for_status().json()["result"]
            items += rows
            if len(rows) < 50:
                return items

    def upload(self, key: str, data: bytes, **metadata: str) -> str:
        """Upload an item that is not syncd's. Return its id."""
        answer = self._http.post(self._items, files={"file": (key, data)}, data={"metadata": json.dumps(metadata)})
        item_id: str = answer.raise_for_status().json()["result"]["id"]
        return item_id

    def delete(self, item_id: str) -> None:
        self._http.delete(f"{self._items}/{item_id}").raise_for_status()

    def bytes_of(self, item: Mapping[str, Any]) -> bytes:
        return self._http.get(f"{self._items}/{item['id']}/download").raise_for_status().content

    def files(self) -> dict[str, bytes]:
        """Return the bytes of every key. A key that is there twice is an error."""
        items = self.items()
        keys = [item["key"] for item in items]
        assert len(set(keys)) == len(keys), f"a key is there twice: {sorted(keys)}"
        return {item["key"]: self.bytes_of(item) for item in items}

    def marks(self) -> dict[str, str]:
        """Return the SHA-256 that syncd stored with every key, with one request for 50 items."""
        return {item["key"]: (item.get("metadata") or {}).get("sha256", "") for item in self.items()}


class Running:
    """A running syncd, forked from a process that has imported all modules (see syncd_child)."""

    def __init__(self, process: "ForkServerProcess", out: Path, err: Path) -> None:
        self.process = process
        assert process.pid is not None
        self.pid = process.pid
        self._out = out
        self._err = err

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def ends(self, within_s: float = PATIENCE_S) -> tuple[int, float]:
        """Wait for the end. Return the exit code and the seconds that it took."""
        began = time.monotonic()
        self.process.join(within_s)
        assert self.process.exitcode is not None, f"still running after {within_s} s: {self.text()}"
        return self.process.exitcode, time.monotonic() - began

    def ended(self) -> Ended:
        """Wait for the end. Return the result."""
        return Ended(self.ends()[0], self.out(), self.text())

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def text(self) -> str:
        """Return stderr so far."""
        if not self._err.exists():
            return ""
        return self._err.read_text(encoding="utf-8")

    def out(self) -> str:
        """Return stdout so far."""
        return self._out.read_text(encoding="utf-8") if self._out.exists() else ""


class Piped(Running):
    """A running syncd with pipes as stdin and stdout."""

    def __init__(self, process: "ForkServerProcess", stdin: BinaryIO, stdout: BinaryIO, err: Path) -> None:
        super().__init__(process, Path(os.devnull), err)
        self.stdin = stdin
        self.stdout = stdout


class Daemon(Running):
    """A running `syncd run`. Its log consists of JSON objects."""

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the events of the log so far, without a line that is not complete."""
        events = [json.loads(line) for line in self.text().splitlines(keepends=True) if line.endswith("\n")]
        return [event for event in events if name in (None, event["event"])]

    def saw(self, name: str, count: int = 1, **fields: object) -> None:
        """Wait until an event with these fields was logged `count` times."""

        def seen() -> bool:
            assert self.process.is_alive(), f"the daemon ended with {self.process.exitcode}: {self.text()}"
            return sum(fields.items() <= event.items() for event in self.events(name)) >= count

        until(seen, lambda: f"{name} {fields} in: {self.text()}")

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal. Check that the daemon ended by itself, and not by the thread of signals.py."""
        self.send(number)
        code, seconds = self.ends()
        assert self.events()[-1] == {**self.events("daemon.stop")[0], "code": code}, self.text()
        return code, seconds


@dataclass(slots=True)
class Workspace:
    """A mirror and its stand-in. docs: the folder. remote: the content of the stand-in."""

    path: Path
    server: Server
    remote: Remote
    environment: dict[str, str] = field(default_factory=dict)
    _started: int = 0

    @property
    def docs(self) -> Path:
        return self.path / "docs"

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def config(self) -> Path:
        return self.path / "syncd.toml"

    def write(self, name: str, text: str | bytes = "some text") -> Path:
        """Write a file below the folder, with its directories."""
        path = self.docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def configure(self, mirror: str = "", cloudflare: str = "", target: str = "create = true", more: str = "") -> None:
        """Write the config file. The arguments are lines of its sections, `more` those at its end."""
        self.config.write_text(
            f'state_dir = "{self.state}"\n'
            f'[cloudflare]\naccount_id = "{ACCOUNT}"\nbase_url = "{self.server.base_url}"\n'
            f"quota = ''\ntpslimit = 0\nretry_for = 5\n{cloudflare}\n"
            f'[mirrors.docs]\npath = "{self.docs}"\nowner = "docs"\nsettle = 0.05\ndelete_after = 0\n{mirror}\n'
            f'[mirrors.docs.target]\ntype = "ai-search"\ninstance = "docs"\n{target}\n{more}\n'
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "syncd", "--config", str(self.config), *arguments]

    def env(self, changed: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """Return an environment without the configuration of this machine."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.path), "CLOUDFLARE_API_TOKEN": TOKEN, **self.environment}
        env |= {name: value for name, value in (changed or {}).items() if value is not None}
        return {name: value for name, value in env.items() if (changed or {}).get(name, "") is not None}

    def really(self, *arguments: str, env: Mapping[str, str | None] | None = None) -> "subprocess.Popen[bytes]":
        """Start the program as a shell does, without a fork of the test."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.env(env),
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def start(self, *arguments: str, env: Mapping[str, str | None] | None = None, may: bool = True) -> Running:
        """Start a command that the test ends. may: False drops the right of root to read every file."""
        return Running(*self._forked(arguments, env, () if may or os.geteuid() else ROOT_READS_ALL))

    @contextmanager
    def piped(self, *arguments: str, program: Program = child) -> Iterator[Piped]:
        """Start a command with pipes as stdin and stdout, and kill it at the end. program: runs it in its process."""
        stdin, stdout = os.pipe(), os.pipe()
        theirs = Connection(stdin[0], writable=False), Connection(stdout[1], readable=False)
        with os.fdopen(stdin[1], "wb") as ours, os.fdopen(stdout[0], "rb") as read:
            process, _, err = self._forked(arguments, None, (), program, {"stdin": theirs[0], "stdout": theirs[1]})
            for end in theirs:
                end.close()
            piped = Piped(process, ours, read, err)
            try:
                yield piped
            finally:
                piped.kill()
                with suppress(BrokenPipeError):
                    ours.close()

    def streamed(self, *arguments: str, program: Program = child, **changed: Stream) -> Ended:
        """Run a command to its end, with other streams or by another program. changed: stdin, stdout or stderr."""
        return Running(*self._forked(arguments, None, program=program, changed=changed)).ended()

    def _forked(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str | None] | None,
        drop: Sequence[int] = (),
        program: Program = child,
        changed: Mapping[str, Stream] | None = None,
    ) -> tuple[ForkServerProcess, Path, Path]:
        self._started += 1
        out, err = self.path / f"{self._started}.out", self.path / f"{self._started}.err"
        usual: dict[str, Stream] = {"stdin": os.devnull, "stdout": str(out), "stderr": str(err)}
        streams = usual | dict(changed or {})
        given = ("--config", str(self.config), *arguments)
        process = forks.Process(
            target=program, args=(given, self.env(env), str(self.path), tuple(streams.values()), drop), daemon=True
        )
        process.start()
        return process, out, err

    def syncd(self, *arguments: str, env: Mapping[str, str | None] | None = None, may: bool = True) -> Ended:
        """Run a command to its end."""
        return self.start(*arguments, env=env, may=may).ended()

    @contextmanager
    def daemon(self, *options: str, env: Mapping[str, str | None] | None = None) -> Iterator[Daemon]:
        """Run the daemon within the block. It must not end by itself or log a traceback."""
        daemon = Daemon(*self._forked(("--log-format", "json", *options, "run"), env))
        try:
            yield daemon
            assert daemon.process.exitcode in (None, 0, 130), daemon.text()
            assert "Traceback" not in daemon.text(), daemon.text()
        finally:
            daemon.kill()

    def status(self, mirror: str = "docs") -> Any:
        """Return one mirror of `status --json`."""
        return self.syncd("status", "--json").json()["mirrors"][mirror]

    def in_step(self, *, very_bytes: bool = True) -> None:
        """Wait until the stand-in has the files of the folder, and compare the bytes."""

        def wanted() -> dict[str, str]:
            return {key: hashlib.sha256(data).hexdigest() for key, data in files_of(self.docs).items()}

        def difference() -> str:
            here, there = wanted(), self.remote.marks()
            return f"missing or different: {here.items() - there.items()}; extra: {there.keys() - here.keys()}"

        # The stand-in runs in this process, so frequent requests would slow it down.
        until(lambda: self.remote.marks() == wanted(), difference, every_s=0.1)
        if very_bytes:
            assert self.remote.files() == files_of(self.docs)

    def nothing_left_to_do(self) -> None:
        """Check that another pass changes nothing."""
        self.remote.forget_requests()
        seen = self.syncd("reconcile", "--json").json()["mirrors"]["docs"]
        assert (seen["actions"], self.remote.counted()["changing"]) == ([], 0)


class Preloaded:
    """A process that has imported all modules under some condition, such as a locale. Its forks run commands.

    env: the variables beside the usual ones. prefix: a command that sets the condition and executes its arguments.
    """

    def __init__(self, env: Mapping[str, str], prefix: Sequence[str] = ()) -> None:
        usual = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONUTF8": "1", "CLOUDFLARE_API_TOKEN": TOKEN}
        self.env = {**usual, "PYTHONPATH": str(REPOSITORY), **env}
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.e2e.preloaded_child"],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(self, workspace: Workspace, *arguments: str) -> tuple[int, bytes, bytes]:
        """Return the exit code, stdout and stderr of a command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        given = ["--config", str(workspace.config), *arguments]
        self._process.stdin.write(json.dumps([given, str(workspace.path)]).encode() + b"\n")
        self._process.stdin.flush()
        code, out, err = json.loads(self._process.stdout.readline())
        return code, out.encode("latin-1"), err.encode("latin-1")

    def close(self) -> None:
        self._process.communicate(timeout=PATIENCE_S)


def on_a_terminal(workspace: Workspace, *arguments: str, end_at: bytes = b"") -> tuple[int, str]:
    """Run a command on a terminal. Return the exit code and the output.

    end_at: interrupt the command when it has printed this.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        workspace.command(*arguments), env=workspace.env({"TERM": "xterm"}), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    parts: list[bytes] = []

    def collect() -> None:
        ended = not end_at
        try:
            while part := os.read(ours, 65536):
                parts.append(part)
                if not ended and end_at in b"".join(parts):
                    # Once only, because a second signal kills the process.
                    ended = True
                    process.send_signal(signal.SIGINT)
        except OSError:
            return  # The terminal is closed with its last user.

    reader = threading.Thread(target=collect)
    reader.start()
    code = process.wait(30)
    reader.join(30)
    os.close(ours)
    return code, b"".join(parts).decode()


@contextmanager
def open_workspace(path: Path, **options: Any) -> Iterator[Workspace]:
    """Yield a workspace with a config for one mirror, and a new stand-in with these options."""
    with serve(EmulatorOptions(**{"index_delay": 0.0, **options})) as server:
        remote = Remote(server.base_url)
        workspace = Workspace(path, server, remote)
        workspace.docs.mkdir()
        workspace.configure()
        try:
            yield workspace
        finally:
            remote.close()
