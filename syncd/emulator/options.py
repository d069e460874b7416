"""The options of the stand-in: behaviour of the service that is undocumented or differs between accounts."""

# ruff: noqa: RUF009 - _option() returns a field, not a default.

import math
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from syncd.emulator.ai_search_files import INDEXING_ERRORS
from syncd.emulator.quota import read_quota

FormNames = Literal["backslash", "percent"]
Seconds = Annotated[float, "seconds"]
Expression = Annotated[str | None, "a regular expression that is found in a key, or None"]

_SLOW_EXPRESSION = re.compile(r"\)[*+{]|(?:[*+{].*){4}", re.DOTALL)
"""An expression that repeats a group, or that has more than three repeats. Such a search can take years for one key."""


def _option(default: Any, help_text: str, **metadata: Any) -> Any:
    """Return a field that is an option of `syncd emulate` with this help."""
    return field(default=default, metadata={"help": help_text} | metadata)


@dataclass(frozen=True, kw_only=True)
class EmulatorOptions:
    """The behaviour of the stand-in. The help of an option describes it."""

    store: Path | None = _option(None, "The SQLite file for all data. Default: memory.", metavar="PATH")
    token: str | None = field(default=None, repr=False, metadata={"help": "Accept this token only. Default: any."})
    on_existing: Literal["overwrite", "conflict"] = _option(
        "overwrite", "The answer to an upload under an existing key."
    )
    overwritten_id: Literal["keep", "new"] = _option("keep", "Whether an item keeps its id when it is overwritten.")
    form_names: FormNames = _option("backslash", "The escapes in the file name of an upload.")
    # Until a deleted item is gone, it is found and shown with next_action "DELETE".
    delete_delay: Seconds = _option(0.0, "Time until a deleted item is gone.")
    metadata: Literal["keep", "texts", "declared", "refuse"] = _option(
        "keep", "The custom metadata that an upload may have."
    )
    list_metadata: bool = _option(True, "Show the metadata of items, as since July 2026.")
    checksum: Literal["opaque", "zero", "md5", "sha256"] = _option("opaque", "The kind of an item's checksum.")
    # The first half of the time is "queued", the second half "running".
    index_delay: Seconds = _option(0.2, "Time until an upload is indexed.")
    fail_index: Expression = _option(None, "Keys (regular expression) whose content cannot be indexed.")
    fail_index_transient: Expression = _option(None, "Keys (regular expression) whose first indexings fail.")
    fail_index_times: int = _option(2, "How many indexings of these keys fail; 0: all.", metavar="N")
    skip_index: Expression = _option(None, "Keys (regular expression) that the index leaves out.")
    # The first text that matches decides. An error that concerns the instance pauses it, too.
    index_error: tuple[str, ...] = _option(
        (), "Keys whose indexing ends with this documented error; may be repeated.", metavar="REGEX=CODE"
    )
    slow_index: Expression = _option(None, "Keys (regular expression) whose indexing takes longer.")
    slow_index_delay: Seconds = _option(3600.0, "Time until the slow keys are indexed.")
    list_lag: Seconds = _option(0.0, "Time by which listings are behind.")
    latency: Seconds = _option(0.0, "Time from a request to its answer.")
    quota: str | None = _option(
        None,
        "More than N requests in any S seconds are answered 429, and all requests of the next S seconds.",
        metavar="N/S",
    )
    quota_headers: bool = _option(True, "Send the Ratelimit headers on every answer under a quota.")
    permissions: Literal["edit+run", "edit", "run"] = _option(
        "edit+run", "The AI Search permissions of the token. Searches and chats need run, everything else edit."
    )
    permission_status: Literal[403, 401] = _option(403, "The HTTP status of a refusal for a missing permission.")
    degraded: bool = _option(False, "The statistics of instances are degraded: they have no counts.")
    paused: bool = _option(False, "Every instance is paused until it is updated with paused: false.")
    show_defaults: bool = _option(True, "Show the settings of instances that no client has set.")
    builtin_storage: bool = _option(True, "Instances take uploads; otherwise they answer 7053.")
    permanent: Literal["refuse", "ignore"] = _option(
        "refuse", "The answer to an update that changes the embedding model or the type of an instance."
    )
    oversize: Literal["refuse", "skip", "error"] = _option(
        "refuse", "The result of an upload over the size limit of its type."
    )
    search_cache: bool = _option(True, "Answer similar queries from a cache, as the service does.")
    fail_search: bool = _option(False, "Retrieval fails: an empty list, or 7073 if return_on_failure is false.")
    # A failed key is unchanged and is listed in unsuccessful_keys. A retry may succeed.
    unsuccessful: float = _option(0.0, "Share of the keys of a KV bulk request that fail.")
    mutation_lag: Seconds = _option(0.2, "Time until a change of a Vectorize index is seen.")

    # The options below are for tests only.
    # A write of a KV key that was written less than a second ago is answered 429.
    kv_write_limit: bool = False
    # A KV bulk body of more bytes is answered 413; None: the limit of the service, 100 MB.
    bulk_max_bytes: int | None = None
    # A KV bulk request of more items is answered 524 in HTML and changes nothing.
    bulk_fail_over: int | None = None
    # A page without keys, but with a cursor, comes before every page of the listing of keys.
    empty_pages: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError, which names the option, for a value out of range."""
        for option in fields(self):
            value = getattr(self, option.name)
            if option.type is Seconds and not 0 <= value < math.inf:
                raise ValueError(f"{option.name} must be 0 or more seconds")
            if option.type in (int, int | None) and (value or 0) < 0:
                raise ValueError(f"{option.name} must be 0 or more")
            if option.type is Expression:
                _check_expression(option.name, value or "")
        if not 0 <= self.unsuccessful <= 1:
            raise ValueError("unsuccessful must be from 0 to 1")
        for text in self.index_error:
            expression, equals, code = text.rpartition("=")
            if not equals or code not in INDEXING_ERRORS:
                raise ValueError(f"index_error must be REGEX=CODE with one of {', '.join(INDEXING_ERRORS)}")
            _check_expression("index_error", expression)
        if self.quota is not None:
            read_quota(self.quota)

    def chosen_result(self, key: str) -> str | None:
        """Return the error that the options give to the indexing of this key, "skipped", or None."""
        if matches(self.fail_index, key):
            return "file_is_password_locked" if key.lower().endswith(".pdf") else "unable_to_convert_to_markdown"
        for text in self.index_error:
            expression, _, code = text.rpartition("=")
            if matches(expression, key):
                return code
        return "skipped" if matches(self.skip_index, key) else None


def _check_expression(name: str, expression: str) -> None:
    try:
        re.compile(expression)
    except re.error as reason:
        raise ValueError(f"{name} is not a regular expression: {reason}") from reason
    if _SLOW_EXPRESSION.search(expression):
        raise ValueError(f"{name} may have three repeats (*, +, {{}}) and may not repeat a group; simplify it")


def matches(expression: str | None, key: str) -> bool:
    """Return whether the regular expression of an option is found in the key. None is never found."""
    return expression is not None and re.search(expression, key) is not None
