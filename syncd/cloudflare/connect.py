"""By which way requests go: proxy, TLS, pool."""

from urllib.request import getproxies, proxy_bypass

import httpx

from syncd.cloudflare.base_url import is_loopback
from syncd.cloudflare.lanes import Lane, Lanes


def open_way(base_url: str, instead: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncBaseTransport:
    """The way to a checked base_url: TLS verified, HTTPS_PROXY heeded, as many connections as are asked for at once.

    instead: a way that is open already, such as a test's. ValueError: a base_url that must not be sent to.
    """
    url = _as_sent(base_url)
    if instead:
        return instead
    # Not for plain http: loading the CA file takes longer than a request.
    context = httpx.create_ssl_context() if url.scheme == "https" else None
    proxy = _proxy(url)
    if proxy is None or context is None:
        return Lanes(lambda: Lane(url, context))
    one = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    # Not trust_env: the proxy was chosen here, and the CA file by the context.
    return Lanes(lambda: httpx.AsyncHTTPTransport(verify=context, limits=one, trust_env=False, proxy=proxy))


def _as_sent(base_url: str) -> httpx.URL:
    """base_url as the HTTP library reads it: two parsers must not disagree on where a token is sent."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        raise ValueError("base_url is no URL") from None
    if "?" in base_url or "#" in base_url or (url.scheme != "https" and not is_loopback(url.host)):
        raise ValueError("base_url must be https (plain http for loopback only), without query or fragment")
    return url


def _proxy(url: httpx.URL) -> str | None:
    """HTTPS_PROXY for https, unless NO_PROXY or loopback."""
    if url.scheme != "https" or is_loopback(url.host) or proxy_bypass(url.host):
        return None
    proxy = getproxies().get("https")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        scheme = httpx.URL(proxy).scheme if proxy else "http"
    except httpx.InvalidURL:
        scheme = ""
    if scheme not in {"http", "https"}:
        raise ValueError("HTTPS_PROXY must be an http or https proxy")
    return proxy
