"""Reports the state of the daemon to systemd."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Self

import structlog

_log = structlog.get_logger()

_MAX_TEXT = 1024
"""Maximum characters of a status text: systemctl shows one line, and a datagram has room for much more."""


class Notifier:
    """Sends state datagrams to systemd, see sd_notify(3).

    No method raises, because a service must not fail without a listener.

    address: a socket path, "@name" for an abstract one, or None to send nothing.
    watchdog_interval_s: seconds between two `watchdog()` calls, half of the limit of systemd. None without a watchdog.
    """

    def __init__(
        self,
        address: str | None,
        *,
        watchdog_interval_s: float | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.watchdog_interval_s = watchdog_interval_s
        self._address = _usable(address)
        self._monotonic_ns = monotonic_ns
        self._failed = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read NOTIFY_SOCKET, and WATCHDOG_USEC unless WATCHDOG_PID names another process."""
        return cls(environ.get("NOTIFY_SOCKET"), watchdog_interval_s=_watchdog_interval_s(environ))

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


def _usable(address: str | None) -> str | None:
    if not address or address[0] not in "@/":
        return None
    return "\0" + address[1:] if address[0] == "@" else address


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        allowed_us = int(environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return allowed_us / 2_000_000 if allowed_us > 0 else None
