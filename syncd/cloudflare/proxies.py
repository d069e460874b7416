"""Parses a base URL, and chooses the proxy of the environment for it."""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from urllib.parse import quote, urlsplit

from syncd.core.base_url import is_loopback

PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class URL:
    """A parsed base URL. port: None for the port of the scheme. netloc: the value of the header Host."""

    scheme: str
    host: str
    port: int | None
    path: str
    netloc: str


def parse_url(base_url: str) -> URL:
    """Parse a base URL. The connection is made with these parts, and no other parser reads them.

    Raises ValueError for a URL to which no request may be sent.
    """
    # urlsplit ignores line ends, and other parsers read a backslash as a slash.
    if not base_url.isprintable() or "\\" in base_url:
        raise ValueError("base_url is no URL")
    try:
        parts = urlsplit(base_url)
        host = (parts.hostname or "").encode("idna").decode()
        port = None if parts.port == PORTS.get(parts.scheme) else parts.port
    except ValueError:
        raise ValueError("base_url is no URL") from None
    if "?" in base_url or "#" in base_url or (parts.scheme != "https" and not is_loopback(host)):
        raise ValueError("base_url must be https (plain http for loopback only), without query or fragment")
    shown = f"[{host}]" if ":" in host else host
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~")
    return URL(parts.scheme, host, port, path, shown if port is None else f"{shown}:{port}")


def other_side(base_url: str) -> str:
    """Return the host and port to which connections are made, for messages."""
    proxy = proxy_of(base_url)
    url = urlsplit(proxy or base_url)
    place = f"{url.hostname}:{url.port or PORTS.get(url.scheme, 1080)}"
    return f"the proxy {place}" if proxy else place


def proxy_of(base_url: str) -> str | None:
    """Return the proxy for a checked base_url, None without one. Raises ValueError if it cannot be used."""
    return _proxy(parse_url(base_url))


def _proxy(url: URL) -> str | None:
    """Return HTTPS_PROXY, else ALL_PROXY; None for plain http, for loopback and for a host in NO_PROXY.

    As in curl, a name in lower case takes precedence.
    """
    if url.scheme != "https" or is_loopback(url.host) or not _may_have_proxy():
        return None
    from urllib.request import getproxies

    proxies = getproxies()
    name = "https" if proxies.get("https") else "all"
    if not (proxy := proxies.get(name)) or _bypassed(url, proxies.get("no", "")):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        parts = urlsplit(proxy)
        scheme = parts.scheme if parts.hostname and parts.port != 0 else ""
    except ValueError:
        scheme = ""
    if scheme in {"socks5", "socks5h"} and not find_spec("socksio"):
        raise ValueError(f"{name.upper()}_PROXY is a SOCKS proxy: pip install socksio, or name an http or https proxy")
    if scheme not in {"http", "https", "socks5", "socks5h"}:
        raise ValueError(f"{name.upper()}_PROXY must be an http or https proxy")
    return proxy


def _may_have_proxy() -> bool:
    """Return whether a variable names a proxy, or a system with settings of its own may. Reading them imports much."""
    return sys.platform in ("darwin", "win32") or any(name.lower().endswith("_proxy") for name in os.environ)


def _bypassed(url: URL, no_proxy: str) -> bool:
    """Return whether NO_PROXY holds the host, with or without its port, its domain, or a network with its address."""
    from urllib.request import proxy_bypass

    if proxy_bypass(f"{url.host}:{url.port or 443}"):
        return True
    try:
        address = ip_address(url.host)
    except ValueError:
        return False
    for network in no_proxy.split(","):
        with suppress(ValueError):
            if address in ip_network(network.strip(), strict=False):
                return True
    return False
