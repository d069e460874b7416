"""Every exit code of the contract, from the real program."""

import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Workspace, open_workspace, until

DEAD = "http://127.0.0.1:9/client/v4"
"""The discard port, where no server listens."""


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Yield a workspace for commands that end before they start any work."""
    with open_workspace(tmp_path_factory.mktemp("untouched")) as opened:
        yield opened


def test_in_step_is_0_also_with_files_that_no_target_takes(workspace: Workspace) -> None:
    workspace.write("a.md")
    workspace.write("empty.md", "")
    workspace.write("program.exe", "MZ")
    assert workspace.syncd("reconcile").code == 0


def test_a_rejected_item_is_1_and_is_named(workspace: Workspace) -> None:
    workspace.write("a.md")
    workspace.write("big.md", "x" * (10 * 1024 * 1024 + 1))
    seen = workspace.syncd("reconcile")
    assert (seen.code, "too_large" in seen.out, "big.md" in seen.out) == (1, True, True)
    assert list(workspace.remote.files()) == ["a.md"]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ((), "Missing command"),
        (("bogus",), "No such command 'bogus'"),
        (("reconcile", "--zzz"), "No such option '--zzz'; see: syncd reconcile --help"),
        (("reconcile", "nobody"), "no mirror 'nobody' is configured; there is: docs"),
        (("reconcile", "--wait=soon"), "'--wait'"),
        (("ls", "nobody"), "no mirror 'nobody'"),
        (("explain", "/etc/hosts"), "is in no mirrored folder"),
        (("search", " "), "empty"),
    ],
)
def test_a_wrong_command_line_is_2_and_sends_nothing(
    untouched: Workspace, arguments: tuple[str, ...], hint: str
) -> None:
    seen = untouched.syncd(*arguments)
    assert (seen.code, seen.out, untouched.remote.counted()["total"]) == (2, "", 0)
    assert hint in seen.err


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (("settle = 0.05", "settle = -1"), "mirrors.docs.settle: should be greater than or equal to 0"),
        (("settle = 0.05", "setle = 1"), "unknown key mirrors.docs.setle; did you mean settle?"),
        (("[cloudflare]", "[cloudflare"), "is not valid TOML"),
        (("tpslimit = 0", 'api_token = ["a-token-in-a-list"]'), "cloudflare.api_token: "),
    ],
)
def test_a_mistake_in_the_config_is_2_and_one_line_without_the_secret(
    untouched: Workspace, wrong: tuple[str, str], right: str
) -> None:
    untouched.configure()
    untouched.config.write_text(untouched.config.read_text().replace(*wrong))
    seen = untouched.syncd("reconcile", env={"CLOUDFLARE_API_TOKEN": None})
    assert (seen.code, seen.out, seen.err.count("\n")) == (2, "", 1)
    assert right in seen.err
    assert "a-token-in-a-list" not in seen.err
    untouched.configure()


def test_a_misspelt_variable_is_2_and_a_correct_variable_overrides_the_file(workspace: Workspace) -> None:
    workspace.write("a.md")
    seen = workspace.syncd("reconcile", env={"SYNCD_CLODFLARE__TPSLIMIT": "1"})
    assert (seen.code, "SYNCD_CLODFLARE__TPSLIMIT" in seen.err) == (2, True)
    planned = workspace.syncd("reconcile", "--json", env={"SYNCD_MIRRORS__DOCS__KEY_PREFIX": "from-env/"})
    assert [action["key"] for action in planned.json()["mirrors"]["docs"]["actions"]] == ["from-env/a.md"]


def test_a_refused_token_is_3_after_a_handful_of_requests(tmp_path: Path) -> None:
    with open_workspace(tmp_path, token="another") as workspace:
        for number in range(30):
            workspace.write(f"{number}.md")
        seen = workspace.syncd("reconcile")
        assert (seen.code, "authentication refused" in seen.err) == (3, True)
        assert workspace.remote.counted()["total"] <= 3
        assert workspace.status()["state"] == "halted"


def test_a_missing_instance_is_3_and_the_message_says_how_to_make_it(workspace: Workspace) -> None:
    workspace.write("a.md")
    workspace.configure(target="create = false")
    seen = workspace.syncd("reconcile")
    assert (seen.code, "create = true" in seen.err) == (3, True)


def test_a_missing_root_is_3_and_nothing_is_deleted(workspace: Workspace) -> None:
    workspace.write("a.md")
    assert workspace.syncd("reconcile").code == 0
    shutil.rmtree(workspace.docs)
    assert workspace.syncd("reconcile").code == 3
    workspace.docs.mkdir()
    assert workspace.syncd("reconcile").code == 3
    assert list(workspace.remote.files()) == ["a.md"]


def test_too_many_deletes_are_4_and_delete_nothing_until_they_are_forced(workspace: Workspace) -> None:
    for number in range(40):
        workspace.write(f"{number}.md", f"text {number}")
    workspace.syncd("reconcile")
    for number in range(20):
        (workspace.docs / f"{number}.md").unlink()
    workspace.write("new.md", "goes up all the same")
    workspace.remote.forget_requests()

    refused = workspace.syncd("reconcile", "--json")

    assert (refused.code, refused.json()["exit_code"]) == (4, 4)
    assert workspace.remote.counted()["changing"] == 1
    assert (len(workspace.remote.files()), workspace.remote.files()["new.md"]) == (41, b"goes up all the same")
    assert workspace.status()["state"] == "halted"
    assert workspace.syncd("reconcile", "--force").code == 0
    workspace.in_step()


def test_an_unreachable_remote_is_5_after_retry_for_and_the_rest_is_kept(workspace: Workspace) -> None:
    workspace.write("a.md")
    dead = {"SYNCD_CLOUDFLARE__BASE_URL": DEAD, "SYNCD_CLOUDFLARE__RETRY_FOR": "0.3"}
    seen = workspace.syncd("reconcile", "--json", env=dead)
    assert (seen.code, seen.json()["exit_code"]) == (5, 5)
    assert "no request was answered for 0.3 s" in seen.json()["mirrors"]["docs"]["error"]
    assert workspace.status()["state"] == "degraded"
    assert workspace.syncd("reconcile").code == 0
    workspace.in_step()


def test_a_second_syncd_is_11_and_names_the_first_while_looking_works(workspace: Workspace) -> None:
    workspace.write("a.md")
    with workspace.daemon() as daemon:
        workspace.in_step()
        seen = workspace.syncd("--log-format", "console", "run")
        assert (seen.code, f"pid {daemon.pid}" in seen.err) == (11, True)
        (workspace.state / "control.sock").unlink()
        seen = workspace.syncd("reconcile")
        assert (seen.code, f"pid {daemon.pid}" in seen.err) == (11, True), "a daemon that cannot be asked"
        assert workspace.syncd("reconcile", "--dry-run").code == 0
        assert workspace.syncd("status", "--json").json()["daemon"] == {"running": True, "pid": daemon.pid}
    assert workspace.syncd("reconcile").code == 0


@pytest.mark.slow
def test_an_interrupt_is_130_and_the_next_pass_completes(tmp_path: Path) -> None:
    with open_workspace(tmp_path, latency=0.1) as workspace:
        for number in range(50):
            workspace.write(f"{number}.md", f"text {number}")
        process = workspace.start("reconcile")
        until(lambda: workspace.server.requests.total > 10)
        process.send(signal.SIGINT)
        ended = process.ended()
        assert (ended.code, ended.out, ended.err.count("\n")) == (130, "", 1)
        assert ended.err.startswith("syncd: interrupted by SIGINT; reconcile: ")
        assert 0 < len(workspace.remote.items()) < 50
        assert workspace.syncd("reconcile").code == 0
        workspace.in_step()


def test_with_several_mirrors_the_most_serious_code_wins(workspace: Workspace) -> None:
    workspace.write("big.md", "x" * (10 * 1024 * 1024 + 1))
    other = f'[mirrors.gone]\npath = "{workspace.path}/nowhere"\n'
    other += '[mirrors.gone.target]\ntype = "ai-search"\ninstance = "gone"'
    workspace.configure(more=other)
    seen = workspace.syncd("reconcile", "--json")
    assert (seen.code, seen.json()["exit_code"]) == (3, 3)
    assert [problem["kind"] for problem in seen.json()["mirrors"]["docs"]["problems"]] == ["too_large"]
    assert workspace.syncd("reconcile", "docs").code == 1


def test_retry_and_check_of_several_mirrors_end_with_the_most_serious_code(workspace: Workspace) -> None:
    wiki = workspace.path / "wiki"
    target = 'type = "ai-search"\ninstance = "wiki"\ncreate = true'
    workspace.configure(more=f'[mirrors.wiki]\npath = "{wiki}"\n[mirrors.wiki.target]\n{target}')
    wiki.mkdir()
    files = workspace.docs / "big.md", wiki / "big.md"
    for file in files:
        file.write_text("x" * (10 * 1024 * 1024 + 1))
    assert workspace.syncd("reconcile").code == 1
    for file in files:
        file.write_text("small")
    wiki.rename(workspace.path / "gone")
    workspace.server.close()
    env = {"SYNCD_CLOUDFLARE__RETRY_FOR": "0.3"}
    assert [workspace.syncd("retry", "-m", name, env=env).code for name in ("docs", "wiki")] == [5, 3]
    for command in ("retry", "check"):
        assert workspace.syncd(command, env=env).code == 3, command


@pytest.mark.slow
def test_check_says_within_ten_seconds_which_part_of_the_network_is_missing(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, socket.create_server(("127.0.0.1", 0)) as silent:
        seen = workspace.syncd("check")
        assert "ok    network                127.0.0.1:" in seen.out
        url = {"SYNCD_CLOUDFLARE__BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/client/v4"}
        url["SYNCD_CLOUDFLARE__RETRY_FOR"] = "1h"
        began = time.monotonic()
        seen = workspace.syncd("check", env=url)
        assert time.monotonic() - began < 15  # with room for a loaded machine; the wait itself is 9 s
        assert (seen.code, "does not answer" in seen.out) == (5, True)
        silent.close()
        seen = workspace.syncd("check", env=url)
        assert (seen.code, "refuses the connection" in seen.out) == (5, True)
        assert "firewall" in seen.out
