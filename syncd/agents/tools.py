"""The tools: search, read, list, explain, status. They use the same queries as the commands, and change nothing."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from syncd.agents.values import (
    Explained,
    ExplainParameters,
    ExplainResult,
    Fact,
    ListedItem,
    ListParameters,
    ListResult,
    MirrorState,
    Parameters,
    ReadParameters,
    ReadResult,
    SearchHit,
    SearchParameters,
    SearchResult,
    StatusParameters,
    StatusResult,
)
from syncd.cloudflare.transport import Transport
from syncd.config.schema import Config, mirror_config
from syncd.core.errors import ConfigError
from syncd.core.keys import shown, shown_path
from syncd.core.model import Content
from syncd.core.problems import Limits
from syncd.queries.explain import explain
from syncd.queries.lookup import Found, find_all, folder_key
from syncd.queries.reading import part_of, read_source
from syncd.queries.search import freshness, search
from syncd.queries.status import page, snapshot
from syncd.service.build import build_tree, end_conversions, open_target, open_transport

KEPT_DOCUMENTS = 4
"""Maximum converted documents in memory, because an agent reads one in several parts (our own limit)."""
CONVERSIONS = 2
"""Conversions at a time (our own limit). They have their own threads, so that no other tool waits for a thread."""


class Agent:
    """The resources of the tools: the config, the connections to the API, and the last converted documents.

    load: returns the config, and reads its file again if the file has changed. names: the mirrors that agents may see;
    empty: all mirrors.
    """

    def __init__(self, load: Callable[[], Config], names: Sequence[str] = ()) -> None:
        self._load = load
        self._names = names
        self._stack = AsyncExitStack()
        self._transport: tuple[Config, Transport] | None = None
        self._opening = asyncio.Lock()
        self._kept: OrderedDict[tuple[str, str], Content] = OrderedDict()
        self._threads = ThreadPoolExecutor(CONVERSIONS, thread_name_prefix="syncd-document")
        self._stack.push_async_callback(end_conversions)
        self._stack.callback(self._threads.shutdown, wait=False, cancel_futures=True)

    async def aclose(self) -> None:
        """Close the connections, and cancel unfinished conversions."""
        await self._stack.aclose()

    def config(self, wanted: str | None = None) -> Config:
        """Return the config with the wanted mirror only. None: with all mirrors that agents may see.

        Raises ConfigError if the changed file has a fault, or if there is no such mirror.
        """
        config = self._load()
        for name in self._names:
            mirror_config(config, name)
        config = config.with_mirrors(self._names or config.mirrors)
        # Some agents send an empty text for a parameter that they leave out.
        if not wanted:
            return config
        if wanted not in config.mirrors:
            raise ConfigError(f"there is no mirror {shown(wanted)}; name one of: {', '.join(config.mirrors)}")
        return config.with_mirrors([wanted])

    async def transport(self, config: Config) -> Transport:
        """Return the connections for a config. They stay open for the next search."""
        async with self._opening:
            # After a change of the config, a search under way still uses the former connections.
            if self._transport is None or self._transport[0].cloudflare != config.cloudflare:
                self._transport = config, await self._stack.enter_async_context(open_transport(config))
            return self._transport[1]

    async def converted(self, key: str, source: Content, limits: Limits) -> Content:
        """Return a file as the mirror sends it, in Markdown. Raises Park or Retry if it cannot be converted."""
        # Imported late, because few folders contain documents.
        from syncd.text.converter import converted

        version = key, source.checksum
        content = self._kept.get(version)
        if content is None:
            loop = asyncio.get_running_loop()
            content = await loop.run_in_executor(self._threads, converted, key, source, limits)
        self._kept[version] = content
        self._kept.move_to_end(version)
        while len(self._kept) > KEPT_DOCUMENTS:
            self._kept.popitem(last=False)
        return content


def _only(config: Config) -> str:
    """Return the name of the only mirror of a config. Raises ConfigError if the config has several mirrors."""
    if len(config.mirrors) != 1:
        raise ConfigError(f"which mirror? Name one of: {', '.join(config.mirrors)}")
    return next(iter(config.mirrors))


def _key_beginning(config: Config, name: str, folder: str) -> str:
    """Return the beginning of the keys in a folder. Raises ConfigError if there is no such folder.

    A relative path starts at the folder of the mirror, not at the current directory.
    """
    return folder_key(config, name, folder, build_tree(config.mirrors[name]), from_here=False)


async def _search(agent: Agent, parameters: SearchParameters) -> SearchResult:
    config = agent.config(parameters.mirror)
    name = _only(config)
    section = config.mirrors[name]
    if not parameters.query.strip():
        raise ConfigError("the query is empty; ask a question")
    tree = build_tree(section)
    # Another mirror may write to the same target under another prefix, so a search without a folder has a prefix too.
    folder, begin = parameters.folder, section.key_prefix
    if folder:
        begin = await asyncio.to_thread(_key_beginning, config, name, folder)
    async with open_target(await agent.transport(config), config, name) as target:
        hits = await search(target, section, parameters.query, parameters.limit, begin, parameters.filters)
    keys = [hit["key"] for hit in hits]
    fresh = await asyncio.to_thread(freshness, config, name, keys, tree) if keys else {}
    known = [
        SearchHit(**{**hit, "path": shown_path(hit["path"])}, freshness=fresh[hit["key"]])
        for hit in hits
        if hit["key"] in fresh
    ]
    return SearchResult(mirror=name, hits=known, left_out=len(hits) - len(known))


async def _read(agent: Agent, parameters: ReadParameters) -> ReadResult:
    config = agent.config(parameters.mirror)
    file = await asyncio.to_thread(_file, config, parameters)
    tree = build_tree(config.mirrors[file.mirror])
    item, source = await asyncio.to_thread(read_source, config, file.mirror, file.path, tree)
    converted = tree.limits.forms.of(item.key) == "convert"
    content = await agent.converted(item.key, source, tree.limits) if converted else source
    part = await asyncio.to_thread(
        part_of,
        item,
        content,
        tree,
        offset=parameters.offset,
        limit=parameters.limit,
        line=parameters.line,
        lines=parameters.lines,
    )
    return ReadResult(mirror=file.mirror, converted=converted, **part)


def _file(config: Config, parameters: ReadParameters) -> Found:
    """Return the file to read. Raises ConfigError if there is none, or more than one."""
    files = find_all(config, list(config.mirrors), parameters.path, build_tree, from_here=False)
    if len(files) > 1:
        raise ConfigError(f"which mirror? Name one of: {', '.join(file.mirror for file in files)}")
    [file] = files
    if file.kind == "directory":
        raise ConfigError(f"{shown(parameters.path)} is a directory; list shows its files")
    return file


def _list(agent: Agent, parameters: ListParameters) -> ListResult:
    config = agent.config(parameters.mirror)
    name = _only(config)
    begin = _key_beginning(config, name, parameters.folder) if parameters.folder else ""
    rows = page(config, name, begin, parameters.cursor or "", parameters.limit)
    note = "nothing is known yet; run: syncd reconcile" if rows is None else ""
    shown_rows = (rows or [])[: parameters.limit]
    return ListResult(
        mirror=name,
        items=[ListedItem.model_validate(row) for row in shown_rows],
        next_cursor=shown_rows[-1]["key"] if len(rows or []) > parameters.limit else None,
        note=note,
    )


def _explain(agent: Agent, parameters: ExplainParameters) -> ExplainResult:
    config = agent.config(parameters.mirror)
    files = find_all(config, list(config.mirrors), parameters.path, build_tree, from_here=False)
    return ExplainResult(
        found=[
            Explained(
                mirror=file.mirror,
                path=shown(file.path),
                kind=file.kind,
                facts=[
                    Fact(name=name, value=shown(value))
                    for name, value in explain(config, file, build_tree(config.mirrors[file.mirror]))
                ],
            )
            for file in files
        ]
    )


def _status(agent: Agent, parameters: StatusParameters) -> StatusResult:
    config = agent.config(parameters.mirror)
    status = snapshot(config, parameters.problems)
    return StatusResult(
        daemon_running=status["daemon"]["running"],
        mirrors={
            name: MirrorState.model_validate({**mirror, "can_search": config.mirrors[name].target.type != "kv"})
            for name, mirror in status["mirrors"].items()
        },
    )


def _in_thread(answer: Callable[[Agent, Any], BaseModel]) -> Callable[[Agent, Any], Awaitable[BaseModel]]:
    """Return an async function that runs `answer` in a thread, because `answer` reads the disk."""

    async def run(agent: Agent, parameters: Parameters) -> BaseModel:
        return await asyncio.to_thread(answer, agent, parameters)

    return run


@dataclass(frozen=True, slots=True)
class AgentTool:
    """A tool, with the function that runs it."""

    name: str
    title: str
    description: str
    parameters: type[Parameters]
    result: type[BaseModel]
    run: Callable[[Agent, Any], Awaitable[BaseModel]]


_SEARCH = """\
Search the documents of a mirror by meaning, and return the best passages with their files. Each hit tells whether its\
 file has changed since it was indexed; if so, read shows the present text."""
_READ = """\
Read a file of a mirror as it is on this machine now: a part of its text by bytes (offset, limit) or by lines (line,\
 lines). A document that the mirror converts, such as slides, is read as the Markdown in which a search finds it. Only\
 files that the mirror sends can be read."""
_LIST = """\
List the files of a mirror, or of one of its folders, by name, with their state in the target."""
_EXPLAIN = """\
Explain one file or folder: the rule that takes it or leaves it out, its state, its last error, its history, and the\
 next step."""
_STATUS = """\
Show the mirrors with their folders and targets, how much of them can be searched, and what is wrong."""

TOOLS: Mapping[str, AgentTool] = {
    tool.name: tool
    for tool in (
        AgentTool("search", "Search documents", _SEARCH, SearchParameters, SearchResult, _search),
        AgentTool("read", "Read a document", _READ, ReadParameters, ReadResult, _read),
        AgentTool("list", "List documents", _LIST, ListParameters, ListResult, _in_thread(_list)),
        AgentTool("explain", "Explain a file", _EXPLAIN, ExplainParameters, ExplainResult, _in_thread(_explain)),
        AgentTool("status", "Show the state", _STATUS, StatusParameters, StatusResult, _in_thread(_status)),
    )
}
