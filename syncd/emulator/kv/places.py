"""Which namespace and key a request is about, and how this API refuses."""

import re
from urllib.parse import unquote_to_bytes

from syncd.emulator.envelope import ApiError
from syncd.emulator.limits import MAX_KV_KEY_SIZE
from syncd.emulator.routing import Call

ROOT = "/accounts/{account_id}/storage/kv/namespaces"
NAMESPACE = f"{ROOT}/{{namespace_id}}"

_ID = re.compile(r"[0-9a-fA-F]{32}")


def refused(message: str, status: int = 400) -> ApiError:
    """A request that does not fit: 10001 is the code of every validation of this API, whatever the status."""
    return ApiError(status, 10001, message)


def namespace_of(call: Call) -> int:
    """The number of the namespace in the path. ApiError 400/10011 if that is no id, 404/10013 if it does not exist."""
    given = call.path["namespace_id"]
    if _ID.fullmatch(given) is None:
        raise ApiError(400, 10011, f"could not parse UUID from request's namespace_id: '{given}'")
    sql = "SELECT number FROM kv_namespaces WHERE account = ? AND id = ?"
    row = call.backend.store.one(sql, (call.path["account_id"], given.lower()))
    if row is None:
        raise ApiError(404, 10013, "namespace not found")
    number: int = row["number"]
    return number


def key_of(call: Call) -> str:
    """The key at the end of the path, percent-decoded once; ApiError 400 or 414 if it cannot be one."""
    raw = call.request.scope.get("raw_path", call.request.url.path.encode()).split(b"?")[0]
    try:
        key = unquote_to_bytes(raw.rsplit(b"/", 1)[1]).decode()
    except UnicodeDecodeError:
        raise refused("the key is no UTF-8") from None
    check_key(key)
    return key


def check_key(key: str) -> None:
    """ApiError 400 or 414 if it cannot be a key.

    Anything but "", "." and ".." can: the reference speaks of printable characters, the service does not insist.
    """
    if not key:
        raise refused("Key names must not be empty")
    if key in {".", ".."}:
        raise refused(f'Illegal key name "{key}". Please use a different name.')
    check_length(key)


def check_length(key: str) -> None:
    """ApiError 414 if a key or prefix is too long, 400 if it has no UTF-8 form."""
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise refused("the key is no UTF-8") from None
    if length > MAX_KV_KEY_SIZE:
        raise refused(f"UTF-8 encoded length of {length} exceeds key length limit of {MAX_KV_KEY_SIZE}.", 414)


def number(call: Call, name: str, default: int, low: int, high: int = 2**31) -> int:
    """The query parameter as an integer within [low, high]; ApiError 400 otherwise."""
    try:
        return call.number(name, default, low, high)
    except ApiError as reason:
        raise refused(reason.message) from None


def choice(call: Call, name: str, allowed: tuple[str, ...]) -> str:
    """The query parameter if it is one of `allowed`, the first of these if absent; ApiError 400 otherwise."""
    try:
        return call.choice(name, allowed) or allowed[0]
    except ApiError as reason:
        raise refused(reason.message) from None
