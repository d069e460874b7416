"""The problems of a file at the target: the limits of the target, and the errors of its index with their remedies."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from syncd.core.model import IndexStatus, Problem, Record
from syncd.core.names import MAX_SOURCE, NO_FORMS, Form, Forms, can_convert, entry_name
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
    """The limits of a target. Lengths and sizes are maxima. They apply to the name and the content of the entry.

    max_key_length: characters of a key. max_key_bytes: bytes of a key in UTF-8, None for no limit.
    long_key_length, long_key_bytes: the limits of a key that the target stores under a shortened name (core/names.py);
    None if the target does not shorten names.
    max_file_size: bytes of a file. most_file_size: the highest max_file_size that the config may set, None if unknown.
    small_file_size: bytes of a file whose type is not in large_extensions, None for no such limit. small_remedy: the
    remedy for a file over small_file_size.
    extensions: the file name endings that the target indexes, in lower case with a dot; None for all.
    empty: whether the target takes empty files. keeps_files: whether it returns stored bytes unchanged.
    lag_s: seconds for which a listing may miss a write of our own. reads_lag: whether a request for a single key has
    the same lag.
    turn, delete_turn: puts and deletes in one batch.
    page: entries in one request of a listing; None if a request for a single key costs nothing.
    listed: files in one request of a listing, for forecasts.
    renew_s: seconds after which an entry is written again before it expires; None if entries do not expire.
    forms: the files that are sent in another form.
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
        name = entry_name(key, form)
        if over := self._too_long(name):
            return Problem(key, "key_too_long", over)
        if form == "convert" and not can_convert(key):
            return Problem(key, "unsupported_type", _NOT_CONVERTIBLE)
        if not (self.extensions is None or _has_extension(name, self.extensions)):
            return Problem(key, "unsupported_type", _NOT_INDEXED + (_CONVERTIBLE if can_convert(key) else ""))
        if size > self._size_limit(form, name):
            return Problem(
                key, "too_large", _source_too_large(size) if form == "convert" else self._too_large(name, size)
            )
        if size == 0 and (form == "convert" or not self.empty):
            return Problem(key, "empty", "the file is empty, so there is nothing to index")
        return None

    def refuse_converted(self, key: str, size: int) -> Problem | None:
        """Return the problem of a file whose text after the conversion has this size. None: the target takes it."""
        name = self.forms.name(key)
        if size > self._entry_limit(name):
            return Problem(key, "too_large", f"after its conversion, {self._too_large(name, size)}")
        return None if size else Problem(key, "empty", "its conversion gives no text, so there is nothing to index")

    def size_limit(self, key: str) -> int:
        """Return the largest size in bytes of the file with this key: the limit of its type, but at most max_file_size.

        For a file to convert, these limits concern the text, and the file may be larger.
        """
        form = self.forms.of(key)
        return self._size_limit(form, entry_name(key, form))

    def _size_limit(self, form: Form | None, name: str) -> int:
        return MAX_SOURCE if form == "convert" else self._entry_limit(name)

    def _entry_limit(self, name: str) -> int:
        """Return the largest size in bytes of an entry with this name."""
        most = self._type_limit(name)
        return self.max_file_size if most is None else min(self.max_file_size, most)

    def _too_large(self, name: str, size: int) -> str:
        limit, most = self._entry_limit(name), self._type_limit(name)
        over = over_limit(size, limit)
        if most is None or limit < most:
            return f"{over}; make the file smaller, or raise max_file_size"
        if limit == self.small_file_size:
            return f"{over} for this type of file; {self.small_remedy}"
        return f"{over}; make the file smaller, or leave it out with exclude"

    def _type_limit(self, name: str) -> int | None:
        """Return the largest size in bytes that the config may allow for this type of file, None if it is unknown."""
        if self.small_file_size is None or _has_extension(name, self.large_extensions):
            return self.most_file_size
        return self.small_file_size

    def _too_long(self, name: str) -> str | None:
        length, most_bytes, remedy = self.long_key_length, self.long_key_bytes, "shorten it"
        if length is None:
            length, most_bytes, remedy = self.max_key_length, self.max_key_bytes, f"{remedy}, or set {_SHORTEN}"
        if len(name) > length:
            return f"the name has {len(name)} characters, the target takes {length}; {remedy}"
        if most_bytes is not None and len(name.encode()) > most_bytes:
            return f"the name has {len(name.encode())} bytes, the target takes {most_bytes}; {remedy}"
        return None


def _source_too_large(size: int) -> str:
    limit = shown_size(MAX_SOURCE)
    remedy = "make the file smaller, or leave it out with exclude"
    return f"{shown_size(size)} is over the {limit} of a file to convert; {remedy}"


def _has_extension(name: str, extensions: frozenset[str]) -> bool:
    parts = name.rpartition("/")[2].lower().split(".")
    # ".gitignore" consists of an ending only. "a.log.gz" has two endings: ".log.gz" and ".gz".
    return any("." + ".".join(parts[start:]) in extensions for start in range(1, len(parts)))


# -- the indexing errors of AI Search and their consequences

Consequence = Literal["content", "setting", "again", "later", "full"]
"""The consequence of an error.

content: the same bytes fail every time, so they are not sent again. setting: a person changes something outside the
file, so nothing is tried until then. again: it may pass within minutes. later: a rate limit or a quota, tried with long
pauses. full: the instance takes no more, so the mirror halts.
"""


class IndexingFault(NamedTuple):
    """An error value of the remote. remedy: an action of a person; None if syncd tries again by itself."""

    meaning: str
    remedy: str | None
    consequence: Consequence


_content = partial(IndexingFault, consequence="content")
_setting = partial(IndexingFault, consequence="setting")
_again = partial(IndexingFault, remedy=None, consequence="again")
_later = partial(IndexingFault, remedy=None, consequence="later")

_TOO_LONG = "its text is too long for the embedding model"
_RULES = "see the rules of the instance's AI Gateway, and the content"
_SOURCE = "see the source of the instance in the dashboard, and resume the instance"
_FULL = "ask Cloudflare for a higher limit, use another instance, or delete files that need not be searched"
_SKIPPED_REMEDY = "make it smaller or save it in another format, or leave it out with exclude"

FAULTS: Mapping[str, IndexingFault] = {
    # the file
    "unknown_error": _again("the service failed without saying why"),
    "over_size": _content("the file is too large to be indexed", "split it, or leave it out with exclude"),
    "unsupported_type": _content("files of this type are not indexed", "convert it, or leave it out with exclude"),
    "file_not_found": _again("the service does not find the file that it stored"),
    "invalid_url": _setting("the URL of the item is not valid", _SOURCE),
    "file_is_corrupt": _content("the file is damaged", "fix it, or save it again"),
    "file_is_password_locked": _content("the file is locked with a password", "remove the password"),
    "invalid_pdf": _content("the file is no valid PDF", "export it again"),
    "unable_to_convert_to_markdown": _content(
        "its text could not be extracted", "save it in another format; for scanned PDFs turn on OCR of the instance"
    ),
    "markdown_too_large": _content("its text is too long", "split the file"),
    "markdown_conversion_empty": _content(
        "no text was found in it",
        "add text, or leave it out with exclude; for scanned PDFs turn on OCR of the instance",
    ),
    "file_content_empty": _content("it has no text but headings", "add text, or leave it out with exclude"),
    "chunk_too_large_for_storage": _content(
        "a piece of its text is too long", "break up very long lines or tables, or set a smaller chunk_size"
    ),
    "timeout_error": _again("the service took too long"),
    "file_length_exceed_embedding_model": _content(_TOO_LONG, "split the file"),
    "file_too_large_for_embedder": _content(_TOO_LONG, "split the file"),
    # the models
    "error_embedding_data_with_workers_ai": _again("Workers AI gave no embeddings"),
    "workers_ai_invalid_input": _content(
        "the embedding model refuses its content", "change it, or leave it out with exclude"
    ),
    "workers_ai_free_allocation_exceeded": _later("AI Search has used up its allocation of Workers AI"),
    "workers_ai_internal_error": _again("Workers AI failed"),
    "workers_ai_out_of_capacity_error": _later("Workers AI has no capacity left"),
    "workers_ai_timeout_error": _again("Workers AI took too long"),
    "embedder_modality_unsupported": _content(
        "the embedding model does not take this kind of file",
        "leave it out with exclude, or use an instance with another embedding model",
    ),
    "ai_gateway_insufficient_wholesale_credits": _setting(
        "the account has no credits left in AI Gateway", "add credits in the dashboard"
    ),
    "error_external_model_unknown_error": _again("the model of another provider failed"),
    "error_external_model_rate_limited": _later("the model of another provider asks for fewer requests"),
    "error_external_model_unauthorized": _setting(
        "the model's provider refuses the credentials", "correct the provider's key in AI Gateway"
    ),
    "ai_gateway_request_blocked_firewall": _setting("Guardrails of AI Gateway blocked its text", _RULES),
    "ai_gateway_dlp_blocked": _setting("data loss prevention of AI Gateway blocked its text", _RULES),
    "ai_gateway_response_blocked_firewall": _setting("Guardrails of AI Gateway blocked the answer to its text", _RULES),
    "ai_gateway_rate_limited": _later("AI Gateway asks for fewer requests"),
    # the storage and the index
    "r2_unknown_error": _again("the storage of the service failed"),
    "r2_internal_error": _again("the storage of the service failed"),
    "vectorize_rate_limited": _later("Vectorize asks for fewer requests"),
    "vectorize_not_found": _setting(
        "the Vectorize index of the instance does not exist", "check the instance in the dashboard, or contact support"
    ),
    "vectorize_unauthorized": _setting(
        "the instance has no access to its Vectorize index", "check the instance and its service token in the dashboard"
    ),
    "vectorize_in_invalid_state": _later("the Vectorize index of the instance is not ready"),
    "managed_resources_config_error": _setting("the service has not set up the instance correctly", "contact support"),
    "vectorize_ingestion_timeout": _again("Vectorize did not confirm the vectors in time"),
    "vectorize_upstream_error": _again("Vectorize failed"),
    "hybrid_search_indexing_failed": _again("the index for hybrid search failed"),
    "ai_search_is_full": IndexingFault("the AI Search instance is full", _FULL, "full"),
    # The service pauses the whole instance. It does not document where else it shows these errors.
    "r2_not_enabled": _setting("R2 is not enabled", _SOURCE),
    "bucket_not_found": _setting("the bucket of the instance does not exist", _SOURCE),
    "bucket_unauthorized": _setting("the instance has no access to its bucket", _SOURCE),
    "external_source_missing_api_token": _setting("the instance has no credentials for its source", _SOURCE),
    "bucket_name_invalid": _setting("the name of the bucket is not valid", _SOURCE),
    "invalid_custom_header": _setting("a header of the crawler is not valid", _SOURCE),
    "ai_gateway_not_configured": _setting(
        "the AI Gateway of the instance does not exist", "set ai_gateway_id to an existing gateway, resume the instance"
    ),
    "hybrid_search_is_full": IndexingFault(
        "the index for hybrid search of the AI Search instance is full, and the service has paused the instance",
        f"{_FULL}; then resume the instance",
        "full",
    ),
}
"""The documented error values of uploaded items.

Source: "AI Search: indexing error codes" (the text of the general availability, September 2026), without the errors of
crawls. A value that is not listed counts as temporary, is tried a few times, and is then named.
"""

UNKNOWN = _again("indexing failed")
"""The fault of an error value that is not documented, or of an error without a value."""


def _with(*consequences: Consequence) -> frozenset[str]:
    return frozenset(error for error, fault in FAULTS.items() if fault.consequence in consequences)


CONTENT_FAULTS = _with("content")
"""Errors that the same bytes cause every time."""
FULL = _with("full")
"""Errors of an instance that takes no more."""
LATER = _with("later")
"""Errors that are tried again with LATER_TRIES_S."""
NOT_TRIED = _with("content", "setting", "full")
"""Errors after which syncd does not index an entry again by itself. Any other error counts as temporary."""

TRIES_S = (60.0, 120.0, 240.0, 480.0, 960.0)
"""Delays in seconds before syncd indexes an entry again after a temporary error. After the last try, only `syncd retry`
indexes the entry again.

The sum is half an hour, because indexings of AI Search have been observed to hang for this time.
"""
LATER_TRIES_S = (300.0, 900.0, 2700.0, 7200.0, 14400.0, 28800.0, 43200.0)
"""The delays for the errors of LATER, in seconds. The service says "later" and names no time. The sum is 27 hours,
after which a daily quota has been renewed."""


def tries_of(error: str | None) -> tuple[float, ...]:
    """Return the delays before the tries after an error; none if syncd does not try again by itself."""
    if error in NOT_TRIED:
        return ()
    return LATER_TRIES_S if error in LATER else TRIES_S


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


def _quoted(why: str | None, error: str | None) -> str:
    return f"; the service says: {why.rstrip('.')}" if why and why != error else ""


def unindexable(record: Record, checksum: str | None) -> bool:
    """Return whether the remote reported a content fault for exactly this content."""
    return record.status == "error" and record.error in CONTENT_FAULTS and record.checksum == checksum


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
            then = f"syncd has it indexed again, with ever longer pauses (at once: {command})"
        case _:
            then = f"syncd has it indexed again (at once: {command})"
    fault_text = f"{fault.meaning} ({error or 'no error given'})"
    return Problem(key, "index_error", f"stored, but not searchable: {fault_text}{_quoted(why, error)}; {then}")


def full_message(error: str) -> str:
    """Return the message of the halt for a full instance. error: a value of FULL."""
    fault = FAULTS[error]
    return f"{fault.meaning} ({error}): {fault.remedy}; then have the other files indexed: syncd retry"
