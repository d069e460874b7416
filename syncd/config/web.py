"""The sections about who may look on: the status page, and the webhook that hears of halts."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

from syncd.cloudflare.base_url import is_loopback
from syncd.config.targets import Section

_LISTEN = (
    'should be a loopback address and a port, such as "127.0.0.1:8385", "[::1]:8385" or "localhost:8385";'
    " from elsewhere, look through ssh -L or a proxy that asks for a password"
)
_WEBHOOK = "should be an https:// address; plain http is taken for loopback only"


def listen_address(text: str) -> tuple[str, int]:
    """Return (address to bind, port) of a `web.listen`; port 0 takes a free one. Raises ValueError if it is none."""
    try:
        url = urlsplit(f"//{text}")
        host, port = url.hostname, url.port
    except ValueError:
        raise ValueError(_LISTEN) from None
    if host is None or port is None or url.netloc != text or "@" in text or not is_loopback(host):
        raise ValueError(_LISTEN)
    return ("127.0.0.1" if host == "localhost" else host), port


def _listen(value: str) -> str:
    if value:
        listen_address(value)
    return value


def _webhook(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text:
        return value
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError(_WEBHOOK) from None
    if not host or url.scheme not in ("http", "https") or (url.scheme == "http" and not is_loopback(host)):
        raise ValueError(_WEBHOOK)
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("should hold no spaces or characters beyond ASCII")
    return value


class Web(Section):
    """The status page, /healthz and /metrics; "" serves none. Loopback only: they ask nobody who he is."""

    listen: Annotated[str, AfterValidator(_listen)] = ""


class Notify(Section):
    """Who is told of a halt and of its end. The address is a secret: whoever knows it may write there."""

    webhook: Annotated[SecretStr, AfterValidator(_webhook)] = SecretStr("")
