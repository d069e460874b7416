"""The contract over Vectorize with a lag of three seconds, and the differences of its entries."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.transport import Transport
from syncd.cloudflare.vectorize import Vectorize, VectorizeIndex
from syncd.cloudflare.workers_ai import WorkersAI
from syncd.core.errors import Park
from syncd.state.caches import Embeddings
from syncd.state.db import open_state
from syncd.targets.base import Done, MirrorRecords, Target
from syncd.targets.vectorize.index import VectorStore
from syncd.targets.vectorize.target import VectorizeTarget, limits
from syncd.targets.vectorize.writing import ChunkSettings, Embedder, VectorWritePolicy
from tests.contract.harness import PREFIX, TargetContract, apply, content, gone, held, listing, new, put
from tests.unit.targets.harness_mirrors import ACCOUNT, BASE
from tests.unit.targets.harness_vectorize import MODEL, Harness, open_harness

LATE_S = 3.0


class VectorizeRemote:
    """An index in its own stand-in. Every target has its own state file."""

    indexes = True

    def __init__(self, harness: Harness, base: Path, opened: ExitStack) -> None:
        self._harness = harness
        self._base = base
        self._opened = opened
        self.transports: list[Transport] = []

    def _transport(self) -> Transport:
        clock = self._harness.clock
        gate = Gate(0, 8, clock, clock.sleep)
        http, credentials = self._harness.wire, Credentials.bearer("any")
        made = Transport(BASE, ACCOUNT, credentials, gate, retry_for=5, http=http, rng=lambda: 0.5)
        self.transports.append(made)
        return made

    async def open(self) -> "VectorizeRemote":
        await Vectorize(self._transport()).create_index("docs", 384)
        return self

    async def target(self, owner: str, *, takeover: bool = False) -> Target:
        transport = self._transport()
        state = open_state(self._base / f"state-{len(self.transports)}")
        memory = Embeddings(self._opened.enter_context(closing(state)), owner)
        index = VectorStore(VectorizeIndex(transport, "docs"), memory)
        index.mutations.clock, index.mutations.sleep = self._harness.clock, self._harness.clock.sleep
        # No journal knows a key; only the vectors do.
        records = MirrorRecords(lambda: (), lambda: [PREFIX + "walked.md"])
        return VectorizeTarget(
            index,
            Embedder(WorkersAI(transport), MODEL, "mean", memory),
            VectorWritePolicy(owner, PREFIX, takeover=takeover),
            limits(128, 4 * 1024 * 1024),
            settings=ChunkSettings(400, 50),
            records=records,
        )

    async def put_unmarked(self, key: str, data: bytes) -> None:
        del data
        await self._harness.put(key)

    async def rest(self) -> None:
        self._harness.clock.now += LATE_S


class TestVectorizeTarget(TargetContract):
    @pytest.fixture
    async def remote(self, tmp_path: Path) -> AsyncIterator[VectorizeRemote]:
        async with open_harness(tmp_path, mutation_lag=LATE_S) as w:
            with ExitStack() as opened:
                made = await VectorizeRemote(w, tmp_path, opened).open()
                yield made
                for transport in made.transports:
                    await transport.aclose()

    async def test_a_file_without_text_is_refused_and_the_others_are_stored(self, target: Target) -> None:
        keys = ["p/a.md", "p/b.md", "p/c.md"]
        outcomes = await apply(target, [new(key) for key in keys], {"p/a.md": b"\x00\xff", "p/b.md": b" \n"})
        refusals = [outcomes[key] for key in keys[:2]]
        assert [each.kind for each in refusals if isinstance(each, Park)] == ["unsupported_type", "empty"]
        assert isinstance(outcomes["p/c.md"], Done)
        assert set(await listing(target)) == {"p/c.md"}

    @pytest.mark.parametrize("data", [b"\r\n--boundary\r\n", "\ufeff\u00e9".encode(), b"x" * 300_000, b"a. " * 50_000])
    async def test_any_text_has_the_checksum_of_its_content(self, target: Target, data: bytes) -> None:
        await put(target, "p/a.md", data)
        entry = await target.confirm("p/a.md", None)
        assert entry is not None
        assert await held(target, entry) == content(data).checksum

    async def test_entries_of_two_owners_under_one_key_are_separate(
        self, remote: VectorizeRemote, target: Target
    ) -> None:
        you = await remote.target("you")
        theirs, mine = await put(you, "p/same.md", b"same"), await put(target, "p/same.md", b"same")
        await remote.put_unmarked("p/same.md", b"x")
        assert theirs.ref != mine.ref
        for owner, ours in ((you, theirs), (target, mine)):
            assert {key: entry.ref for key, entry in (await listing(owner)).items()} == {"p/same.md": ours.ref}
        await apply(target, [gone("p/same.md", mine.ref)])
        assert await listing(target) == {}
        assert set(await listing(you)) == {"p/same.md"}

    async def test_a_takeover_lists_entries_of_other_owners_under_its_keys(self, remote: VectorizeRemote) -> None:
        you, me = await remote.target("you"), await remote.target("me", takeover=True)
        theirs = await put(you, "p/walked.md", b"one")
        await put(you, "p/theirs.md", b"one")
        await remote.rest()
        found = await listing(me)
        assert set(found) == {"p/walked.md"}
        assert found["p/walked.md"].owner not in {None, "me"}
        await put(me, "p/walked.md", b"one", theirs.ref)
        await remote.rest()
        assert set(await listing(you)) == {"p/theirs.md"}
