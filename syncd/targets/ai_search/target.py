"""The target of one instance.

key = prefix + path; ref = item id. Only items of source "builtin" belong to syncd.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import structlog

from syncd.cloudflare.ai_search import PER_PAGE, AISearch
from syncd.cloudflare.error_codes import PAUSED
from syncd.cloudflare.file_types import LARGE, LARGE_WITH_OCR, MAX_FILE_SIZE, MAX_LARGE_FILE_SIZE, SUPPORTED
from syncd.core.errors import Conflict, PausedHalt, TargetMissing
from syncd.core.model import Entry
from syncd.core.plain_text import truncated
from syncd.core.problems import Limits
from syncd.state.caches import StoredAnswers
from syncd.targets.ai_search.following import IndexFollower
from syncd.targets.ai_search.items import INSTANCE, OWNER, SHA256, CurrentAnswers, ItemReader, ItemWritePolicy, key_of
from syncd.targets.ai_search.writing import ItemWriter
from syncd.targets.base import (
    Advice,
    Fetched,
    Hit,
    Landmark,
    MirrorRecords,
    Probe,
    Usage,
)
from syncd.targets.shared import ShortNames, fetch_each, refusals_halt, title_field

log = structlog.get_logger()

TURN = 1000
"""Puts of one batch. No upload is under way at the end of a batch; hints end a batch early (see sync/apply.py)."""
LAG_S = 60.0
"""Seconds until a listing shows a write. AI Search documents none; this is the number of Workers KV."""
FOLDER_BYTES = 64
"""Bytes of a folder's name that the service compares in a filter (AI Search changelog, 2026-08)."""


def limits(max_key_length: int, max_file_size: int) -> Limits:
    """Return the limits of AI Search: the documented file types and their sizes, no empty files.

    ItemWriter decides whether the instance takes a large PDF when it sends one. max_key_length: characters, as
    configured. max_file_size: bytes, as configured; the limit of a type may be lower.
    """
    return Limits(
        max_key_length,
        max_file_size,
        LAG_S,
        SUPPORTED,
        empty=False,
        turn=TURN,
        page=PER_PAGE,
        listed=PER_PAGE,
        most_file_size=MAX_LARGE_FILE_SIZE,
        small_file_size=MAX_FILE_SIZE,
        large_extensions=LARGE | LARGE_WITH_OCR,
        small_remedy="make it smaller, or save it as plain text, of which AI Search takes 10 MiB",
    )


class AISearchTarget:
    """The target of one mirror in one instance.

    It implements all protocols of a target. Its reader, its index follower and its writer have most of the methods.
    concurrency: most uploads whose content is in memory at a time. shards: the number of mirrors that share the work.
    learned: the answers of `syncd check --probe`, which the target applies.
    """

    def __init__(  # noqa: PLR0913 - the instance, the settings of a mirror, and the answers of a probe
        self,
        api: AISearch,
        policy: ItemWritePolicy,
        limits: Limits,
        *,
        records: MirrorRecords,
        concurrency: int = 8,
        shards: int = 1,
        learned: StoredAnswers | None = None,
    ) -> None:
        self._limits = limits
        self._api = api
        self._policy = policy
        self._answers = answers = CurrentAnswers(learned)
        names = ShortNames(limits, records)
        self._title = title_field(policy.fields)
        self._fields = {SHA256: "text", OWNER: "text"} | {name: _type(source) for name, source in policy.fields.items()}
        self._items = items = ItemReader(api, policy, names, answers)
        self.entries, self.newest = items.entries, items.newest
        self.confirm, self.checksum = items.confirm, items.checksum
        index = IndexFollower(api, items, shards)
        self.statuses, self.counts, self.why, self.reindex = index.statuses, index.counts, index.why, index.reindex
        self._writer = writer = ItemWriter(api, items, policy, answers, concurrency, records.open_log)
        self.apply = writer.apply

    @property
    def limits(self) -> Limits:
        """The limits of AI Search, with the lag of listings that a probe learned."""
        lag_s = self._answers.current.lag_s
        return self._limits if lag_s is None else replace(self._limits, lag_s=lag_s)

    # -- the probe

    async def probe(self) -> Probe:
        """Learn undocumented answers of the instance, with at most ten requests."""
        from syncd.targets.ai_search.probe import ItemProbe

        return await ItemProbe(self._api, self._policy).run()

    async def remove_leftovers(self, now: float) -> int:
        """Delete throw-away items of killed probes that the last listing showed."""
        if not self._items.leftovers:
            return 0
        from syncd.targets.ai_search.probe import is_leftover, is_old

        removed = 0
        for item in self._items.leftovers:
            if is_leftover(item, self._policy.owner) and is_old(item, now):
                await self._writer.remove_leftover(item)
                removed += 1
        self._items.leftovers = []
        return removed

    # -- the instance

    async def check(self) -> str:
        """Return one line about the instance.

        Raises TargetMissing if it does not exist, PausedHalt if it is paused, Halt if access is refused.
        """
        from syncd.targets.ai_search.advice import readable_instance

        with refusals_halt(INSTANCE):
            instance = await readable_instance(self._api)
        if instance.paused:
            raise PausedHalt(PAUSED)
        return f"AI Search instance {self._api.namespace}/{instance.id} is there"

    async def advice(self) -> Sequence[Advice]:
        """Make one search, and name undeclared metadata fields and settings that differ from the config."""
        from syncd.targets.ai_search.advice import metadata_advice, search_advice, settings_advice

        with refusals_halt(INSTANCE):
            instance = await self._api.read_instance()
        settings = settings_advice(self._policy.settings, instance)
        return (*metadata_advice(self._fields, instance), *settings, await search_advice(self._api))

    async def usage(self, *, account: bool) -> Sequence[Usage]:
        """Return the use of the instance, and of the account if `account` or if the instance is missing."""
        from syncd.targets.ai_search.advice import instance_usage

        with refusals_halt(INSTANCE):
            return await instance_usage(self._api, self._policy.settings, self.counts, account=account)

    async def create(self) -> None:
        """Create the instance, and its namespace if necessary, with the settings of the config.

        The instance declares the marks and the mirror's fields. An existing instance keeps its settings, because other
        fields would make the service index all items again.
        """
        with refusals_halt(INSTANCE):
            try:
                created = await self._create_instance()
            except TargetMissing:
                with suppress(Conflict):  # another mirror may have made it meanwhile
                    await self._api.create_namespace()
                created = await self._create_instance()
        if created:
            log.info("target.created", namespace=self._api.namespace, instance=self._api.instance)

    async def _create_instance(self) -> bool:
        """Create the instance. Return False if it exists."""
        try:
            await self._api.create_instance(self._fields, self._policy.settings)
        except Conflict:
            return False
        return True

    # -- reading

    @property
    def landmark(self) -> Landmark | None:
        """The summary of the last listing, None if it may have missed rows."""
        return self._items.landmark

    @property
    def unreadable_rows(self) -> Sequence[str]:
        """Messages about unreadable rows of the last listing."""
        return self._items.unreadable_rows

    def fetch(self, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, Fetched]]:
        """Download items, a few at a time."""
        return fetch_each(entries, lambda entry: self._api.download(entry.ref))

    async def search(
        self, query: str, limit: int, folder: str = "", filters: Mapping[str, Any] | None = None
    ) -> Sequence[Hit]:
        """Return the hits of the instance's own search. A folder filters by the service's own field `folder`."""
        conditions = {**(filters or {}), **_folder_filter(folder)}
        hits = await self._api.search(query, max_num_results=limit, filters=conditions or None)
        found = [
            Hit(
                key_of(hit.key or "", hit.metadata),
                hit.score,
                hit.text,
                title=str(hit.metadata.get(self._title) or ""),
            )
            for hit in hits
        ]
        return [hit for hit in found if hit.key.startswith(folder)]

    def requests(self, puts: int, deletes: int, size: int | None = None) -> int:
        """Return one request for each action. AI Search has no bulk endpoint."""
        del size
        return puts + deletes


def _type(source: str) -> str:
    return "datetime" if source == "modified" else "text"


def _folder_filter(folder: str) -> dict[str, Any]:
    """Return a filter for a folder and its subfolders, or for its nearest parent with a short enough name."""
    above = truncated(folder, len(folder), FOLDER_BYTES).rpartition("/")[0]
    # "0" is the character after "/", so the range contains every name that begins with the folder.
    return {"folder": {"$gte": f"{above}/", "$lt": f"{above}0"}} if above else {}
