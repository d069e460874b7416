"""Two machines mirror folders of the same name into one target."""

from pathlib import Path

import pytest

from syncd.config.sources import load
from syncd.service.build import open_session
from tests.e2e.harness import ACCOUNT, TOKEN, Workspace, lose_state, open_workspace


def machine(workspace: Workspace, name: str, owner: str = "") -> tuple[Path, Workspace]:
    """Return a folder `docs` and a workspace of another machine with the same stand-in."""
    other = Workspace(workspace.path / name, workspace.server, workspace.remote)
    other.docs.mkdir(parents=True)
    other.config.write_text(
        f'state_dir = "{other.state}"\n[cloudflare]\naccount_id = "{ACCOUNT}"\n'
        f'base_url = "{workspace.server.base_url}"\n'
        f'quota = ""\ntpslimit = 0\nretry_for = 5\n[mirrors.docs]\npath = "{other.docs}"\n{owner}\n'
        '[mirrors.docs.target]\ntype = "ai-search"\ninstance = "docs"\ncreate = true\n',
        encoding="utf-8",
    )
    return other.docs, other


def test_two_machines_leave_each_others_entries_alone(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        machines = [machine(workspace, name)[1] for name in ("a", "b")]
        for each in machines:
            each.write(f"{each.path.name}.md", f"text of {each.path.name}")
        for each in (*machines, *machines):
            assert each.syncd("reconcile").code == 0
        assert sorted(workspace.remote.files()) == ["a.md", "b.md"]
        owners = {each.status()["owner"] for each in machines}
        assert len(owners) == 2
        assert owners == {item["metadata"]["owner"] for item in workspace.remote.items()}


def test_a_file_whose_key_the_other_machine_holds_is_named_and_the_code_is_1(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        (_, one), (_, other) = machine(workspace, "a"), machine(workspace, "b")
        for each in (one, other):
            each.write("both.md", f"text of {each.path.name}")
        assert one.syncd("reconcile").code == 0
        assert other.syncd("reconcile").code == 1
        assert [problem["kind"] for problem in other.status()["problems"]] == ["foreign"]
        checks = {each["what"]: each for each in other.syncd("check", "--json").json()["checks"]}
        assert checks["docs: owner"]["level"] == "warn"
        assert workspace.remote.files() == {"both.md": b"text of a"}


def test_a_machine_with_a_lost_state_keeps_its_owner(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        _, one = machine(workspace, "a")
        one.write("a.md", "text")
        assert one.syncd("reconcile").code == 0
        lose_state(one.state)
        assert one.syncd("reconcile", "--json").json()["mirrors"]["docs"]["plan"]["adopt"] == 1


async def test_a_recreated_machine_with_its_state_keeps_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An example is a container, whose machine id and host name change with its image."""
    with open_workspace(tmp_path) as workspace:
        _, one = machine(workspace, "a")
        config = load(one.config, {"CLOUDFLARE_API_TOKEN": TOKEN})
        async with open_session(config) as before:
            first = before.config.mirrors["docs"].owner
        monkeypatch.setattr("socket.gethostname", lambda: "made-anew")
        async with open_session(config) as after:
            assert after.config.mirrors["docs"].owner == first


def test_an_owner_copied_from_another_mirror_is_refused(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        _, one = machine(workspace, "a")
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
