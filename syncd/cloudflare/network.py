"""The connections to the API: the connection pool, its proxy and its TLS context."""

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import httpcore

from syncd.cloudflare.proxies import PORTS, parse_url, proxy_of

KEPT_S = 5.0
"""Seconds that an unused connection is kept."""

NOT_SENT = (
    httpcore.ConnectError,
    httpcore.ConnectTimeout,
    httpcore.PoolTimeout,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
"""Errors after which the remote cannot have received the request."""
FAILED = (*NOT_SENT, httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)
"""Errors of a request that has no whole answer."""


class Pool(Protocol):
    """The methods of httpcore's connection pool that syncd calls."""

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response: ...

    async def aclose(self) -> None: ...


def make_pool(base_url: str) -> Pool:
    """Return the connection pool for a checked base_url. It verifies TLS and uses the proxy of the environment.

    The gate limits the number of requests in flight, so the pool has no limit of its own.
    Raises ValueError if no request may be sent to base_url, or if the proxy cannot be used.
    """
    url = parse_url(base_url)
    # Plain http needs no CA file, and loading one takes longer than a request. The empty context trusts no server.
    context = tls_context() if url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    proxy = proxy_of(base_url)
    return httpcore.AsyncConnectionPool(
        context, httpcore_proxy(proxy) if proxy else None, max_connections=None, keepalive_expiry=KEPT_S
    )


def tls_context() -> ssl.SSLContext:
    """Return a context that trusts SSL_CERT_FILE, else SSL_CERT_DIR, else the certificates of certifi."""
    if file := os.environ.get("SSL_CERT_FILE"):
        return ssl.create_default_context(cafile=file)
    if folder := os.environ.get("SSL_CERT_DIR"):
        return ssl.create_default_context(capath=folder)
    import certifi

    return ssl.create_default_context(cafile=certifi.where())


def unrequested_answer_check() -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """Return a value for the extension "trace" of one request, which fails on an answer that came before the request.

    A server may send a second answer behind the first one. httpcore would take it for the answer to the next request on
    that connection, and each later answer for the answer to the request after its own. The head of a requested answer
    is read from the socket, so the event loop turns at least once between the two events. Raises RemoteProtocolError,
    after which httpcore closes the connection.
    """
    turned = asyncio.Event()

    async def trace(event: str, info: Mapping[str, Any]) -> None:
        del info
        if event == "http11.receive_response_headers.started":
            asyncio.get_running_loop().call_soon(turned.set)
        elif event == "http11.receive_response_headers.complete" and not turned.is_set():
            raise httpcore.RemoteProtocolError("the connection held an answer that nobody had requested")

    return trace


def httpcore_proxy(proxy: str) -> httpcore.Proxy:
    """Return the proxy of a URL, with its user and password, as httpcore takes it."""
    parts = urlsplit(proxy)
    port = parts.port or PORTS.get(parts.scheme, 1080)
    url = httpcore.URL(scheme=parts.scheme, host=parts.hostname or "", port=port, target="/")
    name, password = unquote(parts.username or ""), unquote(parts.password or "")
    return httpcore.Proxy(url, auth=(name.encode(), password.encode()) if name or password else None)
