"""What the Vectorize target wants remembered beyond the life of the process. PURE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from syncd.cloudflare.workers_ai import Vector


@dataclass(frozen=True, slots=True)
class Change:
    """Our last change to an index, which it processes when it can, after all earlier ones.

    mutation: the id it was given, if any. probe: a vector it wrote, by which it can be seen to be processed. at: when
    it was made; since: when the first of all changes was made that are not known to be processed. Both in seconds since
    the epoch, by our clock; theirs: the same as `at` by the remote's clock, as far as it told. removes: one of these
    changes deletes vectors.
    """

    mutation: str | None
    probe: str | None
    at: float
    since: float
    theirs: float | None = None
    removes: bool = False


class Memory(Protocol):
    """Vectors by the text they were made of, and the change that the index has not yet been seen to process."""

    def vectors(self, model: str, digests: Sequence[bytes]) -> Mapping[bytes, Vector]:
        """The vectors that are remembered, by the SHA-256 of their text. model: name and pooling."""
        ...

    def keep(self, model: str, vectors: Mapping[bytes, Vector]) -> None:
        """Remember vectors; the ones unused for longest may be forgotten for them."""
        ...

    def last_change(self) -> Change | None:
        """The change to wait for, or None."""
        ...

    def changed(self, change: Change | None) -> None:
        """Note our last change; None: the index has processed it."""
        ...
