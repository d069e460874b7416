"""Frozen values that the whole program speaks in. PURE: no clock, disk, network, log."""

from dataclasses import dataclass
from typing import Literal

ActionKind = Literal["put", "delete", "adopt", "forget"]
Reason = Literal["new", "changed", "missing", "drift", "stale", "orphan", "found", "gone", "unverified"]
ProblemKind = Literal[
    "too_large",
    "key_too_long",
    "invalid_key",
    "key_collision",
    "unsupported_type",
    "empty",
    "unreadable",
    "foreign",
    "refused",
    "failed",
    "index_error",
]
IndexStatus = Literal["queued", "running", "completed", "error", "skipped", "outdated"]

HARMLESS: frozenset[ProblemKind] = frozenset({"unsupported_type", "empty", "foreign"})
"""Problem kinds that are reported and do not make the exit code 1 (contract)."""
