"""The command line: one small file for each group of commands. `main` turns every end into an exit code."""

import errno
import os
import sys
from collections.abc import Sequence

from syncd.cli import streams
from syncd.core.errors import EXIT_BUG, EXIT_CONFIG, EXIT_HALT, EXIT_INTERRUPTED, EXIT_OK, SyncdError
from syncd.service import signals

_EXIT_PIPE = 141
"""128 + SIGPIPE: the reader of stdout went away, as shells show it."""

_REMEDIES = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room in its quota",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EACCES: "let this user read and write it",
    errno.EPERM: "let this user read and write it",
    errno.EROFS: "mount its file system read-write",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close files of other programs",
    errno.ENOMEM: "give syncd more memory",
}

_SERVING = frozenset({"run", "emulate"})
"""Commands that work until they are stopped: SIGTERM is their clean end."""
_WITH_VALUE = frozenset({"-c", "--config", "--log-format"})
"""Global options whose value is the next argument."""


def main() -> None:
    """Run the program and exit with the contract's code."""
    serving = _command(sys.argv[1:]) in _SERVING
    streams.ready(serving=serving)
    signals.catch(_complain)
    if serving:
        signals.serve()
    try:
        from syncd.core.os_names import from_os

        code = run([from_os(each) for each in sys.argv[1:]])
    except signals.Interrupted as end:
        code = signals.ended(end.number)
    sys.exit(code)


def _command(arguments: Sequence[str]) -> str | None:
    """Return the command of a command line before it is parsed: a signal may come sooner than the parser."""
    left = iter(arguments)
    for argument in left:
        if argument in _WITH_VALUE:
            next(left, None)
        elif not argument.startswith("-"):
            return argument
    return None


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    from typer import Abort
    from typer.exceptions import TyperException

    from syncd.cli.app import app, with_optional_values
    from syncd.state.directory import writable

    try:
        with writable():
            code = app(with_optional_values(arguments), prog_name="syncd", standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        text = error.format_message()
        if text.startswith("Usage: "):
            # No command at all: the help, as it is.
            print(text, file=sys.stderr)  # noqa: T201
        else:
            _complain(f"{text.rstrip('.')}; see: syncd --help")
        return EXIT_CONFIG
    except SyncdError as error:
        _complain(str(error))
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        streams.give_up()
        return _EXIT_PIPE
    except (OSError, MemoryError) as error:
        streams.give_up()
        # What is half made, such as an event loop without its descriptors, has nothing to add.
        sys.unraisablehook = lambda _: None
        _complain(_refused(error))
        return EXIT_HALT
    except SystemExit as end:
        # The library's own answer to a closed pipe is exit 1, which means something else here.
        if isinstance(end.__context__, BrokenPipeError):
            return _EXIT_PIPE
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug ends with its trace and its own code
        _show_trace(error)
        _complain("this is a bug; please report it with the lines above")
        return EXIT_BUG
    return code if isinstance(code, int) else EXIT_OK


def _refused(error: OSError | MemoryError) -> str:
    """What the machine would not do for a command that nobody closer to it has an answer for."""
    if isinstance(error, MemoryError):
        return "this machine has no memory left for it; give syncd more, and run it again"
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    what = " and ".join(names) or "the output or a file"
    return f"{what}: {error.strerror or error}; {_REMEDIES.get(error.errno or 0, 'mend it, and run it again')}"


def _show_trace(error: Exception) -> None:
    from syncd.core.redact import traceback_of

    print(traceback_of(error), file=sys.stderr)  # noqa: T201


def _complain(text: str) -> None:
    from syncd.core.redact import printable

    print(f"syncd: {printable(text)}", file=sys.stderr)  # noqa: T201
