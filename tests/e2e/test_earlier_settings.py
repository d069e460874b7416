"""Entries from earlier settings stay until their file is gone, or `--delete-excluded`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import ACCOUNT, Workspace, open_workspace

TARGETS = {
    "ai-search": 'type = "ai-search"\ninstance = "docs"\ncreate = true',
    "kv": 'type = "kv"\nnamespace_title = "docs"\ncreate = true',
}


class Settled:
    """A mirror with one kind of target. The test changes its config."""

    def __init__(self, workspace: Workspace, kind: str) -> None:
        self.workspace = workspace
        self._kind = kind
        for name in ("a.md", "b.md", "sub/c.md"):
            workspace.write(name, f"text of {name}")

    def configure(self, mirror: str) -> None:
        workspace = self.workspace
        workspace.config.write_text(
            f'state_dir = "{workspace.state}"\n[cloudflare]\naccount_id = "{ACCOUNT}"\n'
            f'base_url = "{workspace.server.base_url}"\n'
            'quota = ""\n'
            f'tpslimit = 0\nretry_for = 5\n[mirrors.docs]\npath = "{workspace.docs}"\nmax_delete = "100%"\n{mirror}\n'
            f"[mirrors.docs.target]\n{TARGETS[self._kind]}\n",
            encoding="utf-8",
        )

    def passes(self, *options: str, code: int = 0) -> None:
        ended = self.workspace.syncd("reconcile", *options)
        assert ended.code == code, ended.err

    def keys(self) -> list[str]:
        return sorted(row["key"] for row in self.workspace.syncd("ls", "--remote", "--json").json()["items"])

    def lose_state(self) -> None:
        for file in self.workspace.state.glob("state.db*"):
            file.unlink()


@pytest.fixture(params=list(TARGETS))
def settled(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Settled]:
    with open_workspace(tmp_path) as workspace:
        yield Settled(workspace, request.param)


ALL = ["a.md", "b.md", "sub/c.md"]
OLD = [f"old/{name}" for name in ALL]


@pytest.mark.parametrize("lost", [False, True])
def test_entries_under_a_former_prefix_stay(settled: Settled, lost: bool) -> None:
    settled.configure('key_prefix = "old/"')
    settled.passes()
    if lost:
        settled.lose_state()
    settled.configure("")
    for _ in range(3):
        settled.passes()
        assert settled.keys() == sorted(ALL + OLD)
    (settled.workspace.docs / "b.md").unlink()
    settled.passes()
    # Without the state, another mirror of this owner may have written the entry.
    assert settled.keys() == sorted({*ALL, *OLD} - {"b.md"} - (set() if lost else {"old/b.md"}))
    settled.passes("--delete-excluded")
    assert settled.keys() == ["a.md", "sub/c.md"]


def test_a_new_prefix_leaves_entries_outside_of_it(settled: Settled) -> None:
    settled.configure("")
    settled.passes()
    settled.configure('key_prefix = "sub/"')
    for _ in range(2):
        settled.passes()
        assert {"sub/a.md", "sub/b.md", "sub/sub/c.md", "sub/c.md"} <= {*settled.keys()}
    settled.configure("")
    settled.passes()
    assert {*ALL} <= {*settled.keys()}


def test_mirrors_of_two_owners_leave_each_others_entries_alone(settled: Settled) -> None:
    settled.configure('key_prefix = "x/"\nowner = "one"')
    settled.passes()
    settled.lose_state()
    settled.configure('owner = "two"')
    for _ in range(2):
        settled.passes()
        assert settled.keys() == sorted([*ALL, *(f"x/{name}" for name in ALL)])
    settled.passes("--delete-excluded")
    assert settled.keys() == sorted([*ALL, *(f"x/{name}" for name in ALL)])


def test_a_narrower_choice_of_files_deletes_nothing_unless_asked(settled: Settled) -> None:
    settled.configure("")
    settled.passes()
    settled.configure('include = ["sub/**"]')
    settled.passes()
    assert settled.keys() == ALL
    settled.lose_state()
    settled.passes()
    assert settled.keys() == ALL
    settled.passes("--delete-excluded")
    assert settled.keys() == ["sub/c.md"]
