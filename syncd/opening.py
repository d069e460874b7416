"""From a mirror's section to its folder and its target. Only the kinds of target that are configured are imported."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from syncd import shards
from syncd.cloudflare.transport import Transport
from syncd.config.settings import MirrorConfig
from syncd.config.targets import AISearchTarget, KVTarget, VectorizeTarget
from syncd.model import Item
from syncd.rules import Rules
from syncd.scan import Tree
from syncd.state.cuts import Cuts
from syncd.state.journal import Journal
from syncd.targets.base import Limits, Target
from syncd.targets.naming import Names

if TYPE_CHECKING:
    from syncd.state.embeddings import Embeddings

LONG_KEY_LENGTH = 1024
"""Characters of a full key that stands in an entry's metadata (our own limit; AI Search has 10 KiB for that)."""


@dataclass(frozen=True, slots=True)
class Grants:
    """What a person agreed to, this once: entries of other owners are adopted; all files are embedded anew."""

    takeover: bool = False
    reembed: bool = False


NOTHING_GRANTED = Grants()


def make_target(
    transport: Transport, db: sqlite3.Connection, name: str, section: MirrorConfig, grants: Grants
) -> Target:
    """Return the target of a mirror."""
    target, names = section.target, Names(Journal(db, name).keys, lambda: _walked(section))
    if isinstance(target, VectorizeTarget):
        from syncd.state.embeddings import Embeddings

        return _vectorize(transport, section, target, grants, names, Embeddings(db, name))
    if isinstance(target, KVTarget):
        return _kv(transport, section, target, names)
    return _aisearch(transport, section, target, grants, names)


def limits_of(section: MirrorConfig) -> Limits:
    """Return the limits of a mirror's target, without opening it."""
    wanted = section.target.max_key_length, section.target.max_file_size
    longer = section.long_names != "reject"
    if section.target.type == "vectorize":
        from syncd.targets.vectorize.target import limits as of_vectorize

        limits = of_vectorize(*wanted)
        # Its ids hold no names: there is nothing to shorten.
        return replace(limits, max_key_length=LONG_KEY_LENGTH) if longer else limits
    if section.target.type == "kv":
        from syncd.targets.kv import limits as of_kv
        from syncd.targets.kv import long_key_bytes

        limits, room = of_kv(*wanted), long_key_bytes(section.owner, section.key_prefix)
        limits = replace(limits, renew_s=_renew_s(section.target.expiration_ttl, section.reconcile_interval))
    else:
        from syncd.targets.aisearch.target import limits as of_aisearch

        limits, room = of_aisearch(*wanted), None
    return replace(limits, long_key_length=LONG_KEY_LENGTH, long_key_bytes=room) if longer else limits


def _renew_s(ttl: float | None, interval: float) -> float | None:
    """After so many seconds an entry is written again: half its life, or less if the next pass may be too late."""
    return None if ttl is None else min(ttl / 2, max(0.0, ttl * 3 / 4 - interval))


def rules_of(section: MirrorConfig) -> Rules:
    """Return a mirror's include and exclude rules."""
    return Rules(tuple(section.include), tuple(section.exclude), section.gitignore, section.links == "inside")


def tree_of(section: MirrorConfig) -> Tree:
    """Return a mirror's folder to look at. It remembers nothing of an earlier look."""
    cuts = Cuts(section.names) if section.names.split else None
    return Tree(section.path, rules_of(section), limits_of(section), section.key_prefix, cuts)


def _walked(section: MirrorConfig) -> Iterator[str]:
    return (found.key for found in tree_of(section).walk("") if isinstance(found, Item))


def _aisearch(
    transport: Transport, section: MirrorConfig, target: AISearchTarget, grants: Grants, names: Names
) -> Target:
    from syncd.cloudflare.ai_search import AISearch
    from syncd.targets.aisearch import target as aisearch
    from syncd.targets.aisearch.rows import Marks

    return aisearch.AISearchTarget(
        AISearch(transport, target.namespace, target.instance),
        Marks(section.owner, section.key_prefix, grants.takeover, target.replace == "alternate", target.metadata),
        limits_of(section),
        names=names,
        # A few more than may be in flight: the next files are read while a place is waited for.
        concurrency=transport.gate.transfers + 6,
        shards=shards.parse(section.shard).count,
    )


def _kv(transport: Transport, section: MirrorConfig, target: KVTarget, names: Names) -> Target:
    from syncd.cloudflare.kv import KV
    from syncd.targets import kv
    from syncd.targets.kv_writing import Terms

    place = kv.Place(target.namespace_id, target.namespace_title)
    ttls = target.expiration_ttl, target.stale_ttl
    terms = Terms(section.owner, section.key_prefix, *ttls, fields=target.metadata)
    return kv.KVTarget(KV(transport), place, terms, limits_of(section), names=names)


def _vectorize(
    transport: Transport,
    section: MirrorConfig,
    target: VectorizeTarget,
    grants: Grants,
    names: Names,
    memory: "Embeddings",
) -> Target:
    from syncd.cloudflare.vectorize import VectorizeIndex
    from syncd.cloudflare.workers_ai import WorkersAI
    from syncd.targets.vectorize import target as vectorize
    from syncd.targets.vectorize.embedding import Embedder
    from syncd.targets.vectorize.index import Index
    from syncd.targets.vectorize.pieces import Cut

    terms = vectorize.Terms(
        section.owner, section.key_prefix, grants.takeover, section.prune == "all", grants.reembed, target.metadata
    )
    return vectorize.VectorizeTarget(
        Index(VectorizeIndex(transport, target.index), memory),
        Embedder(WorkersAI(transport), target.model, target.fixed_pooling, memory),
        terms,
        limits_of(section),
        cut=Cut(target.chunk_size, target.chunk_overlap),
        names=names,
    )
