"""The commands of `syncd kv` as people and scripts use them, with the stand-in."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import syncd
from tests.e2e.harness import ACCOUNT, Workspace, open_workspace

EVERY_BYTE = bytes(range(256)) * 20
NOBODY = "0" * 32


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(tmp_path) as workspace:
        # A test that starts the program as a shell does must run the program under test.
        workspace.environment["PYTHONPATH"] = str(Path(syncd.__file__).parents[1])
        account_only(workspace)
        yield workspace


def account_only(workspace: Workspace, more: str = "") -> None:
    """Write a config without mirrors. more: lines at its end."""
    account = (
        f'[cloudflare]\naccount_id = "{ACCOUNT}"\nbase_url = "{workspace.server.base_url}"\nquota = ""\ntpslimit = 0\n'
    )
    workspace.config.write_text(f'state_dir = "{workspace.state}"\n{account}{more}')


def mirror_of(name: str, title: str) -> str:
    target = f'[mirrors.{name}.target]\ntype = "kv"\nnamespace_title = "{title}"\n'
    return f'[mirrors.{name}]\npath = "{name}"\nkey_prefix = "{name}/"\n{target}'


def made(workspace: Workspace, title: str = "docs") -> str:
    seen = workspace.syncd("kv", "create", title, "--json")
    assert seen.code == 0, seen.err
    namespace_id: str = seen.json()["id"]
    return namespace_id


def titles(workspace: Workspace) -> list[str]:
    return [each["title"] for each in workspace.syncd("kv", "namespaces", "--json").json()["namespaces"]]


def raw(workspace: Workspace, *arguments: str) -> bytes:
    """Return the bytes that the program writes."""
    return subprocess.run(
        workspace.command(*arguments), env=workspace.env(), cwd=workspace.path, check=True, capture_output=True
    ).stdout


def test_namespaces_are_made_renamed_listed_and_deleted_without_any_mirror(workspace: Workspace) -> None:
    namespace_id = made(workspace)
    assert made(workspace, "other") != namespace_id
    assert titles(workspace) == ["docs", "other"]
    assert workspace.syncd("kv", "rename", namespace_id, "texts").code == 0
    seen = workspace.syncd("kv", "namespaces")
    assert (namespace_id in seen.out, "texts" in seen.out) == (True, True)
    assert workspace.syncd("kv", "delete", namespace_id, "--yes").code == 0
    assert titles(workspace) == ["other"]


def test_a_title_that_exists_is_reported_in_one_line(workspace: Workspace) -> None:
    namespace_id = made(workspace)
    made(workspace, "other")
    for arguments in (("create", "docs"), ("rename", namespace_id, "other")):
        seen = workspace.syncd("kv", *arguments)
        assert (seen.code, seen.out, seen.err.count("\n")) == (1, "", 1)
        assert "already" in seen.err


def test_nothing_is_deleted_without_a_terminal_for_the_question(workspace: Workspace) -> None:
    namespace_id = made(workspace)
    process = workspace.really("kv", "delete", namespace_id)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, b"--yes" in err) == (2, b"", True)
    assert titles(workspace) == ["docs"]


def test_a_missing_namespace_is_3_and_names_the_existing_titles(workspace: Workspace) -> None:
    made(workspace)
    for arguments in (
        ("delete", NOBODY, "--yes"),
        ("rename", NOBODY, "x"),
        ("keys", "--namespace", NOBODY),
        ("get", "a", "--namespace", "dosc"),
    ):
        seen = workspace.syncd("kv", *arguments)
        assert (seen.code, "there is: 'docs'" in seen.err) == (3, True), arguments


def test_a_title_stands_for_its_id(workspace: Workspace) -> None:
    made(workspace)
    assert workspace.syncd("kv", "rename", "docs", "pages").code == 0
    assert titles(workspace) == ["pages"]
    assert workspace.syncd("kv", "delete", "pages", "--yes").code == 0
    assert titles(workspace) == []
    missing = workspace.syncd("kv", "delete", "pages", "--yes")
    assert (missing.code, "no KV namespace has the title 'pages'" in missing.err) == (3, True)


def test_a_value_comes_back_byte_for_byte(workspace: Workspace) -> None:
    namespace_id = made(workspace)
    (workspace.path / "value").write_bytes(EVERY_BYTE)
    key = "a b/ü?%2F#&.bin"
    assert workspace.syncd("kv", "put", key, str(workspace.path / "value"), "--namespace", "docs").code == 0
    for name in ("docs", namespace_id):
        assert raw(workspace, "kv", "get", key, "--namespace", name) == EVERY_BYTE


def test_metadata_and_expiration_are_stored_and_shown(workspace: Workspace) -> None:
    made(workspace)
    value = str(workspace.write("value"))
    more = ("--namespace", "docs")
    put = ("kv", "put", "p/a", value, "--metadata", '{"lang": "de", "n": 1}', "--expiration-ttl", "3600", *more)
    assert workspace.syncd(*put).code == 0
    assert workspace.syncd("kv", "put", "b", value, *more).code == 0
    assert workspace.syncd("kv", "meta", "p/a", "--json", *more).json() == {
        "key": "p/a",
        "metadata": {"lang": "de", "n": 1},
    }
    assert workspace.syncd("kv", "meta", "b", "--json", *more).json()["metadata"] is None
    rows = workspace.syncd("kv", "keys", "--json", *more).json()["keys"]
    assert [(row["name"], row["expiration"] is None) for row in rows] == [("b", True), ("p/a", False)]
    rows = workspace.syncd("kv", "keys", "--prefix", "p/", "--json", *more).json()["keys"]
    assert [row["name"] for row in rows] == ["p/a"]
    table = workspace.syncd("kv", "keys", *more).out
    assert ("p/a" in table, '"lang":"de"' in table) == (True, True)


def test_an_entry_that_expires_after_all_times_is_listed(workspace: Workspace) -> None:
    account_only(workspace)
    made(workspace)
    (workspace.path / "value").write_text("x")
    put = ("kv", "put", "key", str(workspace.path / "value"), "--namespace", "docs", "--expiration-ttl", "9999999d")
    assert workspace.syncd(*put).code == 0
    assert "9999-12-31 23:59:59Z" in workspace.syncd("kv", "keys", "--namespace", "docs").out


@pytest.mark.parametrize("metadata", ["[1]", "no json", '"text"', "null"])
def test_metadata_other_than_an_object_is_a_usage_error(workspace: Workspace, metadata: str) -> None:
    made(workspace)
    seen = workspace.syncd("kv", "put", "a", str(workspace.write("a")), "--metadata", metadata, "--namespace", "docs")
    assert (seen.code, "JSON object" in seen.err) == (2, True)


def test_an_unreadable_file_is_a_usage_error_and_a_too_large_file_is_named(workspace: Workspace) -> None:
    made(workspace)
    assert workspace.syncd("kv", "put", "a", str(workspace.path / "nothing"), "--namespace", "docs").code == 2
    large = workspace.path / "large"
    with large.open("wb") as file:
        file.truncate(25 * 1024 * 1024 + 1)
    seen = workspace.syncd("kv", "put", "a", str(large), "--namespace", "docs")
    assert (seen.code, "(25 MiB)" in seen.err) == (1, True)


def test_a_missing_key_is_one_clear_line(workspace: Workspace) -> None:
    made(workspace)
    for what in ("get", "meta"):
        seen = workspace.syncd("kv", what, "nothing here", "--namespace", "docs")
        assert (seen.code, seen.out, seen.err.count("\n")) == (1, "", 1)
        assert "no key 'nothing here'" in seen.err


def test_many_keys_go_in_one_request_and_absent_ones_count_as_removed(workspace: Workspace) -> None:
    made(workspace)
    value = str(workspace.write("value"))
    for key in ("a", "b", "c"):
        workspace.syncd("kv", "put", key, value, "--namespace", "docs")
    workspace.remote.forget_requests()
    workspace.state.mkdir(mode=0o700, exist_ok=True)
    seen = workspace.syncd("kv", "rm", "a", "b", "nothing", "a", "--json", "--namespace", "docs")
    assert (seen.code, seen.json()) == (0, {"removed": ["a", "b", "nothing"], "failed": {}})
    assert workspace.remote.counted()["changing"] == 1
    assert [row["name"] for row in workspace.syncd("kv", "keys", "--json", "--namespace", "docs").json()["keys"]] == [
        "c"
    ]
    lines = [json.loads(line) for line in (workspace.state / "deletes.jsonl").read_text().splitlines()]
    assert [(line["target"], line["key"], line["reason"]) for line in lines] == [
        ("kv:docs", key, "by_hand") for key in ("a", "b", "nothing")
    ]


def test_one_key_is_removed_by_its_url_or_if_no_url_can_contain_it_in_bulk(workspace: Workspace) -> None:
    made(workspace)
    workspace.syncd("kv", "put", "a b/ü", str(workspace.write("value")), "--namespace", "docs")
    for key in ("a b/ü", "a b/ü", "a\nb"):
        seen = workspace.syncd("kv", "rm", key, "--json", "--namespace", "docs")
        assert (seen.code, seen.json()) == (0, {"removed": [key], "failed": {}})
    assert workspace.syncd("kv", "keys", "--json", "--namespace", "docs").json()["keys"] == []
    seen = workspace.syncd("kv", "rm", ".", "--json", "--namespace", "docs")
    assert (seen.code, list(seen.json()["failed"])) == (1, ["."])


def test_the_only_kv_mirror_selects_the_namespace(workspace: Workspace) -> None:
    made(workspace)
    account_only(workspace, mirror_of("one", "docs"))
    assert workspace.syncd("kv", "put", "a", str(workspace.write("a"))).code == 0
    account_only(workspace, mirror_of("one", "docs") + mirror_of("two", "docs"))
    assert workspace.syncd("kv", "get", "a").out == "some text"


def test_without_exactly_one_namespace_the_choices_are_named(workspace: Workspace) -> None:
    seen = workspace.syncd("kv", "keys")
    assert (seen.code, "no kv mirror" in seen.err) == (2, True)
    account_only(workspace, mirror_of("one", "docs") + mirror_of("two", "texts"))
    seen = workspace.syncd("kv", "keys")
    assert (seen.code, "docs (mirror one), texts (mirror two)" in seen.err) == (2, True)


def test_other_commands_need_a_mirror(workspace: Workspace) -> None:
    seen = workspace.syncd("status")
    assert (seen.code, "mirrors" in seen.err) == (2, True)


def test_a_refused_token_is_3_and_not_repeated(tmp_path: Path) -> None:
    with open_workspace(tmp_path, token="another") as workspace:
        seen = workspace.syncd("kv", "namespaces", "--json")
        assert (seen.code, seen.out) == (3, "")


def test_no_command_shows_the_group(workspace: Workspace) -> None:
    seen = workspace.syncd("kv")
    assert (seen.code, all(word in seen.err for word in ("namespaces", "keys", "rm"))) == (2, True)
    assert json.dumps(workspace.syncd("--help").out).count("kv  ") == 1
