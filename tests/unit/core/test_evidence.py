"""Why an entry may be deleted, and why we believe that the remote has some content: decided in values."""

from dataclasses import replace

import pytest

from syncd.core.evidence import DeleteContext, content_evidence, delete_log_entry, why, with_evidence
from syncd.core.model import Delete, Entry, Excluded, Item, Local, Record
from syncd.core.plan import BrakeInput

STALE, ORPHAN = Delete("p/a.md", "stale", "a.md", "r1"), Delete("p/a.md", "orphan", "a.md", "r1")
FILE = Item("p/a.md", "a.md", 1, 2, 3, 4)
ENTRY = Entry("p/a.md", "r1", owner="me")
RECORD = Record("p/a.md", "r1", "5e", 9, 100.0)


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
        ("duplicate", "r2", "a second entry of its key; r2, the one of the file, stays"),
    ],
)
def test_each_kind_has_its_sentence(evidence: str, detail: str, said: str) -> None:
    delete = replace(STALE, evidence=evidence, detail=detail)  # type: ignore[arg-type]
    assert said in why(delete, 7, "me")


def backing(deletes: int, *, recent: int = 0, force: bool = False) -> DeleteContext:
    return DeleteContext(7, BrakeInput(deletes, recent, 100, "25%"), force=force)


@pytest.mark.parametrize(
    ("behind", "passed"),
    [
        (backing(25), "within max_delete"),
        (backing(26), "up to 10 always pass"),
        (backing(26, force=True), "forced"),
        (backing(20, recent=6), "within max_delete"),
    ],
)
def test_the_log_entry_names_the_reason_why_the_brake_let_the_plan_pass(behind: DeleteContext, passed: str) -> None:
    brake = delete_log_entry(STALE, behind)["brake"]
    assert isinstance(brake, dict)
    assert brake["passed"] == passed
    assert (brake["planned"], brake["last_hour"]) == (behind.load.deletes, behind.load.recent)


def test_the_log_entry_names_the_consent_and_the_rule() -> None:
    behind = DeleteContext(7, BrakeInput(1, 0, 4, 5), force=True, delete_excluded=True, takeover=True, prune="all")
    told = delete_log_entry(replace(STALE, evidence="excluded", detail="exclude: x"), behind)
    assert told["consent"] == ["--force", "--takeover", "--delete-excluded", 'prune = "all"']
    assert told["evidence"] == {"kind": "excluded", "pass": 7, "rule": "exclude: x"}
    assert delete_log_entry(STALE, backing(1))["consent"] == []


@pytest.mark.parametrize(
    ("record", "digests", "downloaded", "said"),
    [
        (replace(RECORD, marked=True, version="M"), ("m",), True, "the mark of the entry"),
        (replace(RECORD, version="M"), ("m",), True, "a known digest"),
        (replace(RECORD, version="5e"), (), False, "a known digest"),
        (replace(RECORD, version="v7"), ("m",), True, "downloaded and hashed"),
        (replace(RECORD, version="v7", remote_size=9), ("m",), False, "the same values: checksum v7, 9 bytes"),
        (RECORD, (), False, "only the journal"),
    ],
)
def test_the_best_evidence_is_named(record: Record, digests: tuple[str, ...], downloaded: bool, said: str) -> None:
    assert said in content_evidence(record, digests, downloaded=downloaded)
