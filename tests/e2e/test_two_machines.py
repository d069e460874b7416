"""Two machines mirror folders of the same name into one target."""

from pathlib import Path

import pytest

from syncd.config.sources import load
from syncd.service.build import open_session
from tests.e2e.harness import ACCOUNT, TOKEN, Room, lose_state, open_room


def machine(room: Room, name: str, owner: str = "") -> tuple[Path, Room]:
    """A folder `docs`, a config and a state directory of another machine on the same stand-in."""
    other = Room(room.path / name, room.server, room.remote)
    other.docs.mkdir(parents=True)
    other.config.write_text(
        f'state_dir = "{other.state}"\n[cloudflare]\naccount_id = "{ACCOUNT}"\nbase_url = "{room.server.base_url}"\n'
        f'tpslimit = 0\nretry_for = 5\n[mirrors.docs]\npath = "{other.docs}"\n{owner}\n'
        '[mirrors.docs.target]\ntype = "ai-search"\ninstance = "docs"\ncreate = true\n',
        encoding="utf-8",
    )
    return other.docs, other


def test_they_leave_each_others_entries_alone(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        machines = [machine(room, name)[1] for name in ("a", "b")]
        for each in machines:
            each.write(f"{each.path.name}.md", f"text of {each.path.name}")
        for each in (*machines, *machines):
            assert each.syncd("reconcile").code == 0
        assert sorted(room.remote.files()) == ["a.md", "b.md"]
        owners = {each.status()["owner"] for each in machines}
        assert len(owners) == 2
        assert owners == {item["metadata"]["owner"] for item in room.remote.items()}


def test_a_file_that_the_other_one_keeps_out_is_named_and_no_success(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        (_, one), (_, other) = machine(room, "a"), machine(room, "b")
        for each in (one, other):
            each.write("both.md", f"text of {each.path.name}")
        assert one.syncd("reconcile").code == 0
        assert other.syncd("reconcile").code == 1
        assert [problem["kind"] for problem in other.status()["problems"]] == ["foreign"]
        checks = {each["what"]: each for each in other.syncd("check", "--json").json()["checks"]}
        assert checks["docs: owner"]["level"] == "warn"
        assert room.remote.files() == {"both.md": b"text of a"}


def test_a_lost_state_is_no_other_machine(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        _, one = machine(room, "a")
        one.write("a.md", "text")
        assert one.syncd("reconcile").code == 0
        lose_state(one.state)
        assert one.syncd("reconcile", "--json").json()["mirrors"]["docs"]["plan"]["adopt"] == 1


async def test_a_machine_that_is_made_anew_over_its_state_is_no_other_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a container, whose machine id and host name change with its image."""
    with open_room(tmp_path) as room:
        _, one = machine(room, "a")
        config = load(one.config, {"CLOUDFLARE_API_TOKEN": TOKEN})
        async with open_session(config) as before:
            first = before.config.mirrors["docs"].owner
        monkeypatch.setattr("socket.gethostname", lambda: "made-anew")
        async with open_session(config) as after:
            assert after.config.mirrors["docs"].owner == first


def test_an_owner_copied_from_another_mirror_is_refused(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        _, one = machine(room, "a")
        assert one.syncd("reconcile").code == 0
        text = one.config.read_text(encoding="utf-8")
        (one.path / "more").mkdir()
        more = text[text.index("[mirrors.docs]") :].replace("mirrors.docs", "mirrors.more")
        more = more.replace(str(one.docs), str(one.path / "more")).replace(
            "\n\n", f'\nowner = "{one.status()["owner"]}"\n', 1
        )
        one.config.write_text(text + more, encoding="utf-8")
        refused = one.syncd("reconcile")
        assert (refused.code, "key_prefix" in refused.err) == (2, True)
