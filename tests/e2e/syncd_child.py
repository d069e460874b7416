"""Runs the whole program in a process forked from one that has imported all modules.

Starting Python and importing the modules takes half a second of processor time for each of some hundred commands.
"""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence

from tests import unclosed

PRELOAD = ["tests.e2e.preload"]


def child(
    arguments: Sequence[str], env: Mapping[str, str], cwd: str, streams: tuple[str, str], drop: Sequence[int]
) -> None:
    """Run `syncd ARGUMENTS` in this process. streams: files for stdout and stderr. drop: capabilities to drop."""
    for descriptor, path in enumerate(streams, 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open as long as the process lives
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
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
