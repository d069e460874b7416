"""The meaning of each exit code, for the reference."""

from syncd.core.errors import (
    EXIT_BRAKE,
    EXIT_BUG,
    EXIT_CONFIG,
    EXIT_DIFFERENT,
    EXIT_HALT,
    EXIT_INTERRUPTED,
    EXIT_LOCKED,
    EXIT_OK,
    EXIT_PROBLEMS,
    EXIT_UNREACHABLE,
)

EXIT_MEANINGS = {
    EXIT_OK: "In step. After a dry run: the dry run was made.",
    EXIT_PROBLEMS: "The pass ended, but some items failed or were rejected. They are named.",
    EXIT_CONFIG: "The command line or the config is wrong. Nothing was started.",
    EXIT_HALT: "Halted: the folder is missing or was replaced, the credentials were refused, the target is missing, or"
    " the quota of the account is used up. Nothing was deleted.",
    EXIT_BRAKE: "The delete guard refused the deletes. Nothing was deleted.",
    EXIT_UNREACHABLE: "The remote could not be reached for `retry_for` seconds. The next pass continues the work.",
    EXIT_DIFFERENT: "`syncd verify` found a difference, or a query did not find its file. `syncd rebuild`: the second"
    " target answers fewer questions than the first.",
    EXIT_LOCKED: "Another syncd holds the state directory and cannot be asked to do the work.",
    EXIT_BUG: "A bug. Please report it with the traceback.",
    EXIT_INTERRUPTED: "Interrupted by SIGINT. SIGTERM ends `syncd run`, `mcp` and `emulate` with 0, and any other"
    " command with 143.",
}
