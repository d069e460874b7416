"""Models of the Workers KV API. Expirations are Unix seconds, None if the remote gives none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from syncd.cloudflare.decoding import (
    OptionalBool,
    OptionalInt,
    Text,
    as_object,
    decode,
    decode_page,
    decode_rows,
    parse_cursor,
    parse_whole_number,
    unexpected,
)
from syncd.cloudflare.response import Answer, Raw


@dataclass(frozen=True, slots=True)
class KVNamespaceInfo:
    """One KV namespace.

    supports_url_encoding: False for a very old namespace, which stores the key of a URL with its percent signs. Bulk
    requests are safe there.
    """

    id: Text
    title: Text
    supports_url_encoding: OptionalBool = None


@dataclass(frozen=True, slots=True)
class KVNamespacePage:
    """One page of namespaces. total_count: namespaces of the account, None if the remote does not give it."""

    namespaces: tuple[KVNamespaceInfo, ...]
    total_count: int | None = None

    @classmethod
    def parse(cls, answer: Answer) -> Self:
        """Decode the page of an answer."""
        total_count = parse_whole_number(answer.result_info.get("total_count"))
        return cls(decode_rows(KVNamespaceInfo, answer.result, "namespace"), total_count)


@dataclass(frozen=True, slots=True)
class ListedKey:
    """One row of a key listing. metadata: any JSON value, None if there is none."""

    name: Text
    metadata: Any = None
    expiration: OptionalInt = None


@dataclass(frozen=True, slots=True)
class KeyPage:
    """One page of keys in UTF-8 order, and the cursor of the next page, None at the end.

    An empty page may have a next page, because the remote skips deleted keys. faults: messages about unreadable rows.
    """

    keys: tuple[ListedKey, ...]
    cursor: str | None = None
    faults: tuple[str, ...] = ()

    @classmethod
    def parse(cls, answer: Answer) -> Self:
        """Decode the page of an answer."""
        info = answer.result_info
        older = info.get("cursors")  # the place of the cursor in older versions of the API
        cursor = parse_cursor(info.get("cursor")) or parse_cursor(
            older.get("after") if isinstance(older, dict) else None
        )
        found = decode_page(ListedKey, answer.result, "key")
        return cls(found.rows, cursor, found.faults)


@dataclass(frozen=True, slots=True)
class BulkResult:
    """The result of a bulk write or delete. A bulk is not atomic.

    successful_key_count: None if the remote does not give it. unsuccessful_keys: the keys that the remote did not write
    to, or delete from, every copy. The caller sends these keys again. messages: the reasons, if the remote gives any.
    """

    successful_key_count: int | None = None
    unsuccessful_keys: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()

    @classmethod
    def parse(cls, answer: Answer) -> Self:
        """Decode the answer to a bulk request."""
        if answer.result is None:
            return cls(messages=answer.messages)
        result = as_object(answer.result, "bulk result")
        failed = result.get("unsuccessful_keys") or []
        if not isinstance(failed, list) or not all(isinstance(key, str) for key in failed):
            raise unexpected("unsuccessful_keys is no list of keys")
        return cls(parse_whole_number(result.get("successful_key_count")), tuple(failed), answer.messages)

    @staticmethod
    def is_partial(result: object) -> bool:
        """Whether the result of an error names the keys that failed, which means that the others succeeded."""
        return isinstance(result, dict) and isinstance(failed := result.get("unsuccessful_keys"), list) and bool(failed)


@dataclass(frozen=True, slots=True)
class BulkValue:
    """One value of a bulk get: a text, or any JSON value if the request asks for JSON.

    metadata: None unless the request asks for metadata.
    """

    value: Any = field(default=None, repr=False)
    metadata: Any = None
    expiration: OptionalInt = None


@dataclass(frozen=True, slots=True)
class StoredValue:
    """One stored value, byte for byte."""

    content: bytes = field(repr=False)
    expiration: int | None = None

    @classmethod
    def parse(cls, raw: Raw) -> Self:
        """Read the value and the expiration header of a raw answer."""
        header = raw.headers.get("expiration", "").strip()
        return cls(raw.content, int(header) if header.isascii() and header.isdecimal() and len(header) < 16 else None)


def bulk_values(answer: Answer, *, with_metadata: bool) -> Mapping[str, BulkValue]:
    """Return the values of a bulk get by key, without the keys whose value is null."""
    values = as_object(as_object(answer.result, "bulk get").get("values"), "values of a bulk get")
    rows = {key: row if with_metadata else {"value": row} for key, row in values.items() if row is not None}
    found = {key: decode(BulkValue, row, "value") for key, row in rows.items()}
    return {key: value for key, value in found.items() if value.value is not None}
