"""A process that watches argv[1] and prints each hint; argv[2] is the number of watches it may have, 0 for any.

Prints "ready MODE DETAIL", then "hint PATH" (PATH "*" for everything).
"""

import asyncio
import ctypes
import sys
from pathlib import Path

import structlog

from syncd.core.model import EVERYTHING
from syncd.watch.observer import Inbox, Root, Watcher

CLONE_NEWUSER = 0x10000000


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def limit_watches(count: int) -> None:
    """Limit the watches in a new user namespace, so that the limit of other processes stays."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
        raise SystemExit("cannot limit watches: no user namespace")
    try:
        Path("/proc/sys/user/max_inotify_watches").write_text(str(count))
    except OSError:
        raise SystemExit("cannot limit watches: no per-namespace limit") from None


async def main() -> None:
    inbox = Inbox(asyncio.get_running_loop())
    watcher = Watcher(inbox, identity_interval_s=0.1, rebuild_rest_s=0.2)
    watcher.add(Root("m", Path(sys.argv[1]), poll_interval_s=0.1))
    watcher.start()
    await watcher.ready("m")
    status = watcher.status("m")
    say("ready", status.mode, status.detail)
    while True:
        for hint in (await inbox.get_batch())["m"]:
            if hint == EVERYTHING:
                say("hint *", watcher.status("m").mode, watcher.status("m").detail)
            else:
                say("hint", hint.path)
        say("overflows", str(watcher.overflows), "alive", str(watcher.alive()))


if __name__ == "__main__":
    # stdout is for the answers: a log line of another thread could land in the middle of one.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    if sys.argv[2] != "0":
        limit_watches(int(sys.argv[2]))
    asyncio.run(main())
