"""The decision table (docs/design.md): each row is a test case.

L, J, R on one-letter fixtures: x y z are contents, "-" is absent, "!" a file that cannot be read, "#" one that the
rules leave out. An entry is content@owner: x@me carries our marks, x@you another's, y@- none but the opaque version
of content y, x@? none but a checksum that was verified.
"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.model import Adopt, Delete, Entry, Excluded, Forget, Item, Local, Problem, Put, Record
from syncd.core.plan import (
    BRAKE_FLOOR,
    Ask,
    BrakeInput,
    Claim,
    Decision,
    Policy,
    Prune,
    Source,
    brake,
    decide,
    is_of_another_writer,
    is_ours,
    known_checksum,
    same_entry,
)

ME = Policy(owner="me")


def local(letter: str) -> Local:
    match letter:
        case "-":
            return None
        case "!":
            return Problem("k", "unreadable", "let syncd read it")
        case "#":
            return Excluded("k", "exclude: k")
    return Item("k", "k", size=ord(letter), mtime_ns=1, ctime_ns=1, inode=1, checksum=letter)


def record(letter: str, *, marked: bool | None = None) -> Record | None:
    if letter == "-":
        return None
    return Record("k", "r", letter, ord(letter), 1.0, version=f"v{letter}", remote_size=ord(letter), marked=marked)


def entry(text: str) -> Entry | None:
    if text == "-":
        return None
    letter, owner = text.split("@")
    match owner:
        case "-":
            return Entry("k", "r", None, f"v{letter}", ord(letter), marked=False)
        case "?":
            return Entry("k", "r", letter, f"v{letter}", ord(letter), marked=False)
    return Entry("k", "r", letter, f"v{letter}", ord(letter), owner, marked=True)


def word(decision: Decision) -> str:
    match decision:
        case None:
            return "-"
        case Ask():
            return f"ask {decision.question}"
        case Problem():
            return f"problem {decision.kind}"
        case _:
            return f"{decision.kind} {decision.reason}"


TABLE: list[tuple[str, str, str, str, Source, str]] = [
    # sentence, L, J, R, where R was seen, what to do
    ("in step", "x", "x", "x@me", "listing", "-"),
    ("in step without marks, by the version we recorded", "x", "x", "x@-", "listing", "-"),
    ("in step as far as the journal knows", "x", "x", "x@me", "journal", "-"),
    ("a new file is put", "x", "-", "-", "listing", "put new"),
    ("a new file is put after asking by key", "x", "-", "-", "key", "put new"),
    ("a hint of a new file asks whether the key is taken", "x", "-", "-", "journal", "ask confirm"),
    ("a changed file is put", "x", "y", "y@me", "listing", "put changed"),
    ("a changed file is put without a listing", "x", "y", "y@me", "journal", "put changed"),
    ("a changed file is put over an unmarked entry that is ours by record", "x", "y", "y@-", "listing", "put changed"),
    ("a changed file is put whatever stands there instead", "x", "y", "z@me", "listing", "put changed"),
    ("a changed file is put if its entry is gone as well", "x", "y", "-", "listing", "put changed"),
    ("an entry absent from one listing is asked for", "x", "x", "-", "listing", "ask confirm"),
    ("an entry that is truly missing is put", "x", "x", "-", "key", "put missing"),
    ("drift in a listing, which may lag, is asked for", "x", "x", "z@me", "listing", "ask confirm"),
    ("drift that is confirmed is put over", "x", "x", "z@me", "key", "put drift"),
    ("verified drift without marks is put over", "x", "x", "z@?", "key", "put drift"),
    ("an equal entry of ours is adopted", "x", "-", "x@me", "listing", "adopt found"),
    ("an equal entry is adopted after a crash behind the write", "x", "y", "x@me", "listing", "adopt found"),
    ("an equal entry under no mark is adopted", "x", "-", "x@?", "key", "adopt found"),
    ("our own older content without a record is put over", "x", "-", "y@me", "listing", "put changed"),
    ("no evidence and no record: verify", "x", "-", "x@-", "listing", "ask verify"),
    ("no evidence against the record: in step", "x", "x", "x@-", "key", "-"),
    ("an unmarked entry with another version: verify", "x", "x", "z@-", "listing", "ask verify"),
    ("a file gone: its entry is stale", "-", "y", "y@me", "listing", "delete stale"),
    ("a file gone, without a listing", "-", "y", "y@me", "journal", "delete stale"),
    ("a file gone: its unmarked entry is stale", "-", "y", "y@-", "listing", "delete stale"),
    ("a file gone and other content of ours in its place", "-", "y", "z@me", "listing", "delete stale"),
    ("a file gone and other unmarked content in its place", "-", "y", "z@-", "listing", "delete stale"),
    ("file and entry gone from one listing: ask", "-", "y", "-", "listing", "ask confirm"),
    ("file and entry gone: the record goes", "-", "y", "-", "key", "forget gone"),
    ("an entry with our mark and no file is an orphan", "-", "-", "y@me", "listing", "delete orphan"),
    ("an unmarked entry without file and record is untouched", "-", "-", "y@-", "listing", "-"),
    ("another's entry without file is untouched", "-", "-", "y@you", "listing", "-"),
    ("another's mark beats our record when the file is gone", "-", "y", "y@you", "listing", "forget gone"),
    ("another's entry is foreign", "x", "-", "y@you", "listing", "problem foreign"),
    ("another's entry is foreign even with equal content", "x", "-", "x@you", "listing", "problem foreign"),
    ("another's mark beats our record", "x", "x", "x@you", "listing", "problem foreign"),
    ("another's mark beats our record of older content", "x", "y", "y@you", "listing", "problem foreign"),
    ("other content under no mark and without record is foreign", "x", "-", "z@?", "key", "problem foreign"),
    ("other size under no mark and without record is foreign at once", "x", "-", "z@-", "listing", "problem foreign"),
    ("nothing anywhere is nothing to do", "-", "-", "-", "listing", "-"),
    *(
        (f"an unreadable file protects whatever is known: J={j} R={r} by {seen}", "!", j, r, seen, "problem unreadable")
        for seen in ("listing", "key", "journal")
        for j in "-y"
        for r in ("-", "y@me", "z@me", "y@you", "y@-", "z@?")
    ),
    *((f"an excluded file leaves J={j} R={r} alone", "#", j, r, "listing", "-") for j in "-y" for r in ("-", "y@me")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("here", "known", "there", "seen", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_the_table(here: str, known: str, there: str, seen: Source, expected: str) -> None:
    assert expected == word(decide(local(here), record(known), entry(there), ME, seen))


@pytest.mark.parametrize(
    ("sentence", "here", "known", "there", "expected"),
    [
        ("another's entry is put over", "x", "-", "y@you", "put drift"),
        ("another's entry with equal content is put over, to carry our mark", "x", "-", "x@you", "put drift"),
        ("other content under no mark is put over", "x", "-", "z@?", "put drift"),
        ("equal content under no mark is adopted as ever", "x", "-", "x@?", "adopt found"),
        ("another's entry without a file stays: takeover is no prune", "-", "-", "y@you", "-"),
        ("another's entry whose file is gone is forgotten, not deleted", "-", "y", "y@you", "forget gone"),
    ],
)
def test_takeover(sentence: str, here: str, known: str, there: str, expected: str) -> None:
    takeover = replace(ME, takeover=True)
    assert expected == word(decide(local(here), record(known), entry(there), takeover, "key")), sentence


@pytest.mark.parametrize(
    ("prune", "known", "there", "expected"),
    [
        ("owned", "-", "y@me", "delete orphan"),
        ("owned", "-", "y@you", "-"),
        ("owned", "-", "y@-", "-"),
        ("all", "-", "y@me", "delete orphan"),
        ("all", "-", "y@you", "delete orphan"),
        ("all", "-", "y@-", "delete orphan"),
        ("all", "y", "y@you", "delete stale"),
        ("never", "-", "y@me", "-"),
        ("never", "y", "y@me", "-"),
        ("never", "y", "y@-", "-"),
        ("never", "y", "y@you", "-"),
        ("never", "y", "-", "forget gone"),
    ],
)
def test_prune_says_which_entries_without_a_file_go(prune: Prune, known: str, there: str, expected: str) -> None:
    policy = replace(ME, prune=prune)
    assert expected == word(decide(None, record(known), entry(there), policy, "key"))


def test_prune_all_does_not_overwrite_a_foreign_entry_that_has_a_file() -> None:
    assert word(decide(local("x"), None, entry("y@you"), replace(ME, prune="all"), "key")) == "problem foreign"


def test_the_remedy_for_a_foreign_entry_names_the_mirror_since_others_may_share_the_config() -> None:
    found = decide(local("x"), None, entry("y@you"), replace(ME, mirror="docs"), "key")
    assert isinstance(found, Problem)
    assert found.message.endswith(": syncd reconcile --takeover docs")


FILE = Item("k", "path", size=5, mtime_ns=1, ctime_ns=1, inode=1, checksum="x")
OLD = Record("k", "old", "y", 7, 1.0)
THERE = Entry("k", "there", "y", size=7, owner="me", marked=True)
LEFT_ALONE = "; it is left alone. To make it this mirror's: syncd reconcile --takeover"
TWIN = "has the mark of this mirror, but another writer wrote it (each folder needs its own `owner` in the config)"


@pytest.mark.parametrize(
    ("here", "known", "there", "takeover", "decision"),
    [
        (FILE, None, None, False, Put("k", "new", "path", 5)),
        (FILE, OLD, None, False, Put("k", "changed", "path", 5, "old")),
        (FILE, replace(OLD, checksum="x"), None, False, Put("k", "missing", "path", 5)),
        (FILE, OLD, THERE, False, Put("k", "changed", "path", 5, "there")),
        (FILE, None, THERE, False, Put("k", "changed", "path", 5, "there")),
        (FILE, replace(OLD, checksum="x"), THERE, False, Put("k", "drift", "path", 5, "there")),
        (FILE, None, THERE._replace(owner="you"), True, Put("k", "drift", "path", 5, "there")),
        (FILE, None, THERE._replace(owner=None), True, Put("k", "drift", "path", 5, "there")),
        (None, OLD, None, False, Forget("k", "gone")),
        (None, OLD, THERE._replace(owner="you"), False, Forget("k", "gone")),
        (None, OLD, THERE, False, Delete("k", "stale", "k", "there")),
        (FILE, None, THERE._replace(owner="you"), False, f"the remote entry belongs to owner 'you'{LEFT_ALONE}"),
        (
            FILE,
            None,
            THERE._replace(owner=None),
            False,
            f"the remote entry was put there by someone else, with other content{LEFT_ALONE}",
        ),
        (FILE, None, THERE._replace(of_other_writer=True), False, f"the remote entry {TWIN}{LEFT_ALONE}"),
        (None, OLD, THERE._replace(of_other_writer=True), False, f"the remote entry {TWIN}{LEFT_ALONE}"),
        (None, OLD, THERE._replace(of_other_writer=True, prefix="old/"), False, Forget("k", "gone")),
        (None, None, THERE._replace(of_other_writer=True, prefix="old/"), False, None),
        (None, None, THERE._replace(of_other_writer=True, owner=None), False, None),
    ],
)
def test_a_decision_names_the_entry_the_file_and_the_reason(
    here: Local, known: Record | None, there: Entry | None, *, takeover: bool, decision: Decision | str
) -> None:
    expected = Problem("k", "foreign", decision) if isinstance(decision, str) else decision
    assert decide(here, known, there, replace(ME, takeover=takeover), "key") == expected


@pytest.mark.parametrize(
    ("known", "there", "expected"),
    [
        ("-", "y@me", True),
        ("y", "y@me", True),
        ("-", "y@-", False),
        ("y", "y@-", True),
        ("-", "y@you", False),
        ("y", "y@you", False),
    ],
)
def test_an_entry_is_ours_by_its_mark_or_by_a_record(known: str, there: str, expected: bool) -> None:
    found = entry(there)
    assert found is not None
    assert expected is is_ours(record(known), found, ME)


def item_x() -> Item:
    found = local("x")
    assert isinstance(found, Item)
    return found


def test_a_remote_checksum_that_is_the_sha_256_of_the_file_is_evidence() -> None:
    assert known_checksum(item_x(), None, Entry("k", "r", version="x", size=999)) == "x"


def test_a_mark_is_better_evidence_than_what_the_record_remembers() -> None:
    marked = Entry("k", "r", checksum="z", version="vx", size=ord("x"), owner="me", marked=True)
    assert known_checksum(item_x(), record("x"), marked) == "z"


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"version": None}, True),
        ({"size": None}, True),
        ({"ref": "other"}, False),
        ({"version": "vz"}, False),
        ({"size": 7}, False),
    ],
)
def test_an_entry_is_what_was_recorded_unless_the_remote_says_otherwise(change: dict[str, Any], same: bool) -> None:
    known, there = record("x"), Entry("k", "r", version="vx", size=ord("x"), marked=False)
    assert known is not None
    assert same is same_entry(known, there._replace(**change))
    assert (known_checksum(item_x(), known, there._replace(**change)) == "x") is same


def test_an_entry_that_lost_our_marks_is_not_the_one_we_wrote() -> None:
    known, there = record("x", marked=True), entry("x@-")
    assert known is not None
    assert there is not None
    assert not same_entry(known, there)
    assert word(decide(local("x"), known, there, ME, "listing")) == "ask verify"


def test_another_size_is_no_evidence_where_a_record_exists_since_remotes_count_differently() -> None:
    there = Entry("k", "other", size=1)
    assert known_checksum(item_x(), record("x"), there) is None


def test_adopting_keeps_all_that_the_remote_says() -> None:
    there = Entry("k", "r9", "x", "v9", 9, "me", marked=True, status="error", error="too long")
    assert decide(local("x"), None, there, ME, "listing") == Adopt(
        "k", "found", "r9", "x", ord("x"), "v9", 9, marked=True, status="error", error="too long"
    )


def test_a_new_ref_of_the_same_content_is_adopted_so_that_the_record_follows() -> None:
    moved = Record("k", "r", "x", 1, 1.0).entry("me")._replace(ref="r2")
    decision = decide(local("x"), record("x"), moved, ME, "listing")
    assert isinstance(decision, Adopt)
    assert decision.ref == "r2"


def test_a_put_names_the_entry_it_replaces() -> None:
    assert decide(local("x"), record("y"), entry("y@me"), ME, "listing") == Put("k", "changed", "k", ord("x"), "r")
    assert decide(local("x"), None, None, ME, "key") == Put("k", "new", "k", ord("x"), None)


def test_a_delete_looks_for_its_file_without_the_prefix() -> None:
    policy, there = replace(ME, prefix="p/"), Entry("p/a", "r", owner="me")
    assert decide(None, None, there, policy, "listing") == Delete("p/a", "orphan", "a", "r")


def test_the_entry_of_a_record_has_all_that_the_record_knows_of_it() -> None:
    known = Record("k", "r", "y", 1, 2.0, "v", 3, marked=True, status="error", error="why", pass_id=4)
    entry_of_it = Entry("k", "r", "y", "v", 3, "me", marked=True, status="error", error="why")
    assert known.entry("me") == entry_of_it
    assert Record.of("k", Adopt("k", "found", "r", "y", 1, "v", 3, True, "error", "why"), 2.0, 4) == known


# -- properties

letters = st.sampled_from("xyz")
locals_ = st.one_of(st.sampled_from("-!#"), letters).map(local)
records = st.builds(record, st.sampled_from("-xyz"), marked=st.sampled_from([None, True, False]))
entries = st.one_of(
    st.none(),
    st.builds(
        Entry,
        key=st.just("k"),
        ref=st.sampled_from(["r", "other"]),
        checksum=st.one_of(st.none(), letters),
        version=st.sampled_from([None, "vx", "vy", "x"]),
        size=st.sampled_from([None, ord("x"), ord("y"), 0]),
        owner=st.sampled_from([None, "me", "you"]),
        marked=st.sampled_from([None, True, False]),
    ),
)
policies = st.builds(
    Policy, owner=st.just("me"), prune=st.sampled_from(["owned", "all", "never"]), takeover=st.booleans()
)
sources: st.SearchStrategy[Source] = st.sampled_from(["listing", "key", "journal"])


@given(locals_, records, entries, policies, sources)
def test_a_foreign_entry_is_deleted_only_with_prune_all(
    here: Local, known: Record | None, there: Entry | None, policy: Policy, seen: Source
) -> None:
    decision = decide(here, known, there, policy, seen)
    if there is not None and there.owner == "you" and policy.prune != "all":
        assert not isinstance(decision, Delete)
        assert policy.takeover or not isinstance(decision, Put)


@given(locals_, records, entries, policies, sources)
def test_a_delete_needs_an_absent_file_an_entry_and_a_right_to_it(
    here: Local, known: Record | None, there: Entry | None, policy: Policy, seen: Source
) -> None:
    decision = decide(here, known, there, policy, seen)
    if isinstance(decision, Delete):
        assert here is None
        assert there is not None
        assert there.ref == decision.ref
        assert policy.prune == "all" or (policy.prune == "owned" and is_ours(known, there, policy))
    if isinstance(decision, Forget):
        assert known is not None
        assert here is None


@given(records, entries, policies, sources)
def test_a_problem_never_leads_to_an_action(
    known: Record | None, there: Entry | None, policy: Policy, seen: Source
) -> None:
    problem = Problem("k", "unreadable", "let syncd read it")
    assert decide(problem, known, there, policy, seen) is problem


@given(locals_, records, entries, policies)
def test_questions_end(here: Local, known: Record | None, there: Entry | None, policy: Policy) -> None:
    # After one answer by key and one verified checksum there is nothing left to ask.
    if there is not None:
        there = there._replace(checksum=there.checksum or "z")
    assert not isinstance(decide(here, known, there, policy, "key"), Ask)


@given(letters, policies, sources)
def test_a_key_is_in_step_after_a_put(content: str, policy: Policy, seen: Source) -> None:
    assert decide(local(content), record(content, marked=True), entry(f"{content}@me"), policy, seen) is None


# -- brake


@pytest.mark.parametrize(
    ("sentence", "deletes", "recent", "known", "max_delete", "allowed"),
    [
        ("a percentage at n-1", 24, 0, 100, "25%", None),
        ("a percentage at n", 25, 0, 100, "25%", None),
        ("a percentage at n+1", 26, 0, 100, "25%", 25),
        ("a count at n-1", 19, 0, 1000, 20, None),
        ("a count at n", 20, 0, 1000, 20, None),
        ("a count at n+1", 21, 0, 1000, 20, 20),
        ("a count written as text", 21, 0, 1000, "20", 20),
        ("the floor at n-1", BRAKE_FLOOR - 1, 0, 10, "25%", None),
        ("the floor at n", BRAKE_FLOOR, 0, 10, "25%", None),
        ("the floor at n+1", BRAKE_FLOOR + 1, 0, 11, "25%", 2),
        ("a count under the floor does not lower it", 10, 0, 100, 3, None),
        ("a count under the floor counts above it", 11, 0, 100, 3, 3),
        ("zero refuses a single delete", 1, 0, 1000, 0, 0),
        ("zero as text refuses a single delete", 1, 0, 1000, "0", 0),
        ("zero per cent refuses a single delete", 1, 0, 1000, "0%", 0),
        ("zero per cent with a fraction refuses a single delete", 1, 0, 1000, "0.0%", 0),
        ("zero per cent written at length refuses a single delete", 1, 0, 1000, "0.00%", 0),
        ("zero lets a plan without deletes pass", 0, 0, 1000, 0, None),
        ("a plan without deletes passes whatever went before", 0, 900, 1000, "25%", None),
        ("deletes of the last hour count", 5, 21, 79, "25%", 25),
        ("deletes of the last hour count as known", 5, 20, 80, "25%", None),
        ("deletes of the last hour count for the floor", 1, BRAKE_FLOOR, 10, 5, 5),
        ("everything may go if that is what was said", 500, 0, 500, "100%", None),
    ],
)
def test_the_brake(
    sentence: str, deletes: int, recent: int, known: int, max_delete: str | int, allowed: int | None
) -> None:
    assert allowed == brake(BrakeInput(deletes, recent, known, max_delete)), sentence


def test_a_percentage_is_rounded_down() -> None:
    assert BrakeInput(1, 0, 99, "25%").allowed == 24
    assert BrakeInput(1, 0, 199, "0.5%").allowed == 0


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_more_deletes_never_pass_where_fewer_were_refused(deletes: int, recent: int, known: int) -> None:
    if deletes and brake(BrakeInput(deletes, recent, known, "25%")) is not None:
        assert brake(BrakeInput(deletes + 1, recent, known, "25%")) is not None


OURS = Entry("new/a", "1", "x", owner="me", marked=True, prefix="new/")
FORMER = OURS._replace(key="old/a", prefix="old/")
WRITTEN = Record("new/a", "1", "x", 1, 0.0, marked=True)


@pytest.mark.parametrize(
    ("record", "entry", "claims", "another"),
    [
        (WRITTEN, OURS, set(), False),
        (WRITTEN, OURS._replace(checksum=None), set(), False),
        (WRITTEN, OURS._replace(checksum="y"), set(), True),
        (WRITTEN, OURS._replace(ref="2"), set(), True),
        (WRITTEN, OURS._replace(ref="2"), {("2", "x")}, False),
        (WRITTEN, OURS._replace(ref="2"), {("2", "y")}, True),
        (WRITTEN, OURS._replace(ref="2", checksum=None), {("2", "")}, False),
        (WRITTEN, OURS._replace(ref="2"), {("", "")}, False),
        (WRITTEN, OURS._replace(owner=None, marked=False), set(), True),
        (WRITTEN, OURS._replace(owner=None, marked=False, ref="2"), set(), False),
        (WRITTEN, OURS._replace(owner="you"), set(), False),
        (None, OURS, set(), True),
        (None, OURS._replace(checksum=None), {("1", "x")}, False),
        (None, OURS._replace(checksum=None), {("2", "x")}, True),
        (None, OURS._replace(checksum=None, marked=False), {("1", "x")}, True),
        (None, FORMER, set(), True),
        (None, FORMER, {("1", "x")}, False),
        (None, FORMER, {("", "")}, True),
        (None, FORMER._replace(checksum=None), {("1", "")}, False),
    ],
)
def test_another_writer_is_told_by_record_and_claims(
    record: Record | None, entry: Entry, claims: set[Claim], *, another: bool
) -> None:
    policy = Policy("me", "new/")
    assert is_of_another_writer(record, entry, policy, claims, complete=True) == another
    takeover = is_of_another_writer(record, entry, replace(policy, takeover=True), claims, complete=True)
    assert takeover == (another and entry.owner is None)
    # An incomplete journal trusts the mark, except for the mark of another prefix.
    incomplete = is_of_another_writer(record, entry, policy, claims, complete=False)
    assert incomplete == (another and (entry.owner is None or entry.prefix == "old/"))
