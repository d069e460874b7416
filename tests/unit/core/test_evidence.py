"""The evidence of deletes, and the lines of the delete log."""

from dataclasses import astuple, replace

import pytest

from syncd.core.model import Delete, Entry, Excluded, Item, Local, Record
from syncd.core.plan import (
    BrakeInput,
    DeleteContext,
    Policy,
    delete_log_entry,
    removal,
    removal_log_entry,
    why,
    with_evidence,
)

STALE, ORPHAN = Delete("p/a.md", "stale", "a.md", "r1"), Delete("p/a.md", "orphan", "a.md", "r1")
FILE = Item("p/a.md", "a.md", 1, 2, 3, 4)
ENTRY = Entry("p/a.md", "r1", owner="me")


@pytest.mark.parametrize(
    ("delete", "local", "everything", "kept", "kind", "detail"),
    [
        (STALE, None, True, None, "absent", ""),
        (STALE, None, False, None, "seen_to_go", ""),
        (STALE, Excluded("p/a.md", "exclude: *.md"), True, None, "excluded", "exclude: *.md"),
        (ORPHAN, Excluded("p/a.md", "exclude: *.md"), True, None, "excluded", "exclude: *.md"),
        (ORPHAN, None, True, None, "orphan", "me"),
        (ORPHAN, None, False, None, "orphan", "me"),
        (ORPHAN, FILE, True, "r2", "duplicate", "r2"),
        # Without a file, the entry it stood beside goes as well.
        (ORPHAN, None, True, "r2", "orphan", "me"),
    ],
)
def test_the_evidence_follows_from_the_second_look(
    delete: Delete, local: Local, everything: bool, kept: str | None, kind: str, detail: str
) -> None:
    found = with_evidence(delete, local, ENTRY, everything=everything, kept=kept)
    assert (found.evidence, found.detail) == (kind, detail)
    assert replace(found, evidence=None, detail="") == delete


def test_an_orphan_without_a_mark_names_no_owner() -> None:
    found = with_evidence(ORPHAN, None, ENTRY._replace(owner=None), everything=True)
    assert (found.evidence, found.detail) == ("orphan", "")
    assert "no mark of an owner" in why(found, 7, "me")
    assert 'prune = "all"' in why(found, 7, "me")


@pytest.mark.parametrize(
    ("evidence", "detail", "said"),
    [
        ("absent", "", "pass 7 read the whole folder and there is no such file"),
        ("seen_to_go", "", "its path was marked for observation"),
        ("excluded", "exclude: *.md", "left out by exclude: *.md, and --delete-excluded was given"),
        ("orphan", "me", "the mark of owner 'me', which is this mirror's"),
        ("orphan", "you", "the mark of owner 'you' (prune = \"all\")"),
        ("duplicate", "r2", "a second entry of its key; the entry r2 of the file stays"),
    ],
)
def test_each_kind_has_its_sentence(evidence: str, detail: str, said: str) -> None:
    delete = replace(STALE, evidence=evidence, detail=detail)  # type: ignore[arg-type]
    assert said in why(delete, 7, "me")


def backing(deletes: int, *, recent: int = 0, force: bool = False) -> DeleteContext:
    return DeleteContext(7, BrakeInput(deletes, recent, 100, "25%"), "m", "kv:t", Policy("me"), force=force)


@pytest.mark.parametrize(
    ("behind", "passed"),
    [
        (backing(25), "within max_delete"),
        (backing(26), "up to 10 always pass"),
        (backing(26, force=True), "forced"),
        (backing(20, recent=6), "within max_delete"),
        (backing(20, recent=7), "up to 10 always pass"),
    ],
)
def test_the_log_entry_names_the_reason_why_the_brake_let_the_plan_pass(behind: DeleteContext, passed: str) -> None:
    brake = delete_log_entry(STALE, behind)["brake"]
    assert isinstance(brake, dict)
    assert brake["passed"] == passed
    assert (brake["planned"], brake["last_hour"]) == (behind.figures.deletes, behind.figures.recent)


@pytest.mark.parametrize(
    ("evidence", "detail", "more"),
    [
        ("absent", "", {}),
        ("seen_to_go", "", {}),
        ("excluded", "exclude: x", {"rule": "exclude: x"}),
        ("orphan", "me", {"owner": "me"}),
        ("orphan", "", {"owner": None}),
        ("duplicate", "r2", {"kept": "r2"}),
    ],
)
def test_a_log_entry_has_the_delete_its_evidence_and_the_numbers_of_the_brake(
    evidence: str, detail: str, more: dict[str, object]
) -> None:
    delete = replace(STALE, evidence=evidence, detail=detail)  # type: ignore[arg-type]
    assert delete_log_entry(delete, backing(3, recent=2)) == {
        "mirror": "m",
        "target": "kv:t",
        "key": "p/a.md",
        "ref": "r1",
        "reason": "stale",
        "evidence": {"kind": evidence, "pass": 7, **more},
        "why": why(delete, 7, "me"),
        "consent": [],
        "brake": {
            "passed": "within max_delete",
            "max_delete": "25%",
            "allowed": 25,
            "planned": 3,
            "last_hour": 2,
            "known": 100,
        },
    }


@pytest.mark.parametrize(
    ("context", "consent"),
    [
        (replace(backing(1), force=True), "--force"),
        (replace(backing(1), policy=Policy("me", takeover=True)), "--takeover"),
        (replace(backing(1), delete_excluded=True), "--delete-excluded"),
        (replace(backing(1), policy=Policy("me", prune="all")), 'prune = "all"'),
    ],
)
def test_the_log_entry_names_the_consent_that_was_given(context: DeleteContext, consent: str) -> None:
    assert delete_log_entry(STALE, context)["consent"] == [consent]


def test_the_log_entry_of_an_unplanned_removal_names_its_kind_twice() -> None:
    assert removal_log_entry("a.md", "r1", "replaced", "it has a successor") == {
        "key": "a.md",
        "ref": "r1",
        "reason": "replaced",
        "evidence": {"kind": "replaced"},
        "why": "it has a successor",
        "consent": [],
        "brake": None,
    }


@pytest.mark.parametrize(
    ("entry", "known", "checksum", "size"),
    [
        (ENTRY._replace(size=5), None, None, 5),
        (ENTRY._replace(checksum="theirs", size=5), None, "theirs", 5),
        (ENTRY._replace(checksum="\xe9", size=5), None, None, 5),
        (ENTRY._replace(checksum="", size=5), "r1", "ours", 7),
        (ENTRY._replace(checksum="\xe9", size=5), "r1", "ours", 7),
        (ENTRY._replace(checksum="theirs", size=5), "r1", "theirs", 7),
        (ENTRY._replace(size=5), "r2", None, 5),
        (ENTRY._replace(checksum="theirs", size=5), "r2", "theirs", 5),
    ],
)
def test_a_delete_has_the_checksum_and_size_of_its_entry_as_far_as_they_are_known(
    entry: Entry, known: str | None, checksum: str | None, size: int
) -> None:
    record = Record("p/a.md", known, "ours", 7, 0.0) if known else None
    found = removal(entry, "stale", Policy("me", "p/"), record)
    # Not compared by ==: checksum, size, counted.
    assert astuple(found) == ("p/a.md", "stale", "a.md", "r1", checksum, None, "", size, True)
