"""`syncd kv …` as people and scripts meet it, over the stand-in."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import syncd
from tests.e2e.harness import ACCOUNT, Room, open_room

EVERY_BYTE = bytes(range(256)) * 20
NOBODY = "0" * 32


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path) as room:
        # The very program under test, wherever it lies, also where a test starts it the way a shell does.
        room.environment["PYTHONPATH"] = str(Path(syncd.__file__).parents[1])
        account_only(room)
        yield room


def account_only(room: Room, more: str = "") -> None:
    """A config without any mirror, and lines that stand at its end."""
    account = f'[cloudflare]\naccount_id = "{ACCOUNT}"\nbase_url = "{room.server.base_url}"\ntpslimit = 0\n'
    room.config.write_text(f'state_dir = "{room.state}"\n{account}{more}')


def mirror_of(name: str, title: str) -> str:
    target = f'[mirrors.{name}.target]\ntype = "kv"\nnamespace_title = "{title}"\n'
    return f'[mirrors.{name}]\npath = "{name}"\nkey_prefix = "{name}/"\n{target}'


def made(room: Room, title: str = "docs") -> str:
    seen = room.syncd("kv", "create", title, "--json")
    assert seen.code == 0, seen.err
    namespace_id: str = seen.json()["id"]
    return namespace_id


def titles(room: Room) -> list[str]:
    return [each["title"] for each in room.syncd("kv", "namespaces", "--json").json()["namespaces"]]


def raw(room: Room, *arguments: str) -> bytes:
    """What the program writes, byte for byte."""
    return subprocess.run(
        room.command(*arguments), env=room.env(), cwd=room.path, check=True, capture_output=True
    ).stdout


def test_namespaces_are_made_renamed_listed_and_deleted_without_any_mirror(room: Room) -> None:
    namespace_id = made(room)
    assert made(room, "other") != namespace_id
    assert titles(room) == ["docs", "other"]
    assert room.syncd("kv", "rename", namespace_id, "texts").code == 0
    seen = room.syncd("kv", "namespaces")
    assert (namespace_id in seen.out, "texts" in seen.out) == (True, True)
    assert room.syncd("kv", "delete", namespace_id, "--yes").code == 0
    assert titles(room) == ["other"]


def test_a_taken_title_is_said_in_one_line(room: Room) -> None:
    namespace_id = made(room)
    made(room, "other")
    for arguments in (("create", "docs"), ("rename", namespace_id, "other")):
        seen = room.syncd("kv", *arguments)
        assert (seen.code, seen.out, seen.err.count("\n")) == (1, "", 1)
        assert "already" in seen.err


def test_nothing_is_deleted_when_nobody_is_there_to_be_asked(room: Room) -> None:
    namespace_id = made(room)
    process = room.really("kv", "delete", namespace_id)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, b"--yes" in err) == (2, b"", True)
    assert titles(room) == ["docs"]


def test_a_namespace_that_is_not_there_is_3_with_the_titles_that_are(room: Room) -> None:
    made(room)
    for arguments in (
        ("delete", NOBODY, "--yes"),
        ("rename", NOBODY, "x"),
        ("keys", "--namespace", NOBODY),
        ("get", "a", "--namespace", "dosc"),
    ):
        seen = room.syncd("kv", *arguments)
        assert (seen.code, "there is: 'docs'" in seen.err) == (3, True), arguments


def test_what_is_no_id_is_a_usage_error(room: Room) -> None:
    made(room)
    for arguments in (("delete", "docs", "--yes"), ("rename", "docs", "x")):
        assert room.syncd("kv", *arguments).code == 2
    assert titles(room) == ["docs"]


def test_a_value_comes_back_byte_for_byte(room: Room) -> None:
    namespace_id = made(room)
    (room.path / "value").write_bytes(EVERY_BYTE)
    key = "a b/ü?%2F#&.bin"
    assert room.syncd("kv", "put", key, str(room.path / "value"), "--namespace", "docs").code == 0
    for name in ("docs", namespace_id):
        assert raw(room, "kv", "get", key, "--namespace", name) == EVERY_BYTE


def test_metadata_and_expiration_are_stored_and_shown(room: Room) -> None:
    made(room)
    value = str(room.write("value"))
    more = ("--namespace", "docs")
    put = ("kv", "put", "p/a", value, "--metadata", '{"lang": "de", "n": 1}', "--expiration-ttl", "3600", *more)
    assert room.syncd(*put).code == 0
    assert room.syncd("kv", "put", "b", value, *more).code == 0
    assert room.syncd("kv", "meta", "p/a", "--json", *more).json() == {"key": "p/a", "metadata": {"lang": "de", "n": 1}}
    assert room.syncd("kv", "meta", "b", "--json", *more).json()["metadata"] is None
    rows = room.syncd("kv", "keys", "--json", *more).json()["keys"]
    assert [(row["name"], row["expiration"] is None) for row in rows] == [("b", True), ("p/a", False)]
    rows = room.syncd("kv", "keys", "--prefix", "p/", "--json", *more).json()["keys"]
    assert [row["name"] for row in rows] == ["p/a"]
    table = room.syncd("kv", "keys", *more).out
    assert ("p/a" in table, '"lang":"de"' in table) == (True, True)


@pytest.mark.parametrize("metadata", ["[1]", "no json", '"text"', "null"])
def test_metadata_that_is_no_object_is_a_usage_error(room: Room, metadata: str) -> None:
    made(room)
    seen = room.syncd("kv", "put", "a", str(room.write("a")), "--metadata", metadata, "--namespace", "docs")
    assert (seen.code, "JSON object" in seen.err) == (2, True)


def test_a_file_that_cannot_be_read_is_a_usage_error_and_one_too_large_is_named(room: Room) -> None:
    made(room)
    assert room.syncd("kv", "put", "a", str(room.path / "nothing"), "--namespace", "docs").code == 2
    large = room.path / "large"
    with large.open("wb") as file:
        file.truncate(25 * 1024 * 1024 + 1)
    seen = room.syncd("kv", "put", "a", str(large), "--namespace", "docs")
    assert (seen.code, "26214400" in seen.err) == (1, True)


def test_a_missing_key_is_one_clear_line(room: Room) -> None:
    made(room)
    for what in ("get", "meta"):
        seen = room.syncd("kv", what, "nothing here", "--namespace", "docs")
        assert (seen.code, seen.out, seen.err.count("\n")) == (1, "", 1)
        assert "no key 'nothing here'" in seen.err


def test_many_keys_go_in_one_request_and_absent_ones_count_as_removed(room: Room) -> None:
    made(room)
    value = str(room.write("value"))
    for key in ("a", "b", "c"):
        room.syncd("kv", "put", key, value, "--namespace", "docs")
    room.remote.forget_requests()
    room.state.mkdir(mode=0o700, exist_ok=True)
    seen = room.syncd("kv", "rm", "a", "b", "nothing", "a", "--json", "--namespace", "docs")
    assert (seen.code, seen.json()) == (0, {"removed": ["a", "b", "nothing"], "failed": {}})
    assert room.remote.counted()["changing"] == 1
    assert [row["name"] for row in room.syncd("kv", "keys", "--json", "--namespace", "docs").json()["keys"]] == ["c"]
    lines = [json.loads(line) for line in (room.state / "deletes.jsonl").read_text().splitlines()]
    assert [(line["target"], line["key"], line["reason"]) for line in lines] == [
        ("kv:docs", key, "by_hand") for key in ("a", "b", "nothing")
    ]


def test_the_only_kv_mirror_says_which_namespace_is_meant(room: Room) -> None:
    made(room)
    account_only(room, mirror_of("one", "docs"))
    assert room.syncd("kv", "put", "a", str(room.write("a"))).code == 0
    account_only(room, mirror_of("one", "docs") + mirror_of("two", "docs"))
    assert room.syncd("kv", "get", "a").out == "some text"


def test_without_exactly_one_namespace_the_choice_is_named(room: Room) -> None:
    seen = room.syncd("kv", "keys")
    assert (seen.code, "no kv mirror" in seen.err) == (2, True)
    account_only(room, mirror_of("one", "docs") + mirror_of("two", "texts"))
    seen = room.syncd("kv", "keys")
    assert (seen.code, "docs (mirror one), texts (mirror two)" in seen.err) == (2, True)


def test_other_commands_still_want_a_mirror(room: Room) -> None:
    seen = room.syncd("status")
    assert (seen.code, "mirrors" in seen.err) == (2, True)


def test_a_refused_token_is_3_and_not_repeated(tmp_path: Path) -> None:
    with open_room(tmp_path, token="another") as room:
        seen = room.syncd("kv", "namespaces", "--json")
        assert (seen.code, seen.out) == (3, "")


def test_no_command_shows_the_group(room: Room) -> None:
    seen = room.syncd("kv")
    assert (seen.code, all(word in seen.err for word in ("namespaces", "keys", "rm"))) == (2, True)
    assert json.dumps(room.syncd("--help").out).count("kv  ") == 1
