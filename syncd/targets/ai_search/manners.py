"""The manners of an instance that its target applies, as the last `syncd check --probe` learned them."""

from collections.abc import Callable

from syncd.core.manners import DIGESTS, UNKNOWN_MANNERS, Manners, digest_of, plain_digest
from syncd.core.model import Content
from syncd.state.manners import LearnedManners


class MannersInUse:
    """The manners at the last `refresh`. learned: where they are stored, None if nothing is.

    An answer that turns out to be wrong is dropped, and the target works as without it.
    """

    def __init__(self, learned: LearnedManners | None = None) -> None:
        self.current: Manners = UNKNOWN_MANNERS
        self._learned = learned
        self._followers: list[Callable[[Manners], None]] = []

    def follow(self, follower: Callable[[Manners], None]) -> None:
        """Call `follower` with the manners now and at every change."""
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

    def _set(self, manners: Manners) -> None:
        if manners != self.current:
            self.current = manners
            for follower in self._followers:
                follower(manners)
