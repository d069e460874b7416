"""Decodes the JSON of an answer into typed values, and iterates over the pages of a listing.

A wrong required field raises Retry. A wrong optional field reads as absent. Every text of a decoded field can be
encoded as UTF-8, and every number fits in 64 bits.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from types import GenericAlias
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field, PlainValidator, TypeAdapter, ValidationError

from syncd.cloudflare.response import Answer
from syncd.core.errors import Park, Retry

CURSOR_LIMIT = 8000
"""Maximum characters of a cursor. Most servers refuse a URL of more than 8 kB."""
DEPTH_LIMIT = 16
"""Maximum nesting of lists and objects in metadata (our own limit)."""
SHOWN = 80
"""Maximum characters of an invalid text that an error shows."""
NUMBER_LIMIT = 2**53
"""Largest number of a decoded field. A float cannot represent every larger whole number."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing. rows: the rows that can be decoded. faults: one message for each other row.

    cursor: the cursor of the next page, None at the end. An empty page may have a next page. total_count: rows of the
    whole listing, None if the remote does not give it.
    """

    rows: tuple[T, ...]
    cursor: str | None = None
    total_count: int | None = None
    faults: tuple[str, ...] = ()


def decode(kind: type[T], value: object, name: str) -> T:
    """Decode one object. Raises Retry for another type or a wrong required field. name: names the object in errors."""
    try:
        return _decode_object(kind, value, name)
    except _ShapeError as error:
        raise unexpected(str(error)) from error


def decode_rows(kind: type[T], value: object, name: str) -> tuple[T, ...]:
    """Decode a list of objects. Raises Retry if the value is no list or one row is wrong."""
    page = decode_page(kind, value, name)
    if page.faults:
        raise unexpected(page.faults[0])
    return page.rows


def decode_page(
    kind: type[T], value: object, name: str, *, cursor: str | None = None, total_count: int | None = None
) -> Page[T]:
    """Decode the rows of a page. Raises Retry if the value is no list."""
    if not isinstance(value, list):
        raise unexpected(f"the list of {name}s is no list")
    try:
        return Page(tuple(_validate(kind, value)), cursor, total_count)
    except ValidationError:
        pass
    rows, faults = [], []
    for row in value:
        try:
            rows.append(_decode_object(kind, row, name))
        except _ShapeError as error:
            faults.append(str(error))
    return Page(tuple(rows), cursor, total_count, tuple(faults))


def object_of(kind: type[T], name: str) -> Callable[[Answer], T]:
    """Return a function that decodes the object of an answer, see `decode`."""
    return lambda answer: decode(kind, answer.result, name)


def rows_of(kind: type[T], name: str) -> Callable[[Answer], tuple[T, ...]]:
    """Return a function that decodes the list of an answer, see `decode_rows`."""
    return lambda answer: decode_rows(kind, answer.result, name)


def listed_total(answer: Answer) -> int | None:
    """Return the number of rows of the whole listing, None if the remote does not give it."""
    return parse_whole_number(answer.result_info.get("total_count"))


def as_object(value: object, name: str) -> dict[str, Any]:
    """Return the value, which must be a JSON object. Raises Retry for another type. name: names the value in errors."""
    if not isinstance(value, dict):
        raise unexpected(f"{name} is no object")
    return value


def unexpected(message: str) -> Retry:
    """Return the error of an answer that cannot be decoded. The request may have been carried out."""
    return Retry(f"unexpected answer: {message}", ambiguous=True)


def encodable(text: str) -> str:
    """Return the text with each lone surrogate escaped, because no database or file stores lone surrogates."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def bounded_json(value: Any, depth: int = DEPTH_LIMIT) -> Any:
    """Return a JSON value. None replaces each part below `depth` levels and each number over 64 bits."""
    match value:
        case str():
            return encodable(value)
        case bool() | None:
            return value
        case int() | float():
            return value if -(2**63) <= value < 2**63 else None
        case dict() if depth:
            return {encodable(key): bounded_json(inner, depth - 1) for key, inner in value.items()}
        case list() if depth:
            return [bounded_json(inner, depth - 1) for inner in value]
        case _:
            return None


class _ShapeError(Exception):
    """One object cannot be decoded. The message names the object and the field."""


def _decode_object(kind: type[T], value: object, name: str) -> T:
    if not isinstance(value, dict):
        raise _ShapeError(f"{name} is no object")
    # All fields of the API have ASCII names. pydantic refuses an object with a lone surrogate in a name.
    known = {field: inner for field, inner in value.items() if field.isascii()}
    try:
        [decoded] = _validate(kind, [known])
    except ValidationError as error:
        raise _ShapeError(_describe(error, name)) from error
    return decoded


def _describe(error: ValidationError, name: str) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    (_, *path), value = first["loc"], first["input"]
    field = ".".join(map(str, path))
    if first["type"] == "string_unicode" and isinstance(value, str):
        return f"{name} has a {field!r} that is not valid Unicode: {encodable(value)[:SHOWN]!r}"
    return f"{name} has a wrong {field!r}: {first['msg']}"


def _validate(kind: type[T], values: list[Any]) -> list[T]:
    rows: list[T] = _adapter(GenericAlias(list, kind)).validate_python(values)
    return rows


# Built at first use: an adapter takes a millisecond, and most commands decode few kinds of objects.
@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def parse_text(value: object) -> str | None:
    """Return an optional text, with lone surrogates escaped."""
    return encodable(value) if isinstance(value, str) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # A whole number of 400 digits is no float: the comparison comes first.
    return float(value) if -NUMBER_LIMIT <= value <= NUMBER_LIMIT else None


def parse_whole_number(value: object) -> int | None:
    """Return an optional whole number. 3.0 counts as one, because the schema says "number" for a count."""
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else None


def parse_flag(value: object) -> bool | None:
    """Return an optional boolean."""
    return value if isinstance(value, bool) else None


def parse_list(value: object) -> list[Any]:
    """Return an optional list with unchecked elements, [] if absent."""
    return value if isinstance(value, list) else []


def _metadata(value: object) -> Any:
    return bounded_json(value) if isinstance(value, dict) else {}


def parse_time(value: object) -> datetime | None:
    """Return an ISO 8601 text as a time with its zone, UTC if the text names none."""
    try:
        time = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def parse_cursor(value: object) -> str | None:
    """Return the cursor of the next page, None at the end. Raises Retry for one over CURSOR_LIMIT."""
    cursor = parse_text(value) or None
    if cursor and len(cursor) > CURSOR_LIMIT:
        raise unexpected(f"a cursor of {len(cursor)} characters")
    return cursor


Text = Annotated[str, Field(strict=True, min_length=1)]
"""A required text. An empty text and a lone surrogate are wrong."""
Number = Annotated[float, Field(strict=True, ge=-NUMBER_LIMIT, le=NUMBER_LIMIT, allow_inf_nan=False)]
"""A required number."""
OptionalText = Annotated[str | None, PlainValidator(parse_text)]
TextOrEmpty = Annotated[str, PlainValidator(lambda value: parse_text(value) or "")]
NumberOrZero = Annotated[float, PlainValidator(lambda value: _number(value) or 0.0)]
OptionalInt = Annotated[int | None, PlainValidator(parse_whole_number)]
"""A whole number. 3.0 counts as one, because the schema says "number" for a count."""
Flag = Annotated[bool, PlainValidator(lambda value: value is True)]
"""A boolean that reads as False when it is absent."""
OptionalTime = Annotated[datetime | None, PlainValidator(parse_time)]
"""An ISO 8601 text as a time with its zone, UTC if the text names none."""
RemoteMetadata = Annotated[Mapping[str, Any], PlainValidator(_metadata)]
"""An object without values that a database or a terminal refuses."""
OptionalRemoteMetadata = Annotated[Mapping[str, Any] | None, PlainValidator(_metadata)]
"""Metadata with None for an absent field. A wrong field, null too, reads as {}: the remote shows metadata."""


HEAD_START = 5
"""Turns of the event loop that `pages` waits, so that the next request is sent before the caller uses the page."""
PAGES_LIMIT = 100_000
"""Maximum pages of one listing. A namespace holds 100,000,000 keys, an index 20,000,000 vectors, an instance 1,000,000
files, and a server may return fewer rows a page than it is asked for."""


class CursorRefused(Retry):
    """The remote refused its own cursor. A listing from the start may succeed."""


async def pages(ask: Callable[[str | None], Awaitable[Page[T]]]) -> AsyncGenerator[Page[T], None]:
    """Yield pages, from ask(None) to the page without a cursor.

    The generator requests one page ahead and raises an error of that request in place of the page. A caller that stops
    early closes the generator, which cancels the request. Raises CursorRefused if the remote refuses a later page.
    Raises Retry for a repeated cursor or more than PAGES_LIMIT pages, because such a listing may never end.
    """

    async def ask_next(cursor: str | None) -> Page[T]:
        try:
            return await ask(cursor)
        except Park as error:
            message = f"the remote refused the cursor of the listing half-way: {error}"
            raise CursorRefused(message, status=error.status) from error

    cursors: set[str] = set()
    page = await ask(None)
    while page.cursor is not None and page.cursor not in cursors and len(cursors) < PAGES_LIMIT - 1:
        cursors.add(page.cursor)
        request = asyncio.create_task(ask_next(page.cursor))
        try:
            for _ in range(HEAD_START):
                await asyncio.sleep(0)
            yield page
            page = await request
        finally:
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
    yield page
    if page.cursor in cursors:
        raise Retry("unexpected answer: the listing gives a cursor it gave before")
    if page.cursor is not None:
        raise endless_listing()


async def rows_by_number(ask: Callable[[int], Awaitable[Page[T]]], id_of: Callable[[T], str]) -> AsyncIterator[T]:
    """Yield each row of a listing once. ask: requests a page by its number, from 1.

    The listing ends at total_count, or at a page without a new row. Raises Retry after PAGES_LIMIT pages.
    """
    seen: set[str] = set()
    for number in range(1, PAGES_LIMIT + 1):
        page = await ask(number)
        fresh = {id_of(row): row for row in page.rows if id_of(row) not in seen}
        for row in fresh.values():
            yield row
        seen.update(fresh)
        if not fresh or (page.total_count is not None and len(seen) >= page.total_count):
            return
    raise endless_listing()


def endless_listing() -> Retry:
    """Return the error of a listing that has more than PAGES_LIMIT pages."""
    return Retry(f"unexpected answer: the listing does not end after {PAGES_LIMIT} pages")
