"""Runs the whole program in a process forked from one that has imported all modules.

Starting Python and importing the modules takes half a second of processor time for each of some hundred commands.
"""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from multiprocessing.connection import Connection
from typing import Any

from tests import unclosed

PRELOAD = ["tests.e2e.preload", "syncd.agents.stdio", __name__]

Stream = str | Connection | None
"""What a command has as stdin, stdout or stderr: a file, an end of a pipe, or nothing, as after `>&-` in a shell."""


def child(
    arguments: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    streams: tuple[Stream, Stream, Stream],
    drop: Sequence[int],
) -> None:
    """Run `syncd ARGUMENTS` in this process. drop: capabilities to drop."""
    for descriptor, stream in enumerate(streams):
        put(stream, descriptor)
    # Python sets the stream of a closed descriptor to None. The others are open as long as the process lives.
    sys.stdin = streams[0] and open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = streams[1] and open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = streams[2] and open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["syncd", *arguments]
    drop_now(drop)
    # Objects left to the garbage collector are reported on stderr, and the test fails.
    warnings.simplefilter("always", ResourceWarning)
    unclosed.watch()
    from syncd.cli.main import main

    main()


def child_without_converter(*given: Any) -> None:
    """Run a command that does not find the package of the extra `convert`."""
    from syncd.text import converter

    def not_found(name: str) -> str:
        raise PackageNotFoundError(name)

    converter.version = not_found  # type: ignore[assignment, attr-defined]
    child(*given)


def put(stream: Stream, descriptor: int) -> None:
    """Make a stream the descriptor 0, 1 or 2 of this process."""
    if isinstance(stream, str):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if descriptor else os.O_RDONLY
        file = os.open(stream, flags, 0o600)
        if file != descriptor:
            os.dup2(file, descriptor)
            os.close(file)
    elif stream:
        os.dup2(stream.fileno(), descriptor)
        stream.close()
    else:
        os.close(descriptor)


def drop_now(capabilities: Sequence[int]) -> None:
    """Drop capabilities from all sets of this thread. No exec is needed."""
    if not capabilities:
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    sets = (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    for capability in capabilities:
        for place in range(3):  # effective, permitted, inheritable; all numbers in use here are below 32
            sets[place] &= ~(1 << capability)
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")
