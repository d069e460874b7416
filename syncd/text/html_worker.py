"""The process that converts HTML, started by `converter`. It answers requests until its input ends.

A request is a header and UTF-8 text. A header has a letter and the length of the text. The letter of an answer is M for
Markdown, E for an error message, or L for the limit that was exceeded. A hard limit ends the process.
"""

import contextlib
import os
import resource
import struct
import sys
import threading
import time
from typing import BinaryIO

HEADER = struct.Struct("!cQ")
MEMORY_BYTES = 512 * 1024 * 1024
CPU_S = 60.0
ANSWER_BYTES = 32 * 1024 * 1024
LIMIT_CODE = 9
"""Exit code of a process that ended itself at a limit."""
_CHECK_INTERVAL_S = 0.2


def main() -> None:
    """Answer requests on stdin until it ends."""
    with contextlib.suppress(OSError):
        os.nice(5)
    # Some systems and services ignore or refuse this limit. The thread checks it too.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    begun = [0.0]
    threading.Thread(target=_watch, args=(begun,), daemon=True).start()
    source, answers = sys.stdin.buffer, sys.stdout.buffer
    while header := source.read(HEADER.size):
        _, size = HEADER.unpack(header)
        begun[0] = time.process_time()
        with contextlib.suppress(OSError, ValueError):
            seconds = int(begun[0] + CPU_S) + 2
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
        letter, answer = _answer(source, size)
        answers.write(HEADER.pack(letter, len(answer)))
        answers.write(answer)
        answers.flush()


def _answer(source: BinaryIO, size: int) -> tuple[bytes, bytes]:
    try:
        from syncd.text.html_text import markdown

        made = markdown(source.read(size).decode("utf-8", "surrogatepass")).encode("utf-8", "surrogatepass")
    except MemoryError:
        # Part of the page can be unread, so the next bytes of the input are no header.
        os._exit(LIMIT_CODE)
    except Exception as error:  # noqa: BLE001 - any exception of the parser is a fault of the page
        return b"E", " ".join(f"{type(error).__name__}: {error}".split())[:200].encode("utf-8", "backslashreplace")
    return (b"M", made) if len(made) <= ANSWER_BYTES else (b"L", b"text")


def peak_memory() -> int:
    """Return the peak memory of this process in bytes."""
    try:
        with open("/proc/self/status", "rb") as status:  # noqa: PTH123 - an import of pathlib takes too long
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(b"VmHWM:"))
    except (OSError, StopIteration):
        # There is no /proc. On Linux this value would include the memory of the parent process.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _watch(begun: list[float]) -> None:
    while True:
        time.sleep(_CHECK_INTERVAL_S)
        if peak_memory() > MEMORY_BYTES or time.process_time() - begun[0] > CPU_S:
            os._exit(LIMIT_CODE)


if __name__ == "__main__":
    main()
