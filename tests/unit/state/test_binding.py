"""What a journal keeps when its mirror gets another target or key prefix."""

from structlog.testing import capture_logs

from syncd.state.ownership import Claims, bind
from tests.harness import Core, in_step, sha


def bound(core: Core, location: str, prefix: str = "") -> list[str]:
    with capture_logs() as logs:
        bind(core.mirror.db, "docs", location, prefix)
    return [line["event"] for line in logs]


async def test_the_first_binding_and_the_same_binding_keep_the_records(core: Core) -> None:
    await in_step(core, **{"a.md": "a"})
    assert bound(core, "account/kv") == []
    assert bound(core, "account/kv") == []
    assert core.mirror.journal.count() == 1
    assert core.mirror.claims.complete


async def test_another_target_has_no_records_and_no_claims(core: Core) -> None:
    await in_step(core, **{"a.md": "a"})
    bound(core, "account/kv")
    assert bound(core, "account/other") == ["journal.rebound"]
    assert core.mirror.journal.count() == 0
    assert Claims(core.mirror.db, "docs").get(["a.md"]) == {}
    assert not core.mirror.claims.complete
    assert bound(core, "account/other") == []


async def test_another_prefix_claims_the_entries_of_the_former_one(core: Core) -> None:
    await in_step(core, **{"a.md": "a"})
    record = core.mirror.journal.get("a.md")
    assert record is not None
    bound(core, "account/kv")
    assert bound(core, "account/kv", "new/") == ["journal.rebound"]
    assert core.mirror.journal.count() == 0
    assert Claims(core.mirror.db, "docs").get(["a.md"]) == {"a.md": {(record.ref, sha("a"))}}
    assert not core.mirror.claims.complete
