"""The connection to the API: its proxy, its TLS context, and its faults, found by a look that sends no request."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from typing import TypeVar
from urllib.request import getproxies, proxy_bypass

import httpx

from syncd.core.requests import is_loopback

POOL = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=5.0)
"""The gate limits the number of requests in flight, so the pool sets no limit of its own."""
CONTACT_S = 9.0
"""Longest time, in seconds, until a missing network is reported."""
STEP_S = 3.0
"""Longest time, in seconds, of a name lookup, and of a connection with its TLS handshake."""
CLOCK_S = 300.0
"""Difference between two clocks, in seconds, from which tokens, certificates and expiry times are judged wrongly."""
_NOT_YET_VALID, _EXPIRED, _WRONG_HOST = 9, 10, (62, 64)
"""Verification errors of OpenSSL (X509_V_ERR_*)."""
_T = TypeVar("_T")


def make_transport(base_url: str) -> httpx.AsyncHTTPTransport:
    """Return httpx's transport for a checked base_url. It verifies TLS and uses the proxy of the environment.

    Raises ValueError if no request may be sent to base_url, or if the proxy cannot be used.
    """
    proxy = proxy_of(base_url)
    # Plain http needs no CA file, and loading one takes longer than a request. The empty context trusts no server.
    plain = httpx.URL(base_url).scheme == "http"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else httpx.create_ssl_context()
    # trust_env is False because `proxy_of` and the context have read the environment already.
    return httpx.AsyncHTTPTransport(verify=context, limits=POOL, trust_env=False, proxy=proxy)


# -- proxies


def proxy_of(base_url: str) -> str | None:
    """Return HTTPS_PROXY, else ALL_PROXY; None for plain http, for loopback and for a host in NO_PROXY.

    As in curl, a name in lower case takes precedence. Raises ValueError if no request may be sent to base_url, or if
    the proxy cannot be used.
    """
    url = _parse(base_url)
    if url.scheme != "https" or is_loopback(url.host) or _is_bypassed(url):
        return None
    proxies = getproxies()
    name = "https" if proxies.get("https") else "all"
    if not (proxy := proxies.get(name)):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        scheme = httpx.URL(proxy).scheme
    except httpx.InvalidURL:
        scheme = ""
    if scheme in {"socks5", "socks5h"} and not find_spec("socksio"):
        raise ValueError(f"{name.upper()}_PROXY is a SOCKS proxy: pip install socksio, or name an http or https proxy")
    if scheme not in {"http", "https", "socks5", "socks5h"}:
        raise ValueError(f"{name.upper()}_PROXY must be an http or https proxy")
    return proxy


def _parse(base_url: str) -> httpx.URL:
    """Check base_url again as httpx reads it: two parsers must not disagree on where the token is sent."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        raise ValueError("base_url is no URL") from None
    if "?" in base_url or "#" in base_url or (url.scheme != "https" and not is_loopback(url.host)):
        raise ValueError("base_url must be https (plain http for loopback only), without query or fragment")
    return url


def _is_bypassed(url: httpx.URL) -> bool:
    """Return whether NO_PROXY holds the host, with or without its port, its domain, or a network with its address."""
    if proxy_bypass(f"{url.host}:{url.port or 443}"):
        return True
    try:
        address = ip_address(url.host)
    except ValueError:
        return False
    for network in getproxies().get("no", "").split(","):
        with suppress(ValueError):
            if address in ip_network(network.strip(), strict=False):
                return True
    return False


# -- faults


@dataclass(frozen=True, slots=True)
class Fault:
    """The broken part of the way to the API, and how to fix it."""

    message: str
    remedy: str


def other_side(base_url: str) -> str:
    """Return the host and port to which connections are made, for messages."""
    proxy = proxy_of(base_url)
    url = httpx.URL(proxy or base_url)
    place = f"{url.host}:{url.port or (443 if url.scheme == 'https' else 80)}"
    return f"the proxy {place}" if proxy else place


def connection_fault(error: BaseException, subject: str) -> Fault:
    """Return the fault that an error of a connection means. subject: the host and port of the other side."""
    chain: list[BaseException] = []
    while error not in chain:
        chain.append(error)
        several = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = several or error.__cause__ or error.__context__ or error
    for link in chain:
        if fault := _known_fault(link, subject):
            return fault
    if any(isinstance(link, (TimeoutError, httpx.TimeoutException)) for link in chain):
        return Fault(f"{subject} does not answer", "check the network, and whether a firewall drops the packets")
    last = next((link for link in reversed(chain) if str(link)), chain[-1])
    return Fault(f"{subject}: {str(last) or type(last).__name__}", "check the network")


def _known_fault(error: BaseException, subject: str) -> Fault | None:
    other_answers = "check base_url, and whether a proxy or firewall answers in its place"
    match error:
        case ssl.SSLCertVerificationError(verify_code=code) if code in (_NOT_YET_VALID, _EXPIRED):
            when = "is not valid yet" if code == _NOT_YET_VALID else "has expired"
            today = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
            return Fault(
                f"TLS: the certificate of {subject} {when}, by the clock of this machine: {today}",
                "set the clock (timedatectl set-ntp true) if this is not the time",
            )
        case ssl.SSLCertVerificationError(verify_code=code, verify_message=why):
            other_ca = "if a proxy inspects TLS, name the file of its CA in SSL_CERT_FILE"
            message = f"TLS: the certificate of {subject} is not accepted: {why}"
            return Fault(message, other_answers if code in _WRONG_HOST else other_ca)
        case socket.gaierror(strerror=why):
            return Fault(f"DNS: {subject}: {why}", "check the network and /etc/resolv.conf")
        case httpx.ProxyError():
            return Fault(
                f"proxy: it refuses the connection: {error}", "correct HTTPS_PROXY or ALL_PROXY, with its password"
            )
        case ssl.SSLError():
            why = getattr(error, "reason", None) or "the handshake failed"
            return Fault(f"TLS: {subject}: {why}", other_answers)
        case ConnectionRefusedError():
            return Fault(f"{subject} refuses the connection", "check base_url, and whether a firewall blocks it")
    return None


# -- looks


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
        await asyncio.wait_for(in_daemon_thread(partial(_resolve, host, port)), limit_s)
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


def _resolve(host: str, port: int) -> None:
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError(0, "this is no name of a host") from None


async def in_daemon_thread(work: Callable[[], _T]) -> _T:
    """Return the result of blocking work. Its thread does not delay the end of the process."""
    result = Future[_T]()
    # A running future cannot be cancelled, so its result can always be set.
    result.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result.set_result(work())
        except Exception as error:  # noqa: BLE001 - raised where the result is awaited
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(result)


async def _connect(host: str, port: int, *, tls: bool) -> None:
    context = httpx.create_ssl_context() if tls else None
    _, writer = await asyncio.open_connection(host, port, ssl=context, happy_eyeballs_delay=0.25)
    writer.close()


def unanswered_fault(base_url: str, sent: int, outcomes: Collection[str], error: BaseException) -> Fault:
    """Return why requests got no answer of the API, although a connection can be made.

    sent: the number of requests. outcomes: the status of each answer, and "failed" for a request that ended without an
    answer. error: the last error.
    """
    host = other_side(base_url)
    statuses = sorted({*outcomes} - {"failed"})
    if not sent:
        return Fault("the quota of requests is used up, so none may be sent now", "wait, or raise cloudflare.quota")
    if not statuses:
        return connection_fault(error, host)
    if any(status.startswith("5") or status == "429" for status in statuses):
        message = f"{host} answers with status {', '.join(statuses)} only"
        return Fault(message, "try again later; see https://www.cloudflarestatus.com")
    message = f"{host} answers (status {', '.join(statuses)}), but not as the Cloudflare API does"
    return Fault(message, "check base_url, and whether another program or a proxy answers in its place")


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
