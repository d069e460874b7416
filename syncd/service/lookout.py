"""Decides which states of the mirrors become a notice, once for each state, and queues the notices."""

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
"""Seconds for which a mirror may be degraded before it is reported, and before the daemon counts as unhealthy."""
COUNT_EVERY_S = 60.0
"""Seconds between two counts of the problems of a mirror."""
BUDGET_LONG_S = 900.0
"""Seconds for which requests may wait for the quota before the wait is reported."""
BUDGET_PAUSE_S = 60.0
"""Seconds without a wait for the quota after which the waiting is over."""
SPENT_SHARE = 0.5
"""Requests wait for the quota only if at most this share of it is left; edits have a reserve of up to half."""
STATE_TOPICS: frozenset[Topic] = frozenset({"halted", "refused", "degraded"})
"""Topics that end together, when the mirror is in step again."""
_RECOVERY_TEXTS: Mapping[Topic, str] = {
    "problems": "Few items have problems now.",
    "foreign": "No entry of another writer is in the way now.",
    "budget": "Requests do not wait for the quota now.",
}
_REPORTED = "told"
"""The name of a stored value: the topics of a mirror that were reported and are not over."""

Conditions = Mapping[Topic, str | None]
"""Topic -> the reason why it is true at present, None if it is not. A topic that is missing stays as it was."""


class Lookout:
    """Reports the states of mirrors to people. It survives reloads of the config."""

    def __init__(self) -> None:
        self.webhook = Outbox("webhook")
        self.apprise = Outbox("apprise")
        self._reported: dict[str | None, set[Topic]] = {}
        self._has_receiver = False
        self._count_at: dict[str, float] = {}
        self._waits = QuotaWaits()

    async def run(self, section: Notify) -> None:
        """Send notices until cancelled. Raises ConfigError if `urls` cannot be used."""
        to_apprise = apprise([url.get_secret_value() for url in section.urls])
        async with webhook(section.webhook.get_secret_value()) as to_webhook:
            # Both outboxes are open before `look` counts a condition as reported.
            self.webhook.open(to_webhook)
            self.apprise.open(to_apprise)
            self._has_receiver = to_webhook is not None or to_apprise is not None
            await asyncio.gather(self.webhook.run(), self.apprise.run())

    def look(self, workers: Mapping[str, MirrorWorker], gate: Gate, problems: int) -> None:
        """Compare the present states with the reported ones, once a second. Without a receiver, report nothing.

        problems: a mirror with more problems is reported.
        """
        if not self._has_receiver:
            return
        now = asyncio.get_running_loop().time()
        for name, worker in workers.items():
            conditions: dict[Topic, str | None] = {**state_conditions(worker)}
            if now >= self._count_at.get(name, -math.inf):
                self._count_at[name] = now + COUNT_EVERY_S
                conditions |= problem_conditions(worker.mirror, problems)
            self._report(worker.mirror.db, name, conditions, worker.mirror.now())
        if mirrors := [worker.mirror for worker in workers.values()]:
            self._report(mirrors[0].db, None, {"budget": self._waits.look(gate, now)}, mirrors[0].now())

    def _report(self, db: sqlite3.Connection, mirror: str | None, conditions: Conditions, now: float) -> None:
        # If the state file cannot be written, a restart forgets which conditions were reported.
        with contextlib.suppress(StateHalt), writable():
            meta = Meta(db, mirror or "")
            if mirror not in self._reported:
                stored = meta.get(_REPORTED)
                self._reported[mirror] = set(stored if isinstance(stored, list) else ())
            reported = self._reported[mirror]
            before = sorted(reported)
            for notice in notices_of(mirror, reported, conditions, now):
                self.webhook.add(notice)
                self.apprise.add(notice)
            if (after := sorted(reported)) != before:
                meta.set(_REPORTED, after or None)


def notices_of(mirror: str | None, reported: set[Topic], conditions: Conditions, now: float) -> list[Notice]:
    """Return the notices that follow from the present conditions of a mirror. now: seconds since the epoch.

    reported: the topics that were reported and are not over. The function updates it, so that no state is reported
    twice.
    """
    notices = []
    for topic, why in conditions.items():
        if why is not None and topic not in reported:
            reported.add(topic)
            # A program that does not know the topic handles a refusal as a halt.
            state = "halted" if topic == "refused" else topic
            notices.append(Notice(mirror, state, topic, printable(shown(why)), now))
    over = {topic for topic, why in conditions.items() if why is None and topic in reported}
    reported -= over
    if over & STATE_TOPICS:
        notices.append(Notice(mirror, "recovered", None, None, now))
    notices += [
        Notice(mirror, "recovered", topic, _RECOVERY_TEXTS[topic], now) for topic in sorted(over - STATE_TOPICS)
    ]
    return notices


def state_conditions(worker: MirrorWorker) -> Conditions:
    """Return the conditions that follow from the state of a mirror.

    A mirror that tries again after a halt has no condition until it is in step.
    """
    shown_now = worker.status.shown
    if shown_now.state == "idle":
        return {"halted": None, "refused": None, "degraded": None}
    if shown_now.state == "halted":
        return {"refused" if worker.policy.refused else "halted": shown_now.detail or "see: syncd status"}
    if (seconds := worker.status.degraded_s()) >= DEGRADED_LONG_S:
        return {"degraded": f"for {span(seconds)}: {shown_now.detail}"}
    return {}


def problem_conditions(mirror: Mirror, most: int) -> Conditions:
    """Return the conditions that follow from the problems of a mirror. most: a larger number is reported."""
    kinds = {kind: count for kind, count in mirror.journal.problems.counts().items() if kind not in HARMLESS}
    foreign = kinds.pop("foreign", 0)
    if stuck := mirror.journal.index.stuck_count(mirror.now() - STUCK_S):
        kinds["stuck in the index"] = stuck
    count, remedy = sum(kinds.values()), f"see: syncd status -m {mirror.name}"
    conditions: dict[Topic, str | None] = {}
    if count > most:
        by_kind = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items(), key=lambda pair: -pair[1]))
        conditions["problems"] = f"{counted(count, 'item')}: {by_kind}; {remedy}"
    elif count <= most // 2:
        # With a count between half of `most` and `most`, the reported condition neither begins nor ends.
        conditions["problems"] = None
    consent = f"{remedy}; if they should be this mirror's: syncd reconcile --takeover -m {mirror.name}"
    held = f"{counted(foreign, 'entry')} {'is' if foreign == 1 else 'are'} not overwritten or deleted"
    conditions["foreign"] = f"{held}; {consent}" if foreign else None
    return conditions


class QuotaWaits:
    """Measures for how long requests have waited for the quota. Short breaks between two waits do not count."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._seen_at = -math.inf

    def look(self, gate: Gate, now: float) -> str | None:
        """Return a text about a long wait, None without a long wait. now: seconds of a steady clock."""
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
