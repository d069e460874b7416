"""Runs commands in forks of this process, which keep its locale, limits and mounts.

Each line of stdin is one command: JSON of arguments and directory. Each line of stdout is its result: JSON of exit
code, stdout and stderr, with one character for each byte.
"""

import json
import os
import sys


def child(arguments: list[str], cwd: str, streams: list[int]) -> None:
    """Run `syncd ARGUMENTS` in this process. streams: the descriptors of stdout and stderr."""
    streams = [os.open(os.devnull, os.O_RDONLY), *streams]
    for descriptor, stream in enumerate(streams):
        os.dup2(stream, descriptor)
    # A program that the shell starts has no other descriptors.
    os.closerange(3, max(streams) + 1)
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


def written(stream: int) -> str:
    os.lseek(stream, 0, os.SEEK_SET)
    with open(stream, "rb") as file:
        return file.read().decode("latin-1")


def serve() -> None:
    """Run each command of stdin to its end."""
    import tests.e2e.preload  # noqa: F401

    while line := sys.stdin.buffer.readline():
        streams = [os.memfd_create("out"), os.memfd_create("err")]
        pid = os.fork()
        if pid == 0:
            arguments, cwd = json.loads(line)
            child(arguments, cwd, streams)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        answer = [code, *map(written, streams)]
        os.write(1, f"{json.dumps(answer)}\n".encode())


if __name__ == "__main__":
    serve()
