"""Chooses the proxy of the environment for a base URL."""

from contextlib import suppress
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from urllib.request import getproxies, proxy_bypass

import httpx

from syncd.core.requests import is_loopback


def parsed(base_url: str) -> httpx.URL:
    """Check base_url again as httpx reads it: two parsers must not disagree on where the token is sent."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        raise ValueError("base_url is no URL") from None
    if "?" in base_url or "#" in base_url or (url.scheme != "https" and not is_loopback(url.host)):
        raise ValueError("base_url must be https (plain http for loopback only), without query or fragment")
    return url


def other_side(base_url: str) -> str:
    """Return the host and port to which connections are made, for messages."""
    proxy = proxy_of(base_url)
    url = httpx.URL(proxy or base_url)
    place = f"{url.host}:{url.port or (443 if url.scheme == 'https' else 80)}"
    return f"the proxy {place}" if proxy else place


def proxy_of(base_url: str) -> str | None:
    """Return the proxy for a checked base_url, None without one. Raises ValueError if it cannot be used."""
    return _proxy(parsed(base_url))


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
