"""AI Search: namespaces, instances, items, search."""

from syncd.emulator.ai_search import instances, items, namespaces, search, upload
from syncd.emulator.ai_search.schema import SCHEMA
from syncd.emulator.routing import Endpoint

__all__ = ["SCHEMA", "endpoints"]


def endpoints() -> list[Endpoint]:
    """The whole table of the API, in its namespaced form and in the one that means the namespace "default"."""
    return [*namespaces.ENDPOINTS, *instances.ENDPOINTS, *items.ENDPOINTS, *upload.ENDPOINTS, *search.ENDPOINTS]
