"""Credentials for Cloudflare. Their secrets are never printed."""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NoReturn, Self

import structlog

from syncd.core.plain_text import HIDDEN, add_secrets, encoded_forms

_log = structlog.get_logger(__name__)
_QUOTES = "\"'"


class Credentials:
    """An API token, or an e-mail address with the global API key. No text that `core.plain_text` prints has the secret.

    Made by `bearer` or `global_key`, which raise ValueError for a value that cannot stand in an HTTP header. headers:
    those of a request. forms: the secret in plain and encoded form; empty for a secret too short to be removed from
    texts.
    """

    __slots__ = ("forms", "headers", "kind")

    def __init__(self, kind: str, secret: str, headers: Mapping[str, str]) -> None:
        add_secrets([secret])
        self.kind = kind
        self.forms = tuple(form.encode() for form in encoded_forms(secret))
        self.headers = MappingProxyType(headers)

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

    def fingerprint(self) -> str:
        """Return eight digits that differ for other credentials and do not reveal the secret."""
        return hashlib.sha256(repr(sorted(self.headers.items())).encode()).hexdigest()[:8]

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials cannot be pickled, because they contain a secret")

    def __repr__(self) -> str:
        return f"Credentials({self.kind}={HIDDEN})"


class Login:
    """The credentials in use, and the former ones, which answers must not contain either.

    read: reads the credentials again; raises SyncdError if it finds none. None: the credentials never change.
    """

    def __init__(self, credentials: Credentials, read: Callable[[], Credentials] | None = None) -> None:
        self.credentials = credentials
        self._read = read
        self._forms = credentials.forms

    def renew(self) -> bool:
        """Read the credentials again and return whether they have changed. Raises the SyncdError of `read`."""
        if self._read is None or (credentials := self._read()).headers == self.credentials.headers:
            return False
        self._forms += credentials.forms
        self.credentials = credentials
        _log.info("login.renewed", consequence="requests go out with the credentials that the file holds now")
        return True

    def hide_bytes(self, data: bytes) -> bytes:
        """Return undecoded data without the secrets of all credentials."""
        for form in self._forms:
            data = data.replace(form, HIDDEN.encode())
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
