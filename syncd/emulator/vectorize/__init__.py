"""Vectorize, version 2: indexes, metadata indexes, vectors, their listing, queries. Changes take a while to be seen."""

from syncd.emulator.routing import Endpoint
from syncd.emulator.vectorize import indexes, listing, metadata_indexes, query, vectors
from syncd.emulator.vectorize.schema import SCHEMA

__all__ = ["SCHEMA", "endpoints"]


def endpoints() -> list[Endpoint]:
    """The whole table of the API."""
    return [
        *indexes.ENDPOINTS,
        *metadata_indexes.ENDPOINTS,
        *vectors.ENDPOINTS,
        *listing.ENDPOINTS,
        *query.ENDPOINTS,
    ]
