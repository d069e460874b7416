"""What may be stored under a key: the checks that single and bulk writes have in common. PURE."""

import base64
import json
from typing import Any, NamedTuple

from syncd.emulator.envelope import ApiError
from syncd.emulator.kv.places import check_key, refused
from syncd.emulator.limits import MAX_KV_METADATA_SIZE, MAX_KV_VALUE_SIZE, MIN_KV_TTL

_LATEST = 2**53


class Pair(NamedTuple):
    """A key with what is stored under it. metadata: JSON text; expiration: seconds since 1970; None is none."""

    key: str
    value: bytes
    metadata: str | None
    expiration: int | None

    def same(self, other: "Pair") -> bool:
        """Whether both say the same of one key; the order of the metadata's fields is no difference."""
        return (self.value, self.expiration) == (other.value, other.expiration) and (
            _sorted(self.metadata) == _sorted(other.metadata)
        )


def read_pair(place: int, text: str, now: float) -> Pair:
    """One element of a bulk write. The message of the ApiError names its place and, if it has one, its key."""
    where = f"item {place}"
    try:
        raw = read_element(text)
        if not isinstance(raw, dict):
            raise refused("a pair must be a JSON object")
        key = raw.get("key")
        if not isinstance(key, str):
            raise refused("key must be a text")
        where = f"{where} (key {json.dumps(key[:80])})"
        check_key(key)
        return Pair(key, _value(raw), compact(raw.get("metadata")), expires(raw, now))
    except ApiError as refusal:
        raise ApiError(refusal.status, refusal.code, f"{where}: {refusal.message}") from None


def read_key(place: int, text: str) -> str:
    """One element of a bulk delete, as read_pair."""
    try:
        key = read_element(text)
        if not isinstance(key, str):
            raise refused("a key must be a text")
        check_key(key)
    except ApiError as refusal:
        raise ApiError(refusal.status, refusal.code, f"item {place}: {refusal.message}") from None
    return key


def read_element(text: str) -> Any:
    """A JSON value; ApiError 400 if the text is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise refused("no JSON") from None


def check_size(value: bytes | bytearray) -> None:
    """ApiError 413 if it is too long for a value."""
    if len(value) > MAX_KV_VALUE_SIZE:
        raise refused(f"Value length of {len(value)} exceeds limit of {MAX_KV_VALUE_SIZE}.", 413)


def compact(metadata: Any) -> str | None:
    """Metadata as it is stored; ApiError 413 if that is too long, 400 if it has no JSON form. null is none at all."""
    if metadata is None:
        return None
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        length = len(text.encode())
    except (ValueError, RecursionError):
        raise refused("metadata is no JSON") from None
    if length > MAX_KV_METADATA_SIZE:
        raise refused(f"Metadata length of {length} exceeds limit of {MAX_KV_METADATA_SIZE}.", 413)
    return text


def expires(given: dict[str, Any], now: float) -> int | None:
    """When a pair ends by its `expiration_ttl`, else by its `expiration`; ApiError 400 unless that is at least 60 s
    from now. With both given the second is not even looked at.
    """
    ttl, moment = given.get("expiration_ttl"), given.get("expiration")
    if ttl is not None:
        seconds = _whole("expiration_ttl", ttl)
        if seconds < MIN_KV_TTL:
            raise refused(f"Invalid expiration_ttl of {ttl}. Expiration TTL must be at least {MIN_KV_TTL}.")
        return int(now) + seconds
    if moment is None:
        return None
    end = _whole("expiration", moment)
    if end < int(now) + MIN_KV_TTL:
        raise refused(
            f"Invalid expiration of {moment}. Expiration times must be at least {MIN_KV_TTL} seconds in the future."
        )
    return end


def _whole(name: str, given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not abs(given) <= _LATEST or given % 1:
        raise refused(f"{name} must be an integer")
    return int(given)


def _value(raw: dict[str, Any]) -> bytes:
    text, encoded = raw.get("value"), raw.get("base64")
    if not isinstance(text, str):
        raise refused("value must be a text")
    if encoded is not None and not isinstance(encoded, bool):
        raise refused("base64 must be true or false")
    if encoded and len(text) > MAX_KV_VALUE_SIZE:
        raise refused(f"value: Too big: expected string to have <={MAX_KV_VALUE_SIZE} characters")
    try:
        value = base64.b64decode(text, validate=True) if encoded else text.encode()
    except ValueError:
        raise refused("Invalid base64 value" if encoded else "value is no UTF-8") from None
    check_size(value)
    return value


def _sorted(metadata: str | None) -> str | None:
    return None if metadata is None else json.dumps(json.loads(metadata), sort_keys=True)
