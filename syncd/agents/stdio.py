"""The server over stdin and stdout. Everything else that is printed goes to stderr."""

import asyncio
import os
import sys
import threading
from contextlib import suppress
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from syncd.core.errors import ConfigError

MOST_LINE = 4 * 1024 * 1024
"""Bytes of a message (our own limit, and the one that the library has for HTTP)."""
_CHUNK = 64 * 1024


class Lines:
    """The lines of a descriptor, read in a thread.

    The library reads in a thread, too, but waits for its end. So a signal could not end the program before the client
    closes stdin.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = threading.Semaphore(64)
        threading.Thread(target=self._read, name="syncd-stdin", daemon=True).start()

    def __aiter__(self) -> "Lines":
        return self

    async def __anext__(self) -> str:
        line = await self._queue.get()
        self._room.release()
        if line is None:
            raise StopAsyncIteration
        return line.decode("utf-8", "replace")

    def _read(self) -> None:
        # The event loop may be closed before the client closes stdin.
        with suppress(OSError, RuntimeError):
            for line in self._lines():
                self._put(line)
        with suppress(RuntimeError):
            self._put(None)

    def _put(self, line: bytes | None) -> None:
        self._room.acquire()
        self._loop.call_soon_threadsafe(self._queue.put_nowait, line)

    def _lines(self) -> "Any":
        kept = b""
        too_long = False
        while chunk := os.read(self._descriptor, _CHUNK):
            *whole, kept = (kept + chunk).split(b"\n")
            for line in whole:
                # A line that is cut is no JSON, so the library answers with an error.
                yield line[:1] if too_long else line
                too_long = False
            if len(kept) > MOST_LINE:
                too_long, kept = True, b"x"
        if kept:
            yield kept


class Output:
    """Writes to a descriptor in a thread, so that a client that does not read never stops the event loop."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def write(self, text: str) -> None:
        """Write a text whole. Raises BrokenPipeError if the client is gone."""
        await asyncio.get_running_loop().run_in_executor(None, self._write, text.encode())

    async def flush(self) -> None:
        """Do nothing. Nothing is buffered."""

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]


async def serve(server: Server[Any]) -> None:
    """Serve one client until it closes stdin."""
    if sys.stdin.isatty():
        raise ConfigError("mcp: an agent starts this command; docs/how-to/agents.md has the line for each client")
    wire = os.dup(1)
    # A stray print of a library must not reach the client.
    os.dup2(2, 1)
    try:
        stdin: Any = Lines(0)
        stdout: Any = Output(wire)
        with suppress(BrokenPipeError):
            async with stdio_server(stdin, stdout) as (incoming, outgoing):
                await server.run(incoming, outgoing, server.create_initialization_options())
    finally:
        os.dup2(wire, 1)
        os.close(wire)
