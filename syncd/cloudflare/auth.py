"""Credentials for Cloudflare, whose secrets are never printed, and the retries of a request that refuses them."""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NoReturn, Self, TypeVar

import structlog

from syncd.cloudflare.gate import Gate
from syncd.cloudflare.request import Request
from syncd.core.errors import AuthHalt, Retry, SyncdError
from syncd.core.plain_text import HIDDEN, add_secrets, encoded_forms

RENEWALS = 2
"""Maximum number of times that one request is sent again because the credentials were read again."""
PAUSES_S = (5.0, 15.0, 40.0, 120.0)
"""Seconds before each further try of a refused request, three minutes in all, if its credentials have worked before."""
TEMPORARY_STATUSES = frozenset({401, 403})
"""HTTP statuses of a refusal of credentials that may be temporary."""

_QUOTES = "\"'"
_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class Credentials:
    """An API token, or an e-mail address with the global API key. `core.plain_text` removes the secret from all output.

    Made by `bearer` or `global_key`, which raise ValueError for a value that cannot stand in an HTTP header. headers:
    the headers that carry the secret. forms: the secret in plain and encoded form; empty if the secret has fewer
    than LEAST_SECRET characters.
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
        """Return eight hex digits of a hash of the credentials. They do not reveal the secret."""
        return hashlib.sha256(repr(sorted(self.headers.items())).encode()).hexdigest()[:8]

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials cannot be pickled, because they contain a secret")

    def __repr__(self) -> str:
        return f"Credentials({self.kind}={HIDDEN})"


class Login:
    """The credentials in use. `hide_bytes` also removes the secrets of the credentials that were in use before.

    read: reads the credentials again, and raises SyncdError if there are none. None: the credentials never change.
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
        """Return undecoded data without the secrets of present and earlier credentials."""
        for form in self._forms:
            data = data.replace(form, HIDDEN.encode())
        return data


def _printable(value: str, noun: str) -> str:
    """Return a credential without the spaces around it. Raises ValueError, which names the remedy and not the value.

    Without this check, the HTTP library would print a token with a line break in its own error.
    """
    value = value.strip()
    if not value:
        raise ValueError(f"{noun} is empty; copy it again")
    if any(char.isspace() for char in value):
        raise ValueError(f'{noun} holds a space or a line break; copy it alone, on one line, without "Bearer"')
    if value[0] in _QUOTES or value[-1] in _QUOTES:
        raise ValueError(f"{noun} begins or ends with a quote; write it without quotes, because an env file keeps them")
    if not value.isascii() or not value.isprintable():
        raise ValueError(f"{noun} holds a character that no Cloudflare credential has; copy it again")
    return value


class RefusalRetry:
    """Sends requests. Repeats a refused request if the credentials have worked for the same kind of request.

    A kind of request is its permission, and whether it changes something: a token that may read need not write. While
    requests of one kind are refused, one of them tries again and the others wait for it. Valid tokens were refused with
    401 or 403 for minutes (workers-sdk#13854 and #13828, octodns-cloudflare#121).
    """

    def __init__(self, login: Login, gate: Gate) -> None:
        self._login = login
        self._gate = gate
        self._worked: dict[str, tuple[Credentials, float]] = {}
        self._trying: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def known(self) -> list[str]:
        """Return the kinds of request for which the present credentials have worked."""
        return sorted(kind for kind, (used, _) in self._worked.items() if used is self._login.credentials)

    def add_known(self, kinds: Iterable[str]) -> None:
        """Note kinds of request for which the present credentials worked in an earlier process."""
        self._worked |= {kind: (self._login.credentials, self._gate.clock()) for kind in kinds}

    async def send(self, request: Request, send: Callable[[], Awaitable[_T]]) -> _T:
        """Return the answer of `send`. Raises AuthHalt if the credentials are still refused after the last retry."""
        kind = f"{request.permission} {'write' if request.changing else 'read'}"
        try:
            return await self._send(kind, send)
        except AuthHalt as error:
            return await self._send_again(kind, send, error)

    async def _send(self, kind: str, send: Callable[[], Awaitable[_T]]) -> _T:
        """Send a request. Repeat a refused request while new credentials can be read, at most RENEWALS times."""
        renewals = 0
        while True:
            used = self._login.credentials
            try:
                answer = await send()
            except AuthHalt as error:
                if renewals == RENEWALS or (self._login.credentials is used and not self._renewed(error)):
                    raise
                renewals += 1
            else:
                self._worked[kind] = (used, self._gate.clock())
                return answer

    def _renewed(self, error: AuthHalt) -> bool:
        try:
            return self._login.renew()
        except SyncdError as reading:
            # A token file is empty for a moment while another program writes it.
            raise Retry(f"{error}; the credentials cannot be read again now: {reading}") from error

    async def _send_again(self, kind: str, send: Callable[[], Awaitable[_T]], error: AuthHalt) -> _T:
        refused_at = self._gate.clock()
        async with self._trying[kind]:
            # If another request succeeded while this one waited for the lock, this one is sent at once.
            pauses = (0.0, *PAUSES_S) if self._worked_after(kind, refused_at) else PAUSES_S
            for pause_s in pauses:
                if not self._may_be_temporary(kind, error):
                    raise error
                _log.warning("login.refused", wait_s=pause_s, why=str(error), consequence="tried again: it has worked")
                await self._gate.sleep(pause_s)
                try:
                    return await self._send(kind, send)
                except AuthHalt as refusal:
                    error = refusal
            # Waiting and later requests of this kind are not repeated until the credentials have worked again.
            self._worked.pop(kind, None)
        message = f"{error}; it worked before, and was then refused for {sum(pauses):.0f} s"
        raise AuthHalt(message, status=error.status) from error

    def _worked_after(self, kind: str, moment: float) -> bool:
        return kind in self._worked and self._worked[kind][1] > moment

    def _may_be_temporary(self, kind: str, error: AuthHalt) -> bool:
        used, _ = self._worked.get(kind, (None, 0.0))
        return used is self._login.credentials and error.status in TEMPORARY_STATUSES
