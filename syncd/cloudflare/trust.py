"""Judges a refusal of credentials that have worked before: it may be a temporary failure of the service.

Valid tokens were refused with 401 or 403 for minutes (workers-sdk#13854 and #13828, octodns-cloudflare#121).
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import structlog

from syncd.cloudflare.auth import Credentials, Login
from syncd.cloudflare.exchange import Request
from syncd.cloudflare.gate import Gate
from syncd.core.errors import AuthHalt, Retry, SyncdError

RENEWALS = 2
"""Maximum number of times that one request is sent again because the credentials were read again."""
PAUSES_S = (5.0, 15.0, 40.0, 120.0)
"""Seconds before each further try of a refused request, three minutes in all, if its credentials have worked before."""
PASSING = frozenset({401, 403})
"""HTTP statuses of a refusal that may be temporary."""

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class Trust:
    """Sends requests, and tries refused ones again if the credentials have worked for the same kind of request.

    A kind of request is its permission, and whether it changes something: a token that may read need not write. While
    requests of one kind are refused, one of them tries again and the others wait for it.
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
        """Note that the present credentials have worked for these kinds of request, in an earlier process."""
        self._worked |= {kind: (self._login.credentials, self._gate.clock()) for kind in kinds}

    async def send(self, request: Request, send: Callable[[], Awaitable[_T]]) -> _T:
        """Return the answer of `send`. Raises AuthHalt if the credentials are refused for good."""
        kind = f"{request.permission} {'write' if request.changing else 'read'}"
        try:
            return await self._send(kind, send)
        except AuthHalt as error:
            return await self._send_again(kind, send, error)

    async def _send(self, kind: str, send: Callable[[], Awaitable[_T]]) -> _T:
        """Send once, and again each time that new credentials were read."""
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
            # A file that is being written holds no token for a moment.
            raise Retry(f"{error}; the credentials cannot be read again now: {reading}") from error

    async def _send_again(self, kind: str, send: Callable[[], Awaitable[_T]], error: AuthHalt) -> _T:
        refused_at = self._gate.clock()
        async with self._trying[kind]:
            # A request that waited here while another one succeeded is sent at once.
            pauses = (0.0, *PAUSES_S) if self._worked_after(kind, refused_at) else PAUSES_S
            for pause_s in pauses:
                if not self._may_pass(kind, error):
                    raise error
                _log.warning("login.refused", wait_s=pause_s, why=str(error), consequence="tried again: it has worked")
                await self._gate.sleep(pause_s)
                try:
                    return await self._send(kind, send)
                except AuthHalt as refusal:
                    error = refusal
            # The others that wait, and the next requests, are refused at once until the credentials work again.
            self._worked.pop(kind, None)
        message = f"{error}; it worked before, and was then refused for {sum(pauses):.0f} s"
        raise AuthHalt(message, status=error.status) from error

    def _worked_after(self, kind: str, moment: float) -> bool:
        return kind in self._worked and self._worked[kind][1] > moment

    def _may_pass(self, kind: str, error: AuthHalt) -> bool:
        used, _ = self._worked.get(kind, (None, 0.0))
        return used is self._login.credentials and error.status in PASSING
