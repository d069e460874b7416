"""The script, the size and the result of a storm."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.torture.stormy_folder import Kind

FLOOD_SAVES = 6000
"""The kernel's queue holds 16,384 events by default. A save causes four or more."""


@dataclass(frozen=True, slots=True)
class Script:
    """The script of a storm. manners: options of the stand-in. strength: share of requests that fail.

    kills: SIGKILL at random moments. losses: the state file is deleted now and then. clocks: they are wrong and jump.
    unmarked: the target keeps no metadata. refusal, disk, flood: storms of their own, see `Storm`.
    """

    name: str
    kind: Kind
    manners: Mapping[str, Any]
    strength: float = 0.08
    ambiguous: bool = True
    kills: bool = True
    losses: bool = False
    clocks: bool = False
    unmarked: bool = False
    refusal: bool = False
    disk: bool = False
    flood: bool = False


@dataclass(slots=True)
class Tally:
    """The counts of a storm. All fields from `lost` on must be 0."""

    faults: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    elapsed_s: float = 0.0
    found: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        for mine, theirs in ((self.faults, other.faults), (self.counts, other.counts), (self.found, other.found)):
            mine.update(theirs)
        self.elapsed_s += other.elapsed_s
        self.remarks += other.remarks


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a storm: files at the beginning, seconds of faults, saves of a flood.

    Of the daemon that is left alone at the end: stirs of the folder, and seconds between two full passes.
    """

    files: int = 300
    seconds: float = 12.0
    saves: int = FLOOD_SAVES
    stirs: int = 15
    interval: float = 10.0
