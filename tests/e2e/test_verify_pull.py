"""`verify` finds every difference and changes nothing; `pull` brings back the very bytes."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.state.directory import INSTALLATION_NAME
from tests.e2e.harness import ACCOUNT, Room, files_of, lose_state, open_room

EVERY_BYTE = bytes(range(256)) * 20
KV = (
    '[mirrors.docs]\npath = "{docs}"\nkey_prefix = "p/"\nsettle = 0.05\n'
    '[mirrors.docs.target]\ntype = "kv"\nnamespace_title = "docs"\ncreate = true\n'
)


@pytest.fixture(params=["ai-search", "kv"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    """Five files that are in step: text, binary, deep, and one with a name that needs care."""
    with open_room(tmp_path) as room:
        room.configure(mirror='key_prefix = "p/"')
        if request.param == "kv":
            head = f'state_dir = "{room.state}"\n[cloudflare]\naccount_id = "{ACCOUNT}"\n'
            where = f'base_url = "{room.server.base_url}"\ntpslimit = 0\n'
            room.config.write_text(head + where + KV.format(docs=room.docs))
        room.write("a.md", "# text\r\n\ttäxt 😀\n")
        room.write("deep/er/b.png", EVERY_BYTE)
        room.write("deep/c.md", b"\xef\xbb\xbfwith a mark")
        room.write("ü & é.txt", "name")
        room.write("no-utf-8.txt", b"\xff\xfe\x00x")
        assert room.syncd("reconcile").code == 0
        room.remote.forget_requests()
        yield room


def differences(room: Room, *options: str, code: int = 6) -> dict[str, str]:
    seen = room.syncd("verify", "--json", *options)
    assert seen.code == code, seen.err
    told: dict[str, Any] = seen.json()
    assert told["exit_code"] == code
    return {each["key"]: each["difference"] for each in told["mirrors"]["docs"]["differences"]}


def test_what_is_in_step_is_0_and_nothing_is_changed(room: Room) -> None:
    before = (room.state / "state.db").read_bytes()
    for options in ((), ("--deep",), ("--deep", "docs")):
        seen = room.syncd("verify", "--json", *options)
        assert seen.code == 0, seen.out
        deep = "--deep" in options
        assert seen.json() == {"mirrors": {"docs": {"checked": 5, "differences": [], "deep": deep}}, "exit_code": 0}
    assert room.remote.counted()["changing"] == 0
    assert (room.state / "state.db").read_bytes() == before


def test_missing_changed_and_extra_are_told_and_left_alone(room: Room) -> None:
    room.write("new.md", "new")
    room.write("a.md", "changed")
    (room.docs / "deep/c.md").unlink()
    wanted = {"p/new.md": "missing", "p/a.md": "changed", "p/deep/c.md": "extra"}
    assert differences(room) == wanted
    assert differences(room, "--deep") == wanted
    shown = room.syncd("verify")
    assert (shown.code, all(key in shown.out for key in wanted)) == (6, True)
    assert room.remote.counted()["changing"] == 0


def test_a_lost_state_makes_no_difference(room: Room) -> None:
    lose_state(room.state)
    assert differences(room, code=0) == {}
    assert [path.name for path in room.state.iterdir()] == [INSTALLATION_NAME]


def test_a_missing_folder_is_3(room: Room) -> None:
    room.docs.rename(room.path / "away")
    seen = room.syncd("verify", "--json")
    assert (seen.code, "nothing was deleted" in seen.json()["mirrors"]["docs"]["error"]) == (3, True)


def test_an_unknown_mirror_is_a_usage_error(room: Room) -> None:
    assert room.syncd("verify", "nothing").code == 2
    assert room.syncd("pull", "out", "--mirror", "nothing").code == 2


def test_bytes_that_were_swapped_under_our_marks_are_found_by_deep_alone(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        room.write("a.md", "the text")
        room.write("b.md", "another")
        room.syncd("reconcile")
        marks = next(item for item in room.remote.items() if item["key"] == "a.md")["metadata"]
        room.remote.upload("a.md", b"tHe text", sha256=marks["sha256"], owner=marks["owner"])
        lose_state(room.state)
        assert differences(room, code=0) == {}
        assert differences(room, "--deep") == {"a.md": "changed"}


def test_a_key_that_somebody_else_holds_is_foreign_and_other_entries_of_theirs_are_not_ours_to_tell(
    tmp_path: Path,
) -> None:
    with open_room(tmp_path) as room:
        room.remote.create("docs")
        room.remote.upload("a.md", b"theirs", owner="them")
        room.remote.upload("alone.md", b"theirs", owner="them")
        room.write("a.md", "ours")
        assert differences(room) == {"a.md": "foreign"}


def test_what_is_too_large_is_a_difference_and_what_is_never_mirrored_is_none(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        room.configure(target="create = true\nmax_file_size = 10")
        room.write("large.md", "more than ten bytes")
        room.write("film.mkv", "no text")
        room.write("empty.md", "")
        assert differences(room) == {"large.md": "too_large"}


def test_pull_brings_back_the_very_bytes_and_a_second_time_nothing(room: Room) -> None:
    out = room.path / "new" / "out"
    seen = room.syncd("pull", str(out))
    assert (seen.code, "5 written" in seen.out) == (0, True), seen.err
    assert files_of(out) == files_of(room.docs)
    seen = room.syncd("pull", str(out), "--json")
    assert (seen.code, seen.json()["result"]["unchanged"], seen.json()["problems"]) == (0, 5, [])
    assert room.remote.counted()["changing"] == 0


def test_a_differing_file_is_named_and_kept_until_it_is_forced(room: Room) -> None:
    out = room.path / "out"
    out.mkdir()
    (out / "a.md").write_text("mine")
    seen = room.syncd("pull", str(out), "--mirror", "docs")
    assert (seen.code, "p/a.md" in seen.out, "4 written" in seen.out) == (1, True, True)
    assert (out / "a.md").read_text() == "mine"
    assert room.syncd("pull", str(out), "--force").code == 0
    assert files_of(out) == files_of(room.docs)


def test_pull_needs_no_state_and_no_folder(room: Room) -> None:
    wanted = files_of(room.docs)
    lose_state(room.state)
    shutil.rmtree(room.docs)
    assert room.syncd("pull", str(room.path / "out")).code == 0
    assert files_of(room.path / "out") == wanted


def test_forged_keys_lead_nowhere(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        room.remote.create("docs")
        for key in ("../forged.md", "a/../../forged.md", "/forged.md", "link/forged.md", "good.md"):
            room.remote.upload(key, b"text", owner="docs")
        (room.path / "out").mkdir()
        (room.path / "out/link").symlink_to(room.path / "state", target_is_directory=True)
        seen = room.syncd("pull", "out", "--force", "--json")
        assert (seen.code, seen.json()["result"]["written"], seen.json()["result"]["refused"]) == (1, 1, 4)
        assert not list(room.path.rglob("forged*"))


def test_a_target_that_is_not_there_is_3(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        room.configure(target="")
        for arguments in (("verify",), ("pull", "out")):
            assert room.syncd(*arguments).code == 3
