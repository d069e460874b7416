"""Puts and deletes of Workers KV: in bulk, as often as it takes, and never a key twice in a second."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from syncd.cloudflare.kv import BULK_GET_LIMIT, KVNamespace
from syncd.cloudflare.kv_bulk import METADATA_LIMIT, encode_pair
from syncd.core.errors import Halt, NotFound, Park, SyncdError, Unreachable
from syncd.core.model import Content, Delete, Put, Stored
from syncd.core.short_names import FULL_KEY_FIELD
from syncd.core.unexpected import unexpected_error
from syncd.targets.base import Done, Outcome, Read, Report
from syncd.targets.bodies import Bodies, bodies
from syncd.targets.bulk import BULK_VALUE, Job, Jobs, Keys, Sleep, Unstored, in_parts
from syncd.targets.describing import description
from syncd.targets.naming import Naming
from syncd.text.metadata import fit_metadata, json_size

SHA256, OWNER, STALE, PREFIX = "sha256", "owner", "stale", "prefix"
"""Our marks in a key's metadata. `stale`: the file is gone and the entry only waits for its end."""
BULK_DELETES = 1000
READ_FILES = 8
"""Files read at once. A call into a thread costs as much as reading a small file; a file read early may be outdated."""
READ_BYTES = 256 * 1024
"""Bytes read at once, by the planned sizes."""
KEY_REST_S = 1.0
"""One write per second to one key (KV limits)."""


@dataclass(frozen=True, slots=True)
class ValueWritePolicy:
    """What this mirror writes. expiration_ttl and stale_ttl: seconds, None for never.

    fields: of the metadata, besides the marks -> their sources (see metadata).
    """

    owner: str
    prefix: str = ""
    expiration_ttl: int | None = None
    stale_ttl: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


def _read_groups(puts: Sequence[Put]) -> Iterator[Sequence[Put]]:
    """Split puts into groups whose files are read at once. A file over READ_BYTES makes a group of its own."""
    group: list[Put] = []
    size = 0
    for put in puts:
        if group and (len(group) == READ_FILES or size + put.size > READ_BYTES):
            yield group
            group, size = [], 0
        group.append(put)
        size += put.size
    if group:
        yield group


class ValueWriter:
    """Writes to one namespace, which is found when it is first needed. clock: seconds of any origin."""

    def __init__(
        self, namespace: Callable[[], Awaitable[KVNamespace]], policy: ValueWritePolicy, naming: Naming
    ) -> None:
        self.clock: Callable[[], float] = time.monotonic
        self.sleep: Sleep = asyncio.sleep
        self._namespace = namespace
        self._policy = policy
        self._naming = naming
        self._written: dict[str, float] = {}

    async def write(self, puts: Sequence[Put], read: Read, report: Report) -> None:
        """Write puts in bulk requests, one at a time; while one is on its way, the next body is read and encoded."""
        namespace = await self._namespace()
        async with bodies(partial(self._send, namespace, report)) as made:
            for group in _read_groups(puts):
                for put, content in zip(group, await read(group), strict=True):
                    if isinstance(content, SyncdError):
                        report({put: content})
                    else:
                        await self._put(made, put, content, report)

    async def _put(self, made: Bodies, put: Put, content: Content, report: Report) -> None:
        try:
            name, size = self._naming.name(put.key), len(content.data)
            stored = Stored(name, content.checksum, size, marked=True, remote_size=size)
            marks = await self._marks(put, name, content)
            job = Job(put, name, Done(stored), marks, self._policy.expiration_ttl)
            await self._add(made, job, content.data, report)
        except (Halt, Unreachable):
            raise
        except SyncdError as error:
            report({put: error})
        except Exception as error:  # noqa: BLE001 - what it is stands in the log
            report({put: unexpected_error(error, put.key)})

    async def _add(self, made: Bodies, job: Job, value: bytes, report: Report) -> None:
        """Take one more value in; one that is too large for a bulk is sent by itself, when nothing is on its way."""
        if len(value) > BULK_VALUE:
            await made.arrived()
            await self._send_alone(job, value, report)
        else:
            pair = encode_pair(job.name, value, metadata=job.marks, expiration_ttl=job.ttl)
            await made.add(job, pair)

    async def _send_alone(self, job: Job, value: bytes, report: Report) -> None:
        namespace = await self._namespace()
        key = job.name
        await self._rest((key,))
        try:
            await namespace.write_value(key, value, job.marks, expiration_ttl=job.ttl)
        except (Halt, Unreachable):
            raise
        except SyncdError as error:
            report({job.action: error})
        else:
            self._written[key] = self.clock()
            report({job.action: job.done})

    async def _send(self, namespace: KVNamespace, report: Report, jobs: Jobs, tries: int) -> Jobs:
        """Write a body, in as many requests as that takes, and report every key of it.

        With one try only, what was unsuccessful is not reported but returned: it goes with another body.
        """
        await self._rest(jobs.body.keys)
        outcomes = await in_parts(jobs.body, namespace.bulk_write, self.sleep, tries)
        now = self.clock()
        left: dict[str, Job] = {}
        found: dict[Put | Delete, Outcome] = {}
        # Nothing is awaited from here on, so that every answer is reported.
        for key, job in jobs.of.items():
            self._written[key] = now
            error = outcomes.get(key)
            if tries == 1 and isinstance(error, Unstored):
                left[key] = job
            else:
                found[job.action] = error or job.done
        report(found)
        return Jobs(jobs.body.only(left), left)

    async def _rest(self, keys: Sequence[str]) -> None:
        """Wait until the last write to each key is a second ago."""
        now = self.clock()
        self._written = {key: at for key, at in self._written.items() if now - at < KEY_REST_S}
        wait = max((KEY_REST_S - (now - self._written[key]) for key in keys if key in self._written), default=0.0)
        if wait > 0:
            await self.sleep(wait)

    async def remove(self, deletes: Sequence[Delete], report: Report) -> None:
        """Delete keys in bulk requests."""
        namespace = await self._namespace()
        for start in range(0, len(deletes), BULK_DELETES):
            part = deletes[start : start + BULK_DELETES]
            outcomes = await in_parts(
                Keys(tuple(action.ref for action in part)), lambda keys: namespace.bulk_delete(keys.keys), self.sleep
            )
            report({action: outcomes.get(action.ref) or Done() for action in part})

    async def retire(self, deletes: Sequence[Delete], report: Report) -> None:
        """Let entries expire: each is read and written once more, with a time to live and a mark."""
        namespace = await self._namespace()
        async with bodies(partial(self._send, namespace, report)) as made:
            for start in range(0, len(deletes), BULK_GET_LIMIT):
                for action in deletes[start : start + BULK_GET_LIMIT]:
                    try:
                        value = (await namespace.read_value(action.ref)).content
                    except NotFound:
                        report({action: Done()})
                        continue
                    except (Halt, Unreachable):
                        raise
                    except SyncdError as error:
                        report({action: error})
                        continue
                    except Exception as error:  # noqa: BLE001 - what it is stands in the log
                        report({action: unexpected_error(error, action.key)})
                        continue
                    marks = {OWNER: self._policy.owner, STALE: True}
                    await self._add(made, Job(action, action.ref, Done(), marks, self._policy.stale_ttl), value, report)
                await made.finish()

    async def _marks(self, put: Put, name: str, content: Content) -> dict[str, Any]:
        """What goes with the value: our marks, and as many of the mirror's fields as there is room for."""
        path = put.key if name != put.key else None
        marks = marks_of(content.checksum, self._policy.owner, len(content.data), path, self._policy.prefix)
        if path and json_size(marks) > METADATA_LIMIT:
            raise Park("key_too_long", "the key's metadata has no room for the whole name; shorten it")
        fields = await description(self._policy.fields, put.key, content)
        return fit_metadata(marks, fields, METADATA_LIMIT)


def marks_of(checksum: str, owner: str, size: int, path: str | None, prefix: str = "") -> dict[str, Any]:
    """Our marks. path: the full key, if the value has a shortened name. prefix: told by its length."""
    marks: dict[str, Any] = {SHA256: checksum, OWNER: owner, "size": size} | ({PREFIX: len(prefix)} if prefix else {})
    return marks if path is None else {**marks, FULL_KEY_FIELD: path}
