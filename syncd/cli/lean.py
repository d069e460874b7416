"""Imports httpx and structlog without what they would only show off with."""

import sys

DECORATION = ("click", "rich")
"""httpx has a command line of its own, structlog coloured tracebacks. Nobody here sees either, and with these packages
they take a seventh of the time and of the memory that a command needs to start."""


def load() -> None:
    """Import both as where no decoration is installed, which either of them is ready for. Call it before others do.

    Afterwards the packages can be imported as ever.
    """
    hidden = [name for name in DECORATION if name not in sys.modules]
    for name in hidden:
        # By the language's reference, an import of what stands here as None fails as if it were not installed.
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        import httpx  # noqa: F401
        import structlog  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]
