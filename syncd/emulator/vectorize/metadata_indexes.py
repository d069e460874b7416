"""/metadata_index: the properties of the metadata that queries can filter by."""

from typing import Any

from starlette.responses import Response

from syncd.emulator.envelope import ok
from syncd.emulator.limits import MAX_METADATA_INDEXES
from syncd.emulator.routing import Call, Endpoint
from syncd.emulator.vectorize.mutations import Property, change_property, coming_properties, current_index, properties
from syncd.emulator.vectorize.places import INDEX, NO_METADATA_INDEX, misfit, read_object, refused
from syncd.emulator.vectorize.properties import TYPES, check_property


async def _create(call: Call) -> Response:
    """Of a property that has an index already it is taken again."""
    body = await read_object(call)
    name, kind = _name(body), body.get("indexType")
    if not isinstance(kind, str) or kind not in TYPES:
        raise misfit(f"indexType must be one of {', '.join(TYPES)}")
    index = current_index(call)
    others = coming_properties(call.backend, index).keys() - {name}
    if len(others) >= MAX_METADATA_INDEXES:
        raise misfit(f"an index has at most {MAX_METADATA_INDEXES} metadata indexes")
    return ok({"mutationId": change_property(call.backend, index, "index", Property(name, kind))})


async def _list(call: Call) -> Response:
    index = current_index(call)
    shown = [{"propertyName": name, "indexType": kind} for name, kind in properties(call.backend, index).items()]
    return ok({"metadataIndexes": shown})


async def _delete(call: Call) -> Response:
    name = _name(await read_object(call))
    index = current_index(call)
    kind = coming_properties(call.backend, index).get(name)
    if kind is None:
        raise refused(NO_METADATA_INDEX, f"there is no metadata index for property {name}")
    return ok({"mutationId": change_property(call.backend, index, "unindex", Property(name, kind))})


def _name(body: dict[str, Any]) -> str:
    name = body.get("propertyName")
    try:
        check_property(name)
    except ValueError as reason:
        raise misfit(f"propertyName: {reason}") from None
    return str(name)


ENDPOINTS = [
    Endpoint("POST", f"{INDEX}/metadata_index/create", _create),
    Endpoint("GET", f"{INDEX}/metadata_index/list", _list),
    Endpoint("POST", f"{INDEX}/metadata_index/delete", _delete),
]
