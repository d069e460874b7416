"""Workers KV: namespaces, single values, bulk requests, the listing of keys."""

from syncd.emulator.kv import bulk, keys, namespaces, values
from syncd.emulator.kv.schema import SCHEMA
from syncd.emulator.routing import Endpoint

__all__ = ["SCHEMA", "endpoints"]


def endpoints() -> list[Endpoint]:
    """The whole table of the API."""
    return [*namespaces.ENDPOINTS, *keys.ENDPOINTS, *values.ENDPOINTS, *bulk.ENDPOINTS]
