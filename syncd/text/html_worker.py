"""The process that converts HTML: `converter` starts it. It answers until its input ends, within limits of its own.

A request is a length and UTF-8 text. An answer is one letter, a length and UTF-8 text: M the Markdown, E why there is
none, L that a limit was met. A limit that strikes harder ends the process.
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
_LOOK_S = 0.2


def main() -> None:
    """Answer requests on stdin until it ends."""
    with contextlib.suppress(OSError):
        os.nice(5)
    # Not every system or service lets a process limit itself, nor heeds such a limit; the thread looks besides.
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
        return b"L", b"memory"
    except Exception as error:  # noqa: BLE001 - whatever a page makes the parser raise, it is the page's
        return b"E", " ".join(f"{type(error).__name__}: {error}".split())[:200].encode("utf-8", "backslashreplace")
    return (b"M", made) if len(made) <= ANSWER_BYTES else (b"L", b"text")


def most_held() -> int:
    """The most memory that this process has held, in bytes."""
    try:
        with open("/proc/self/status", "rb") as status:  # noqa: PTH123 - pathlib would be imported for this alone
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(b"VmHWM:"))
    except (OSError, StopIteration):
        # Without /proc. On Linux this counts what the process that started this one held, too.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _watch(begun: list[float]) -> None:
    while True:
        time.sleep(_LOOK_S)
        if most_held() > MEMORY_BYTES or time.process_time() - begun[0] > CPU_S:
            os._exit(LIMIT_CODE)


if __name__ == "__main__":
    main()
