"""The official SDK as a client of a stand-in."""

from typing import Any

import httpx
from cloudflare import Cloudflare


def open_client(base_url: str, **credentials: Any) -> Cloudflare:
    """Return the official SDK as a client. It loads no certificates, which would take longer than most tests."""
    http = httpx.Client(verify=False)
    return Cloudflare(base_url=base_url, max_retries=0, http_client=http, **(credentials or {"api_token": "token"}))
