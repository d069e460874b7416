"""By which way requests go: proxy, TLS, pool."""

from contextlib import suppress
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from urllib.request import getproxies, proxy_bypass

import httpx

from syncd.cloudflare.base_url import is_loopback
from syncd.cloudflare.lanes import Lane, Lanes


def open_way(base_url: str, instead: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncBaseTransport:
    """The way to a checked base_url: TLS verified, the environment's proxy heeded, connections as they are asked for.

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
    """HTTPS_PROXY for https, else ALL_PROXY, unless NO_PROXY or loopback; names in lower case win, as for curl."""
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
    """Whether NO_PROXY names the host: with or without its port, by its domain, or as an address within a network."""
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
