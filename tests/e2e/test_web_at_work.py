"""The status page of a running daemon: its port, reloads, health and metrics."""

import os
import resource
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.harness import PATIENCE_S, Daemon, Workspace, open_workspace, until
from tests.webhook import open_webhook

IDLE_S = 5.0
fetch = partial(httpx.get, verify=False)
"""Without verification no certificates are loaded, which takes longer than a request."""
LISTEN = '[web]\nlisten = "127.0.0.1:0"\n'


def url_of(daemon: Daemon, count: int = 1) -> str:
    """Wait until the page was opened so many times. Return its URL."""
    daemon.saw("web.ready", count)
    return str(daemon.events("web.ready")[count - 1]["url"])


def health(url: str) -> tuple[int, Any]:
    answer = fetch(f"{url}healthz")
    return answer.status_code, answer.json()


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def metrics(url: str) -> dict[str, float]:
    """Return every sample of /metrics by its name and labels."""
    lines = fetch(f"{url}metrics").text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def descriptors(daemon: Daemon) -> list[int]:
    return [int(each.name) for each in Path(f"/proc/{daemon.pid}/fd").iterdir()]


def press(url: str, button: str) -> int:
    page = fetch(url).text
    token = page.partition('name="syncd-token" content="')[2].partition('"')[0]
    return httpx.post(f"{url}mirrors/docs/{button}", headers={"X-Syncd-Token": token}, verify=False).status_code


def test_a_port_in_use_is_reported_in_one_line_at_the_start(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, taken_port() as port:
        workspace.configure(more=f'[web]\nlisten = "127.0.0.1:{port}"')
        seen = workspace.syncd("run")
        lines = [line for line in seen.err.splitlines() if "web.listen" in line]
        assert (seen.code, len(lines)) == (2, 1)
        assert (
            f"web.listen: 127.0.0.1:{port} is in use; stop the program that uses it, or choose another port" in lines[0]
        )


def test_without_web_listen_no_port_is_open(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, workspace.daemon() as daemon:
        daemon.saw("pass.done")
        assert daemon.events("web.ready") == []
        maps = Path(f"/proc/{daemon.pid}/net/tcp").read_text()
        inodes = {str(each.readlink()) for each in Path(f"/proc/{daemon.pid}/fd").iterdir() if each.is_symlink()}
        listening = [line.split()[9] for line in maps.splitlines()[1:] if line.split()[3] == "0A"]
        assert not any(f"socket:[{inode}]" in inodes for inode in listening)


def test_the_metrics_have_an_address_of_their_own_without_a_page(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, taken_port() as port:
        workspace.configure(more=f'[web]\nmetrics_listen = "0.0.0.0:{port}"')
        seen = workspace.syncd("run")
        assert (seen.code, f"web.metrics_listen: 0.0.0.0:{port} is in use" in seen.err) == (2, True)
        workspace.configure(more='[web]\nmetrics_listen = "0.0.0.0:0"')
        with workspace.daemon() as daemon:
            daemon.saw("pass.done")
            assert daemon.events("web.ready") == []
            (event,) = daemon.events("metrics.ready")
            url = event["url"].replace("0.0.0.0", "127.0.0.1")
            until(lambda: fetch(url.replace("/metrics", "/readyz")).is_success)
            assert fetch(url.replace("/metrics", "/")).status_code == 404
            assert "\nprocess_cpu_seconds_total " in fetch(url, headers={"Host": "prometheus.example"}).text
            workspace.configure()
            daemon.send(signal.SIGHUP)
            daemon.saw("pass.done", 2, scope="all")
            with pytest.raises(httpx.TransportError):
                fetch(url)


def test_a_reload_moves_the_page_unless_the_port_is_in_use(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, taken_port() as port:
        workspace.configure(more=LISTEN)
        workspace.write("a.md", "four")
        with workspace.daemon() as daemon:
            first = url_of(daemon)
            workspace.in_step()
            daemon.saw("pass.done")
            before = metrics(first)
            assert before['syncd_actions_total{kind="put",mirror="docs",outcome="done"}'] == 1

            daemon.send(signal.SIGHUP)
            daemon.saw("pass.done", 2, scope="all")
            after = metrics(first)
            assert after['syncd_actions_total{kind="put",mirror="docs",outcome="done"}'] == 1
            assert after['syncd_requests_total{code="200",method="GET"}'] > 0
            assert all(after[name] >= count for name, count in before.items() if "_total" in name)

            workspace.configure(more=f'[web]\nlisten = "127.0.0.1:{port}"')
            daemon.send(signal.SIGHUP)
            daemon.saw("web.refused")
            daemon.saw("pass.done", 3, scope="all")
            assert health(first) == (200, {"status": "ok"})

            workspace.configure(more='[web]\nlisten = "localhost:0"')
            daemon.send(signal.SIGHUP)
            second = url_of(daemon, 2)
            assert health(second)[0] == 200
            with pytest.raises(httpx.TransportError):
                fetch(first)
            # A reload during a pass would share the next pass.
            daemon.saw("pass.done", 4, scope="all")

            workspace.configure()
            daemon.send(signal.SIGHUP)
            daemon.saw("pass.done", 5, scope="all")
            with pytest.raises(httpx.TransportError):
                fetch(second)
            assert daemon.stop()[0] == 0


def test_the_buttons_do_the_same_as_sighup_and_retry(tmp_path: Path) -> None:
    with open_workspace(tmp_path, fail_index="bad", index_delay=0.1) as workspace:
        workspace.configure(more=LISTEN)
        workspace.write("bad.md")
        with workspace.daemon() as daemon:
            url = url_of(daemon)
            daemon.saw("index.failed")
            daemon.saw("pass.done", 1, scope="all")
            assert press(url, "reconcile") == 202
            daemon.saw("pass.done", 2, scope="all")
            assert press(url, "retry") == 202
            daemon.saw("index.again")


def test_a_daemon_with_listeners_ends_in_time(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.configure(more=LISTEN)
        with workspace.daemon() as daemon:
            url = url_of(daemon)
            with httpx.stream("GET", f"{url}events", timeout=PATIENCE_S) as stream:
                assert next(stream.iter_lines()) == "event: state"
                code, seconds = daemon.stop()
            assert (code, seconds < 5) == (0, True)


def test_two_host_headers_are_refused(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.configure(more=LISTEN)
        with workspace.daemon() as daemon:
            url = httpx.URL(url_of(daemon))
            for hosts, status in ((["localhost"], b"200"), (["localhost", "evil.example"], b"400"), ([], b"400")):
                with socket.create_connection((url.host, url.port or 0), timeout=PATIENCE_S) as client:
                    head = "".join(f"Host: {host}\r\n" for host in hosts)
                    client.sendall(f"GET / HTTP/1.1\r\n{head}\r\n".encode())
                    assert client.recv(100).split()[1] == status


def test_the_library_for_metrics_takes_no_directory_from_the_environment(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.configure(more=LISTEN)
        env = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "not-there")}
        with workspace.daemon(env=env) as daemon:
            assert metrics(url_of(daemon))["syncd_retries_total"] == 0
            assert daemon.stop()[0] == 0


@pytest.mark.slow
def test_health_and_webhook_report_a_halt_and_the_recovery(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, open_webhook() as (address, messages):
        workspace.configure(more=f'{LISTEN}[notify]\nwebhook = "http://{address}/s3cr3t-path"')
        workspace.write("a.md")
        with workspace.daemon("-vv") as daemon:
            url = url_of(daemon)
            workspace.in_step()
            assert health(url) == (200, {"status": "ok"})
            away = workspace.docs.rename(workspace.path / "away")
            until(lambda: messages)
            status, body = health(url)
            assert (status, body["status"]) == (503, "failing")
            assert body["reasons"][0].startswith("mirror docs is halted: path ")
            assert metrics(url)['syncd_mirror_state{mirror="docs",state="halted"}'] == 1
            away.rename(workspace.docs)
            until(lambda: len(messages) == 2)
            assert health(url)[0] == 200
            assert [(each["mirror"], each["state"]) for each in messages] == [("docs", "halted"), ("docs", "recovered")]
            assert "Bring the folder back" in messages[0]["detail"]
            assert messages[0]["text"] == messages[0]["content"]
            daemon.stop()
            assert "s3cr3t-path" not in daemon.text()


@pytest.mark.slow
def test_a_refusal_is_told_with_the_command_that_approves_it(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, open_webhook() as (address, messages):
        workspace.configure(more=f'[notify]\nwebhook = "http://{address}/s3cr3t-path"')
        for number in range(40):
            workspace.write(f"{'lost' if number < 30 else 'kept'}/{number}.md", f"text {number}")
        with workspace.daemon() as daemon:
            workspace.in_step()
            (workspace.docs / "lost").rename(workspace.path / "lost")
            until(lambda: messages)
            assert (messages[0]["state"], messages[0]["kind"]) == ("halted", "refused")
            plan = workspace.syncd("plan", "--json").json()["mirrors"]["docs"]["plan_id"]
            assert f"syncd approve {plan}" in messages[0]["text"]
            assert workspace.syncd("approve", plan).code == 0
            until(lambda: len(messages) == 2)
            assert messages[1]["state"] == "recovered"
            daemon.stop()


@pytest.mark.slow
def test_a_test_notice_says_what_happened(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, open_webhook() as (address, messages):
        seen = workspace.syncd("notify", "--test")
        assert (seen.code, "set notify.webhook" in seen.err) == (2, True)
        workspace.configure(more=f'[notify]\nwebhook = "http://{address}/s3cr3t-path"')
        seen = workspace.syncd("notify", "--test")
        assert (seen.code, seen.out) == (0, "webhook    sent\n")
        assert messages[0]["state"] == "test"
        workspace.configure(
            more='[notify]\nwebhook = "http://127.0.0.1:9/s3cr3t"\nurls = ["json://127.0.0.1:9/s3cr3t"]'
        )
        seen = workspace.syncd("notify", "--test")
        assert (seen.code, seen.out.count("FAILED"), "s3cr3t" in seen.out + seen.err) == (1, 2, False)
        assert workspace.syncd("notify").code == 2
        workspace.configure(more='[notify]\nurls = ["nothing://s3cr3t"]')
        for command in (("run",), ("notify", "--test"), ("check",)):
            seen = workspace.syncd(*command)
            assert (seen.code, "notify.urls: apprise does not know address 1" in seen.out + seen.err) == (2, True)
            assert "s3cr3t" not in seen.out + seen.err


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_an_open_page_costs_an_idle_daemon_little(tmp_path: Path) -> None:
    with open_workspace(tmp_path, index_delay=0.1) as workspace:
        workspace.configure(more=LISTEN)
        workspace.write("a.md")
        with workspace.daemon() as daemon:
            url = url_of(daemon)
            workspace.in_step()
            with httpx.stream("GET", f"{url}events", timeout=PATIENCE_S) as stream:
                next(stream.iter_lines())
                daemon.saw("index.done")
                before = processor_s(daemon.pid)
                time.sleep(IDLE_S)
                spent = processor_s(daemon.pid) - before
            assert spent < 0.04 * IDLE_S, "more than 4 % of the time, ten times the usual share"
            assert resource.getpagesize() * resident_pages(daemon) < 150 * 1024 * 1024


def resident_pages(daemon: Daemon) -> int:
    return int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[1])


def test_lines_for_journald_have_priorities(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md")
        lines = under_journal(workspace)
        assert any(line.startswith("<6>put.done mirror=docs key=a.md") for line in lines), lines
        assert all(line[0] == "<" and line[2] == ">" for line in lines), lines


def under_journal(workspace: Workspace) -> list[str]:
    """Run one pass with a stderr that JOURNAL_STREAM names, as systemd would."""
    log = workspace.path / "journal"
    with log.open("w") as stream:
        found = os.fstat(stream.fileno())
        env = workspace.env({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
        command = workspace.command("-v", "reconcile")
        subprocess.run(command, env=env, cwd=workspace.path, stdout=subprocess.DEVNULL, stderr=stream, check=True)
    return log.read_text().splitlines()


@pytest.mark.slow
def test_silent_connections_are_closed_and_disturb_nothing(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, ExitStack() as stack:
        workspace.configure(more=LISTEN)
        workspace.write("a.md")
        with workspace.daemon() as daemon:
            url = httpx.URL(url_of(daemon))
            workspace.in_step()
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (250, 250))
            before = len(descriptors(daemon))
            clients = [stack.enter_context(socket.socket()) for _ in range(600)]
            for number, client in enumerate(clients):
                client.settimeout(PATIENCE_S)
                client.connect((url.host, url.port or 0))
                if number % 2:
                    with suppress(OSError):
                        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
            workspace.write("a.md", "edited meanwhile")
            workspace.in_step()
            until(lambda: len(descriptors(daemon)) <= before + 5)
            assert health(str(url)) == (200, {"status": "ok"})
            assert len(daemon.text()) < 20_000
            assert not daemon.events("mirror.halted")
            daemon.stop()


@pytest.mark.slow
def test_a_daemon_without_descriptors_warns_once_and_goes_on_later(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, ExitStack() as stack:
        workspace.configure(more=LISTEN)
        workspace.write("a.md")
        with workspace.daemon() as daemon:
            url = httpx.URL(url_of(daemon))
            workspace.in_step()
            hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)[1]
            least = max(descriptors(daemon)) + 1
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (least, hard))
            for _ in range(40):
                stack.enter_context(socket.create_connection((url.host, url.port or 0), timeout=PATIENCE_S))
            daemon.saw("connection.refused")
            workspace.write("b.md", "written while no descriptor is left")
            time.sleep(3)
            assert len(daemon.events("connection.refused")) == 1
            assert len(daemon.text()) < 50_000
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
            workspace.in_step()
            until(lambda: health(str(url)) == (200, {"status": "ok"}))
            daemon.stop()


@pytest.mark.slow
def test_health_fails_while_the_state_file_cannot_be_written(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.configure(more=LISTEN)
        workspace.write("a.md")
        with workspace.daemon() as daemon:
            url = url_of(daemon)
            workspace.in_step()
            with closing(sqlite3.connect(workspace.state / "state.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                workspace.write("b.md")
                until(lambda: health(url)[0] == 503)
                assert "is locked by another process" in health(url)[1]["reasons"][0]
            workspace.in_step()
            until(lambda: health(url)[0] == 200)
            daemon.stop()
