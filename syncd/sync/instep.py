"""The fast lane of a full pass: keys that are plainly in step are found by one query for each block of them.

It says nothing that the decision table does not say. It takes a key only if all of this holds, and then the table's
row "x x x: nothing" is all that there is to it; whatever is less plain goes the long way, through the table:

- the file is one whose checksum the stat cache knows: same size, times and inode;
- the journal's record has that checksum, is not so young that what the remote shows may predate it, nor so old that
  the entry is about to expire;
- the listing shows one entry for the key, the recorded one, with that checksum or none, and of no other owner;
- of its version, size, marks, status and error it says nothing new, and it is or will be indexed, else it is a problem.
"""

import math
from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

from syncd.core.model import Item, Problem
from syncd.state.pass_tables import PassTables, Terms
from syncd.sync.mirror import Mirror

_fingerprint = attrgetter("key", "size", "mtime_ns", "ctime_ns", "inode")


class Taken(NamedTuple):
    """What the lane took of a block. all: whether listing and journal hold no other keys there."""

    keys: frozenset[str]
    all: bool


NOTHING = Taken(frozenset(), all=False)


class InStep:
    """The lane of one pass."""

    def __init__(self, mirror: Mirror, tables: PassTables) -> None:
        self._mirror = mirror
        self._listing = tables.listing
        self._count = 0

    def take(self, after: str, upto: str | None, found: Sequence[Item | Problem]) -> Taken:
        """Take those of the files found in after < key <= upto (None: to the end) that are plainly in step."""
        limits = self._mirror.target.limits
        terms = Terms(
            owner=self._mirror.policy.owner,
            now=self._mirror.now() if limits.reads_lag else math.inf,
            lag_s=limits.lag_s,
            clock=self._mirror.now(),
            renew_s=math.inf if limits.renew_s is None else limits.renew_s,
        )
        block = (self._mirror.name, after, upto)
        plain = self._listing.in_step(*block, terms)
        # As the stat cache compares them: what lstat says now with what fstat said when the bytes were read.
        keys = frozenset([each.key for each in found if isinstance(each, Item) and _fingerprint(each) in plain])
        counted = self._listing.counts(*block)
        if counted != (len(keys), len(keys)):
            # Asked only where a second entry can be: looking for one beside each costs as much as finding the record.
            keys -= self._listing.repeated(*block)
        self._count += len(keys)
        return Taken(keys, counted == (len(keys), len(keys)))

    def counted(self) -> int:
        """How many keys were taken since this was asked last."""
        count, self._count = self._count, 0
        return count
