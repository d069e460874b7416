"""The answers of `syncd check --probe`, for each account and instance."""

import sqlite3
import time
from collections.abc import Callable

import structlog

from syncd.core.probe_answers import NO_ANSWERS, VALID_S, ProbeAnswers, answers_of
from syncd.state.db import Meta, transaction

log = structlog.get_logger()


class StoredAnswers:
    """The answers of one place. place: account and instance, with the base URL if it is not Cloudflare's own.

    Another process may write them at any time, as `syncd check --probe` does while the daemon runs.
    """

    def __init__(self, db: sqlite3.Connection, place: str, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._meta = Meta(db, "")
        self._place = place
        self._name = f"answers {place}"
        self._clock = clock

    def get(self) -> ProbeAnswers:
        """Return the answers that still count. An answer is too old after VALID_S."""
        at = self.at()
        if at is None or not 0 <= self._clock() - at < VALID_S:
            return NO_ANSWERS
        return answers_of(self._stored().get("answers"))

    def at(self) -> float | None:
        """Return when the answers were learned, seconds since the epoch; None if there are none."""
        at = self._stored().get("at")
        return float(at) if isinstance(at, int | float) and not isinstance(at, bool) else None

    def set(self, answers: ProbeAnswers) -> None:
        """Store answers, and the time."""
        self._meta.set(self._name, {"at": self._clock(), "answers": answers.as_json()})

    def drop(self, answer: str, why: str) -> None:
        """Forget an answer that turned out to be wrong. The target then works as without a probe."""
        with transaction(self._db):
            stored = self._stored()
            answers = answers_of(stored.get("answers"))
            was = getattr(answers, answer)
            if was is None:
                return
            self._meta.set(self._name, stored | {"answers": answers.without(answer).as_json()})
        remedy = "nothing; to learn it anew: syncd check --probe"
        log.warning("probe.answer_wrong", target=self._place, answer=answer, was=was, why=why, remedy=remedy)

    def _stored(self) -> dict[str, object]:
        value = self._meta.get(self._name)
        return value if isinstance(value, dict) else {}
