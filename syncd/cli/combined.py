"""Where the lines of `reconcile --combined` go."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TextIO

from syncd.answers.combined import Combined
from syncd.cli.app import os_path
from syncd.errors import ConfigError, SyncdError


@contextmanager
def opened(place: str) -> Iterator[TextIO]:
    """Open what `--combined` names, "-" for stdout. Raises ConfigError if it cannot be written."""
    try:
        file = (
            nullcontext(sys.stdout)
            if place == "-"
            else os_path(place).expanduser().open("w", encoding="utf-8", errors="backslashreplace")
        )
    except OSError as error:
        raise ConfigError(f"--combined {place}: {error.strerror}; name a file that can be written") from None
    with file as out:
        yield out


def write(combined: Combined, out: TextIO, *, named: bool) -> None:
    """Write the lines of a mirror, one by one. named: its name stands before each path."""
    try:
        out.writelines(combined.lines(named=named))
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SyncdError(f"--combined: {error.strerror}; the pass was made, its list is cut short") from None
    finally:
        combined.drop()
