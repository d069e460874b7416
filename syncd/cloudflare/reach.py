"""Finds out whether the API can be reached, and which part of the way is broken. Sends no request and no token."""

import asyncio
import socket
import threading
import time
from contextlib import suppress

import httpx

from syncd.cloudflare.connection import Fault, connection_fault, other_side, proxy_of
from syncd.cloudflare.transport import Counters

CONTACT_S = 9.0
"""Longest time, in seconds, until a missing network is reported."""
STEP_S = 3.0
"""Longest time, in seconds, of a name lookup, and of a connection with its TLS handshake."""
CLOCK_S = 300.0
"""Difference between two clocks, in seconds, from which tokens, certificates and expiry times are judged wrongly."""


async def find_fault(base_url: str, *, handshake: bool = True, limit_s: float = STEP_S) -> Fault | None:
    """Return the broken part of the way to a base URL, None if a connection can be made.

    With a proxy, the way to the proxy is examined. handshake: whether the connection includes that of TLS. limit_s:
    longest time of the name lookup, and again of the connection. Raises ValueError for a proxy that cannot be used.
    """
    proxy = proxy_of(base_url)
    url = httpx.URL(proxy or base_url)
    tls = url.scheme == "https"
    host, port = url.host, url.port or (443 if tls else 80)
    # The environment names the proxy, so the network may be in order without it.
    remedy = "correct HTTPS_PROXY or ALL_PROXY, or unset it" if proxy else ""
    try:
        await asyncio.wait_for(_resolve(host, port), limit_s)
    except TimeoutError:
        message = f"DNS: no answer for {host} within {limit_s:.0f} s"
        return Fault(message, remedy or "check the network and the servers in /etc/resolv.conf")
    except OSError as error:
        return Fault(
            f"DNS: {host}: {error.strerror or error}", remedy or "check base_url, the network and /etc/resolv.conf"
        )
    try:
        await asyncio.wait_for(_connect(host, port, tls=tls and handshake), limit_s)
    except Exception as error:  # noqa: BLE001 - any error of a connection is the answer
        fault = connection_fault(error, other_side(base_url))
        return Fault(fault.message, remedy or fault.remedy)
    return None


async def _resolve(host: str, port: int) -> None:
    """Look a name up in a thread that ends with the process, because a lookup cannot be cancelled."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[None] = loop.create_future()

    def end(error: OSError | None) -> None:
        if not found.done():
            found.set_exception(error) if error else found.set_result(None)

    def work() -> None:
        fault = None
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:
            fault = OSError(0, "this is no name of a host")
        except OSError as error:
            fault = error
        # The loop may be closed by the time of the answer.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(end, fault)

    threading.Thread(target=work, name="syncd-dns", daemon=True).start()
    await found


async def _connect(host: str, port: int, *, tls: bool) -> None:
    context = httpx.create_ssl_context() if tls else None
    _, writer = await asyncio.open_connection(host, port, ssl=context, happy_eyeballs_delay=0.25)
    writer.close()


def unanswered_fault(base_url: str, counters: Counters, error: BaseException) -> Fault:
    """Return why requests got no answer of the API, although a connection can be made. error: the last one."""
    host = other_side(base_url)
    statuses = sorted({status for _, status in counters.by if status != "failed"})
    if not counters.requests:
        return Fault("the quota of requests is used up, so none may be sent now", "wait, or raise cloudflare.quota")
    if not statuses:
        return connection_fault(error, host)
    if any(status.startswith("5") or status == "429" for status in statuses):
        what = f"{host} answers with status {', '.join(statuses)} only"
        return Fault(what, "try again later; see https://www.cloudflarestatus.com")
    what = f"{host} answers (status {', '.join(statuses)}), but not as the Cloudflare API does"
    return Fault(what, "check base_url, and whether another program or a proxy answers in its place")


def clock_fault(their_time: float | None) -> Fault | None:
    """Return the fault of the clock of this machine.

    their_time: that of the API, as Unix seconds; None if it is unknown.
    """
    ahead_s = time.time() - their_time if their_time else 0.0
    if abs(ahead_s) < CLOCK_S:
        return None
    direction = "ahead of" if ahead_s > 0 else "behind"
    minutes = abs(ahead_s) / 60
    message = f"the clock of this machine is {minutes:,.0f} minutes {direction} the clock of the API"
    return Fault(message, "set the clock: timedatectl set-ntp true")
