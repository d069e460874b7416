"""The sections [web] and [notify] of the config: where `syncd run` is seen, and whom it tells. Makes no I/O."""

import re
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from syncd.config.instance_settings import ConfigSection
from syncd.core.requests import is_loopback

_LISTEN = (
    'should be a loopback address and a port, such as "127.0.0.1:8385", "[::1]:8385" or "localhost:8385";'
    " for access from another machine, use ssh -L or a proxy with a password"
)
_METRICS_LISTEN = 'should be an IP address and a port, such as "0.0.0.0:9385", "[::]:9385" or "127.0.0.1:9385"'
MOST_URLS = 20
"""Our own limit: each notice is sent to all of them at a time."""
_WEBHOOK = "should be an https:// address; plain http is allowed for loopback only"


def listen_address(text: str) -> tuple[str, int]:
    """Return (address to bind, port) of a `web.listen`. Port 0 binds a free port. May raise ValueError."""
    try:
        url = urlsplit(f"//{text}")
        host, port = url.hostname, url.port
    except ValueError:
        raise ValueError(_LISTEN) from None
    if host is None or port is None or url.netloc != text or "@" in text or not is_loopback(host):
        raise ValueError(_LISTEN)
    return ("127.0.0.1" if host == "localhost" else host), port


def metrics_address(text: str) -> tuple[str, int]:
    """Return (address to bind, port) of a `web.metrics_listen`. Any address is allowed. May raise ValueError."""
    try:
        url = urlsplit(f"//{text}")
        host = str(ip_address(url.hostname or ""))
        port = url.port
    except ValueError:
        raise ValueError(_METRICS_LISTEN) from None
    if port is None or url.netloc != text or "@" in text:
        raise ValueError(_METRICS_LISTEN)
    return host, port


def check_listen(value: str) -> str:
    """Return a `web.listen`. Raises ValueError."""
    if value:
        listen_address(value)
    return value


def check_metrics_listen(value: str) -> str:
    """Return a `web.metrics_listen`. Raises ValueError."""
    if value:
        metrics_address(value)
    return value


def check_webhook(value: SecretStr) -> SecretStr:
    """Return the address of a webhook. Raises ValueError."""
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
        raise ValueError("should contain only ASCII characters and no spaces")
    return value


def check_apprise_url(value: SecretStr) -> SecretStr:
    """Return an address of apprise. Raises ValueError."""
    if not re.match(r"[a-zA-Z0-9]+://", value.get_secret_value()):
        raise ValueError("should be an address of apprise, such as mailtos://…, ntfys://… or pagerduty://…")
    return value


class Web(ConfigSection):
    """Addresses at which `syncd run` serves its page and its metrics."""

    listen: Annotated[str, AfterValidator(check_listen)] = ""
    """The address at which `syncd run` serves the status page, /healthz, /livez, /readyz and /metrics. "" serves none.
    Only loopback addresses are allowed, because the page requires no login. For access from another machine use ssh
    -L, or a proxy that asks for a password.

    Example: "127.0.0.1:8385"
    """
    metrics_listen: Annotated[str, AfterValidator(check_metrics_listen)] = ""
    """The address at which `syncd run` serves /metrics, /livez and /readyz alone, for Prometheus and the kubelet. Any
    IP address is allowed, because there is no page, no action and no name of a file. "" serves nothing.

    Example: "0.0.0.0:9385"
    """

    @model_validator(mode="after")
    def _two_addresses(self) -> "Web":
        if self.metrics_listen and self.metrics_listen == self.listen and not self.listen.endswith(":0"):
            raise ValueError("metrics_listen: should be another address than listen, which serves the metrics too")
        return self


class Notify(ConfigSection):
    """Notices of `syncd run` to people. Addresses are secrets, because everybody who knows one can post."""

    webhook: Annotated[SecretStr, AfterValidator(check_webhook)] = SecretStr("")
    """The URL to which `syncd run` posts JSON. Slack, Mattermost and Discord show it. "" posts nothing. The URL must be
    https, or http on loopback. It appears in no log, because everybody who knows it may write there. To try it:
    `syncd notify --test`.

    Example: "https://hooks.example.org/…"
    """
    urls: Annotated[list[Annotated[SecretStr, AfterValidator(check_apprise_url)]], Field(max_length=MOST_URLS)] = Field(
        default=[]
    )
    """Addresses of apprise for the same notices: mail, ntfy, PagerDuty and others. Needs pip install 'syncd[notify]'.
    At most 20, because each notice goes to all of them at a time; they are secrets, too.

    Example: ["mailtos://user:password@example.org"]
    """
    problems: Annotated[int, Field(ge=0)] = 10
    """A notice is sent if more items of a mirror than this fail, are refused or skipped, or are stuck in the index.
    Raise it if a mirror has known problems.

    Unit: items
    """
