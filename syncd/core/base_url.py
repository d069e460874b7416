"""Checks the base URL, without DNS and without importing the HTTP library."""

from ipaddress import ip_address
from urllib.parse import urlsplit


def check_base_url(base_url: str) -> str:
    """Return base_url without a trailing slash. Raises ValueError, which never quotes it, for a URL that is refused."""
    try:
        url = urlsplit(base_url)
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError("base_url is no URL") from None
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("base_url must hold no user, password, query or fragment")
    if url.scheme not in ("http", "https") or not host:
        raise ValueError("base_url must begin with https://")
    if url.scheme == "http" and not is_loopback(host):
        raise ValueError("base_url must be https; plain http is allowed for loopback only")
    return base_url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine, without DNS."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
