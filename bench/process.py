"""Runs programs as processes: measures them to their end, or observes them while they run."""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

LONGEST_S = 900.0
"""Maximum seconds of a child process by default. A hang is a failure."""
POLL_S = 0.1
KEPT = {"watch.ready", "put.done", "pass.done"}
"""Events in a daemon's log that parts wait for."""


@dataclass(frozen=True, slots=True)
class Run:
    """The result of a successful command. Times in seconds, peak memory in MB. log: its JSON lines."""

    elapsed_s: float
    cpu_s: float
    peak_mb: float
    log: list[dict[str, Any]]

    def last(self, event: str) -> Mapping[str, Any]:
        """Return the last log line of an event."""
        return [line for line in self.log if line["event"] == event][-1]


def measured(
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    *,
    cwd: Path | None = None,
    longest_s: float = LONGEST_S,
) -> Run:
    """Run a command to its end. env, cwd: None means the values of this process.

    Raises RuntimeError with its output if it fails, or runs for longer than longest_s seconds.
    """
    with tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=env, cwd=cwd)
        guard = threading.Timer(longest_s, process.kill)
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
    """`syncd run` as a process with its log in a file. The end of the block sends SIGTERM."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
        self._lines: list[dict[str, Any]] = []
        self._read_to = 0
        with ExitStack() as stack:
            out = stack.enter_context(log.open("w"))
            self._began = time.time()
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=out)

    def logged(self, event: str, **fields: object) -> list[float]:
        """Return the times of matching log lines, in seconds since the start of the process."""
        self._read()
        return [
            datetime.fromisoformat(line["timestamp"]).timestamp() - self._began
            for line in self._lines
            if line["event"] == event and all(line.get(name) == value for name, value in fields.items())
        ]

    def wait_for(self, event: str, times: int = 1, **fields: object) -> float:
        """Wait for a number of matching log lines. Return the time of the last one, in seconds since the start.

        Raises RuntimeError if the daemon ends, or after LONGEST_S.
        """
        end = time.monotonic() + LONGEST_S
        while len(logged := self.logged(event, **fields)) < times:
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no {event} in the log: {self._log.read_text()[-2000:]}")
            time.sleep(POLL_S)
        return logged[-1]

    def ask(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self._process.send_signal(number)

    def _read(self) -> None:
        """Read the log lines since the last call, because the log of a long pass is too long to read repeatedly."""
        with self._log.open("rb") as log:
            log.seek(self._read_to)
            new = log.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read_to += len(whole)
        self._lines += (line for line in _parsed(whole.decode().splitlines(keepends=True)) if line["event"] in KEPT)

    def memory_mb(self) -> tuple[float, float]:
        """Return the present resident memory and its peak."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return int(fields["VmRSS"].split()[0]) / 1024, int(fields["VmHWM"].split()[0]) / 1024

    def cpu_s(self) -> float:
        """Return the processor seconds so far, in user and kernel mode."""
        return cpu_s(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self._process)


def cpu_s(pid: int) -> float:
    """Return the processor seconds of a running process, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def piped(stream: IO[str] | None) -> IO[str]:
    """Return a stream of a process that was started with a pipe for it."""
    if stream is None:
        raise AssertionError("started without a pipe")
    return stream


def end(process: subprocess.Popen[Any]) -> None:
    """Send SIGTERM to a process, and SIGKILL if it does not end."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _parsed(lines: list[str]) -> list[dict[str, Any]]:
    """Return the JSON lines of stderr. The last line may be incomplete."""
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}\n")]
