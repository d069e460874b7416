"""Puts into a Vectorize index: cut, embed, upsert, and only then delete what was there before."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext

import structlog

from syncd.cloudflare.vectorize_lines import encode_line
from syncd.cloudflare.workers_ai import MODELS
from syncd.core.errors import Halt, Retry, SyncdError, Unreachable
from syncd.core.model import Delete, Put, Stored
from syncd.core.unexpected import unexpected_error
from syncd.targets.base import Done, Noting, Outcome, Read, Removed, Report, read_one, unnoted
from syncd.targets.vectorize.embedding import Embedder, Made
from syncd.targets.vectorize.ids import WHOLE, Maker, key_tag
from syncd.targets.vectorize.index import Line, VectorStore
from syncd.targets.vectorize.pieces import Cut, File, Piece, Signed, cut
from syncd.targets.vectorize.sets import Sets

log = structlog.get_logger()

PATIENCE_S = 2.0
"""So long the next file waits for one that is being cut."""
SLOW_FILES = 2
"""Files that may take longer at a time; each is held in memory."""
UPSERT_VECTORS = 1000
"""Vectors of one upsert, and of what is held in memory: some 16 MB with 1,024 dimensions. The API takes 5,000."""

_Cutting = tuple[Put, asyncio.Task[list[Piece]]]


class VectorWriter:
    """Writes files as vectors. how: by which rules text is cut."""

    def __init__(self, index: VectorStore, embedder: Embedder, maker: Maker, how: Cut, by: Signed) -> None:
        self._index = index
        self._embedder = embedder
        self._maker = maker
        self._how = how
        self._by = by
        self.noting: Noting = unnoted

    async def fit(self, dimensions: int | None) -> None:
        """Raise Halt if vectors of so many numbers do not fit the index."""
        theirs = await self._index.dimensions()
        if dimensions and theirs and dimensions != theirs:
            raise Halt(
                f"vectors of {self._embedder.model} have {dimensions} dimensions, and the index"
                f" {self._index.api.name} takes {theirs}; choose a model that fits, or name another index"
                " (create = true makes it)"
            )

    async def write(self, puts: Sequence[Put], read: Read, report: Report) -> None:
        """Write puts; their pieces go up in slices, so that no more than one large file is in memory."""
        slow: list[_Cutting] = []
        waiting: list[Piece] = []
        try:
            for put in puts:
                slow.append((put, asyncio.create_task(self._pieces(put, read))))
                for each in await _ended(slow):
                    slow.remove(each)
                    waiting = await self._take(*each, waiting, report)
            if slow:
                # What is ready does not wait for them.
                await self._send(waiting, report)
                waiting = []
            while slow:
                waiting = await self._take(*slow.pop(0), waiting, report)
        finally:
            for _, task in slow:
                task.cancel()
            await asyncio.gather(*(task for _, task in slow), return_exceptions=True)
        await self._send(waiting, report)

    async def _take(
        self, put: Put, task: asyncio.Task[list[Piece]], waiting: list[Piece], report: Report
    ) -> list[Piece]:
        """Add a file's pieces to those that wait; send whole slices, and return what is left."""
        try:
            waiting = waiting + await task
        except (Halt, Unreachable):
            raise
        except SyncdError as error:
            report({put: error})
        except Exception as error:  # noqa: BLE001 - what it is stands in the log
            report({put: unexpected_error(error, put.key)})
        while len(waiting) >= UPSERT_VECTORS:
            await self._send(waiting[:UPSERT_VECTORS], report)
            waiting = waiting[UPSERT_VECTORS:]
        return waiting

    async def _pieces(self, put: Put, read: Read) -> list[Piece]:
        content = await read_one(read, put)
        return await asyncio.to_thread(cut, put, content, self._maker, self._how, self._by)

    async def _send(self, pieces: Sequence[Piece], report: Report) -> None:
        """Embed and upsert some pieces; end the files of which these are the last."""
        due = [piece for piece in pieces if piece.file.error is None]
        if due:
            await self.fit(MODELS.get(self._embedder.model))
        vectors = await self._embedder.vectors([piece.text for piece in due], await self._index.dimensions())
        lines = [line for piece in due if (line := self._line(piece, vectors[piece.text]))]
        if lines:
            await self.fit(next(len(vector) for vector in vectors.values() if not isinstance(vector, SyncdError)))
        there = await self._index.known() if lines else Sets()
        new = {line.id for line in lines if not there.holds(line.id)}
        failed = await self._index.upsert(lines)
        for piece in due:
            piece.file.error = piece.file.error or failed.get(piece.id)
            if piece.id in new and piece.id not in failed:
                piece.file.added.append(piece.id)
        ended = []
        for piece in pieces:
            piece.file.left -= 1
            if piece.file.left == 0:
                ended.append(piece.file)
        await self._end(ended, report)

    @staticmethod
    def _line(piece: Piece, vector: Made) -> Line | None:
        if isinstance(vector, SyncdError):
            piece.file.error = vector
            return None
        try:
            return Line(piece.id, encode_line(piece.id, vector, piece.metadata))
        except SyncdError as error:
            piece.file.error = error
        except Exception as error:  # noqa: BLE001 - what it is stands in the log
            piece.file.error = unexpected_error(error, piece.file.put.key)
        return None

    async def _end(self, files: Sequence[File], report: Report) -> None:
        """Delete what the files' new vectors stand in for, or what was written of those that could not be."""
        old = {id(file): await self._before(file) for file in files}
        going = dict.fromkeys(removed for each in old.values() for removed in each)
        with self.noting([*going]) if going else nullcontext() as noted:
            failed = await self._index.drop(dict.fromkeys(removed.ref for removed in going))
            for removed in going:
                if noted and removed.ref not in failed:
                    noted(removed)
        found: dict[Put | Delete, Outcome] = {}
        for file in files:
            left = next((failed[removed.ref] for removed in old[id(file)] if removed.ref in failed), None)
            # That says nothing against the new content, which must not be parked for it.
            error = Retry(f"its earlier vectors could not be deleted: {left}") if left else None
            found[file.put] = file.error or error or self._done(file)
        report(found)

    async def _before(self, file: File) -> list[Removed]:
        key, sets = file.put.key, await self._index.known()
        if file.error:
            why = f"the rest of the file could not be written: {file.error}"
            return [Removed(key, vector_id, "remainder", why) for vector_id in file.added]
        sets.put(file.ref)
        known = [str(ref) for ref in sets.of_key(self._maker.owner, key_tag(key))]
        replaced = [file.put.ref] if file.put.ref else []
        why = f"the vectors of the file's present content, {file.ref}, took their place"
        refs = [ref for ref in dict.fromkeys([*known, *replaced]) if ref != str(file.ref)]
        return [Removed(key, ref, "replaced", why) for ref in refs]

    @staticmethod
    def _done(file: File) -> Outcome:
        stored = Stored(str(file.ref), file.checksum, file.size, version=WHOLE, marked=True, status="queued")
        return Done(stored)


async def _ended(
    under_way: Sequence[tuple[Put, asyncio.Task[list[Piece]]]],
) -> list[tuple[Put, asyncio.Task[list[Piece]]]]:
    """The files that are cut by now. The others go on while one takes long, such as a large page of HTML."""
    newest = under_way[-1][1]
    await asyncio.wait({newest}, timeout=PATIENCE_S)
    if len(under_way) > SLOW_FILES:
        await asyncio.wait({task for _, task in under_way}, return_when=asyncio.FIRST_COMPLETED)
    return [each for each in under_way if each[1].done()]
