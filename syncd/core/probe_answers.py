"""The undocumented answers of an AI Search instance that `syncd check --probe` learns."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

Existing = Literal["overwrite", "conflict", "beside"]
"""An upload under a present name replaces the item, is refused with 409/7042, or makes a second item."""
ChecksumKind = Literal["md5", "sha1", "sha256", "zero", "opaque", "absent"]
"""The kind of the field `checksum` of an item. opaque: none of the digests. absent: items have no such field."""
Offer = Literal["all", "marks", "none"]
"""The metadata that an upload may carry: all of it, the marks of syncd without the mirror's own fields, or none."""
Quoting = Literal["backslash", "percent"]
"""How a quote in the file name of an upload is written: as backslash and quote, or as %22."""

DIGESTS: tuple[ChecksumKind, ...] = ("md5", "sha1", "sha256")
"""The kinds of checksum that follow from the content alone."""
PROBE_STEM = ".syncd-probe-"
"""The beginning of the name of each throw-away item. No mirror takes a file with such a name (core/rules.py)."""
VALID_S = 90 * 86400.0
"""Seconds for which an answer counts. Our own choice: the service may change, and asking costs ten requests."""
LAG_MARGIN_S, LAG_FACTOR = 2.0, 3.0
"""A listing may lag further behind on another day than during the probe, so the target waits longer."""

_PROBE_NAME = re.compile(re.escape(PROBE_STEM) + "[0-9a-f]{16}[-.][^/]*")
_ANSWERS: Mapping[str, tuple[object, ...]] = {
    "existing": get_args(Existing),
    "checksum": get_args(ChecksumKind),
    "metadata": get_args(Offer),
    "names": get_args(Quoting),
    "id_kept": (True, False),
    "metadata_listed": (True, False),
    "delete_gone": (True, False),
}
"""The possible answers of each question with a choice."""


@dataclass(frozen=True, slots=True)
class ProbeAnswers:
    """The answers of one instance. An answer is None as long as it is unknown.

    existing: the answer to an upload under a present name. id_kept: whether the replaced item keeps its id.
    checksum: the kind of the field `checksum` of an item.
    metadata: the metadata that the instance accepts. fields: the mirror's own fields that the probe sent.
    metadata_listed: whether the listing shows the metadata of items.
    list_lag_s: seconds after which a listing showed an upload. delete_gone: whether a deleted item is gone at once.
    names: how a quote in a file name must be written.
    """

    existing: Existing | None = None
    id_kept: bool | None = None
    checksum: ChecksumKind | None = None
    metadata: Offer | None = None
    fields: tuple[str, ...] = ()
    metadata_listed: bool | None = None
    list_lag_s: float | None = None
    delete_gone: bool | None = None
    names: Quoting | None = None

    @property
    def lag_s(self) -> float | None:
        """The seconds for which a listing may miss a write, with a margin; None if this is unknown."""
        return None if self.list_lag_s is None else LAG_MARGIN_S + LAG_FACTOR * self.list_lag_s

    def without(self, answer: str) -> "ProbeAnswers":
        """Return the answers without one answer, which turned out to be wrong."""
        return replace(self, **{answer: None})  # type: ignore[arg-type]

    def as_json(self) -> dict[str, Any]:
        """Return the answers as a JSON object."""
        return asdict(self) | {"fields": [*self.fields]}


NO_ANSWERS = ProbeAnswers()


def answers_of(value: object) -> ProbeAnswers:
    """Return the answers of a stored JSON object. An answer that no version of syncd writes counts as unknown."""
    if not isinstance(value, dict):
        return NO_ANSWERS
    known: dict[str, Any] = {
        name: value[name]
        for name, answers in _ANSWERS.items()
        # The type is compared too, because 1 equals True.
        if isinstance(value.get(name), type(answers[0])) and value[name] in answers
    }
    lag, names = value.get("list_lag_s"), value.get("fields")
    if isinstance(lag, int | float) and not isinstance(lag, bool) and 0 <= lag < math.inf:
        known["list_lag_s"] = float(lag)
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        known["fields"] = tuple(names)
    return ProbeAnswers(**known)


def is_probe_name(name: str) -> bool:
    """Return whether a remote name is that of a throw-away item."""
    return _PROBE_NAME.fullmatch(name) is not None


def checksum_kind(pairs: Sequence[tuple[str | None, bytes]]) -> ChecksumKind | None:
    """Return the kind of some checksums, None for none. pairs: (checksum of an item, its content)."""
    if not pairs:
        return None
    shown = [(plain_digest(checksum), content) for checksum, content in pairs]
    if all(not checksum for checksum, _ in shown):
        return "absent"
    if all(checksum == "0" for checksum, _ in shown):
        return "zero"
    for kind in DIGESTS:
        if all(checksum == digest_of(kind, content) for checksum, content in shown):
            return kind
    return "opaque"


def digest_of(kind: ChecksumKind, content: bytes) -> str:
    """Return the digest of a content in hex. kind: one of DIGESTS."""
    return hashlib.new(kind, content, usedforsecurity=False).hexdigest()


def plain_digest(checksum: str | None) -> str:
    """Return a remote checksum in lower case and without the quotes of an ETag."""
    return (checksum or "").strip('"').lower()
