"""`verify` finds every difference and changes nothing. `pull` restores the exact bytes."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.state.directory import INSTALLATION_NAME
from tests.e2e.harness import ACCOUNT, Workspace, files_of, lose_state, open_workspace

EVERY_BYTE = bytes(range(256)) * 20
KV = (
    '[mirrors.docs]\npath = "{docs}"\nkey_prefix = "p/"\nsettle = 0.05\n'
    '[mirrors.docs.target]\ntype = "kv"\nnamespace_title = "docs"\ncreate = true\n'
)


@pytest.fixture(params=["ai-search", "kv"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    """Yield five files that are in step: text, binary, deep, and a file with special characters in its name."""
    with open_workspace(tmp_path) as workspace:
        workspace.configure(mirror='key_prefix = "p/"')
        if request.param == "kv":
            head = f'state_dir = "{workspace.state}"\n[cloudflare]\naccount_id = "{ACCOUNT}"\n'
            where = f'base_url = "{workspace.server.base_url}"\nquota = ""\ntpslimit = 0\n'
            workspace.config.write_text(head + where + KV.format(docs=workspace.docs))
        workspace.write("a.md", "# text\r\n\ttäxt 😀\n")
        workspace.write("deep/er/b.png", EVERY_BYTE)
        workspace.write("deep/c.md", b"\xef\xbb\xbfwith a mark")
        workspace.write("ü & é.txt", "name")
        workspace.write("no-utf-8.txt", b"\xff\xfe\x00x")
        assert workspace.syncd("reconcile").code == 0
        workspace.remote.forget_requests()
        yield workspace


def differences(workspace: Workspace, *options: str, code: int = 6) -> dict[str, str]:
    seen = workspace.syncd("verify", "--json", *options)
    assert seen.code == code, seen.err
    told: dict[str, Any] = seen.json()
    assert told["exit_code"] == code
    return {each["key"]: each["difference"] for each in told["mirrors"]["docs"]["differences"]}


def test_verify_of_a_mirror_in_step_is_0_and_changes_nothing(workspace: Workspace) -> None:
    before = (workspace.state / "state.db").read_bytes()
    for options in ((), ("--deep",), ("--deep", "docs")):
        seen = workspace.syncd("verify", "--json", *options)
        assert seen.code == 0, seen.out
        deep = "--deep" in options
        assert seen.json() == {"mirrors": {"docs": {"checked": 5, "differences": [], "deep": deep}}, "exit_code": 0}
    assert workspace.remote.counted()["changing"] == 0
    assert (workspace.state / "state.db").read_bytes() == before


def test_missing_changed_and_extra_entries_are_reported_and_not_changed(workspace: Workspace) -> None:
    workspace.write("new.md", "new")
    workspace.write("a.md", "changed")
    (workspace.docs / "deep/c.md").unlink()
    wanted = {"p/new.md": "missing", "p/a.md": "changed", "p/deep/c.md": "extra"}
    assert differences(workspace) == wanted
    assert differences(workspace, "--deep") == wanted
    shown = workspace.syncd("verify")
    assert (shown.code, all(key in shown.out for key in wanted)) == (6, True)
    assert workspace.remote.counted()["changing"] == 0


def test_a_lost_state_makes_no_difference(workspace: Workspace) -> None:
    lose_state(workspace.state)
    assert differences(workspace, code=0) == {}
    assert [path.name for path in workspace.state.iterdir()] == [INSTALLATION_NAME]


def test_a_missing_folder_is_3(workspace: Workspace) -> None:
    workspace.docs.rename(workspace.path / "away")
    seen = workspace.syncd("verify", "--json")
    assert (seen.code, "nothing was deleted" in seen.json()["mirrors"]["docs"]["error"]) == (3, True)


def test_an_unknown_mirror_is_a_usage_error(workspace: Workspace) -> None:
    assert workspace.syncd("verify", "nothing").code == 2
    assert workspace.syncd("pull", "out", "--mirror", "nothing").code == 2


def test_only_deep_finds_other_bytes_with_unchanged_marks(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md", "the text")
        workspace.write("b.md", "another")
        workspace.syncd("reconcile")
        marks = next(item for item in workspace.remote.items() if item["key"] == "a.md")["metadata"]
        workspace.remote.upload("a.md", b"tHe text", sha256=marks["sha256"], owner=marks["owner"])
        lose_state(workspace.state)
        assert differences(workspace, code=0) == {}
        assert differences(workspace, "--deep") == {"a.md": "changed"}


def test_a_foreign_entry_of_a_local_key_is_reported_and_other_foreign_entries_are_not(
    tmp_path: Path,
) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.remote.create("docs")
        workspace.remote.upload("a.md", b"theirs", owner="them")
        workspace.remote.upload("alone.md", b"theirs", owner="them")
        workspace.write("a.md", "ours")
        assert differences(workspace) == {"a.md": "foreign"}


def test_a_too_large_file_is_a_difference_and_an_unsupported_file_is_none(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.configure(target="create = true\nmax_file_size = 10")
        workspace.write("large.md", "more than ten bytes")
        workspace.write("film.mkv", "no text")
        workspace.write("empty.md", "")
        assert differences(workspace) == {"large.md": "too_large"}


def test_pull_restores_the_exact_bytes_and_a_second_pull_writes_nothing(workspace: Workspace) -> None:
    out = workspace.path / "new" / "out"
    seen = workspace.syncd("pull", str(out))
    assert (seen.code, "5 written" in seen.out) == (0, True), seen.err
    assert files_of(out) == files_of(workspace.docs)
    seen = workspace.syncd("pull", str(out), "--json")
    assert (seen.code, seen.json()["result"]["unchanged"], seen.json()["problems"]) == (0, 5, [])
    assert workspace.remote.counted()["changing"] == 0


def test_a_differing_file_is_named_and_kept_until_it_is_forced(workspace: Workspace) -> None:
    out = workspace.path / "out"
    out.mkdir()
    (out / "a.md").write_text("mine")
    seen = workspace.syncd("pull", str(out), "--mirror", "docs")
    assert (seen.code, "p/a.md" in seen.out, "4 written" in seen.out) == (1, True, True)
    assert (out / "a.md").read_text() == "mine"
    assert workspace.syncd("pull", str(out), "--force").code == 0
    assert files_of(out) == files_of(workspace.docs)


def test_pull_needs_no_state_and_no_folder(workspace: Workspace) -> None:
    wanted = files_of(workspace.docs)
    lose_state(workspace.state)
    shutil.rmtree(workspace.docs)
    assert workspace.syncd("pull", str(workspace.path / "out")).code == 0
    assert files_of(workspace.path / "out") == wanted


def test_forged_keys_lead_nowhere(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.remote.create("docs")
        for key in ("../forged.md", "a/../../forged.md", "/forged.md", "link/forged.md", "good.md"):
            workspace.remote.upload(key, b"text", owner="docs")
        (workspace.path / "out").mkdir()
        (workspace.path / "out/link").symlink_to(workspace.path / "state", target_is_directory=True)
        seen = workspace.syncd("pull", "out", "--force", "--json")
        assert (seen.code, seen.json()["result"]["written"], seen.json()["result"]["refused"]) == (1, 1, 4)
        assert not list(workspace.path.rglob("forged*"))


def test_a_missing_target_is_3(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.configure(target="")
        for arguments in (("verify",), ("pull", "out")):
            assert workspace.syncd(*arguments).code == 3


def test_a_replaced_entry_that_is_still_listed_is_not_missing(tmp_path: Path) -> None:
    with open_workspace(tmp_path, on_existing="conflict", list_lag=2) as workspace:
        workspace.write("a.md", "first")
        workspace.write("b.md", "other")
        assert workspace.syncd("reconcile").code == 0
        workspace.write("a.md", "second")
        assert workspace.syncd("reconcile").code == 0
        assert differences(workspace, "--deep", code=0) == {}
        workspace.remote.delete(next(item["id"] for item in workspace.remote.items() if item["key"] == "b.md"))
        assert differences(workspace, "--deep") == {"b.md": "missing"}
