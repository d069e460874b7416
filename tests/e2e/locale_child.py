"""Runs commands in forks of this process, which keep the locale that Python read at the start of this process.

Each line of stdin is one command: JSON of arguments, directory, file for stdout, file for stderr. Each line of stdout
is the exit code of one command.
"""

import json
import os
import sys


def child(arguments: list[str], cwd: str, out: str, err: str) -> None:
    """Run `syncd ARGUMENTS` in this process."""
    for descriptor, path in enumerate((os.devnull, out, err)):
        file = os.open(path, (os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if descriptor else os.O_RDONLY, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    os.chdir(cwd)
    # Arguments come as bytes of UTF-8, and Python decodes them by its locale.
    sys.argv = ["syncd", *(os.fsdecode(argument.encode()) for argument in arguments)]
    from syncd.cli.main import main

    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        # Taking the interpreter down takes longer than most commands.
        os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))


def serve() -> None:
    """Run each command of stdin to its end."""
    import tests.e2e.preload  # noqa: F401

    while line := sys.stdin.buffer.readline():
        pid = os.fork()
        if pid == 0:
            child(*json.loads(line))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(1, f"{code}\n".encode())


if __name__ == "__main__":
    serve()
