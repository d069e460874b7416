"""The `syncd` program: signal handling, the run of one command line, and exit codes.

This module imports nothing heavy, so that signal handlers are in place before the imports of a command begin.
"""

import errno
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from syncd.core.errors import EXIT_BUG, EXIT_CONFIG, EXIT_HALT, EXIT_INTERRUPTED, ConfigError, SyncdError, is_shortage
from syncd.service import signals
from syncd.service.streams import discard_stdout, prepare_streams

if TYPE_CHECKING:
    from click import UsageError

_SERVICES = frozenset({"run", "emulate", "mcp"})
"""Commands that run until they are stopped. SIGTERM ends them with exit code 0."""
_OPTIONS_WITH_VALUE = frozenset({"--config", "--log-format"})
"""Global options that take the next argument as their value. `-c` takes it, too, alone or after flags, as in `-vc`."""
_COMPLETE = "_SYNCD_COMPLETE"
"""The variable by which a shell asks for completion; see README.md."""
_EXIT_PIPE = 141
"""128 + SIGPIPE, as shells report it: the reader closed stdout."""

_REMEDIES = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room in its quota",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EACCES: "run it as root (sudo), or let this user read and write it",
    errno.EPERM: "run it as root (sudo), or let this user read and write it",
    errno.EROFS: "mount its file system read-write",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close files of other programs",
    errno.ENOMEM: "give syncd more memory",
}


def main() -> None:
    """Run the program and exit with its exit code."""
    is_service = _command_name(sys.argv[1:]) in _SERVICES
    prepare_streams(signals.received, is_service=is_service)
    if is_service:
        signals.end_cleanly_on_sigterm()
    try:
        signals.install(_print_error)
        from syncd.core.keys import from_os

        sys.exit(run([from_os(argument) for argument in sys.argv[1:]]))
    except signals.Interrupted as interruption:
        sys.exit(signals.report(interruption.number))
    except (RuntimeError, ImportError) as error:
        # The signals need a thread, and a module may need memory.
        if not is_shortage(error):
            raise
        _print_error(_machine_error(error))
        sys.exit(EXIT_HALT)


def _command_name(arguments: Sequence[str]) -> str | None:
    """Return the command of a command line before the parser is imported, since a signal may come before that."""
    remaining = iter(arguments)
    for argument in remaining:
        flags, option, value = argument.partition("c")
        if argument in _OPTIONS_WITH_VALUE or (flags.strip("vqh") == "-" and option and not value):
            next(remaining, None)
        elif not argument.startswith("-"):
            return argument
    return None


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    from click import Abort, UsageError

    try:
        with signals.unconverted():
            code = _invoke(arguments)
            sys.stdout.flush()
    except UsageError as error:
        return _end_by_usage(error)
    except SyncdError as error:
        for line in error.lines:
            _print_error(line)
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        discard_stdout()
        return _EXIT_PIPE
    except (OSError, MemoryError, RuntimeError, ImportError) as error:
        if isinstance(error, RuntimeError | ImportError) and not is_shortage(error):
            return _end_by_exception(error)
        discard_stdout()
        # Objects left half made, such as an event loop without its descriptors, would print their own errors.
        sys.unraisablehook = lambda _: None
        _print_error(_machine_error(error))
        return EXIT_HALT
    except Exception as error:  # noqa: BLE001 - the last handler: a bug ends with its traceback and its own exit code
        return _end_by_exception(error)
    return code


def _invoke(arguments: Sequence[str]) -> int:
    """Run a command line, or complete it for a shell. Return the exit code.

    Not by the library's `main`: it answers a closed pipe with exit code 1, which has another meaning here.
    """
    from click.exceptions import Exit

    from syncd.cli.context import program

    if instruction := os.environ.get(_COMPLETE):
        from click.shell_completion import shell_complete

        try:
            return shell_complete(program, {}, "syncd", _COMPLETE, instruction)
        except (KeyError, ValueError) as error:
            raise ConfigError(f"{_COMPLETE} is set, and the shell's other variables are wrong; unset it") from error
    try:
        with program.make_context("syncd", list(arguments)) as context:
            code: int = program.invoke(context)
    except Exit as end:
        return end.exit_code
    return code


def _end_by_usage(error: "UsageError") -> int:
    """Print the fault of a command line and the help to look at. Without a command, print the help itself."""
    from click.exceptions import NoArgsIsHelpError

    if isinstance(error, NoArgsIsHelpError):
        print(error.format_message(), file=sys.stderr)  # noqa: T201
    else:
        # An error of a global option without its value has no context.
        command = error.ctx.command_path if error.ctx else "syncd"
        text, see = error.format_message().rstrip("."), f"see: {command} --help"
        _print_error(f"{text} ({see})" if text.endswith("?") else f"{text}; {see}")
    return EXIT_CONFIG


def _end_by_exception(error: Exception) -> int:
    """Print an error that no other handler knows, and return its exit code: an error of the state file, or a bug."""
    import sqlite3

    from syncd.core.plain_text import traceback_of
    from syncd.state.directory import check

    try:
        if isinstance(error, sqlite3.Error):
            check(error)
    except SyncdError as halt:
        _print_error(str(halt))
        return halt.exit_code
    print(traceback_of(error), file=sys.stderr)  # noqa: T201
    _print_error("this is a bug; please report it with the lines above")
    return EXIT_BUG


def _machine_error(error: OSError | MemoryError | RuntimeError | ImportError) -> str:
    """Return the message and remedy for an error of the machine that no other code handles."""
    if isinstance(error, MemoryError | ImportError):
        return "this machine has no memory left for it; give syncd more, and run it again"
    if isinstance(error, RuntimeError):
        why = "this machine has no thread or memory left for it"
        return f"{why}; raise the limits (TasksMax, MemoryMax; ulimit -u and -v), and run it again"
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    subject = " and ".join(names) or "the output or a file"
    return f"{subject}: {error.strerror or error}; {_REMEDIES.get(error.errno or 0, 'fix it, and run it again')}"


def _print_error(text: str) -> None:
    from syncd.core.plain_text import printable

    print(f"syncd: {printable(text)}", file=sys.stderr)  # noqa: T201
