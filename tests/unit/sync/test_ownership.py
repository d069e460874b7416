"""Entries of another writer that uses our mark differ from the writes of this journal."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from syncd.core.errors import FileChanged, Retry
from syncd.core.model import Delete, Entry, Put, Record, Stored
from syncd.core.names import remote_name
from syncd.core.plan import UNKNOWN, is_of_another_writer
from syncd.core.problems import Limits
from syncd.state.ownership import Claims
from syncd.sync.apply import claim_previous
from syncd.sync.observe import Observed
from syncd.sync.resolve import _claims_of_short_name as claims_of_short_name
from syncd.sync.resolve import is_replaced_by_other, mark_other_writers
from syncd.targets.base import ReadContents, ReportOutcomes
from tests.harness import Core, ScriptedTarget, in_step, is_clean, plan, planned, sha
from tests.memory_target import MemoryTarget


class Killed(BaseException):
    """Stands for the death of the process."""


async def killed_after_upload(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a pass whose uploads succeed and whose outcomes are not recorded."""

    async def apply(
        self: ScriptedTarget, batch: Sequence[Put | Delete], read: ReadContents, report: ReportOutcomes
    ) -> None:
        del report
        await MemoryTarget.apply(self, batch, read, lambda *_: None)
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(ScriptedTarget, "apply", apply)
        with pytest.raises(Killed):
            await core.full()
    core.restart()


@pytest.mark.parametrize("here", [None, "mine", "theirs"])
async def test_an_entry_of_another_writer_with_our_mark_is_kept_and_reported(core: Core, here: str | None) -> None:
    await in_step(core, a="1")
    core.target.put_by("me", "b", "theirs")
    if here:
        core.write("b", here)
    for _ in range(3):
        result = await core.full()
        assert core.target.texts() == {"a": "1", "b": "theirs"}
        assert is_clean(result) is (here == "theirs"), "equal content is adopted"
    assert core.problems() == ({} if here == "theirs" else {"b": "foreign"})
    if here != "theirs":
        assert "another writer" in core.problem("b").message
    await core.hint("b")
    assert core.target.texts() == {"a": "1", "b": "theirs"}


async def test_an_entry_of_another_writer_over_ours_is_kept(core: Core) -> None:
    await in_step(core, a="1", b="2")
    core.target.put_by("me", "a", "theirs")
    core.target.put_by("me", "b", "theirs")
    core.write("a", "edited")
    core.remove("b")
    for _ in range(2):
        assert planned(await core.full()) == {}
        assert core.problems() == {"a": "foreign", "b": "foreign"}
    core.use(takeover=True)
    await core.full()
    assert core.target.texts() == {"a": "edited"}


@pytest.mark.parametrize("after_s", [1, 3 * 3600])
async def test_entries_stay_ours_while_another_owner_is_configured_for_some_time(core: Core, after_s: float) -> None:
    await in_step(core, same="s", edited="1", gone="g", gone_later="g")
    core.use(owner="you")
    core.remove("gone")
    for _ in range(2):
        await core.full()
        core.clock.forward(after_s)
    assert core.problems() == dict.fromkeys(["same", "edited", "gone_later"], "foreign")
    core.use(owner="me")
    core.write("edited", "2")
    core.remove("gone_later")
    await core.full()
    assert core.target.texts() == {"same": "s", "edited": "2"}
    assert core.problems() == {}


async def upload_under_another_name(core: Core, *, location: str = "target") -> None:
    """Upload two files under another name of the mirror, change them, and go back to the former name."""
    core.rename("docs")
    await in_step(core, same="s", edited="1")
    core.rename("journal", location=location)
    core.write("edited", "2")
    core.write("gone", "g")
    await core.full()
    core.rename("docs")
    core.write("edited", "3")
    core.remove("gone")
    await core.full()


async def test_a_mirror_that_gets_its_former_name_back_knows_the_uploads_under_the_other_name(core: Core) -> None:
    await upload_under_another_name(core)
    assert core.target.texts() == {"same": "s", "edited": "3"}
    assert core.problems() == {}


async def test_the_records_of_another_target_prove_nothing(core: Core) -> None:
    await upload_under_another_name(core, location="elsewhere")
    assert core.target.texts() == {"same": "s", "edited": "2", "gone": "g"}
    assert core.problems() == {"edited": "foreign", "gone": "foreign"}


async def test_after_a_lost_state_the_mark_is_proof(core: Core) -> None:
    core.target.put_by("me", "gone", "of a lost journal")
    core.target.put_by("me", "changed", "of a lost journal")
    core.write("changed", "new")
    core.write("kept", "k")
    await core.full(force=True)
    assert core.target.texts() == {"changed": "new", "kept": "k"}
    assert core.problems() == {}


async def test_an_entry_that_a_late_listing_shows_after_a_lost_state_is_ours(core: Core) -> None:
    core.target.limits = Limits(max_file_size=1000, lag_s=60.0)
    core.target.put_by("me", "old", "seen at once")
    core.target.put_by("me", "young", "seen late")
    core.target.unlisted = {"young"}
    core.write("old", "seen at once")
    await core.full(force=True)
    complete = [core.mirror.claims.complete]
    core.target.unlisted = set()
    core.clock.forward(61)
    assert plan(await core.full(force=True)) == [("delete", "young", "orphan")]
    assert [*complete, core.mirror.claims.complete] == [False, True]
    core.target.put_by("me", "later", "theirs")
    await core.full()
    assert core.problems() == {"later": "foreign"}


@pytest.mark.parametrize("after_s", [1, 3 * 3600])
async def test_an_upload_without_a_record_after_a_kill_is_ours(
    core: Core, monkeypatch: pytest.MonkeyPatch, after_s: float
) -> None:
    await in_step(core, keep="k", gone="1")
    core.write("gone", "1, edited")
    core.write("edited", "1")
    core.write("left", "1")
    await killed_after_upload(core, monkeypatch)
    assert core.target.texts()["gone"] == "1, edited"
    core.clock.forward(after_s)
    core.remove("gone", "left")
    core.write("edited", "2")
    await core.full()
    assert core.target.texts() == {"keep": "k", "edited": "2"}
    assert core.problems() == {}


async def test_an_upload_with_a_lost_answer_is_ours(core: Core) -> None:
    await in_step(core, keep="k")
    core.write("a", "1")
    core.target.failures["a"] = [Retry("no answer", ambiguous=True)]
    await core.full()
    core.target.put_by("me", "a", "1")
    core.remove("a")
    await core.full()
    assert core.target.texts() == {"keep": "k"}


async def test_orphans_that_were_kept_at_first_stay_ours(core: Core) -> None:
    core.target.put_by("me", "old", "of a lost journal")
    core.write("a", "1")
    core.use(prune="never")
    await core.full()
    core.clock.forward(3 * 3600)
    await core.full()
    core.use()
    assert plan(await core.full(force=True)) == [("delete", "old", "orphan")]


async def test_a_listing_that_shows_a_former_version_shows_ours(core: Core) -> None:
    await in_step(core, a="1", b="2")
    before = core.target.store["a"]
    core.write("a", "2, longer")
    await core.full()
    core.target.store["a"] = before
    await core.full()
    assert core.problems() == {}
    assert core.target.texts()["a"] == "2, longer"


async def test_claims_are_settled_by_a_later_listing(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_step(core, keep="k")
    core.write("a", "1")
    await killed_after_upload(core, monkeypatch)
    assert core.mirror.claims.get(["a"]) == {"a": {("", "")}}
    del core.target.store["a"]
    core.remove("a")
    core.clock.forward(1)
    await core.full()
    assert core.mirror.claims.get(["a"]), "it may still land"
    core.clock.forward(3601)
    await core.full()
    assert core.mirror.claims.get(["a"]) == {}
    core.target.put_by("me", "a", "theirs")
    await core.full()
    assert core.problems() == {"a": "foreign"}


@pytest.mark.parametrize("set_by_s", [-86_400.0, 7200.0, 86_400.0])
async def test_a_clock_that_is_set_settles_no_claim(
    core: Core, monkeypatch: pytest.MonkeyPatch, set_by_s: float
) -> None:
    await in_step(core, keep="k")
    core.write("a", "1")
    await killed_after_upload(core, monkeypatch)
    core.remove("a")
    core.clock.now += set_by_s
    core.target.unlisted = {"a"}
    await core.full()
    core.target.unlisted = set()
    await core.full()
    assert core.target.texts() == {"keep": "k"}
    assert core.problems() == {}


async def test_an_outcome_that_is_recorded_leaves_no_claim(core: Core) -> None:
    await in_step(core, **{f"{number}": "x" for number in range(30)})
    assert core.mirror.claims.get([f"{number}" for number in range(30)]) == {}
    core.write("0", "y")
    await core.full()
    assert len(core.mirror.claims.get(["0"])["0"]) == 1, "what it was before"


async def test_a_put_that_is_not_sent_leaves_only_the_claim_of_an_earlier_put(core: Core) -> None:
    await in_step(core, keep="k")
    # A killed process has sent "a", and its outcome was not recorded.
    core.mirror.claims.add_puts(["a"], core.clock.age)
    core.target.put_by("me", "a", "old")
    core.write("a", "new")
    core.write("b", "new")
    core.target.failures = {key: [FileChanged("it went away")] for key in ("a", "b")}
    await core.full()
    assert core.mirror.claims.puts(["a", "b"]) == {"a"}
    core.remove("a")
    core.remove("b")
    assert plan(await core.full()) == [("delete", "a", "orphan")]
    assert core.problems() == {}


@pytest.mark.parametrize("keeps_files", [True, False])
async def test_the_late_entry_of_a_killed_put_is_ours_beside_that_of_the_next_put(
    core: Core, *, keeps_files: bool
) -> None:
    await in_step(core, keep="k")
    core.target.limits = replace(core.target.limits, keeps_files=keeps_files)
    # A killed process has sent "a" with another content, which no listing shows yet.
    core.mirror.claims.add_puts(["a"], core.clock.age)
    core.write("a", "new")
    assert plan(await core.full()) == [("put", "a", "new")]
    # Such a target has an entry for each content, so the earlier entry may appear later.
    assert core.mirror.claims.puts(["a", "keep"]) == (set() if keeps_files else {"a"})


async def test_a_claim_is_on_the_disk_before_anything_is_sent(core: Core) -> None:
    said: list[str] = []
    core.mirror.db.set_trace_callback(said.append)
    core.mirror.claims.add_puts(["a"], 1.0)
    assert said[0].endswith("synchronous = FULL")
    assert said[-1].endswith("synchronous = NORMAL")
    assert Claims(core.mirror.db, "docs").get(["a"]) == {"a": {("", "")}}


async def test_an_entry_of_a_former_prefix_stays_as_long_as_its_file(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listing(self: ScriptedTarget) -> list[Entry]:
        entries = [self._entry(key, held) for key, held in self.store.items()]
        return [entry._replace(prefix="old/" if entry.key.startswith("old/") else "") for entry in entries]

    monkeypatch.setattr(ScriptedTarget, "listing", listing)
    await in_step(core, c="3")
    for name in ("old/a", "old/b"):
        core.target.put_by("me", name, "1")
        held = core.target.store[name]
        core.mirror.claims.add(name, (held.ref, held.checksum), core.clock.age)
    core.write("a", "1")
    assert plan(await core.full()) == [("put", "a", "new"), ("delete", "old/b", "orphan")]
    core.remove("a")
    assert set(plan(await core.full())) == {("delete", "a", "stale"), ("delete", "old/a", "orphan")}


async def test_an_entry_under_the_key_of_an_unfinished_put_may_be_an_earlier_one(core: Core) -> None:
    await in_step(core, a="1")
    observed = Observed("a", None, None, Entry("a", "m1", owner="another"), "listing")
    assert is_replaced_by_other(core.mirror, observed)
    core.mirror.claims.add_puts(["a"], core.clock.age)
    assert not is_replaced_by_other(core.mirror, observed)
    assert not is_replaced_by_other(core.mirror, observed._replace(entry=Entry("a", "m1", owner="me")))


@pytest.mark.parametrize(
    ("limits", "key"),
    [(Limits(max_key_length=80), "x" * 120), (Limits(max_key_length=400, max_key_bytes=80), "\u00e9" * 60)],
)
async def test_an_entry_that_is_recorded_under_its_short_name_is_claimed(core: Core, limits: Limits, key: str) -> None:
    core.target.limits = limits
    entry = Entry(key, "r", "c")
    assert claims_of_short_name(core.mirror, entry) == set()
    core.mirror.journal.put(Record(remote_name(key, limits.max_key_length, limits.max_key_bytes), "r", "c", 1, 1.0))
    assert claims_of_short_name(core.mirror, entry) == {("r", "c")}
    assert claims_of_short_name(core.mirror, entry._replace(checksum=None)) == {("r", "")}
    assert claims_of_short_name(core.mirror, entry._replace(ref="other")) == set()
    assert claims_of_short_name(core.mirror, entry._replace(key="short")) == set()


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("takeover", [False, True])
async def test_the_entries_of_other_writers_are_marked_in_any_mixture(
    core: Core, *, complete: bool, takeover: bool
) -> None:
    await in_step(core, keep="k")
    core.use(takeover=takeover)
    if not complete:
        core.forget_listing()
    policy, lacking = core.mirror.policy, (None, False, True)
    records = [None, *(Record("a", "r", "c", 1, 1.0, marked=marked) for marked in lacking)]
    entries = [
        Entry("a", ref, checksum, owner=owner, marked=marked)
        for ref in ("r", "other")
        for checksum in (None, "c", "d")
        for owner in (None, "me", "another")
        for marked in lacking
    ]
    theirs = 0
    for record in records:
        for entry in entries:
            block = [Observed("a", None, record, entry, "listing"), Observed("a", None, record, None, "key", [entry])]
            expected = is_of_another_writer(record, entry, policy, (), complete=complete)
            first, second = mark_other_writers(core.mirror, block, delete_excluded=False)
            assert first.entry == entry._replace(of_other_writer=expected)
            assert second.others == [entry._replace(of_other_writer=expected)]
            only_known = block[0]._replace(seen="journal")
            assert mark_other_writers(core.mirror, [only_known], delete_excluded=False) == [only_known]
            theirs += expected
    assert theirs > 0


async def test_only_the_entries_of_an_earlier_prefix_are_not_marked_if_a_person_wants_them_deleted(core: Core) -> None:
    await in_step(core, keep="k")
    block = [
        Observed("old/a", None, None, Entry("old/a", "r", "c", owner="me", prefix="old/"), "listing"),
        Observed("b", None, None, Entry("b", "r", "c", owner="me", prefix=""), "listing"),
    ]
    for delete_excluded, expected in ((False, [True, True]), (True, [False, True])):
        judged = mark_other_writers(core.mirror, block, delete_excluded=delete_excluded)
        assert [each.entry and each.entry.of_other_writer for each in judged] == expected


# -- the claims of an earlier entry


@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("held", ["same", "changed", "moved", "none"])
async def test_the_earlier_entry_stays_claimed_and_the_claim_of_the_put_ends(
    core: Core, held: str, *, takeover: bool
) -> None:
    await in_step(core, **{"a.md": "a"})
    core.use(takeover=takeover)
    claims, before = core.mirror.claims, core.mirror.journal.get("a.md")
    assert before
    claims.add_puts(["a.md"], core.clock.age)
    now = {
        "same": Stored(before.ref, before.checksum, 1),
        "changed": Stored(before.ref, sha("b"), 1),
        "moved": Stored("other", before.checksum, 1),
        "none": None,
    }[held]
    claim_previous(core.mirror, "a.md", now)
    expected = set() if held == "same" else {(before.ref, before.checksum)}
    put = {UNKNOWN} if takeover or held == "none" else set()
    assert claims.get(["a.md"]).get("a.md", set()) == expected | put


async def test_an_adopted_entry_ends_the_claim_of_its_put(core: Core) -> None:
    core.target.put_by("me", "a.md", "a")
    core.write("a.md", "a")
    core.mirror.claims.add_puts(["a.md"], core.clock.age)
    assert (await core.full()).done == {"adopt": 1}
    assert core.mirror.claims.get(["a.md"]) == {}
