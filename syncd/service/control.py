"""The control socket, by which a command lets the running daemon carry out a request.

The protocol is one JSON object a line. The command sends one request, with the field "command". The daemon answers with
events: {"out": TEXT} and {"err": TEXT} are output of the command, {"progress": [TEXT, DONE, TOTAL]} is its progress,
and {"exit_code": N} is the end.
"""

import asyncio
import contextlib
import json
import os
import socket
import stat
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from syncd.core.errors import EXIT_BUG, EXIT_HALT, EXIT_LOCKED, Locked, SyncdError, is_shortage
from syncd.core.plain_text import printable
from syncd.state.directory import no_follow

SOCKET_NAME = "control.sock"
MAX_PATH_BYTES = 100
"""Maximum bytes of the path of a socket. Linux allows 107."""
REQUEST_LIMIT = 64 * 1024
"""Maximum bytes of a request."""
REQUEST_S = 5.0
"""Seconds in which a command must send its request."""
MAX_COMMANDS = 16
"""Maximum number of commands under way."""
MAX_CONNECTIONS = 256
"""Maximum number of connections, also of clients that have not sent a request yet."""
LOOK = "look"
"""The request to check whether idle mirrors can reach their remote. It has no output."""
ALIVE = "alive"
"""The request of a health check. Its exit code shows whether a part of the daemon is stuck."""
WARN_EVERY_S = 60.0
"""Seconds between two warnings that no descriptor is left for connections."""
PROGRESS_EVERY_S = 0.2
"""Minimum seconds between two progress events."""

log = structlog.get_logger()


class Channel:
    """Sends the events of one request. If the command has ended, the request continues, and its events are dropped."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._progress_at = 0.0

    def out(self, text: str) -> None:
        """Send output."""
        self._send({"out": text})

    def err(self, text: str) -> None:
        """Send output for stderr."""
        self._send({"err": text})

    def show(self, text: str, done: int, total: int, left: str = "") -> None:
        """Send progress, at most every PROGRESS_EVERY_S. left: a text about the rest."""
        now = time.monotonic()
        if now - self._progress_at >= PROGRESS_EVERY_S:
            self._progress_at = now
            self._send({"progress": [text + left, done, total]})

    def end(self, code: int) -> None:
        """Send the exit code."""
        self._send({"exit_code": code})

    def _send(self, event: Mapping[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(event).encode() + b"\n")


Handler = Callable[[Mapping[str, Any], Channel], Awaitable[int]]
"""Carries out a request and returns the exit code. Raises SyncdError."""


class ControlServer:
    """Listens in the state directory. handle: carries out a request; several calls may run at a time."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._directory: Path | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._under_way = 0

    async def open(self, directory: Path) -> None:
        """Listen in a state directory. If that fails, the daemon works without the socket and logs why.

        Raises OSError if no descriptor is left.
        """
        if self._directory == directory:
            return
        await self._stop_listening()
        try:
            listener = _listen(directory)
        except OSError as error:
            if is_shortage(error):
                raise
            log.warning("control.refused", why=error.strerror, consequence="commands cannot ask this daemon")
            return
        throttle_accept_errors(asyncio.get_running_loop())
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=REQUEST_LIMIT)
        self._directory = directory

    async def close(self) -> None:
        """Stop listening, and end the requests under way."""
        await self._stop_listening()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _stop_listening(self) -> None:
        if self._server and self._directory:
            self._server.close()
            with contextlib.suppress(OSError):
                (self._directory / SOCKET_NAME).unlink()
        self._server = self._directory = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._clients) >= MAX_CONNECTIONS or not _is_allowed(writer.get_extra_info("socket")):
            writer.close()
            return
        self._clients.add(task)
        channel = Channel(writer)
        try:
            channel.end(await self._answer(reader, channel))
            await writer.drain()
        except ConnectionError:
            log.debug("control.gone")
        except asyncio.CancelledError:
            channel.err("syncd: the daemon ended before the command was done; run it again\n")
            channel.end(EXIT_LOCKED)
        finally:
            self._clients.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, channel: Channel) -> int:
        """Read a request and carry it out. Return its exit code. Every error becomes output and an exit code."""
        try:
            with reading_request():
                async with asyncio.timeout(REQUEST_S):
                    request = json.loads(await reader.readline())
                # A health check sends a request every minute, and `status --watch` one every second.
                log_request = log.debug if request["command"] in (ALIVE, LOOK) else log.info
                log_request("control.request", command=request["command"])
            return await self._carry_out(request, channel)
        except SyncdError as error:
            for line in error.lines:
                channel.err(f"syncd: {printable(line)}\n")
            return error.exit_code
        except (OSError, MemoryError) as error:
            log.warning("control.halted", why=str(error))
            channel.err(f"syncd: {printable(str(error))}; mend it, and run it again\n")
            return EXIT_HALT
        except Exception:
            log.exception("control.failed")
            channel.err("syncd: the daemon failed in an unexpected way; its log has the traceback: report it\n")
            return EXIT_BUG

    async def _carry_out(self, request: Mapping[str, Any], channel: Channel) -> int:
        if self._under_way >= MAX_COMMANDS:
            raise Locked(f"the daemon carries out {MAX_COMMANDS} commands already; try again later")
        self._under_way += 1
        try:
            return await self._handle(request, channel)
        finally:
            self._under_way -= 1


@contextmanager
def reading_request() -> Iterator[None]:
    """Raise Locked if the block cannot read a request. A command of another version may have sent it."""
    try:
        yield
    except (ValueError, LookupError, TypeError, TimeoutError, RecursionError) as error:
        log.warning("control.invalid", why=type(error).__name__)
        raise Locked("the daemon does not understand this request; restart it after an upgrade") from error


def _is_allowed(peer: socket.socket) -> bool:
    """Return whether the peer runs as the user of the daemon or as root.

    Some systems have no SO_PEERCRED. There, the mode 0600 of the socket keeps other users out.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid in (0, os.geteuid())


@contextmanager
def _address(directory: Path) -> Iterator[str]:
    """Yield a path of the socket of a state directory. In place of a long path, it leads through a descriptor."""
    path = directory / SOCKET_NAME
    if len(os.fsencode(path)) <= MAX_PATH_BYTES:
        yield str(path)
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | no_follow(directory.parent))
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


def throttle_accept_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Let a loop warn once in WARN_EVERY_S of connections that it cannot accept. asyncio logs every try."""
    warned = -WARN_EVERY_S

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal warned
        if "out of system resource" not in context.get("message", ""):
            loop.default_exception_handler(context)
        elif loop.time() >= warned + WARN_EVERY_S:
            warned = loop.time()
            why, remedy = str(context.get("exception")), "raise the limit of open files (LimitNOFILE, ulimit -n)"
            log.warning("connection.refused", why=why, remedy=remedy)

    loop.set_exception_handler(handle)


def _listen(directory: Path) -> socket.socket:
    """Return a listening socket with mode 0600.

    The function removes an earlier socket. No process uses it, because this process holds the lock of the directory.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            (directory / SOCKET_NAME).unlink()
        os.fchmod(listener.fileno(), 0o600)
        with _address(directory) as address:
            listener.bind(address)
        path = directory / SOCKET_NAME
        if stat.S_IMODE(path.lstat().st_mode) & 0o077:
            path.chmod(0o600)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def is_forbidden(directory: Path) -> bool:
    """Return whether this user may not use the socket of a state directory, such as the socket of another user."""
    try:
        (directory / SOCKET_NAME).lstat()
    except OSError as error:
        return isinstance(error, PermissionError)
    return not os.access(directory / SOCKET_NAME, os.W_OK)


async def ask(directory: Path, request: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]] | None:
    """Send a request to the daemon of a state directory. Return the events, or None if no daemon listens."""
    try:
        with _address(directory) as address:
            reader, writer = await asyncio.open_unix_connection(address, limit=2**30)
    except OSError:
        return None
    writer.write(json.dumps(request).encode() + b"\n")
    return _events(reader, writer)


async def _events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[dict[str, Any]]:
    try:
        with contextlib.suppress(ConnectionError):
            # A daemon that is killed may leave half a line.
            while (line := await reader.readline()).endswith(b"\n"):
                yield json.loads(line)
    finally:
        writer.close()
