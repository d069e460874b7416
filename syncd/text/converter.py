"""Converts HTML to Markdown in separate processes, because the library limits neither its time nor its memory."""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from syncd.core.errors import Park, Retry, SyncdError
from syncd.text.html_worker import CPU_S, HEADER, LIMIT_CODE, MEMORY_BYTES

WALL_S = 3 * CPU_S
"""Maximum seconds of one conversion. A process gets only a part of the time of a busy machine."""
IDLE_S = 30.0
"""Seconds that an idle process waits for the next page."""
MAX_PROCESSES = 2
"""A slow page blocks only one of them."""
COMMAND = ("-m", "syncd.text.html_worker")
_TOO_MUCH = (
    f"converting this HTML takes over {CPU_S:.0f} s of processor time, or {MEMORY_BYTES // 1024**2} MiB of memory;"
    " cut it into several pages, or exclude it"
)


class Converter:
    """Starts processes on demand. Its methods block, and are thread-safe."""

    def __init__(self, wall_s: float = WALL_S, idle_s: float = IDLE_S) -> None:
        self._wall_s = wall_s
        self._idle_s = idle_s
        self._places = threading.BoundedSemaphore(MAX_PROCESSES)
        self._lock = threading.Lock()
        self._idle: list[subprocess.Popen[bytes]] = []
        self._all: set[subprocess.Popen[bytes]] = set()
        self._tidy: threading.Timer | None = None

    def markdown(self, html: str) -> str:
        """Return a page as Markdown. Raises Park for an invalid or too large page, Retry if the process was killed."""
        with self._places, self._process() as process:
            overdue = threading.Event()

            def give_up() -> None:
                overdue.set()
                process.kill()

            timer = threading.Timer(self._wall_s, give_up)
            timer.daemon = True
            timer.start()
            try:
                letter, answer = _ask(process, html.encode("utf-8", "surrogatepass"))
            except (OSError, EOFError) as error:
                process.kill()
                raise _exit_error(process.wait(), overdue=overdue.is_set()) from error
            finally:
                timer.cancel()
            if letter == b"L":
                # Its memory holds the long answer, so this process ends, too.
                raise Park("too_large", _TOO_MUCH)
        if letter == b"M":
            return answer.decode("utf-8", "surrogatepass")
        raise Park("refused", f"the file is no readable HTML ({answer.decode()}); fix it, or exclude it")

    def close(self) -> None:
        """Kill all processes, also during a conversion."""
        with self._lock:
            for process in self._all:
                process.kill()
            if self._tidy:
                self._tidy.cancel()
        self._end_idle()

    @contextmanager
    def _process(self) -> Iterator[subprocess.Popen[bytes]]:
        with self._lock:
            alive = [idle for idle in self._idle if idle.poll() is None]
            process = alive[-1] if alive else _start()
            self._idle = alive[:-1]
            self._all.add(process)
        try:
            yield process
        except BaseException:
            self._end(process)
            raise
        with self._lock:
            self._idle.append(process)
            if self._tidy:
                self._tidy.cancel()
            self._tidy = threading.Timer(self._idle_s, self._end_idle)
            self._tidy.daemon = True
            self._tidy.start()

    def _end_idle(self) -> None:
        with self._lock:
            ending, self._idle = self._idle, []
        for process in ending:
            self._end(process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        with self._lock:
            self._all.discard(process)


def _start() -> subprocess.Popen[bytes]:
    # The process must not see the API token, and needs no other variable.
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONUTF8": "1"}
    try:
        return subprocess.Popen(  # noqa: S603 - starts this program
            [sys.executable, "-P", *COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            # Ctrl-C must not end it.
            start_new_session=True,
        )
    except OSError as error:
        raise Retry(f"the process that converts HTML cannot be started ({error.strerror})") from error


def _ask(process: subprocess.Popen[bytes], data: bytes) -> tuple[bytes, bytes]:
    if process.stdin is None or process.stdout is None:
        raise AssertionError("a process without pipes")
    process.stdin.write(HEADER.pack(b"H", len(data)))
    process.stdin.write(data)
    process.stdin.flush()
    letter, size = HEADER.unpack(_read_exactly(process.stdout, HEADER.size))
    return letter, _read_exactly(process.stdout, size)


def _read_exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _exit_error(code: int, *, overdue: bool) -> SyncdError:
    """Return the error of a process that ended before its answer."""
    if overdue:
        return Retry("converting its HTML took too long for a machine as busy as this one")
    if code in (LIMIT_CODE, -signal.SIGXCPU):
        return Park("too_large", _TOO_MUCH)
    if code == -signal.SIGKILL:
        return Retry("converting its HTML was broken off")
    return Park("refused", f"the file's HTML ends the process that converts it ({code}); fix it, or exclude it")


converter = Converter()
atexit.register(converter.close)
