"""The problems of a file at the target: the limits that it exceeds, and the index that does not hold it."""

import shlex
from dataclasses import dataclass

from syncd.core.forms import MAX_SOURCE, NO_FORMS, Forms, can_convert
from syncd.core.indexing_errors import CONTENT_FAULTS, FAULTS, UNKNOWN
from syncd.core.model import IndexStatus, Problem, Record
from syncd.core.plain_text import over_limit, shown_size

KV_KEY_BYTES = 512
"""Longest key of Workers KV, in bytes of UTF-8 (KV limits)."""
_SHORTEN = 'long_names = "shorten"'
_NOT_INDEXED = "the target does not index this type of file"
_CONVERTIBLE = "; name it in convert to send its text"
_NOT_CONVERTIBLE = (
    "syncd cannot convert this type of file to Markdown; leave its pattern out of convert (as_text sends text files)"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a target.

    max_key_length: characters of a key. max_key_bytes: bytes of a key in UTF-8, None for no limit. max_file_size: bytes
    of a file. most_file_size: the highest value of it that the config may set, None if it is unknown. small_file_size:
    bytes of a file whose type is not in large_extensions, None for no such limit. large_extensions: endings like those
    of extensions. small_remedy: the remedy for a file over small_file_size. lag_s: seconds for which a listing may miss
    a write of our own. reads_lag: whether a request for a single key has the same lag. extensions: the file name
    endings that the target indexes, in lower case with a dot; None for all. empty: whether the target takes empty
    files. keeps_files: whether it returns stored bytes unchanged. turn, delete_turn: puts and deletes in one batch.
    page: entries in one request of a listing; None if a request for a single key costs nothing. listed: files in one
    request of a listing, for forecasts. long_key_length, long_key_bytes: the limits of a key that the target stores
    under a shortened name (core/key_digests.py); None if the target does not shorten names. renew_s: seconds after
    which an entry is written again before it expires; None if entries do not expire. forms: the files that are sent in
    another form. The other limits concern the entry, so its name and its content.
    """

    max_key_length: int = 128
    max_file_size: int = 4 * 1024 * 1024
    lag_s: float = 0.0
    extensions: frozenset[str] | None = None
    empty: bool = True
    max_key_bytes: int | None = None
    turn: int = 256
    delete_turn: int = 256
    reads_lag: bool = False
    keeps_files: bool = True
    page: int | None = None
    long_key_length: int | None = None
    long_key_bytes: int | None = None
    listed: int = 1000
    renew_s: float | None = None
    most_file_size: int | None = None
    small_file_size: int | None = None
    large_extensions: frozenset[str] = frozenset()
    small_remedy: str = ""
    forms: Forms = NO_FORMS

    def refuse(self, key: str, size: int) -> Problem | None:
        """Return the problem of a file with this key and size in bytes. None: the target takes the file."""
        form = self.forms.of(key)
        name = self.forms.name(key)
        if over := self._too_long(name):
            return Problem(key, "key_too_long", over)
        if form == "convert" and not can_convert(key):
            return Problem(key, "unsupported_type", _NOT_CONVERTIBLE)
        if not (self.extensions is None or _has_extension(name, self.extensions)):
            return Problem(key, "unsupported_type", _NOT_INDEXED + (_CONVERTIBLE if can_convert(key) else ""))
        if size > self.size_limit(key):
            return Problem(
                key, "too_large", _source_too_large(size) if form == "convert" else self._too_large(name, size)
            )
        if size == 0 and (form == "convert" or not self.empty):
            return Problem(key, "empty", "the file is empty, so there is nothing to index")
        return None

    def refuse_converted(self, key: str, size: int) -> Problem | None:
        """Return the problem of a file whose text after the conversion has this size. None: the target takes it."""
        name = self.forms.name(key)
        if size > self._most(name):
            return Problem(key, "too_large", f"after its conversion, {self._too_large(name, size)}")
        return None if size else Problem(key, "empty", "its conversion gives no text, so there is nothing to index")

    def size_limit(self, key: str) -> int:
        """Return the largest size in bytes of the file with this key: the limit of its type, but at most max_file_size.

        For a file to convert, these limits concern the text, and the file may be larger.
        """
        return MAX_SOURCE if self.forms.of(key) == "convert" else self._most(self.forms.name(key))

    def _most(self, name: str) -> int:
        """Return the largest size in bytes of an entry with this name."""
        most = self._type_limit(name)
        return self.max_file_size if most is None else min(self.max_file_size, most)

    def _too_large(self, key: str, size: int) -> str:
        limit, most = self._most(key), self._type_limit(key)
        over = over_limit(size, limit)
        if most is None or limit < most:
            return f"{over}; make the file smaller, or raise max_file_size"
        if limit == self.small_file_size:
            return f"{over} for this type of file; {self.small_remedy}"
        return f"{over}; make the file smaller, or leave it out with exclude"

    def _type_limit(self, key: str) -> int | None:
        """Return the largest size in bytes that the config may allow for this type of file, None if it is unknown."""
        if self.small_file_size is None or _has_extension(key, self.large_extensions):
            return self.most_file_size
        return self.small_file_size

    def _too_long(self, key: str) -> str | None:
        length, most_bytes, remedy = self.long_key_length, self.long_key_bytes, "shorten it"
        if length is None:
            length, most_bytes, remedy = self.max_key_length, self.max_key_bytes, f"{remedy}, or set {_SHORTEN}"
        if len(key) > length:
            return f"the name has {len(key)} characters, the target takes {length}; {remedy}"
        if most_bytes is not None and len(key.encode()) > most_bytes:
            return f"the name has {len(key.encode())} bytes, the target takes {most_bytes}; {remedy}"
        return None


def _source_too_large(size: int) -> str:
    limit = shown_size(MAX_SOURCE)
    remedy = "make the file smaller, or leave it out with exclude"
    return f"{shown_size(size)} is over the {limit} of a file to convert; {remedy}"


def _has_extension(key: str, extensions: frozenset[str]) -> bool:
    parts = key.rpartition("/")[2].lower().split(".")
    # ".gitignore" consists of an ending only. "a.log.gz" has two endings: ".log.gz" and ".gz".
    return any("." + ".".join(parts[start:]) in extensions for start in range(1, len(parts)))


# -- entries that are not searchable


def not_indexed(
    key: str, status: IndexStatus | None, error: str | None, why: str | None = None, tries: int = 0
) -> Problem:
    """Return the problem of a stored entry that was skipped or failed. why, tries: see `index_problem`."""
    return skipped_problem(key, error, why) if status == "skipped" else index_problem(key, error, why, tries)


def skipped_problem(key: str, error: str | None = None, why: str | None = None) -> Problem:
    """Return the problem of an entry that is stored, but that the index skipped. error, why: the remote's reasons."""
    fault = FAULTS.get(error or "")
    meaning = f": {fault.meaning} ({error})" if fault else f" ({error})" if error else ""
    remedy = fault.remedy if fault and fault.remedy else _SKIPPED_REMEDY
    usual = "" if meaning or why else ", as it does with files that are too large or of another type"
    message = f"stored, but not searchable: the service skipped it{meaning}{_quoted(why, error)}{usual}; {remedy}"
    return Problem(key, "skipped", f"{message} (or have it tried again: syncd retry {shlex.quote(key)})")


_SKIPPED_REMEDY = "make it smaller or save it in another format, or leave it out with exclude"


def _quoted(why: str | None, error: str | None) -> str:
    return f"; the service says: {why.rstrip('.')}" if why and why != error else ""


def unindexable(record: Record | None, checksum: str | None) -> bool:
    """Return whether the remote reported a content fault for exactly this content."""
    return (
        record is not None
        and record.status == "error"
        and record.error in CONTENT_FAULTS
        and record.checksum == checksum
    )


def index_problem(key: str, error: str | None, why: str | None = None, tries: int = 0) -> Problem:
    """Return the problem of an entry that is stored but could not be indexed.

    why: the remote's reason. tries: finished retries of the indexing, 0 while a retry is due.
    """
    fault = FAULTS.get(error or "", UNKNOWN)
    command = f"syncd retry {shlex.quote(key)}"
    match fault.consequence:
        case "content":
            then = f"{fault.remedy} (or have it indexed again as it is: {command})"
        case "setting" | "full":
            then = f"{fault.remedy}; then have it indexed again: {command}"
        case _ if tries:
            then = f"it was indexed again {tries} time{'' if tries == 1 else 's'} in vain; once more with: {command}"
        case "later":
            then = f"it is indexed again by itself, with ever longer pauses (at once: {command})"
        case _:
            then = f"it is indexed again by itself (at once: {command})"
    fault_text = f"{fault.meaning} ({error or 'no error given'})"
    return Problem(key, "index_error", f"stored, but not searchable: {fault_text}{_quoted(why, error)}; {then}")


def full_message(error: str) -> str:
    """Return why a mirror halts whose instance is full. error: a value of FULL."""
    fault = FAULTS[error]
    return f"{fault.meaning} ({error}): {fault.remedy}; then have the files indexed that are not: syncd retry"
