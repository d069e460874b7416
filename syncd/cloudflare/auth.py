"""Credentials for Cloudflare. Their secrets are never printed."""

import hashlib
from collections.abc import Callable, Mapping
from typing import NoReturn, Self

import structlog

from syncd.core.plain_text import HIDDEN, encoded_forms

_log = structlog.get_logger(__name__)
_QUOTES = "\"'"


class Credentials:
    """An API token, or an e-mail address with the global API key. repr, str and errors contain no secret.

    Made by `bearer` or `global_key`, which raise ValueError for a value that cannot stand in an HTTP header.
    """

    __slots__ = ("_forms", "_headers", "kind")

    def __init__(self, kind: str, secret: str, headers: dict[str, str]) -> None:
        self.kind = kind
        self._forms = encoded_forms(secret)
        self._headers = headers

    @classmethod
    def bearer(cls, token: str) -> Self:
        """Return the credentials of an API token, sent as `Authorization: Bearer`."""
        secret = _printable(token, "the API token")
        return cls("token", secret, {"Authorization": f"Bearer {secret}"})

    @classmethod
    def global_key(cls, email: str, key: str) -> Self:
        """Return the credentials of an e-mail address and a global API key, sent as `X-Auth-Email` and `X-Auth-Key`."""
        secret = _printable(key, "the global API key")
        return cls("key", secret, {"X-Auth-Email": _printable(email, "the e-mail address"), "X-Auth-Key": secret})

    @property
    def too_short(self) -> bool:
        """Whether the secret is too short to be removed from texts."""
        return not self._forms

    def headers(self) -> dict[str, str]:
        """Return the headers of one request, as a new dict."""
        return dict(self._headers)

    def fingerprint(self) -> str:
        """Return eight digits that differ for other credentials and do not reveal the secret."""
        return hashlib.sha256(repr(sorted(self._headers.items())).encode()).hexdigest()[:8]

    def hide(self, text: str) -> str:
        """Return `text` without the secret, which a remote or a library may have echoed."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return text

    def hide_bytes(self, data: bytes) -> bytes:
        """Return undecoded data without the secret."""
        for form in self._forms:
            data = data.replace(form.encode(), HIDDEN.encode())
        return data

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials cannot be pickled, because they contain a secret")

    def __repr__(self) -> str:
        return f"Credentials({self.kind}={HIDDEN})"


class Login:
    """The credentials in use, and the former ones, which messages hide as well.

    read: reads the credentials again; raises SyncdError if it finds none. None: the credentials never change.
    """

    def __init__(self, credentials: Credentials, read: Callable[[], Credentials] | None = None) -> None:
        self.credentials = credentials
        self.headers: Mapping[str, str] = credentials.headers()
        self._read = read
        self._all = [credentials]

    def renew(self) -> bool:
        """Read the credentials again and return whether they have changed. Raises the SyncdError of `read`."""
        if self._read is None or (credentials := self._read()).headers() == self.headers:
            return False
        self._all.append(credentials)
        self.headers = credentials.headers()
        self.credentials = credentials
        _log.info("login.renewed", consequence="requests go out with the credentials that the file holds now")
        return True

    def hide(self, text: str) -> str:
        """Return `text` without the present and the former secrets."""
        for credentials in self._all:
            text = credentials.hide(text)
        return text

    def hide_bytes(self, data: bytes) -> bytes:
        """Return undecoded data without the secrets; see Credentials.hide_bytes."""
        for credentials in self._all:
            data = credentials.hide_bytes(data)
        return data


def _printable(value: str, noun: str) -> str:
    """Return a credential without the spaces around it. Raises ValueError, which names the remedy and not the value.

    The HTTP library would quote a token with a line break in its error.
    """
    value = value.strip()
    if not value:
        raise ValueError(f"{noun} is empty; copy it again")
    if any(char.isspace() for char in value):
        raise ValueError(f'{noun} holds a space or a line break; copy it alone, on one line, without "Bearer"')
    if value[0] in _QUOTES or value[-1] in _QUOTES:
        raise ValueError(f"{noun} begins or ends with a quote; write it without quotes, as an env file needs it")
    if not value.isascii() or not value.isprintable():
        raise ValueError(f"{noun} holds a character that no Cloudflare credential has; copy it again")
    return value
