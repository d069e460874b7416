"""The server over stdin and stdout. Everything else that is printed goes to stderr."""

import asyncio
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import structlog
from mcp.server.stdio import stdio_server

from syncd.agents.server import make_server
from syncd.agents.tools import Agent

_log = structlog.get_logger()

MAX_LINE_BYTES = 4 * 1024 * 1024
"""Maximum bytes of a message (our own limit; the library has the same limit for HTTP)."""
_CHUNK_BYTES = 64 * 1024
_MAX_WAITING = 64
"""Maximum number of lines that wait for the event loop."""


class InputLines:
    """Reads the lines of a file descriptor in a thread, and yields them as text.

    The library also reads in a thread, but the program waits for that thread at its end. A signal could then not end
    the program before the client closes stdin.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._free_places = threading.Semaphore(_MAX_WAITING)
        threading.Thread(target=self._read, name="syncd-stdin", daemon=True).start()

    def __aiter__(self) -> "InputLines":
        return self

    async def __anext__(self) -> str:
        line = await self._queue.get()
        self._free_places.release()
        if line is None:
            raise StopAsyncIteration
        return line.decode("utf-8", "replace")

    def _read(self) -> None:
        # RuntimeError: the event loop may be closed before the client closes stdin.
        with suppress(RuntimeError):
            for line in self._lines():
                self._put(line)
            self._put(None)

    def _put(self, line: bytes | None) -> None:
        self._free_places.acquire()
        self._loop.call_soon_threadsafe(self._queue.put_nowait, line)

    def _lines(self) -> Iterator[bytes]:
        """Yield the lines. A line that is too long is cut to one character, so that the server refuses it."""
        rest, is_cut = b"", False
        while chunk := self._chunk():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line[:1] if is_cut else line
                is_cut = False
            if len(rest) > MAX_LINE_BYTES:
                rest, is_cut = rest[:1], True
        if rest:
            yield rest[:1] if is_cut else rest

    def _chunk(self) -> bytes:
        try:
            return os.read(self._descriptor, _CHUNK_BYTES)
        except OSError as error:
            _log.warning("mcp.unreadable", why=error.strerror, remedy="start it with a pipe as stdin, as agents do")
            return b""


class Output:
    """Writes to a descriptor in a thread. A client that does not read blocks neither the event loop nor the exit."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        threading.Thread(target=self._write_all, name="syncd-stdout", daemon=True).start()

    async def write(self, text: str) -> None:
        """Wait until a text is written whole. Raises OSError, such as BrokenPipeError if the client is gone."""
        written = self._loop.create_future()
        self._queue.put((text.encode(), written))
        await written

    async def flush(self) -> None:
        """Do nothing. Nothing is buffered."""

    def _write_all(self) -> None:
        # RuntimeError: the event loop may be closed before the client reads.
        with suppress(RuntimeError):
            while True:
                data, written = self._queue.get()
                self._loop.call_soon_threadsafe(_settle, written, self._write(data))

    def _write(self, data: bytes) -> OSError | None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            return error
        return None


def _settle(written: "asyncio.Future[None]", error: OSError | None) -> None:
    if written.done():
        return
    if error:
        written.set_exception(error)
    else:
        written.set_result(None)


async def serve(agent: Agent) -> None:
    """Serve one client until it closes stdin or no longer reads stdout."""
    server = make_server(agent)
    output = os.dup(1)
    # From here on, text that a library prints goes to stderr and does not reach the client.
    os.dup2(2, 1)
    stdin: Any = InputLines(0)
    stdout: Any = Output(output)
    try:
        async with stdio_server(stdin, stdout) as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
    except* BrokenPipeError:
        _log.info("mcp.gone")
