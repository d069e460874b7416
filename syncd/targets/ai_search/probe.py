"""The probe: learns how one instance answers, by throw-away items with names that no file of a mirror can have.

It makes at most REQUESTS requests and deletes its items. If the process is killed, the next probe or the next full
listing of a pass finds them by name and owner.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256

import structlog

from syncd.cloudflare.ai_search import BUILTIN, AISearch, Misnamed, StoredItem
from syncd.core.errors import Conflict, NotFound, Park, SyncdError
from syncd.core.probe_answers import NO_ANSWERS, PROBE_STEM, Offer, ProbeAnswers, Quoting, checksum_kind, is_probe_name
from syncd.targets.ai_search.items import INSTANCE, OWNER, SHA256, ItemWritePolicy, is_present, seconds_of
from syncd.targets.ai_search.writing import METADATA_REFUSED, offered_fields
from syncd.targets.base import Probe
from syncd.targets.shared import refusals_halt

log = structlog.get_logger()

REQUESTS = 10
"""Maximum requests of one probe."""
FIXED = 7
"""Requests of a probe without refusals or delays: three uploads, one look at the listing, two deletes, one get."""
PAUSES_S = (3.0, 4.0, 8.0)
"""Seconds before each further look for an upload that the listing does not show. The sum is the longest known lag."""
OLD_S = 600.0
"""Age in seconds of a throw-away item that no probe needs any more. A probe takes less than a minute."""
_TEXT = "# A throw-away item\n\nsyncd check --probe wrote this and deletes it. {}\n"
_KIND = "text/markdown"
_OFFERS: tuple[Offer, ...] = ("all", "marks", "none")

Sleep = Callable[[float], Awaitable[None]]


def is_leftover(item: StoredItem, owner: str) -> bool:
    """Return whether an item is a throw-away item of this owner. An instance may keep no owner."""
    return is_probe_name(item.key) and (item.metadata or {}).get(OWNER, owner) == owner


def is_old(item: StoredItem, now: float) -> bool:
    """Return whether an item is too old to belong to a running probe. False if the remote reports no time."""
    created = seconds_of(item.created_at)
    return created is not None and now - created > OLD_S


@dataclass(slots=True)
class _Observations:
    """The observations of a running probe.

    spare: requests beyond FIXED that are left. sent: name -> latest content. pairs: checksums and their contents.
    """

    answers: ProbeAnswers = NO_ANSWERS
    spare: int = REQUESTS - FIXED
    notes: list[str] = field(default_factory=list)
    present: dict[str, str] = field(default_factory=dict)
    """Ids of items that the probe must delete, with their names."""
    sent: dict[str, bytes] = field(default_factory=dict)
    sent_at: float = 0.0
    pairs: list[tuple[str | None, bytes]] = field(default_factory=list)
    leftovers: set[str] = field(default_factory=set)
    """Ids of items of earlier probes that were killed."""
    removed: int = 0

    def spend(self) -> bool:
        """Take one spare request. Return False if none is left."""
        self.spare -= 1
        return self.spare >= 0

    def learn(self, **answers: object) -> None:
        self.answers = replace(self.answers, **answers)  # type: ignore[arg-type]


class ItemProbe:
    """Asks one instance, with one call of `run`. The transport of `api` must try each request only once."""

    def __init__(
        self,
        api: AISearch,
        policy: ItemWritePolicy,
        *,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._policy = policy
        self._sleep = sleep
        self._clock = clock
        self._seen = _Observations()
        self._hex = secrets.token_hex(8)
        self._plain_name = f"{PROBE_STEM}{self._hex}.md"
        # Some servers keep only the part after the last backslash. This part begins like a throw-away item, too.
        self._odd_name = f'{PROBE_STEM}{self._hex}-"q"\\{self._plain_name.removesuffix(".md")}-\u00e9.md'

    async def run(self) -> Probe:
        """Ask all questions, and delete the items. Raises Halt or Unreachable if the instance takes no upload."""
        counters = self._api.transport.counters
        began, before = self._clock(), counters.requests
        with refusals_halt(INSTANCE):
            async with self._cleaned():
                await self._ask()
            await self._remove_leftovers()
        self._seen.learn(checksum=checksum_kind(self._seen.pairs))
        return Probe(
            self._seen.answers,
            counters.requests - before,
            self._seen.removed,
            tuple(self._seen.notes),
            self._clock() - began,
        )

    async def _ask(self) -> None:
        item = await self._upload_again(await self._first_upload())
        await self._upload_odd_name()
        await self._look()
        await self._delete(item.id)
        self._seen.learn(delete_gone=await self._is_gone(item.id))

    async def _is_gone(self, ref: str) -> bool:
        try:
            await self._api.get(ref)
        except NotFound:
            return True
        return False

    # -- uploads

    async def _first_upload(self) -> StoredItem:
        """Upload the item with as much metadata as the instance takes."""
        content = self._content("first")
        for offer in _OFFERS if self._policy.fields else _OFFERS[1:]:
            try:
                item = await self._upload(self._plain_name, content, offer)
            except Park as error:
                if error.code != METADATA_REFUSED or offer == "none" or not self._seen.spend():
                    raise
                continue
            whole = offer == "marks" and not self._policy.fields
            self._seen.learn(metadata="all" if whole else offer, fields=offered_fields(self._policy))
            return item
        raise AssertionError("the last offer ends with an item or an error")

    async def _upload_again(self, first: StoredItem) -> StoredItem:
        """Upload the same name with another content. Return the item that the name has then."""
        content = self._content("second, and longer than the first")
        try:
            again = await self._upload(self._plain_name, content, self._seen.answers.metadata or "none")
        except Conflict:
            self._seen.learn(existing="conflict")
        except Park as error:
            self._seen.notes.append(f"a second upload of a name was refused: {error}")
        else:
            if again.file_size not in (None, len(content)):
                self._seen.notes.append("a second upload of a name succeeded, but the old content stayed")
                return again
            self._seen.learn(existing="overwrite", id_kept=again.id == first.id)
            if again.id != first.id:
                # The first item is probably gone. If it is not, its delete costs one more request.
                self._seen.present.pop(first.id, None)
                self._seen.spend()
                return again
        return first

    async def _upload_odd_name(self) -> None:
        """Learn how a quote, a backslash and a character beyond ASCII in a file name are read."""
        quotings: tuple[Quoting, ...] = ("backslash", "percent")
        offer = self._seen.answers.metadata or "none"
        for quoting in quotings:
            try:
                await self._upload(self._odd_name, self._content("name"), offer, quoting)
            except Misnamed as error:
                self._seen.notes.append(f"a name with quotes escaped by {quoting} was stored as {error.item.key!r}")
                self._seen.present[error.item.id] = error.item.key
            except Park as error:
                self._seen.notes.append(f"a name with quotes escaped by {quoting} was refused: {error}")
            else:
                self._seen.learn(names=quoting)
                return
            # A further try costs two requests: the upload, and the delete of its item.
            if quoting == quotings[-1] or self._seen.spare < 2 or not (self._seen.spend() and self._seen.spend()):
                return

    async def _upload(self, name: str, content: bytes, offer: Offer, quoting: Quoting = "backslash") -> StoredItem:
        self._seen.sent_at = self._clock()
        item = await self._api.upload(name, content, _KIND, self._metadata(content, offer), quoting)
        self._seen.present[item.id] = name
        self._seen.sent[name] = content
        self._seen.pairs.append((item.checksum, content))
        return item

    def _content(self, which: str) -> bytes:
        return _TEXT.format(f"{self._hex}: {which}").encode()

    def _metadata(self, content: bytes, offer: Offer) -> Mapping[str, str] | None:
        if offer == "none":
            return None
        marks = self._policy.marks(sha256(content).hexdigest())
        now = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds")
        own = {name: now if source == "modified" else "probe" for name, source in self._policy.fields.items()}
        return {**own, **marks} if offer == "all" else marks

    # -- the listing

    async def _look(self) -> None:
        """Look until the listing shows every item with its latest content."""
        looked = self._clock()
        rows = await self._listed()
        for pause_s in PAUSES_S:
            if self._shows_all(rows) or not self._seen.spend():
                break
            await self._sleep(pause_s)
            looked = self._clock()
            rows = await self._listed()
        if self._shows_all(rows):
            self._seen.learn(list_lag_s=round(max(looked - self._seen.sent_at, 0.0), 2))
        else:
            self._seen.notes.append(f"after {looked - self._seen.sent_at:.0f} s the listing did not show the uploads")
        if any(len({row.id for row in rows if row.key == name}) > 1 for name in self._seen.sent):
            self._seen.learn(existing="beside", id_kept=None)
        self._seen.present |= {row.id: row.key for row in rows}
        if rows and self._seen.answers.metadata != "none":
            self._seen.learn(metadata_listed=all(SHA256 in (row.metadata or {}) for row in rows))

    def _shows_all(self, rows: list[StoredItem]) -> bool:
        sizes = {row.key: row.file_size for row in rows}
        if not self._seen.sent.keys() <= sizes.keys():
            return False
        refused = self._seen.answers.existing == "conflict"
        return refused or all(sizes[name] in (None, len(content)) for name, content in self._seen.sent.items())

    async def _listed(self) -> list[StoredItem]:
        """Return the rows of this probe, and note the leftovers of others.

        A server that ignores `search` shows the newest items first.
        """
        page = await self._api.list_items(search=PROBE_STEM, source=BUILTIN, sort_by="modified_at")
        rows = [row for row in page.rows if is_present(row)]
        ours = [row for row in rows if self._hex in row.key]
        self._seen.leftovers = {row.id for row in rows if row not in ours and is_leftover(row, self._policy.owner)}
        return ours

    # -- deleting

    async def _remove_leftovers(self) -> None:
        """Delete the items of earlier probes that were killed, as long as spare requests are left."""
        for ref in sorted(self._seen.leftovers):
            if self._seen.spend():
                await self._delete(ref)
                self._seen.removed += 1

    @asynccontextmanager
    async def _cleaned(self) -> AsyncIterator[None]:
        """Delete the items of the probe after the block, also after an error."""
        try:
            yield
        finally:
            for ref in [*self._seen.present]:
                try:
                    await self._delete(ref)
                except SyncdError as error:
                    name = self._seen.present[ref]
                    log.warning("probe.left", key=name, why=str(error), remedy="syncd check --probe removes it")

    async def _delete(self, ref: str) -> None:
        try:
            await self._api.delete(ref)
        except NotFound:
            log.debug("probe.absent", ref=ref)
        self._seen.present.pop(ref, None)
