"""Converts HTML and documents to Markdown in separate processes, because no library limits its time and its memory.

`converted` returns a file as it is sent (see core/names.py). `Converter` starts the processes, and `main` runs in each
of them. A process answers requests until its input ends. A request is a header and its content: H for HTML in UTF-8, or
D for the name and the bytes of a document. A header has a letter and the length of the content. The letter of an answer
is M for Markdown, E for an error message, R for a package that cannot be imported, or L for the limit that was
exceeded. A hard limit ends the process.
"""

import atexit
import contextlib
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import IO, BinaryIO

from syncd.core.errors import Park, Retry, SyncdError
from syncd.core.model import Content
from syncd.core.plain_text import decode
from syncd.core.problems import Limits

PACKAGE = "kreuzberg"
CONVERT_REMEDY = "pip install 'syncd[convert]'"

HEADER = struct.Struct("!cQ")
MEMORY_BYTES = 512 * 1024 * 1024
CPU_S = 60.0
ANSWER_BYTES = 32 * 1024 * 1024
"""Maximum memory of a process, processor time of a request, and bytes of an answer (our own limits)."""
LIMIT_CODE = 9
"""Exit code of a process that ended itself at a limit."""
_CHECK_INTERVAL_S = 0.2
"""Seconds between two checks of the memory and of the processor time."""
WALL_S = 3 * CPU_S
"""Maximum seconds of one conversion. On a busy machine, the processor time needs more seconds than CPU_S."""
IDLE_S = 30.0
"""Seconds after which an idle process is ended."""
MAX_PROCESSES = 2
"""Maximum processes (our own limit). With two, a slow file does not block all others."""
COMMAND = ("-m", "syncd.text.converter")
_TOO_MUCH = (
    f"takes over {CPU_S:.0f} s of processor time, or {MEMORY_BYTES // 1024**2} MiB of memory, or gives over"
    f" {ANSWER_BYTES // 1024**2} MiB of text; cut it into several"
)
_QUIET = {"MALLOC_ARENA_MAX": "2", "RAYON_NUM_THREADS": "1", "TOKIO_WORKER_THREADS": "1"}
"""Environment of the process. It limits threads and arenas of the allocator, because each one takes memory."""
_HTML, _DOCUMENT = b"H", b"D"
_NOUNS = {_HTML: ("HTML", "pages"), _DOCUMENT: ("document", "files")}
"""The letter of a request -> the names of its content and of several such contents in messages."""


class Converter:
    """Starts processes on demand. Its methods block, and are thread-safe."""

    def __init__(self, wall_s: float = WALL_S) -> None:
        self._wall_s = wall_s
        self._slots = threading.BoundedSemaphore(MAX_PROCESSES)
        self._lock = threading.Lock()
        self._idle: list[subprocess.Popen[bytes]] = []
        self._all: set[subprocess.Popen[bytes]] = set()
        self._idle_timer: threading.Timer | None = None

    def markdown(self, html: str) -> str:
        """Return a page as Markdown. Raises Park for an invalid or too large page, Retry if the process was killed."""
        return self._convert(_HTML, html.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def document(self, name: str, data: bytes) -> bytes:
        """Return a document as Markdown in UTF-8. name: its file name, whose ending is its type.

        Raises Park for an invalid or too large document, Retry if the process was killed.
        """
        return self._convert(_DOCUMENT, name.encode("utf-8", "surrogatepass") + b"\0" + data)

    def _convert(self, kind: bytes, data: bytes) -> bytes:
        """Send a request to a process and return its Markdown. Raises Park or Retry."""
        with self._slots, self._process() as process:
            overdue = threading.Event()

            def kill_overdue() -> None:
                overdue.set()
                process.kill()

            timer = threading.Timer(self._wall_s, kill_overdue)
            timer.daemon = True
            timer.start()
            try:
                letter, answer = _ask(process, kind, data)
            except (OSError, EOFError) as error:
                process.kill()
                raise _exit_error(kind, process.wait(), overdue=overdue.is_set()) from error
            finally:
                timer.cancel()
            if letter == b"L":
                # This exception ends the process, because its memory still holds the long answer.
                raise Park("too_large", _too_much(kind))
        if letter == b"M":
            return answer
        if letter == b"R":
            raise Retry(f"the converter of files cannot be loaded ({answer.decode()}); reinstall it")
        raise Park("refused", f"the file is no readable {_NOUNS[kind][0]} ({answer.decode()}); fix it, or exclude it")

    def close(self) -> None:
        """Kill all processes, also during a conversion."""
        with self._lock:
            for process in self._all:
                process.kill()
            if self._idle_timer:
                self._idle_timer.cancel()
        self._end_idle()

    @contextmanager
    def _process(self) -> Iterator[subprocess.Popen[bytes]]:
        """Yield an idle process, or a new one. End the process if the block raises."""
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
            if self._idle_timer:
                self._idle_timer.cancel()
            self._idle_timer = threading.Timer(IDLE_S, self._end_idle)
            self._idle_timer.daemon = True
            self._idle_timer.start()

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
    """Start a process. Raises Retry if it cannot be started."""
    # The process must not see the API token, and needs no other variable.
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONUTF8": "1", **_QUIET}
    try:
        return subprocess.Popen(  # noqa: S603 - starts this program
            [sys.executable, "-P", *COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            # In a session of its own, the process does not receive SIGINT from Ctrl-C.
            start_new_session=True,
        )
    except OSError as error:
        raise Retry(f"the process that converts files cannot be started ({error.strerror})") from error


def _ask(process: subprocess.Popen[bytes], letter: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Send a request. Return the letter and the content of the answer. Raises OSError or EOFError if there is none."""
    if process.stdin is None or process.stdout is None:
        raise AssertionError("a process without pipes")
    process.stdin.write(HEADER.pack(letter, len(data)))
    process.stdin.write(data)
    process.stdin.flush()
    letter, size = HEADER.unpack(_read_exactly(process.stdout, HEADER.size))
    return letter, _read_exactly(process.stdout, size)


def _read_exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _too_much(kind: bytes) -> str:
    noun, plural = _NOUNS[kind]
    return f"converting this {noun} {_TOO_MUCH} {plural}, or exclude it"


def _exit_error(kind: bytes, code: int, *, overdue: bool) -> SyncdError:
    """Return the error of a process that ended before its answer."""
    noun = _NOUNS[kind][0]
    if overdue:
        return Retry(f"the conversion of its {noun} took too long, because the machine is busy; it is tried again")
    # A library in Rust aborts the process when the memory limit refuses an allocation.
    if code in (LIMIT_CODE, -signal.SIGXCPU, -signal.SIGABRT):
        return Park("too_large", _too_much(kind))
    if code == -signal.SIGKILL:
        return Retry(f"the conversion of its {noun} was interrupted; it is tried again")
    return Park("refused", f"the file's {noun} ends the process that converts it ({code}); fix it, or exclude it")


converter = Converter()
atexit.register(converter.close)


# -- the files of a mirror


@cache
def converter_version() -> str | None:
    """Return the version of kreuzberg, None if the extra `convert` is not installed.

    The result is cached, because the search for the package takes longer than the conversion of a small file. After an
    installation or upgrade, syncd must be started again.
    """
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None


def converter_name() -> str:
    """Return the converter as a part of the checksums of converted files, such as kreuzberg-4.10.4."""
    return f"{PACKAGE}-{converter_version() or 'missing'}"


def converted(key: str, content: Content, limits: Limits) -> Content:
    """Return a file as it is sent. Blocks while the file is converted, if its form is `convert`.

    Raises Park if the file cannot be converted, if its text cannot be sent, or if a file of `as_text` is no text, and
    Retry if the extra `convert` is not installed.
    """
    form = limits.forms.of(key)
    if form == "text":
        try:
            # Text with a few bytes in another encoding is sent. A file that is no text would put noise into the index.
            decode(content.data, errors="replace")
        except ValueError as error:
            why = f"the file is named in as_text, but {error} to send it, or exclude it"
            raise Park("unsupported_type", why) from None
    if form != "convert":
        return content
    if converter_version() is None:
        # This is no Park, because syncd retries a parked file only after the file has changed.
        raise Retry(f"converting documents needs the extra 'convert': {CONVERT_REMEDY}, then start syncd again")
    text = converter.document(key.rpartition("/")[2], content.data)
    if problem := limits.refuse_converted(key, len(text)):
        raise Park(problem.kind, problem.message)
    return replace(content, data=text)


# -- in the process


def main() -> None:
    """Answer requests on stdin until it ends."""
    with contextlib.suppress(OSError):
        os.nice(5)
    # Some systems ignore or refuse this limit, so a thread checks the memory too.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    began = [0.0]
    threading.Thread(target=_watch_limits, args=(began,), daemon=True).start()
    source, answers = sys.stdin.buffer, sys.stdout.buffer
    while header := source.read(HEADER.size):
        kind, size = HEADER.unpack(header)
        began[0] = time.process_time()
        with contextlib.suppress(OSError, ValueError):
            seconds = int(began[0] + CPU_S) + 2
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
        letter, answer = _answer(source, kind, size)
        answers.write(HEADER.pack(letter, len(answer)))
        answers.write(answer)
        answers.flush()


def _answer(source: BinaryIO, kind: bytes, size: int) -> tuple[bytes, bytes]:
    try:
        answer = _markdown(kind, source.read(size))
    except ImportError as error:
        return b"R", _error_text(error)
    except MemoryError:
        # A part of the content may be unread, so the next bytes of the input may be no header.
        os._exit(LIMIT_CODE)
    except BaseException as error:  # noqa: BLE001 - any exception of the parser, also a panic of Rust, is a fault of the file
        return b"E", _error_text(error)
    return (b"M", answer) if len(answer) <= ANSWER_BYTES else (b"L", b"text")


def _error_text(error: BaseException) -> bytes:
    name = type(error).__name__
    # The message of some exceptions begins with the name of their type.
    text = f"{name}: {str(error).removeprefix(f'{name}: ')}"
    return " ".join(text.split())[:200].encode("utf-8", "backslashreplace")


def _markdown(kind: bytes, content: bytes) -> bytes:
    """Return the content of a request as Markdown. Raises ImportError if a package is missing."""
    if kind == _DOCUMENT:
        from syncd.text.document_text import markdown as document_markdown

        name, _, data = content.partition(b"\0")
        return document_markdown(name.decode("utf-8", "surrogatepass"), data)
    from syncd.text.html_text import markdown

    return markdown(content.decode("utf-8", "surrogatepass")).encode("utf-8", "surrogatepass")


def peak_memory() -> int:
    """Return the peak memory of this process in bytes."""
    try:
        with open("/proc/self/status", "rb") as status:  # noqa: PTH123 - an import of pathlib takes too long
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(b"VmHWM:"))
    except (OSError, StopIteration):
        # A system without /proc. On Linux, ru_maxrss would include the memory of the parent process.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _watch_limits(began: list[float]) -> None:
    """End this process at a limit. began: holds the processor time at the start of the present request."""
    while True:
        time.sleep(_CHECK_INTERVAL_S)
        if peak_memory() > MEMORY_BYTES or time.process_time() - began[0] > CPU_S:
            os._exit(LIMIT_CODE)


if __name__ == "__main__":
    main()
