"""Commands beside a running daemon: it makes the pass, approves a plan, reloads, and refuses strangers."""

import json
import os
import signal
import socket
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest

from syncd.service.control import MAX_COMMANDS, MAX_CONNECTIONS, REQUEST_LIMIT, SOCKET_NAME
from tests.e2e.harness import TOKEN, Workspace, open_workspace


def talk(workspace: Workspace, *lines: bytes) -> list[dict[str, object]]:
    """Send bytes to the daemon as they are. Return its events."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(workspace.state / SOCKET_NAME))
        client.sendall(b"".join(lines))
        return [json.loads(line) for line in client.makefile("rb")]


def test_the_daemon_makes_the_pass_of_a_reconcile(workspace: Workspace) -> None:
    workspace.write("a.md", "text a")
    with workspace.daemon() as daemon:
        workspace.in_step()
        assert stat.S_IMODE((workspace.state / SOCKET_NAME).stat().st_mode) == 0o600
        ended = workspace.syncd("reconcile", "--wait")
        assert (ended.code, "1 unchanged" in ended.out) == (0, True), ended
        report = workspace.syncd("reconcile", "--json").json()
        assert report["mirrors"]["docs"]["plan"]["unchanged"] == 1
        assert report["exit_code"] == 0
        daemon.saw("control.request", 2, command="reconcile")
        wrong = workspace.syncd("reconcile", "nix")
        assert (wrong.code, wrong.out) == (2, "")
        assert "there is: docs" in wrong.err
        assert daemon.stop()[0] == 0
    assert not (workspace.state / SOCKET_NAME).exists()
    assert workspace.syncd("reconcile").code == 0, "without a daemon the command makes the pass"


def test_a_takeover_and_a_forced_pass_work_beside_the_daemon(workspace: Workspace) -> None:
    workspace.write("a.md", "text a")
    workspace.remote.create("docs")
    workspace.remote.upload("a.md", b"theirs", owner="other", sha256="0" * 64)
    with workspace.daemon() as daemon:
        daemon.saw("pass.done")
        refused = workspace.syncd("reconcile")
        assert (refused.code, refused.out.rstrip().endswith(": syncd reconcile --takeover docs")) == (1, True)
        assert workspace.syncd("reconcile", "--takeover", "docs").code == 0
        assert workspace.remote.files() == {"a.md": b"text a"}
        assert workspace.syncd("reconcile", "--force", "--full").code == 0


def test_a_refused_plan_is_approved_once_while_uploads_go_on(workspace: Workspace) -> None:
    for number in range(40):
        workspace.write(f"{number}.md", f"text {number}")
    with workspace.daemon() as daemon:
        workspace.in_step()
        for number in range(30):
            (workspace.docs / f"{number}.md").unlink()
        daemon.saw("mirror.halted")
        plan = workspace.syncd("plan", "--json").json()["mirrors"]["docs"]
        assert plan["plan"]["delete"] == 30
        assert plan["plan_id"] in workspace.status()["detail"]
        assert f"plan {plan['plan_id']}" in workspace.syncd("plan").out
        workspace.write("new.md", "uploads go on")
        daemon.saw("put.done", key="new.md")
        other = workspace.syncd("approve", "docs-0123456789ab")
        assert (other.code, f"its id is {plan['plan_id']} now" in other.err) == (4, True)
        assert workspace.status()["state"] == "halted", "a wrong id changes nothing"
        assert len(workspace.remote.items()) == 41
        assert workspace.syncd("approve", plan["plan_id"]).code == 0
        workspace.in_step()
        assert workspace.status()["state"] == "idle"
        again = workspace.syncd("approve", plan["plan_id"])
        assert (again.code, "deletes nothing now" in again.err) == (4, True)


def test_a_plan_that_has_changed_is_refused_without_a_daemon_too(workspace: Workspace) -> None:
    for number in range(40):
        workspace.write(f"{number}.md", f"text {number}")
    assert workspace.syncd("reconcile").code == 0
    for number in range(30):
        (workspace.docs / f"{number}.md").unlink()
    assert workspace.syncd("reconcile").code == 4
    plan = workspace.syncd("plan", "--json").json()["mirrors"]["docs"]["plan_id"]
    (workspace.docs / "30.md").unlink()
    changed = workspace.syncd("approve", plan)
    assert changed.code == 4
    assert len(workspace.remote.items()) == 40
    now = workspace.syncd("plan", "--json").json()["mirrors"]["docs"]["plan_id"]
    assert workspace.syncd("approve", now).code == 0
    workspace.in_step()
    assert "is no plan id" in workspace.syncd("approve", "nonsense").err


def test_reload_reports_a_bad_config_and_takes_a_good_one(workspace: Workspace) -> None:
    good = workspace.config.read_text()
    assert workspace.syncd("reload").code == 2
    with workspace.daemon() as daemon:
        daemon.saw("pass.done")
        workspace.config.write_text(good + "nonsense = 1\n")
        bad = workspace.syncd("reload")
        assert (bad.code, "nonsense" in bad.err, "goes on with the former one" in bad.err) == (2, True, True)
        workspace.config.write_text(good.replace("settle = 0.05", "settle = 0.06"))
        assert workspace.syncd("reload").code == 0
        daemon.saw("pass.done", 2, scope="all")


def test_a_config_that_only_the_daemon_can_refuse_is_reported(workspace: Workspace) -> None:
    good = workspace.config.read_text()
    with workspace.daemon() as daemon:
        daemon.saw("pass.done")
        (workspace.path / "file").write_text("")
        workspace.config.write_text(good.replace(str(workspace.state), str(workspace.path / "file")))
        *_, refused, end = talk(workspace, b'{"command": "reload"}\n')
        assert "choose a writable directory" in str(refused["err"])
        assert end == {"exit_code": 2}
        workspace.config.write_text(good)
        workspace.write("b.md")
        workspace.in_step()


@pytest.mark.parametrize(
    "request_", [b"nonsense\n", b"{}\n", b'{"command": "nix"}\n', b"[]\n", b"[" * 50_000 + b"\n", b"\xff\n", b"\n", b""]
)
def test_nonsense_is_answered_and_harms_nobody(workspace: Workspace, request_: bytes) -> None:
    with workspace.daemon() as daemon:
        daemon.saw("pass.done")
        if request_:
            *_, end = talk(workspace, request_)
            assert end == {"exit_code": 11}
        else:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(workspace.state / SOCKET_NAME))
        *_, end = talk(workspace, b"x" * (REQUEST_LIMIT + 1))
        assert end == {"exit_code": 11}
        workspace.write("a.md")
        workspace.in_step()
        assert workspace.syncd("reconcile").code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_is_not_served_even_where_the_mode_allows_it(workspace: Workspace) -> None:
    with workspace.daemon() as daemon:
        daemon.saw("pass.done")
        os.chmod(workspace.state / SOCKET_NAME, 0o666)  # noqa: PTH101 - a socket, not a file
        reader, writer = os.pipe()
        if os.fork() == 0:
            try:
                client = socket.socket(socket.AF_UNIX)
                descriptor = os.open(workspace.state, os.O_PATH)
                os.setresuid(65534, 65534, 65534)
                client.settimeout(20)
                client.connect(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")
                client.sendall(b'{"command": "reload"}\n')
                os.write(writer, client.recv(100) or b"closed")
            except OSError as error:
                os.write(writer, f"refused {error.errno}".encode())
            finally:
                os._exit(0)
        os.close(writer)
        assert os.read(reader, 100).decode().split()[0] in ("closed", "refused")
        os.close(reader)
        os.wait()
        assert not daemon.events("control.request")


def test_a_state_directory_with_a_long_path_has_a_socket_too(tmp_path: Path) -> None:
    place = tmp_path / ("long" * 30)
    place.mkdir()
    with open_workspace(place) as workspace:
        workspace.write("a.md")
        with workspace.daemon() as daemon:
            daemon.saw("pass.done")
            assert workspace.syncd("reconcile").code == 0
            daemon.saw("control.request")


def test_a_retry_beside_the_daemon_names_what_is_left_and_ends_with_its_code(workspace: Workspace) -> None:
    huge = workspace.write("huge.bin.md", b"x" * 100)
    workspace.configure(target="create = true\nmax_file_size = 50")
    workspace.write("a.md")
    with workspace.daemon() as daemon:
        daemon.saw("pass.done")
        again = workspace.syncd("retry")
        assert again.code == 1, again
        assert "too_large" in again.err
        huge.write_bytes(b"small")
        workspace.in_step()
        assert workspace.syncd("retry").code == 0


@pytest.mark.parametrize("end", ["reload", "kill"])
def test_a_command_that_waits_ends_when_the_daemon_reloads_or_is_killed(tmp_path: Path, end: str) -> None:
    with open_workspace(tmp_path, index_delay=3600.0) as workspace:
        workspace.write("a.md")
        with ExitStack() as stack:
            daemon = stack.enter_context(workspace.daemon())
            daemon.saw("pass.done")
            waiting = workspace.start("reconcile", "--wait")
            daemon.saw("pass.done", 2)
            if end == "reload":
                assert workspace.syncd("reload").code == 0
            else:
                daemon.send(signal.SIGKILL)
                stack.pop_all()
            ended = waiting.ended()
            assert (ended.code, ended.out) == (11, "")
            assert "run it again" in ended.err or "see its log" in ended.err
            if end == "reload":
                assert workspace.syncd("reconcile").code == 0, "the socket still serves"


def test_a_wait_ends_with_the_reason_when_the_mirror_halts_meanwhile(tmp_path: Path) -> None:
    with open_workspace(tmp_path, index_delay=3600.0) as workspace:
        workspace.configure(mirror="reconcile_interval = 1")
        workspace.write("a.md")
        with workspace.daemon() as daemon:
            daemon.saw("pass.done")
            waiting = workspace.start("reconcile", "--wait")
            daemon.saw("control.request")
            workspace.docs.rename(workspace.path / "elsewhere")
            ended = waiting.ended()
            assert ended.code == 3, ended
            assert "Bring the folder back" in ended.err


def test_clients_that_say_nothing_do_not_keep_a_command_waiting(workspace: Workspace) -> None:
    with workspace.daemon() as daemon, ExitStack() as silent:
        daemon.saw("pass.done")
        for _ in range(100):
            silent.enter_context(socket.socket(socket.AF_UNIX)).connect(str(workspace.state / SOCKET_NAME))
        assert workspace.syncd("reconcile").code == 0
        for _ in range(MAX_CONNECTIONS):
            silent.enter_context(socket.socket(socket.AF_UNIX)).connect(str(workspace.state / SOCKET_NAME))
        assert workspace.syncd("reconcile").code == 11
        assert daemon.stop()[0] == 0


def test_a_daemon_with_too_many_commands_says_so(tmp_path: Path) -> None:
    with open_workspace(tmp_path, index_delay=3600.0) as workspace, ExitStack() as waiting:
        workspace.write("a.md")
        with workspace.daemon() as daemon:
            daemon.saw("pass.done")
            request = {"command": "reconcile", "mirrors": [], "settings": "", "options": {}, "grants": {}}
            line = json.dumps({**request, "wait_s": 60, "json": False}).encode() + b"\n"
            for _ in range(MAX_COMMANDS):
                client = waiting.enter_context(socket.socket(socket.AF_UNIX))
                client.connect(str(workspace.state / SOCKET_NAME))
                client.sendall(line)
            daemon.saw("control.request", MAX_COMMANDS)
            busy = workspace.syncd("reconcile")
            assert (busy.code, "commands already; try again later" in busy.err) == (11, True), busy
            assert daemon.stop()[0] == 0


def test_a_mirror_that_the_daemon_has_not_read_yet_is_named_with_the_remedy(workspace: Workspace) -> None:
    with workspace.daemon() as daemon:
        daemon.saw("pass.done")
        (workspace.path / "more").mkdir()
        section = (
            '[mirrors.more-docs]\npath = "{}/more"\n[mirrors.more-docs.target]\ntype = "kv"\nnamespace_title = "more"'
        )
        workspace.configure(more=f"{section.format(workspace.path)}\ncreate = true\n")
        unknown = workspace.syncd("reconcile", "more-docs")
        assert (unknown.code, "syncd reload" in unknown.err) == (2, True)
        assert workspace.syncd("reload").code == 0
        assert workspace.syncd("reconcile", "more-docs").code == 0


def test_a_pass_by_other_settings_than_the_commands_is_reported(workspace: Workspace) -> None:
    workspace.write("a.md", "text a")
    default = {"SYNCD_MIRRORS__DOCS__OWNER": ""}
    with workspace.daemon(env=default):
        workspace.in_step()
        same = workspace.syncd("reconcile", "docs", env=default)
        assert (same.code, same.err) == (0, "")
        variables = {**default, "SYNCD_MIRRORS__DOCS__EXCLUDE": '["*"]'}
        other = workspace.syncd("reconcile", "--delete-excluded", env=variables)
        assert (other.code, "1 unchanged" in other.out) == (0, True), other
        assert "other settings of the mirrors than this command" in other.err
        assert "syncd reload" in other.err


@pytest.mark.parametrize(
    "request_", [{"command": "reconcile"}, {"command": "retry"}, {"command": "reconcile", "options": {"new": 1}}]
)
def test_a_request_of_another_version_is_not_understood(workspace: Workspace, request_: dict[str, object]) -> None:
    with workspace.daemon() as daemon:
        daemon.saw("pass.done")
        *_, said, end = talk(workspace, json.dumps(request_).encode() + b"\n")
        assert "restart it after an upgrade" in str(said["err"])
        assert end == {"exit_code": 11}
        assert not daemon.events("control.failed")


def test_an_error_of_the_daemon_hides_the_token(workspace: Workspace) -> None:
    request = {"command": "retry", "mirrors": [f"{TOKEN}\x1b"]}
    with workspace.daemon() as daemon:
        daemon.saw("pass.done")
        *_, error, end = talk(workspace, json.dumps(request).encode() + b"\n")
    assert "no mirror '[hidden]" in str(error["err"])
    assert end == {"exit_code": 2}


@pytest.mark.slow
def test_a_health_check_passes_while_the_daemon_answers(workspace: Workspace) -> None:
    workspace.write("a.md")
    absent = workspace.syncd("status", "--alive")
    assert (absent.code, absent.out) == (1, "")
    assert "no daemon listens in" in absent.err
    with workspace.daemon() as daemon:
        workspace.in_step()
        healthy = workspace.syncd("status", "--alive")
        assert (healthy.code, healthy.out, healthy.err) == (0, "", "")
        assert daemon.events("control.request") == [], "it asks every minute, so it does not fill the log"
        daemon.send(signal.SIGSTOP)
        stopped = workspace.syncd("status", "--alive")
        daemon.send(signal.SIGCONT)
        assert stopped.code == 1
        assert "does not answer" in stopped.err
        assert daemon.stop()[0] == 0
