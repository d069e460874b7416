"""Finds out whether the API can be reached, and which part of the way is broken. Sends no request and no token."""

import asyncio
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from syncd.cloudflare.exchange import proxy_of

CONTACT_S = 9.0
"""Longest time, in seconds, until a person learns that a network is not there."""
_DNS_S = 3.0
_CONNECT_S = 3.0
"""Longest time, in seconds, of a name lookup and of a connection with its TLS handshake."""
CLOCK_S = 300.0
"""Difference between two clocks, in seconds, from which tokens, certificates and expiry times are judged wrongly."""
_NOT_YET_VALID, _EXPIRED, _WRONG_HOST = 9, 10, (62, 64)
"""Verification errors of OpenSSL (X509_V_ERR_*)."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The broken part of the way to the API, and how to fix it."""

    message: str
    remedy: str


async def find_fault(base_url: str) -> Fault | None:
    """Return the broken part of the way to a base URL, None if a connection can be made.

    With a proxy, the way to the proxy is examined. Takes at most 6 s. Raises ValueError for a proxy that cannot be
    used.
    """
    proxy = proxy_of(base_url)
    url = httpx.URL(proxy or base_url)
    tls = url.scheme == "https"
    host, port = url.host, url.port or (443 if tls else 80)
    subject = f"the proxy {host}:{port}" if proxy else f"{host}:{port}"
    # The environment names the proxy, so the network may be in order without it.
    remedy = "correct HTTPS_PROXY or ALL_PROXY, or unset it" if proxy else ""
    try:
        await asyncio.wait_for(_resolve(host, port), _DNS_S)
    except TimeoutError:
        message = f"DNS: no answer for {host} within {_DNS_S:.0f} s"
        return Fault(message, remedy or "check the network and the servers in /etc/resolv.conf")
    except OSError as error:
        return Fault(
            f"DNS: {host}: {error.strerror or error}", remedy or "check base_url, the network and /etc/resolv.conf"
        )
    try:
        await asyncio.wait_for(_connect(host, port, tls=tls), _CONNECT_S)
    except Exception as error:  # noqa: BLE001 - any error of a connection is the answer
        fault = connection_fault(error, subject)
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


def connection_fault(error: BaseException, subject: str) -> Fault:
    """Return the fault that an error of a connection means. subject: the host and port of the other side."""
    chain: list[BaseException] = []
    while error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__ or error
    for each in chain:
        if isinstance(each, ssl.SSLCertVerificationError):
            return _certificate_fault(each, subject)
        if isinstance(each, socket.gaierror):
            return Fault(f"DNS: {subject}: {each.strerror}", "check the network and /etc/resolv.conf")
        if isinstance(each, httpx.ProxyError):
            return Fault(
                f"proxy: it refuses the connection: {each}", "correct HTTPS_PROXY or ALL_PROXY, with its password"
            )
        if isinstance(each, ssl.SSLError):
            why = getattr(each, "reason", None) or "the handshake failed"
            return Fault(
                f"TLS: {subject}: {why}", "check base_url, and whether a proxy or firewall answers in its place"
            )
        if isinstance(each, ConnectionRefusedError):
            return Fault(f"{subject} refuses the connection", "check base_url, and whether a firewall blocks it")
    for each in chain:
        if isinstance(each, (TimeoutError, httpx.TimeoutException)):
            return Fault(f"{subject} does not answer", "check the network, and whether a firewall drops the packets")
    last = next((each for each in reversed(chain) if str(each)), chain[-1])
    return Fault(f"{subject}: {str(last) or type(last).__name__}", "check the network")


def _certificate_fault(error: ssl.SSLCertVerificationError, subject: str) -> Fault:
    today = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
        when = "is not valid yet" if error.verify_code == _NOT_YET_VALID else "has expired"
        return Fault(
            f"TLS: the certificate of {subject} {when}, by the clock of this machine: {today}",
            "set the clock (timedatectl set-ntp true) if this is not the time",
        )
    remedy = "if a proxy inspects TLS, name the file of its CA in SSL_CERT_FILE"
    if error.verify_code in _WRONG_HOST:
        remedy = "check base_url, and whether a proxy or firewall answers in its place"
    return Fault(f"TLS: the certificate of {subject} is not accepted: {error.verify_message}", remedy)


def clock_fault(their_time: float | None) -> Fault | None:
    """Return the fault of the clock of this machine. their_time: that of the API, as Unix seconds; None: not known."""
    ahead_s = time.time() - their_time if their_time else 0.0
    if abs(ahead_s) < CLOCK_S:
        return None
    direction = "ahead of" if ahead_s > 0 else "behind"
    minutes = abs(ahead_s) / 60
    message = f"the clock of this machine is {minutes:,.0f} minutes {direction} the clock of the API"
    return Fault(message, "set the clock: timedatectl set-ntp true")
