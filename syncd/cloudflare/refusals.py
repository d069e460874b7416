"""Judges refusals: of the credentials, which may be a temporary failure of the service, and of the content on the way.

Valid tokens were refused with 401 or 403 for minutes (workers-sdk#13854 and #13828, octodns-cloudflare#121).
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import structlog

from syncd.cloudflare.auth import Credentials, Login
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.request import Request
from syncd.cloudflare.response import Answer
from syncd.core.errors import AuthHalt, Blocked, Park, Retry, SyncdError

RENEWALS = 2
"""Maximum number of times that one request is sent again because the credentials were read again."""
PAUSES_S = (5.0, 15.0, 40.0, 120.0)
"""Seconds before each further try of a refused request, three minutes in all, if its credentials have worked before."""
PASSING = frozenset({401, 403})
"""HTTP statuses of a refusal that may be temporary."""
REFUSALS = 3
"""Number of tries after which the refusal of a proxy or firewall counts as final, if the API itself can be reached."""
REFUSED_PAUSE_S = 0.4
"""Pause between two of these tries, in seconds."""
SURE_REFUSALS, SURE_PAUSE_S, FILTER_S = 2, 0.05, 5.0
"""Tries and pause for FILTER_S seconds after a refusal for the content was final."""
REFUSED_LIMIT = 200
"""Number of refused requests in a row that counts as an outage, if no request with content is accepted in between."""
SHUT_S = 20.0
"""Seconds without another probe after a probe did not reach the API."""

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


class Refusals:
    """Tries a refused request again, until it is clear whether the credentials or the content are refused.

    send: sends a request once.
    """

    def __init__(self, send: Callable[[Request], Awaitable[Answer]], trust: Trust, gate: Gate) -> None:
        self._send = send
        self._trust = trust
        self._gate = gate
        self._refused = 0
        self._shut_until = self._filtered_until = -math.inf

    async def judged(self, request: Request, send: Callable[[], Awaitable[_T]]) -> _T:
        """Return the answer of `send`. Raises Park if only this content is refused, Blocked if every request is."""
        for number in range(1, REFUSALS + 1):
            # A filter that refused one content probably refuses others. In that case two tries without a probe are
            # enough.
            filtered = self._gate.clock() < self._filtered_until
            try:
                answer = await self._trust.send(request, send)
            except Blocked as error:
                if not (filtered and request.without_content()) and not await self._reaches_api(request):
                    raise
                if number >= (SURE_REFUSALS if filtered else REFUSALS):
                    raise self._content_refused(error, filtered=filtered) from error
                await self._gate.sleep(SURE_PAUSE_S if filtered else REFUSED_PAUSE_S)
            else:
                if request.carries:
                    self._refused = 0
                return answer
        raise AssertionError("the last try ends with an answer or an error")

    async def _reaches_api(self, request: Request) -> bool:
        """Return whether the API answers the same request without its content.

        After a failure, no probe is sent for SHUT_S.
        """
        probe = request.without_content()
        if probe is None or self._gate.clock() < self._shut_until:
            return False
        try:
            await self._send(probe)
        except Retry:
            self._shut_until = self._gate.clock() + SHUT_S
            return False
        except SyncdError:
            return True  # any other error is an answer of the API itself
        return True

    def _content_refused(self, error: Blocked, *, filtered: bool) -> Park:
        self._refused += 1
        if not filtered:
            self._filtered_until = self._gate.clock() + FILTER_S
        if self._refused >= REFUSED_LIMIT:
            self._refused, self._filtered_until = 0, -math.inf
            self._shut_until = self._gate.clock() + SHUT_S
        reason = "the API can be reached, but a proxy or firewall before it refuses what this request carries"
        return Park("refused", f"{reason}: {error}", status=error.status)
