"""`python warped.py START AFTER THEN ARGUMENTS…`: run syncd with a clock that is wrong and jumps.

The clock is START seconds ahead (or behind, below 0), and THEN seconds after AFTER seconds. Only the wall clock: the
monotonic one of a real machine does not jump either.
"""

import sys
import time


def main() -> None:
    """Patch the clock before the import of syncd, and run syncd."""
    start, after, then = map(float, sys.argv[1:4])
    sys.argv[1:4] = []
    began, now, now_ns = time.monotonic(), time.time, time.time_ns

    def ahead() -> float:
        return start if time.monotonic() - began < after else then

    time.time = lambda: now() + ahead()
    time.time_ns = lambda: now_ns() + int(ahead() * 1e9)
    from syncd.cli.main import main as syncd

    syncd()


if __name__ == "__main__":
    main()
