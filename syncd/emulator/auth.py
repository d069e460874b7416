"""Who may ask: a token or an email with a key, from this machine and no web page."""

import hmac
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response

from syncd.emulator.envelope import ApiError, ok
from syncd.emulator.routing import Call, Endpoint

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_ACCOUNT = re.compile(r"[0-9a-f]{32}")


def check_local(headers: Headers) -> None:
    """ApiError 403 unless the Host is a loopback name and the Origin, if there is one, is this very server.

    The first stops a foreign name that resolves to 127.0.0.1, the second any page open in a browser on this machine.
    """
    host = headers.get("host", "")
    if _hostname(host) not in _LOOPBACK:
        raise ApiError(403, 10403, "This stand-in answers to loopback names only")
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        raise ApiError(403, 10403, "Requests from web pages are refused")


def check_credentials(headers: Headers, token: str | None) -> None:
    """ApiError 401 unless there is a bearer token, or an email and a key; with `token` it must be that one."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        given = headers.get("x-auth-key", "") if headers.get("x-auth-email") else ""
    given = given.strip()
    if not given or (token is not None and not hmac.compare_digest(given.encode(), token.encode())):
        raise ApiError(401, 10000, "Authentication error")


def check_account(path: dict[str, str]) -> None:
    """ApiError 404 if the path names an account that cannot be one."""
    account = path.get("account_id")
    if account is not None and _ACCOUNT.fullmatch(account) is None:
        message = f"Could not route to /accounts/{account}, perhaps your object identifier is invalid?"
        raise ApiError(404, 7003, message)


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


async def _verify(_call: Call) -> Response:
    return ok({"id": "0" * 32, "status": "active"})


ENDPOINTS = [
    Endpoint("GET", "/user/tokens/verify", _verify),
    Endpoint("GET", "/accounts/{account_id}/tokens/verify", _verify),
]
