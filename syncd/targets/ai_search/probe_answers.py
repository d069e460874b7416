"""The answers of the last `syncd check --probe` that a target goes by."""

from collections.abc import Callable

from syncd.core.model import Content
from syncd.core.probe_answers import DIGESTS, NO_ANSWERS, ProbeAnswers, digest_of, plain_digest
from syncd.state.caches import StoredAnswers


class CurrentAnswers:
    """The answers at the last `refresh`. learned: where they are stored, None if nothing is.

    An answer that turns out to be wrong is dropped, and the target works as without it.
    """

    def __init__(self, learned: StoredAnswers | None = None) -> None:
        self.current: ProbeAnswers = NO_ANSWERS
        self._learned = learned
        self._followers: list[Callable[[ProbeAnswers], None]] = []

    def follow(self, follower: Callable[[ProbeAnswers], None]) -> None:
        """Call `follower` with the answers now and at every change."""
        self._followers.append(follower)
        follower(self.current)

    def refresh(self) -> None:
        """Read the stored answers again, because `syncd check --probe` may have stored new ones."""
        if self._learned is not None:
            self._set(self._learned.get())

    def drop(self, answer: str, why: str) -> None:
        """Go on without an answer that turned out to be wrong, and store this."""
        if self._learned is not None:
            self._learned.drop(answer, why)
        self._set(self.current.without(answer))

    def check_checksum(self, checksum: str | None, content: Content) -> None:
        """Drop the answer on checksums if the checksum of an upload is not the digest that it should be."""
        kind = self.current.checksum
        if kind in DIGESTS and checksum and plain_digest(checksum) != digest_of(kind, content.data):
            self.drop("checksum", f"an upload got the checksum {checksum[:64]!r}")

    def _set(self, answers: ProbeAnswers) -> None:
        if answers != self.current:
            self.current = answers
            for follower in self._followers:
                follower(answers)
