"""Reports the state of the daemon to systemd."""

import os
import socket
import time
from collections.abc import Callable, Mapping

import structlog

_log = structlog.get_logger()

_MAX_TEXT = 1024
"""Maximum characters of a status text: systemctl shows one line, and a datagram has room for much more."""


class Notifier:
    """Sends state datagrams to systemd, see sd_notify(3).

    No method raises, because a service must not fail without a listener.

    environ: has NOTIFY_SOCKET, a socket path or "@name" for an abstract one, without which nothing is sent; and
    WATCHDOG_USEC, which counts unless WATCHDOG_PID names another process.
    watchdog_interval_s: seconds between two `watchdog()` calls, half of the limit of systemd. None without a watchdog.
    """

    def __init__(self, environ: Mapping[str, str], monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.watchdog_interval_s = _watchdog_interval_s(environ)
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._monotonic_ns = monotonic_ns
        self._failed = False

    def ready(self) -> None:
        """Report that the service is started, or has reloaded its config."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`. Line breaks become spaces, because each line could set a state."""
        line = " ".join(text.encode(errors="replace").decode().replace("\0", " ").splitlines())
        line = "".join(char if char.isprintable() else "?" for char in line)
        self._send(f"STATUS={line[:_MAX_TEXT]}")

    def watchdog(self) -> None:
        """Report that the service is alive."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Report that the service stops."""
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """Report that the service reloads its config. Call `ready` afterwards."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={self._monotonic_ns() // 1000}")

    def _send(self, state: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                # A manager that does not read must not block the event loop.
                sender.setblocking(False)
                sender.sendto(state.encode(), self._address)
        except OSError as error:
            if not self._failed:
                _log.warning("notify.failed", error=str(error))
            self._failed = True
        else:
            self._failed = False


def _address(name: str) -> str | None:
    if not name.startswith(("@", "/")):
        return None
    return "\0" + name[1:] if name[0] == "@" else name


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        allowed_us = int(environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return allowed_us / 2_000_000 if allowed_us > 0 else None
