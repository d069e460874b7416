"""Chooses proxy, TLS context and connection pool."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpx

from syncd.core.base_url import is_loopback

POOL = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=5.0)
"""The gate limits the number of requests in flight, so the pool sets no limit of its own."""


def make_transport(base_url: str) -> httpx.AsyncHTTPTransport:
    """Return httpx's transport for a checked base_url. It verifies TLS and uses the proxy of the environment.

    Raises ValueError if no request may be sent to base_url, or if the proxy cannot be used.
    """
    url = _parsed(base_url)
    # Plain http needs no CA file, and loading one takes longer than a request. The empty context trusts no server.
    context = httpx.create_ssl_context() if url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # trust_env is False because `_proxy` and the context have read the environment already.
    return httpx.AsyncHTTPTransport(verify=context, limits=POOL, trust_env=False, proxy=_proxy(url))


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


def _parsed(base_url: str) -> httpx.URL:
    """Check base_url again as httpx reads it: two parsers must not disagree on where the token is sent."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        raise ValueError("base_url is no URL") from None
    if "?" in base_url or "#" in base_url or (url.scheme != "https" and not is_loopback(url.host)):
        raise ValueError("base_url must be https (plain http for loopback only), without query or fragment")
    return url


def _proxy(url: httpx.URL) -> str | None:
    """Return HTTPS_PROXY, else ALL_PROXY; None for plain http, for loopback and for a host in NO_PROXY.

    As in curl, a name in lower case takes precedence.
    """
    if url.scheme != "https" or is_loopback(url.host) or _bypassed(url):
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


def _bypassed(url: httpx.URL) -> bool:
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
