"""The command line: one small file for each group of commands. `main` turns every end into an exit code."""

import os
import sys
import traceback
from collections.abc import Sequence

from syncd.errors import EXIT_BUG, EXIT_CONFIG, EXIT_INTERRUPTED, EXIT_OK, SyncdError

_EXIT_PIPE = 141
"""128 + SIGPIPE: the reader of stdout went away, as shells show it."""


def main() -> None:
    """Run the program and exit with the contract's code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    from typer import Abort
    from typer.exceptions import TyperException

    from syncd.cli.app import app, with_optional_values

    try:
        code = app(with_optional_values(arguments), prog_name="syncd", standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        _complain(f"{error.format_message().rstrip('.')}; see: syncd --help")
        return EXIT_CONFIG
    except SyncdError as error:
        _complain(str(error))
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_PIPE
    except Exception:  # noqa: BLE001 - the last line of defence: a bug ends with its trace and its own code
        traceback.print_exc()
        _complain("this is a bug; please report it with the lines above")
        return EXIT_BUG
    return code if isinstance(code, int) else EXIT_OK


def _complain(text: str) -> None:
    from syncd.logs import printable

    print(f"syncd: {printable(text)}", file=sys.stderr)  # noqa: T201
