"""Which index a request is about, how this API refuses, and which codes that takes.

The codes are not documented; users of the service met them and wrote them down, NAMESPACE_SIZE but once. What has no
known code is refused by `misfit`.
"""

from typing import Any, NamedTuple

from syncd.emulator.envelope import ApiError, read_json
from syncd.emulator.routing import Call

ROOT = "/accounts/{account_id}/vectorize/v2/indexes"
INDEX = f"{ROOT}/{{index_name}}"

UNKNOWN_CONTENT_TYPE = 1005
NOT_FOUND = 3000
DUPLICATE_NAME = 3002
DELETED = 3005
NO_METADATA_INDEX = 40005
TOO_MANY_VECTORS = 40006
QUERY_DIMENSIONS = 40006
TOO_MANY_IDS = 40007
ID_SIZE = 40008
NAMESPACE_SIZE = 40009
DIMENSIONS = 40012
METADATA_SIZE = 40016
UNPARSABLE_VECTORS = 40023
TOP_K = 40025
UNPARSABLE_BODY = 40026
_MISFIT, _TOO_LARGE = 10400, 10413
"""This stand-in's own, as 10403 and 10405. Not 7001 as elsewhere, which is known to mean a fault of the service."""


class Index(NamedTuple):
    """An index that exists. number: its key in the database."""

    number: int
    name: str
    dimensions: int
    metric: str


def refused(code: int, message: str) -> ApiError:
    """A request that does not fit; always 400."""
    return ApiError(400, code, message)


def misfit(message: str) -> ApiError:
    """A request that does not fit, in a way for which no code is known."""
    return refused(_MISFIT, message)


def too_large(limit: int) -> ApiError:
    """A body over `limit` bytes."""
    return ApiError(413, _TOO_LARGE, f"The request is larger than {limit} bytes")


def find_index(call: Call) -> Index:
    """The index in the path. ApiError 404/3000 if there never was one of that name, 410/3005 if it was deleted."""
    name = call.path["index_name"]
    sql = "SELECT number, name, dimensions, metric, deleted_at FROM vz_indexes WHERE account = ? AND name = ?"
    row = call.backend.store.one(sql, (call.path["account_id"], name))
    if row is None:
        raise ApiError(404, NOT_FOUND, f'vectorize.index.not_found - Index name "{name}"')
    if row["deleted_at"] is not None:
        raise ApiError(410, DELETED, f'vectorize.index.deleted - Index name "{name}" was deleted')
    return Index(row["number"], row["name"], row["dimensions"], row["metric"])


async def read_object(call: Call) -> dict[str, Any]:
    """The body as a JSON object; ApiError 400/40026 if it is none."""
    try:
        value = read_json(await call.request.body())
    except ValueError as reason:
        raise unparsable(str(reason)) from None
    if not isinstance(value, dict):
        raise unparsable("expected an object")
    return value


def unparsable(reason: str) -> ApiError:
    """A JSON body that is not what it should be."""
    return refused(UNPARSABLE_BODY, f"Failed to parse the request body as JSON: {reason}")
