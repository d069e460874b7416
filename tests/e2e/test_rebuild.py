"""`syncd rebuild`: a second target is filled beside a running daemon, compared, and takes the place of the first."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import Remote, Workspace, files_of, open_workspace, until
from tests.e2e.harness_vectorize import VectorIndex

UPLOAD = "POST /accounts/{account_id}/ai-search/namespaces/{name}/instances/{id}/items"
SETTING = "embedding_model=@cf/baai/bge-m3"
INTO = ("rebuild", "docs", "--into", "docs-2")
LARGE, M3 = "@cf/baai/bge-large-en-v1.5", "@cf/baai/bge-m3"
"""Two models of 1,024 dimensions."""
KILLS = 10


@contextmanager
def two_targets(path: Path, **options: object) -> Iterator[tuple[Workspace, Remote]]:
    """Yield a workspace whose mirror is in step, and the content of the second target."""
    with open_workspace(path, **options) as workspace:
        remote = Remote(workspace.server.base_url, "docs-2")
        try:
            for number in range(8):
                workspace.write(f"part{number % 3}/file{number}.md", f"text of file {number}")
            assert workspace.syncd("reconcile").code == 0
            yield workspace, remote
        finally:
            remote.close()


def uploads(workspace: Workspace) -> int:
    found: int = workspace.remote.counted()["routes"].get(UPLOAD, 0)
    return found


def test_a_rebuild_fills_compares_switches_and_drops_the_old_entries(tmp_path: Path) -> None:
    with two_targets(tmp_path) as (workspace, remote):
        seen = workspace.syncd(*INTO, "--set", SETTING)

        assert seen.code == 0, seen.err
        assert remote.files() == files_of(workspace.docs)
        assert remote.instance()["embedding_model"] == "@cf/baai/bge-m3"
        assert 'instance = "docs"' in workspace.config.read_text()

        seen = workspace.syncd("rebuild", "docs", "--switch")

        assert seen.code == 0, seen.err
        assert 'instance = "docs-2"' in workspace.config.read_text()
        assert 'settings.embedding_model = "@cf/baai/bge-m3"' in workspace.config.read_text()
        assert workspace.status()["target"] == "ai-search:default/docs-2"
        workspace.nothing_left_to_do()
        assert workspace.remote.files() == files_of(workspace.docs)

        workspace.remote.upload("theirs.md", b"of another writer")
        seen = workspace.syncd("rebuild", "docs", "--drop-old")
        assert (seen.code, len(workspace.remote.items())) == (4, 9), seen
        seen = workspace.syncd("rebuild", "docs", "--drop-old", "--force")
        assert (seen.code, list(workspace.remote.files())) == (0, ["theirs.md"]), seen
        assert not list(workspace.state.rglob("*.old"))
        assert remote.files() == files_of(workspace.docs)
        workspace.nothing_left_to_do()
        assert workspace.syncd("rebuild", "docs", "--drop-old").code == 0
        assert workspace.syncd("rebuild", "docs", "--switch").code == 0, "a repeated switch changes nothing"


@pytest.mark.slow
def test_a_daemon_keeps_both_targets_fresh_and_goes_on_with_the_second(tmp_path: Path) -> None:
    with two_targets(tmp_path, latency=0.05) as (workspace, remote), workspace.daemon() as daemon:
        daemon.saw("pass.done")
        running = workspace.start(*INTO, "--switch")
        until(lambda: len(remote.items()) > 0, "the second target begins to fill")
        workspace.write("during.md", "written while the second target is filled")
        workspace.write("part0/file0.md", "changed while the second target is filled")

        seen = running.ended()

        assert seen.code == 0, seen
        assert daemon.events("rebuild.in_effect")
        until(lambda: remote.files() == files_of(workspace.docs), "the second target follows")
        assert workspace.remote.files() == files_of(workspace.docs), "the first target had both edits"
        workspace.write("after.md", "written after the switch")
        until(lambda: "after.md" in remote.files(), "the daemon writes to the second target")
        assert "after.md" not in workspace.remote.files()
        assert not any(event["reason"] == "orphan" for event in daemon.events("delete.done"))
        assert daemon.stop()[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("with_daemon", [False, True])
def test_ten_kills_lose_nothing(tmp_path: Path, *, with_daemon: bool) -> None:
    """A command that is killed at any moment, and begun again, ends in the same state."""
    with two_targets(tmp_path, latency=0.01) as (workspace, remote):
        for number in range(40):
            workspace.write(f"more/file{number}.md", f"more text of file {number}")
        assert workspace.syncd("reconcile").code == 0
        workspace.remote.forget_requests()
        with workspace.daemon() if with_daemon else _nothing():
            chance = random.Random(with_daemon)
            for _ in range(KILLS):
                running = workspace.start(*INTO, "--switch")
                enough = workspace.server.requests.total + chance.randrange(1, 25)
                until(lambda: workspace.server.requests.total >= enough or not running.process.is_alive())  # noqa: B023
                running.kill()
            seen = workspace.syncd(*INTO, "--switch")
            assert seen.code == 0, seen
            assert remote.files() == files_of(workspace.docs)
            assert 'instance = "docs-2"' in workspace.config.read_text()
            assert uploads(workspace) <= 48 + KILLS * 8
            assert list(workspace.path.glob(".syncd.toml*")) == []
        workspace.nothing_left_to_do()
        assert workspace.remote.files() == files_of(workspace.docs)
        assert not (workspace.state / "rebuild" / "docs").exists()


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def test_a_switch_that_a_person_makes_in_the_config_needs_no_upload(tmp_path: Path) -> None:
    """A config that no program can write, such as that of a ConfigMap, is changed elsewhere."""
    with two_targets(tmp_path) as (workspace, remote):
        assert workspace.syncd(*INTO).code == 0
        workspace.config.write_text(workspace.config.read_text().replace('"docs"\ncreate', '"docs-2"\ncreate'))
        workspace.remote.forget_requests()

        seen = workspace.syncd("reconcile", "--json").json()["mirrors"]["docs"]

        assert (seen["actions"], uploads(workspace)) == ([], 0)
        assert remote.files() == files_of(workspace.docs)


def test_a_config_that_another_source_overrides_is_left_alone(tmp_path: Path) -> None:
    with two_targets(tmp_path) as (workspace, _):
        before = workspace.config.read_text()

        seen = workspace.syncd(*INTO, "--switch", env={"SYNCD_MIRRORS__DOCS__TARGET__INSTANCE": "docs"})

        assert seen.code == 2, seen
        assert "mirrors.docs.target.instance is set in the environment, too" in seen.err
        assert workspace.config.read_text() == before


def test_a_daemon_with_another_config_is_noticed(tmp_path: Path) -> None:
    with two_targets(tmp_path) as (workspace, remote):
        elsewhere = workspace.path / "elsewhere.toml"
        elsewhere.write_text(workspace.config.read_text())
        with workspace.daemon("--config", str(elsewhere)) as daemon:
            daemon.saw("pass.done")

            seen = workspace.syncd(*INTO, "--switch")

            assert seen.code == 2, seen
            assert "the daemon uses another target" in seen.err
            seen = workspace.syncd("rebuild", "docs", "--drop-old", "--force")
            assert (seen.code, "is not in effect yet" in seen.err) == (2, True), seen
            workspace.write("later.md", "the daemon goes on with the first target")
            until(lambda: "later.md" in workspace.remote.files(), "the first target stays in use")
            elsewhere.write_text(workspace.config.read_text())
            assert workspace.syncd("rebuild", "docs", "--switch").code == 0
            until(lambda: remote.files() == files_of(workspace.docs), "the second target is in use")


def test_a_second_target_with_more_problems_is_not_used(tmp_path: Path) -> None:
    with two_targets(tmp_path) as (workspace, remote):
        remote.create("docs-2")
        remote.upload("part0/file0.md", b"of another writer")

        seen = workspace.syncd(*INTO, "--switch")

        assert seen.code == 1
        assert "foreign" in seen.out
        assert "--takeover" not in seen.out
        assert "1 problem that the first does not have" in seen.err
        assert 'instance = "docs"' in workspace.config.read_text()


def test_wrong_use_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with two_targets(tmp_path) as (workspace, remote):
        workspace.configure(
            more=f'[mirrors.other]\npath = "{workspace.docs}"\n'
            '[mirrors.other.target]\ntype = "ai-search"\ninstance = "others"\n'
            f'[mirrors.kv]\npath = "{workspace.docs}"\n[mirrors.kv.target]\ntype = "kv"\nnamespace_title = "docs"'
        )
        refused = {
            ("docs", "--into", "docs"): "has the target ai-search:default/docs already",
            ("docs", "--into", "docs", "--set", SETTING, "--switch"): "has the target ai-search:default/docs already",
            ("docs", "--into", "others"): "mirrors.other has the target ai-search:default/others",
            ("dosc", "--into", "docs-2"): "did you mean docs?",
            ("other", "--into", "docs-2"): "has made no full pass yet",
            ("docs", "--into", "docs-2", "--set", "type=kv"): "settings.type",
            ("docs", "--into", "docs-2", "--set", "instance=docs-3"): "unknown key settings.instance; known here:",
            ("docs", "--into", "docs-2", "--set", "chunk_size=x"): "settings.chunk_size: should be a whole number;",
            ("docs", "--into", "a/b/c"): "namespace: should be 1-64 of A-Z a-z 0-9 - _; change --into or --set",
            (
                "kv",
                "--into",
                "v2/",
                "--set",
                "type=kv",
            ): "--set type: the target has no such setting; it has: namespace_id",
            ("kv", "--into", "v2/"): "fill another namespace with a second mirror instead",
            ("docs",): "has no rebuild",
            ("docs", "--into", "Docs 2"): "--into",
            ("docs", "--into", "docs-2", "--set", "embeding_model=x"): "embeding_model",
            ("docs", "--into", "docs-2", "--set", "embedding_model"): "KEY=VALUE",
            ("docs", "--drop-old"): "has no old target",
            ("docs", "--drop-old", "--switch"): "--drop-old stands alone",
        }
        workspace.remote.forget_requests()
        for arguments, why in refused.items():
            seen = workspace.syncd("rebuild", *arguments)
            assert seen.code == 2, (arguments, seen)
            assert why in seen.err, (arguments, seen)
        assert workspace.remote.counted()["changing"] == 0
        assert remote.items() == []


def test_an_instance_with_other_settings_is_refused(tmp_path: Path) -> None:
    with two_targets(tmp_path) as (workspace, remote):
        remote.create("docs-2")

        seen = workspace.syncd(*INTO, "--set", SETTING)

        assert seen.code == 2
        assert "exists with other settings: embedding_model" in seen.err
        assert remote.items() == []


def test_the_delete_guard_guards_the_second_target_too(tmp_path: Path) -> None:
    with two_targets(tmp_path) as (workspace, remote):
        for number in range(20):
            workspace.write(f"more{number}.md", "text")
        assert workspace.syncd("reconcile").code == 0
        assert workspace.syncd(*INTO).code == 0
        for number in range(20):
            (workspace.docs / f"more{number}.md").unlink()
        assert workspace.syncd("reconcile", "--force").code == 0

        seen = workspace.syncd("rebuild", "docs", "--switch")

        assert (seen.code, len(remote.items())) == (4, 28), seen
        assert "If it is meant: syncd rebuild docs --force" in seen.err
        assert 'instance = "docs"' in workspace.config.read_text()
        assert workspace.syncd("rebuild", "docs", "--switch", "--force").code == 0
        assert remote.files() == files_of(workspace.docs)


def test_old_entries_stay_while_their_target_is_in_use(tmp_path: Path) -> None:
    with two_targets(tmp_path) as (workspace, _):
        assert workspace.syncd(*INTO, "--switch").code == 0
        workspace.config.write_text(workspace.config.read_text().replace('"docs-2"', '"docs"'))

        seen = workspace.syncd("rebuild", "docs", "--drop-old", "--force")

        assert seen.code == 2
        assert "not in effect yet" in seen.err
        assert workspace.syncd("reconcile").code == 0
        seen = workspace.syncd("rebuild", "docs", "--drop-old", "--force")
        assert seen.code == 2
        assert workspace.remote.files() == files_of(workspace.docs)


def test_questions_are_asked_to_both_targets_and_decide_about_the_switch(tmp_path: Path) -> None:
    with two_targets(tmp_path) as (workspace, remote):
        questions = workspace.path / "questions.csv"
        questions.write_text("query,expect\nfile 3,part1/file4.md\nfile 4,part0/file3.md\n")
        assert workspace.syncd(*INTO, "--queries", str(questions)).code == 0
        remote.instance(score_threshold=0.99)

        seen = workspace.syncd(*INTO, "--queries", str(questions), "--switch")

        assert seen.code == 6, seen
        assert "2 worse" in seen.out
        assert "of 2 questions the first target answers 2, the second 0" in seen.err
        assert 'instance = "docs"' in workspace.config.read_text()

        remote.instance(score_threshold=0.1)
        seen = workspace.syncd(*INTO, "--queries", str(questions), "--switch", "--json")
        assert (seen.code, seen.json()["switched"], seen.json()["retrieval"]["second"]["found"]) == (0, True, 2), seen


@pytest.mark.slow
def test_a_rebuild_of_many_files_makes_about_one_request_a_file(tmp_path: Path) -> None:
    with open_workspace(tmp_path, index_delay=0.5) as workspace:
        for number in range(300):
            workspace.write(f"part{number % 7}/file{number}.md", f"text of file {number}")
        assert workspace.syncd("reconcile").code == 0
        workspace.remote.forget_requests()

        seen = workspace.syncd(*INTO, "--switch", "--json")

        assert seen.code == 0, seen.err
        assert workspace.remote.counted()["total"] <= 2.1 * 300


@pytest.mark.slow
def test_a_mirror_of_vectors_gets_another_model(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        for number in range(5):
            workspace.write(f"file{number}.md", f"# Page {number}\n\nWords about number {number}.\n")
        index = VectorIndex(workspace)
        try:
            assert workspace.syncd("reconcile", "--wait").code == 0
            before = index.ids()
            assert workspace.syncd(*INTO, "--set", f"model={LARGE}").code == 0
            seen = workspace.syncd(*INTO, "--set", f"model={M3}")
            assert seen.code == 3, seen
            assert "syncd rebuild docs --force" in seen.err
            assert workspace.syncd(*INTO, "--set", f"model={M3}", "--force").code == 0

            seen = workspace.syncd(*INTO, "--set", f"model={M3}", "--set", "chunk_size=300", "--switch")

            assert seen.code == 0, seen
            assert f'model = "{M3}"' in workspace.config.read_text()
            assert "chunk_size = 300" in workspace.config.read_text()
            workspace.nothing_left_to_do()
            assert index.ids() == before
            assert "page" in workspace.syncd("search", "number 3").out.lower()
            assert workspace.syncd("rebuild", "docs", "--drop-old", "--force").code == 0
            until(lambda: index.ids() == [], "the old index is empty")
            workspace.nothing_left_to_do()
        finally:
            index.close()


def test_a_mirror_of_values_gets_another_prefix(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.configure(
            target='create = true\n[mirrors.kv]\npath = "docs"\nowner = "kv"\nkey_prefix = "v1/"\n'
            '[mirrors.kv.target]\ntype = "kv"\nnamespace_title = "docs"\ncreate = true'
        )
        for number in range(5):
            workspace.write(f"file{number}.md", f"text of file {number}")
        assert workspace.syncd("reconcile", "kv").code == 0
        keys = {f"file{number}.md" for number in range(5)}

        for wrong in ("v1/", "v1/more/", ""):
            seen = workspace.syncd("rebuild", "kv", "--into", wrong)
            assert (seen.code, "neither prefix begins with the other" in seen.err) == (2, True), (wrong, seen)
        seen = workspace.syncd("rebuild", "kv", "--into", "v2/", "--switch")

        assert seen.code == 0, seen
        assert 'key_prefix = "v2/"' in workspace.config.read_text()
        assert values(workspace) == {f"{prefix}/{key}" for prefix in ("v1", "v2") for key in keys}
        seen = workspace.syncd("reconcile", "kv", "--json").json()["mirrors"]["kv"]
        assert seen["actions"] == []
        seen = workspace.syncd("rebuild", "kv", "--drop-old", "--force")
        assert seen.code == 0, seen
        assert values(workspace) == {f"v2/{key}" for key in keys}
        questions = workspace.path / "questions.csv"
        questions.write_text("query,expect\na,file1.md\n")
        seen = workspace.syncd("rebuild", "kv", "--into", "v3/", "--queries", str(questions))
        assert (seen.code, "has no search" in seen.err) == (2, True), seen


def values(workspace: Workspace) -> set[str]:
    found = workspace.syncd("kv", "keys", "--namespace", "docs", "--json").json()
    return {row["name"] for row in found["keys"]}
