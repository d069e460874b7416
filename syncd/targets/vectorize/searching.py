"""Asking an index for the pieces of our files that are nearest to a vector."""

from dataclasses import dataclass

from syncd.cloudflare.vectorize import VectorizeIndex
from syncd.cloudflare.workers_ai import Vector
from syncd.targets.base import Hit
from syncd.targets.vectorize.pieces import HEADING, KEY, OWNER, TEXT

QUERY_LIMIT = 50
"""Most matches with their metadata (Vectorize limits: topK)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose pieces, under which start of a key, how many; title: the field that says what a file is called."""

    owner: str
    prefix: str
    limit: int
    title: str


async def nearest(index: VectorizeIndex, vector: Vector, wanted: Wanted) -> list[Hit]:
    """The wanted ones among the nearest; filtered by the index where it can, and by us in any case."""
    filters = any(each.property_name == OWNER for each in await index.list_metadata_indexes())
    enough = filters and not wanted.prefix
    matches = await index.query(
        vector,
        min(wanted.limit, QUERY_LIMIT) if enough else QUERY_LIMIT,
        filter={OWNER: wanted.owner} if filters else None,
        return_metadata="all",
    )
    hits = [
        Hit(
            str(said[KEY]),
            max(0.0, match.score or 0.0),
            str(said.get(TEXT) or ""),
            str(said.get(HEADING) or ""),
            str(said.get(wanted.title) or ""),
        )
        for match in matches
        if (said := match.metadata or {}).get(OWNER) == wanted.owner and said.get(KEY)
    ]
    return [hit for hit in hits if hit.key.startswith(wanted.prefix)][: wanted.limit]
