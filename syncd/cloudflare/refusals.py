"""What a refusal means: of the credentials, which may have changed, or on the way, for the sake of one content."""

import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from syncd.cloudflare.envelope import Answer
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.request import Request
from syncd.errors import AuthHalt, Blocked, Park, Retry, SyncdError

REFUSALS = 3
"""So many times a request is refused on the way, while the way is open, before that is taken as final."""
REFUSED_PAUSE_S = 0.4
"""Between two of these tries, s."""
SURE_REFUSALS, SURE_PAUSE_S, FILTER_S = 2, 0.05, 5.0
"""The same while it is known, for so many seconds, that something on the way refuses contents."""
REFUSED_LIMIT = 200
"""So many refused requests in a row, with none that carries content accepted in between, count as an outage."""
SHUT_S = 20.0
"""For so long after the way was found shut it is not tried again by a probe, s."""

_T = TypeVar("_T")


class Refusals:
    """Tries a refused request again until it shows what the refusal is about.

    send: one try of a request. renew: reads the credentials again, True if they have changed. credentials: the present
    ones.
    """

    def __init__(
        self,
        send: Callable[[Request], Awaitable[Answer]],
        renew: Callable[[], bool],
        credentials: Callable[[], object],
        gate: Gate,
    ) -> None:
        self._send = send
        self._renew = renew
        self._gate = gate
        self._credentials = credentials
        self._refused = 0
        self._shut_until = self._filtered_until = -math.inf

    async def judged(self, request: Request, send: Callable[[], Awaitable[_T]]) -> _T:
        """The answer of `send`. Park if its content alone does not pass; Blocked if nothing does."""
        for number in range(1, REFUSALS + 1):
            # What refuses contents refuses others, too: then two tries show it, and no further probe.
            seen = self._gate.clock() < self._filtered_until
            used = self._credentials()
            try:
                answer = await send()
            except AuthHalt as error:
                if number == REFUSALS or (self._credentials() is used and not self._renewed(error)):
                    raise
            except Blocked as error:
                if not (seen and request.without_content()) and not await self._is_open(request):
                    raise
                if number >= (SURE_REFUSALS if seen else REFUSALS):
                    raise self._not_passing(error, seen=seen) from error
                await self._gate.sleep(SURE_PAUSE_S if seen else REFUSED_PAUSE_S)
            else:
                if request.carries:
                    self._refused = 0
                return answer
        raise AssertionError("the last try ends with an answer or an error")

    def _renewed(self, error: AuthHalt) -> bool:
        try:
            return self._renew()
        except SyncdError as torn:
            # A file that is being written holds no token for a moment.
            raise Retry(f"{error}; and no other credentials can be read just now: {torn}") from error

    async def _is_open(self, request: Request) -> bool:
        """Whether the API answers the same request without what it carries; a shut way is not tried all the time."""
        probe = request.without_content()
        if probe is None or self._gate.clock() < self._shut_until:
            return False
        try:
            await self._send(probe)
        except Retry:
            self._shut_until = self._gate.clock() + SHUT_S
            return False
        except SyncdError:
            return True  # whatever the API itself says, it was reached
        return True

    def _not_passing(self, error: Blocked, *, seen: bool) -> Park:
        self._refused += 1
        if not seen:
            self._filtered_until = self._gate.clock() + FILTER_S
        if self._refused >= REFUSED_LIMIT:
            self._refused, self._filtered_until = 0, -math.inf
            self._shut_until = self._gate.clock() + SHUT_S
        said = "the API can be reached, but something on the way refuses what this request carries"
        return Park("refused", f"{said}: {error}", status=error.status)
