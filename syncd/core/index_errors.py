"""Indexing errors of AI Search: their meaning, their remedy, and whether a retry may help. PURE."""

import shlex
from collections.abc import Mapping
from typing import NamedTuple

from syncd.core.model import IndexStatus, Problem, Record


class Fault(NamedTuple):
    """An error value of the remote. remedy: an action of a person on the file; None if the file is not the cause."""

    meaning: str
    remedy: str | None


FAULTS: Mapping[str, Fault] = {
    "unknown_error": Fault("the service failed without saying why", None),
    "timeout_error": Fault("the service took too long", None),
    "over_size": Fault("the file is too large to be indexed", "split it, or leave it out with exclude"),
    "unsupported_type": Fault("files of this type are not indexed", "convert it, or leave it out with exclude"),
    "file_not_found": Fault("the service does not find the file it stored", "change it, or ask for another indexing"),
    "file_is_corrupt": Fault("the file is damaged", "fix it, or save it anew"),
    "file_is_password_locked": Fault("the file is locked with a password", "remove the password"),
    "invalid_pdf": Fault("the file is no valid PDF", "export it anew"),
    "unable_to_convert_to_markdown": Fault("its text could not be extracted", "save it in another format"),
    "markdown_too_large": Fault("its text is too long", "split the file"),
    "markdown_conversion_empty": Fault("no text was found in it", "add text, or leave it out with exclude"),
    "file_content_empty": Fault("it has no text but headings", "add text, or leave it out with exclude"),
    "chunk_too_large_for_storage": Fault("a piece of its text is too long", "break up very long lines or tables"),
    "file_length_exceed_embedding_model": Fault("its text is too long for the model", "split the file"),
    "file_too_large_for_embedder": Fault("its text is too long for the model", "split the file"),
}
"""The documented error values of AI Search (indexing error codes)."""

CONTENT_FAULTS = frozenset(error for error, fault in FAULTS.items() if fault.remedy)
"""Errors that the same bytes cause every time. Any other error counts as temporary, even if it is undocumented."""

TRIES_S = (60.0, 120.0, 240.0, 480.0, 960.0)
"""Delays in seconds before syncd indexes an entry again after a temporary error. After the last try, only `syncd retry`
indexes the entry again.

The sum is half an hour, because indexings of AI Search have been observed to hang for this time.
"""


def skipped_problem(key: str) -> Problem:
    """Return the problem of an entry that is stored, but that the index skipped."""
    remedy = "make it smaller or save it in another format, or leave it out with exclude"
    message = (
        f"stored, but not searchable: the service skipped it, as it does with files that it cannot index; {remedy}"
    )
    return Problem(key, "skipped", f"{message} (or have it tried again: syncd retry {shlex.quote(key)})")


def not_indexed(key: str, status: IndexStatus | None, error: str | None) -> Problem:
    """Return the problem of a stored entry with a final index status."""
    return skipped_problem(key) if status == "skipped" else index_problem(key, error)


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
    meaning, remedy = FAULTS.get(error or "", Fault("indexing failed", None))
    reason = f"; the service says: {why.rstrip('.')}" if why and why != error else ""
    command = f"syncd retry {shlex.quote(key)}"
    if remedy:
        then = f"{remedy} (or have it indexed again as it is: {command})"
    elif tries:
        then = f"it was indexed again {tries} time{'' if tries == 1 else 's'} in vain; once more with: {command}"
    else:
        then = f"it is indexed again by itself (at once: {command})"
    fault_text = f"{meaning} ({error or 'no error given'})"
    return Problem(key, "index_error", f"stored, but not searchable: {fault_text}{reason}; {then}")
