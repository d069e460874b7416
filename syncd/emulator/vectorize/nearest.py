"""Which of the stored vectors are nearest to one: exact, over all of them, a block at a time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from syncd.emulator.store import Store
from syncd.emulator.vectorize.elements import FLOAT
from syncd.emulator.vectorize.places import Index

Floats = np.ndarray[Any, np.dtype[np.float32]]

_BLOCK = 4096
_SQL = """
SELECT number, data FROM vz_vectors
WHERE of_index = :index AND number > :after AND (:namespace IS NULL OR namespace = :namespace)
    AND (NOT :filtered OR vz_filter(indexed))
ORDER BY number LIMIT :limit
"""


class Hit(NamedTuple):
    """number: the vector's key in the database; score: as the index's metric has it."""

    number: int
    score: float


def nearest(store: Store, index: Index, vector: Floats, among: tuple[str | None, bool], count: int) -> list[Hit]:
    """The best `count`, best first; of equal ones the first written. among: the namespace or None for all of them, and
    whether the SQL function vz_filter, which the caller has defined, decides too.
    """
    score = _METRICS[index.metric]
    values = {"index": index.number, "after": 0, "namespace": among[0], "filtered": among[1], "limit": _BLOCK}
    hits: list[Hit] = []
    while rows := store.all(_SQL, values):
        block = np.frombuffer(b"".join(row["data"] for row in rows), FLOAT).reshape(len(rows), index.dimensions)
        scores = score(block, vector)
        places = np.argsort(scores if index.metric == "euclidean" else -scores, kind="stable")[:count]
        hits += [Hit(rows[place]["number"], float(scores[place])) for place in places]
        values["after"] = rows[-1]["number"]
    hits.sort(key=lambda hit: (hit.score if index.metric == "euclidean" else -hit.score, hit.number))
    return hits[:count]


def _cosine(block: Floats, vector: Floats) -> Floats:
    """From -1 to 1; 0 if one of the two has no direction."""
    lengths = np.linalg.norm(block, axis=1) * np.linalg.norm(vector)
    cosines: Floats = np.divide(block @ vector, lengths, out=np.zeros(len(block), np.float32), where=lengths > 0)
    return cosines


def _euclidean(block: Floats, vector: Floats) -> Floats:
    distances: Floats = np.linalg.norm(block - vector, axis=1)
    return distances


def _dot(block: Floats, vector: Floats) -> Floats:
    products: Floats = block @ vector
    return products


_METRICS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "cosine": _cosine,
    "euclidean": _euclidean,
    "dot-product": _dot,
}
