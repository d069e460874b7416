"""Decides which states of the mirrors become a notice, once for each state, and hands the notices over to be sent."""

import asyncio
import contextlib
import math
import sqlite3
from collections.abc import Mapping

from syncd.cloudflare.gate import Gate
from syncd.config.schema import Notify
from syncd.core.errors import StateHalt
from syncd.core.keys import shown
from syncd.core.model import HARMLESS
from syncd.core.plain_text import counted, printable, span
from syncd.service.outbox import Notice, Outbox, Topic, apprise, webhook
from syncd.service.worker import MirrorWorker
from syncd.state.db import Meta
from syncd.state.directory import writable
from syncd.state.journal import STUCK_S
from syncd.sync.mirror import Mirror

DEGRADED_LONG_S = 300.0
"""Seconds for which a mirror may be degraded before people are told, and before the daemon counts as unhealthy."""
COUNT_EVERY_S = 60.0
"""Seconds between two counts of the problems of a mirror."""
BUDGET_LONG_S = 900.0
"""Seconds for which requests have waited for the quota before people are told."""
BUDGET_PAUSE_S = 60.0
"""Requests that have not waited for this long, in seconds, do not wait any more."""
SPENT_SHARE = 0.5
"""Requests wait for the quota only if at most this share of it is left; edits have a reserve of up to half."""
OF_THE_STATE: frozenset[Topic] = frozenset({"halted", "refused", "degraded"})
"""Topics that end together, when the mirror is in step again."""
_OVER: Mapping[Topic, str] = {
    "problems": "Few items have problems now.",
    "foreign": "No entry of another writer is in the way now.",
    "budget": "Requests do not wait for the quota now.",
}
_TOLD = "told"
"""The name of a stored value: the topics of a mirror that were reported and are not over."""

Conditions = Mapping[Topic, str | None]
"""Topic -> why it is true at present, None if it is not. A topic that is missing stays as it was."""


class Lookout:
    """Tells people about the states of mirrors. It survives reloads of the config."""

    def __init__(self) -> None:
        self.webhook = Outbox("webhook")
        self.apprise = Outbox("apprise")
        self._told: dict[str | None, set[Topic]] = {}
        self._has_listeners = False
        self._count_at: dict[str, float] = {}
        self._waits = Waits()

    async def run(self, section: Notify) -> None:
        """Send notices until cancelled. Raises ConfigError if `urls` cannot be used."""
        to_apprise = apprise([url.get_secret_value() for url in section.urls])
        async with webhook(section.webhook.get_secret_value()) as to_webhook:
            # Both outboxes are open before `look` counts a condition as reported.
            self.webhook.open(to_webhook)
            self.apprise.open(to_apprise)
            self._has_listeners = to_webhook is not None or to_apprise is not None
            await asyncio.gather(self.webhook.run(), self.apprise.run())

    def look(self, workers: Mapping[str, MirrorWorker], gate: Gate, problems: int) -> None:
        """Take the present states, once a second. problems: a mirror with more problems is reported.

        Without a receiver, no condition counts as reported.
        """
        if not self._has_listeners:
            return
        now = asyncio.get_running_loop().time()
        for name, worker in workers.items():
            conditions: dict[Topic, str | None] = {**of_state(worker)}
            if now >= self._count_at.get(name, -math.inf):
                self._count_at[name] = now + COUNT_EVERY_S
                conditions |= of_problems(worker.mirror, problems)
            self._tell(worker.mirror.db, name, conditions, worker.mirror.now())
        if mirrors := [worker.mirror for worker in workers.values()]:
            self._tell(mirrors[0].db, None, {"budget": self._waits.look(gate, now)}, mirrors[0].now())

    def _tell(self, db: sqlite3.Connection, mirror: str | None, conditions: Conditions, now: float) -> None:
        # If the state file cannot be written, a restart forgets which conditions were reported.
        with contextlib.suppress(StateHalt), writable():
            meta = Meta(db, mirror or "")
            if mirror not in self._told:
                stored = meta.get(_TOLD)
                self._told[mirror] = set(stored if isinstance(stored, list) else ())
            told = self._told[mirror]
            before = sorted(told)
            for notice in notices_of(mirror, told, conditions, now):
                self.webhook.add(notice)
                self.apprise.add(notice)
            if (after := sorted(told)) != before:
                meta.set(_TOLD, after or None)


def notices_of(mirror: str | None, told: set[Topic], conditions: Conditions, now: float) -> list[Notice]:
    """Return the notices that follow from the present conditions of a mirror. now: seconds since the epoch.

    told: the topics that were reported and are not over. This function updates it, so that no state is reported twice.
    """
    notices = []
    for topic, why in conditions.items():
        if why is not None and topic not in told:
            told.add(topic)
            # A program that does not know the topic handles a refusal as a halt.
            state = "halted" if topic == "refused" else topic
            notices.append(Notice(mirror, state, topic, printable(shown(why)), now))
    over = {topic for topic, why in conditions.items() if why is None and topic in told}
    told -= over
    if over & OF_THE_STATE:
        notices.append(Notice(mirror, "recovered", None, None, now))
    notices += [Notice(mirror, "recovered", topic, _OVER[topic], now) for topic in sorted(over - OF_THE_STATE)]
    return notices


def of_state(worker: MirrorWorker) -> Conditions:
    """Return the conditions of the state of a mirror.

    A mirror that tries again after a halt has none until it is in step.
    """
    shown_now = worker.status.shown
    if shown_now.state == "idle":
        return {"halted": None, "refused": None, "degraded": None}
    if shown_now.state == "halted":
        return {"refused" if worker.policy.refused else "halted": shown_now.detail or "see: syncd status"}
    if (seconds := worker.status.degraded_s()) >= DEGRADED_LONG_S:
        return {"degraded": f"for {span(seconds)}: {shown_now.detail}"}
    return {}


def of_problems(mirror: Mirror, most: int) -> Conditions:
    """Return the condition of the problems of a mirror. most: the largest number of problems that is not reported."""
    kinds = {kind: count for kind, count in mirror.journal.problems.counts().items() if kind not in HARMLESS}
    foreign = kinds.pop("foreign", 0)
    if stuck := mirror.journal.index.stuck_count(mirror.now() - STUCK_S):
        kinds["stuck in the index"] = stuck
    count, remedy = sum(kinds.values()), f"see: syncd status -m {mirror.name}"
    conditions: dict[Topic, str | None] = {}
    if count > most:
        each = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items(), key=lambda pair: -pair[1]))
        conditions["problems"] = f"{counted(count, 'item')}: {each}; {remedy}"
    elif count <= most // 2:
        # With a count between half of `most` and `most`, the reported condition neither begins nor ends.
        conditions["problems"] = None
    consent = f"{remedy}; if they should be this mirror's: syncd reconcile --takeover -m {mirror.name}"
    held = f"{counted(foreign, 'entry')} {'is' if foreign == 1 else 'are'} not overwritten or deleted"
    conditions["foreign"] = f"{held}; {consent}" if foreign else None
    return conditions


class Waits:
    """Notes for how long requests have waited for the quota. Short breaks between two waits do not count."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._seen_at = -math.inf

    def look(self, gate: Gate, now: float) -> str | None:
        """Return for how long requests have waited if that is long, else None. now: seconds of a steady clock."""
        # Waits for `tpslimit` are short and end by themselves.
        spent = gate.budget is not None and gate.share_left <= SPENT_SHARE
        if gate.held_s() > 0 or (spent and gate.waiting_s > 0):
            self._since = now if self._since is None else self._since
            self._seen_at = now
        elif now - self._seen_at >= BUDGET_PAUSE_S:
            self._since = None
        if self._since is None or now - self._since < BUDGET_LONG_S:
            return None
        return f"for {span(now - self._since)}: requests are sent {gate.limit}; see cloudflare.quota and syncd status"
