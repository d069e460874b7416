"""What Workers KV answers, as frozen values. Expirations are Unix seconds; None means never, or not said."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from syncd.cloudflare.envelope import Answer
from syncd.cloudflare.fields import Fields, elements, rows, sound
from syncd.cloudflare.messages import Raw
from syncd.errors import Retry


@dataclass(frozen=True, slots=True)
class KVNamespaceInfo:
    """One KV namespace. supports_url_encoding False: a very old one, which stores a key of a URL as it stands there,
    percent signs and all; bulk requests are safe.
    """

    id: str
    title: str
    supports_url_encoding: bool | None = None

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(fields.text("id"), fields.text("title"), fields.opt_bool("supports_url_encoding"))


@dataclass(frozen=True, slots=True)
class KVNamespacePage:
    """One page of a listing. total_count: namespaces of the account, None when the remote does not say."""

    namespaces: tuple[KVNamespaceInfo, ...]
    total_count: int | None = None

    @classmethod
    def parse(cls, answer: Answer) -> Self:
        info = Fields(dict(answer.result_info), "result_info")
        found = tuple(KVNamespaceInfo.parse(row) for row in rows(answer.result, "namespace"))
        return cls(found, info.opt_int("total_count"))


class ListedKey(NamedTuple):
    """One row of a key listing. metadata: any JSON, None when there is none."""

    name: str
    metadata: Any = None
    expiration: int | None = None

    @classmethod
    def parse(cls, row: object) -> Self:
        name = row.get("name") if isinstance(row, dict) else None
        if isinstance(row, dict) and type(name) is str and name.isascii() and name and "expiration" not in row:
            # What nearly all rows are, and a listing may have a million of them.
            return cls(name, row.get("metadata"))
        return cls.of(Fields(row, "key"))

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """The row, checked."""
        return cls(fields.text("name"), fields.any("metadata"), fields.opt_int("expiration"))


@dataclass(frozen=True, slots=True)
class KeyPage:
    """One page of keys in UTF-8 order, and the cursor of the next page, None at the end.

    A page may be empty and have a next one: deleted keys are skipped, not made up for. faults: what is wrong with rows
    that could not be read.
    """

    keys: tuple[ListedKey, ...]
    cursor: str | None = None
    faults: tuple[str, ...] = ()

    @classmethod
    def parse(cls, answer: Answer) -> Self:
        info = Fields(dict(answer.result_info), "result_info")
        older = Fields(info.opt_map("cursors"), "cursors")  # where the documents once put it
        cursor = info.cursor("cursor") or older.cursor("after")
        listed = elements(answer.result, "key")
        try:
            return cls(tuple(map(ListedKey.parse, listed)), cursor)
        except Retry:
            found = sound(listed, "key", ListedKey.of)
            return cls(tuple(found.good), cursor, found.faults)


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What became of a bulk write or delete; a bulk is not atomic.

    unsuccessful_keys: not written to (or deleted from) every copy; send them again. successful_key_count: None when
    the remote does not say. messages: why, if it said so.
    """

    successful_key_count: int | None = None
    unsuccessful_keys: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()

    @classmethod
    def parse(cls, answer: Answer) -> Self:
        if answer.result is None:
            return cls(messages=answer.messages)
        fields = Fields(answer.result, "bulk result")
        failed = fields.any("unsuccessful_keys") or []
        if not isinstance(failed, list) or not all(isinstance(key, str) for key in failed):
            raise Retry("unexpected answer: unsuccessful_keys is no list of keys", ambiguous=True)
        return cls(fields.opt_int("successful_key_count"), tuple(failed), answer.messages)

    @staticmethod
    def is_partial(result: object) -> bool:
        """Whether the result of an error names the keys that failed, and so says that the others did not."""
        return isinstance(result, dict) and isinstance(failed := result.get("unsuccessful_keys"), list) and bool(failed)


@dataclass(frozen=True, slots=True)
class BulkValue:
    """One value of a bulk get: a text, or any JSON when asked for as JSON. metadata only when asked for."""

    value: Any = field(repr=False)
    metadata: Any = None
    expiration: int | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """One stored value, byte for byte."""

    content: bytes = field(repr=False)
    expiration: int | None = None

    @classmethod
    def parse(cls, raw: Raw) -> Self:
        said = raw.headers.get("expiration", "").strip()
        return cls(raw.content, int(said) if said.isascii() and said.isdecimal() and len(said) < 16 else None)


def bulk_values(answer: Answer, *, with_metadata: bool) -> Mapping[str, BulkValue]:
    """The values that a bulk get found, by key; what it says is null is not there."""
    values = Fields(answer.result, "bulk get").any("values")
    if not isinstance(values, dict):
        raise Retry("unexpected answer: a bulk get without values", ambiguous=True)
    found = {}
    for key, row in values.items():
        if row is None:
            continue
        fields = Fields(row if with_metadata else {"value": row}, "value")
        if fields.any("value") is not None:
            found[key] = BulkValue(fields.any("value"), fields.any("metadata"), fields.opt_int("expiration"))
    return found
