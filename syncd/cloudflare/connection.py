"""The connection to the API: the proxy of the environment, the TLS context, and the faults of both, with remedies."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpx

from syncd.core.requests import is_loopback

POOL = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=5.0)
"""The gate limits the number of requests in flight, so the pool sets no limit of its own."""
_NOT_YET_VALID, _EXPIRED, _WRONG_HOST = 9, 10, (62, 64)
"""Verification errors of OpenSSL (X509_V_ERR_*)."""


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


def unrequested_answer_check() -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """Return a value for the extension "trace" of one request, which fails on an answer that came before the request.

    A server may send a second answer behind the first one. httpx would take it for the answer to the next request on
    that connection, and each later answer for the answer to the request after its own. The head of a requested answer
    is read from the socket, so the event loop turns at least once between the two events. Raises
    httpx.RemoteProtocolError, after which httpx closes the connection.
    """
    turned = asyncio.Event()

    async def trace(event: str, info: Mapping[str, Any]) -> None:
        del info
        if event == "http11.receive_response_headers.started":
            asyncio.get_running_loop().call_soon(turned.set)
        elif event == "http11.receive_response_headers.complete" and not turned.is_set():
            raise httpx.RemoteProtocolError("the connection held an answer that nobody had requested")

    return trace


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
    for each in chain:
        if fault := _known_fault(each, subject):
            return fault
    if any(isinstance(each, (TimeoutError, httpx.TimeoutException)) for each in chain):
        return Fault(f"{subject} does not answer", "check the network, and whether a firewall drops the packets")
    last = next((each for each in reversed(chain) if str(each)), chain[-1])
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
