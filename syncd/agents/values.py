"""The parameters and results of the tools, as agents see them. Their descriptions and schemas go to the agent."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from syncd.queries.reading import MOST_BYTES
from syncd.queries.search import Freshness

MOST_HITS = 50
MOST_ITEMS = 500
MOST_LINES = 10_000
MOST_PROBLEMS = 200
_LONGEST_QUERY = 10_000
_LONGEST_NAME = 4096
_BYTES = "bytes of the text in UTF-8"

_Mirror = Annotated[
    str | None,
    Field(max_length=_LONGEST_NAME, description="The name of the mirror. It can be left out if there is only one."),
]
_Folder = Annotated[
    str,
    Field(max_length=_LONGEST_NAME, description="Only files below this folder of the mirror, such as guides/setup."),
]
_Path = Annotated[
    str,
    Field(
        min_length=1,
        max_length=_LONGEST_NAME,
        description="A key as search and list show it, a path in the folder of the mirror, or an absolute path.",
    ),
]


class Parameters(BaseModel):
    """The parameters of a tool."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SearchParameters(Parameters):
    """The parameters of search."""

    query: str = Field(
        min_length=1, max_length=_LONGEST_QUERY, description="A question or words, in the language of the documents."
    )
    mirror: _Mirror = None
    folder: _Folder = ""
    filters: dict[str, Any] | None = Field(
        None,
        description='Conditions on metadata, such as {"title": "Setup"} or {"timestamp": {"$gte": 1700000000000}}.'
        " The target must have the field. Most searches need none.",
    )
    limit: int = Field(10, ge=1, le=MOST_HITS, description="The largest number of hits.")


class ReadParameters(Parameters):
    """The parameters of read."""

    path: _Path
    mirror: _Mirror = None
    offset: int = Field(0, ge=0, description=f"Where the part begins, in {_BYTES}. Use next_offset of the last part.")
    limit: int = Field(64 * 1024, ge=1, le=MOST_BYTES, description=f"The size of the part, in {_BYTES}.")
    line: int | None = Field(None, ge=1, description="The first line of the part instead of offset, counted from 1.")
    lines: int = Field(200, ge=1, le=MOST_LINES, description="The number of lines if line is given.")


class ListParameters(Parameters):
    """The parameters of list."""

    mirror: _Mirror = None
    folder: _Folder = ""
    limit: int = Field(100, ge=1, le=MOST_ITEMS, description="The largest number of items.")
    cursor: str | None = Field(
        None, max_length=_LONGEST_NAME, description="next_cursor of the last answer, for the items that follow it."
    )


class ExplainParameters(Parameters):
    """The parameters of explain."""

    path: _Path
    mirror: _Mirror = None


class StatusParameters(Parameters):
    """The parameters of status."""

    mirror: _Mirror = None
    problems: int = Field(20, ge=0, le=MOST_PROBLEMS, description="The largest number of problems of each mirror.")


class SearchHit(BaseModel):
    """A chunk of text that matches the query."""

    key: str = Field(description="The key of the file. read and explain take it.")
    path: str = Field(description="The path of the file on this machine.")
    score: float = Field(description="0 to 1, 1 is the best.")
    title: str = Field(description="The title of the file, empty if it is unknown.")
    heading: str = Field(description="The headings above the text, empty if they are unknown.")
    text: str
    freshness: Freshness = Field(
        description="current: the file is as it was indexed. indexing: newer content was sent, but is not indexed yet."
        " changed: the file has changed since; read shows it as it is now. missing: the file is gone."
        " unknown: nothing is known about it."
    )


class SearchResult(BaseModel):
    """The result of search."""

    mirror: str
    hits: list[SearchHit] = Field(description="The best hit comes first.")
    left_out: int = Field(
        description="The number of hits that are not shown. Their files do not belong to the mirror, or its rules leave"
        " them out now."
    )


class ReadResult(BaseModel):
    """The result of read."""

    mirror: str
    key: str
    path: str
    text: str
    converted: bool = Field(
        description="Whether the text is a document converted to Markdown, so the file itself differs."
    )
    offset: int = Field(description=f"Where the part begins, in {_BYTES}.")
    next_offset: int | None = Field(description="Where the next part begins; null at the end of the text.")
    size: int = Field(description=f"The size of the whole text, in {_BYTES}.")
    line: int = Field(description="The number of the line in which the part begins.")


class ListedItem(BaseModel):
    """A file of a mirror, or an entry of it in the target."""

    key: str
    size: int | None = Field(description="Bytes that were sent; null if nothing was sent.")
    state: str = Field(description="synced, pending, failed, or rejected with the kind of the problem.")
    index: str | None = Field(description="The status in the index; completed means that a search finds the file.")


class ListResult(BaseModel):
    """The result of list."""

    mirror: str
    items: list[ListedItem]
    next_cursor: str | None = Field(description="The cursor for the following items; null if there are none.")
    note: str = Field(description="A remark about the list, usually empty.")


class Fact(BaseModel):
    """One fact about a file."""

    name: str
    value: str


class Explained(BaseModel):
    """The facts about a file or folder in one mirror."""

    mirror: str
    path: str = Field(description="Relative to the folder of the mirror.")
    kind: Literal["file", "directory"]
    facts: list[Fact]


class ExplainResult(BaseModel):
    """The result of explain."""

    found: list[Explained] = Field(description="One for each mirror that holds the path.")


class ReportedProblem(BaseModel):
    """A file that is not in step."""

    key: str
    kind: str
    message: str


class MirrorState(BaseModel):
    """The state of one mirror."""

    state: Literal["idle", "syncing", "degraded", "halted"]
    detail: str = Field("", description="Why the mirror is not idle.")
    path: str = Field(description="The folder on this machine.")
    target: str
    can_search: bool = Field(description="Whether the target has a search.")
    searchable: int | None = Field(description="The number of entries that a search finds; null without a search.")
    items: dict[str, int] = Field(description="The number of items by state: synced, pending, failed, rejected.")
    index: dict[str, int] = Field(description="The number of entries by status in the index.")
    last_reconcile: str | None = Field(description="The end of the last full pass, in UTC.")
    oldest_pending_s: float | None = Field(description="For how many seconds a change has been waiting.")
    problems: list[ReportedProblem]


class StatusResult(BaseModel):
    """The result of status."""

    daemon_running: bool = Field(description="Whether syncd keeps the targets in step right now.")
    mirrors: dict[str, MirrorState]
