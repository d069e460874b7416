"""The daemon and its signals: a clean end within 5 s, and a new config without a restart."""

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from syncd.cloudflare.gate import Gate
from syncd.service.worker import MirrorWorker
from tests.e2e.harness import open_workspace, until
from tests.harness import Core


@contextmanager
def silent_server() -> Iterator[str]:
    """Yield the base URL of a server that accepts connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/client/v4"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_during_the_first_pass_ends_the_daemon_within_5_s(tmp_path: Path, number: int, code: int) -> None:
    with open_workspace(tmp_path, latency=0.1) as workspace:
        for each in range(200):
            workspace.write(f"{each}.md", f"text {each}")
        with workspace.daemon() as daemon:
            daemon.saw("put.done", count=3)
            exit_code, seconds = daemon.stop(number)
            assert (exit_code, seconds < 5) == (code, True)
        assert 0 < len(workspace.remote.items()) < 200


def test_sigterm_ends_a_daemon_whose_request_hangs_within_5_s(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, silent_server() as url:
        workspace.write("a.md")
        with workspace.daemon(env={"SYNCD_CLOUDFLARE__BASE_URL": url}) as daemon:
            daemon.saw("watch.ready")
            until(lambda: workspace.status()["state"] == "syncing")
            code, seconds = daemon.stop()
            assert (code, seconds < 5) == (0, True)


def test_sigterm_right_after_the_start_is_a_clean_stop(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, workspace.daemon() as daemon:
        daemon.saw("daemon.start")
        assert daemon.stop()[0] == 0


@pytest.mark.parametrize("flags", ["-vc", "-qc", "-vvc"])
def test_sigterm_is_a_clean_stop_after_flags_that_stand_together(tmp_path: Path, flags: str) -> None:
    with open_workspace(tmp_path) as workspace, workspace.daemon(flags, str(workspace.config)) as daemon:
        until(lambda: workspace.syncd("status", "--alive").code == 0)
        daemon.send(signal.SIGTERM)
        assert daemon.ends()[0] == 0


def test_sighup_adds_a_mirror_and_an_invalid_config_changes_nothing(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        token = workspace.path / "token"
        token.write_text("any")
        workspace.write("a.md")
        (workspace.path / "two").mkdir()
        (workspace.path / "two/b.md").write_text("of the second mirror")
        second = '[mirrors.two.target]\ntype = "ai-search"\ninstance = "two"\ncreate = true'
        with workspace.daemon(
            env={"CLOUDFLARE_API_TOKEN": None, "SYNCD_CLOUDFLARE__API_TOKEN_FILE": str(token)}
        ) as daemon:
            workspace.in_step()
            workspace.configure(more=f'[mirrors.two]\npath = "{workspace.path}/two"\n{second}')
            daemon.send(signal.SIGHUP)
            daemon.saw("pass.done", mirror="two", scope="all")
            daemon.saw("pass.done", count=2, mirror="docs", scope="all")
            good = workspace.config.read_text()

            for number, broken in enumerate(("not toml [", good.replace("settle", "unsettled")), 1):
                workspace.config.write_text(broken)
                daemon.send(signal.SIGHUP)
                daemon.saw("config.invalid", count=number)
                daemon.saw("pass.done", count=1 + number, mirror="two", scope="all")
            workspace.write("after.md", "with the former config")
            workspace.in_step()

            workspace.config.write_text(good)
            token.unlink()
            daemon.send(signal.SIGHUP)
            daemon.saw("config.invalid", count=3)
            workspace.write("later.md", "with the former token")
            workspace.in_step()
            token.write_text("any")
            workspace.config.write_text(good.replace(str(workspace.state), "/dev/null/state"))
            daemon.send(signal.SIGHUP)
            daemon.saw("config.invalid", count=4)
            workspace.write("last.md", "with the former state directory")
            workspace.in_step()
            assert daemon.stop()[0] == 0


def test_a_halted_mirror_does_not_stop_the_others(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        gone = '[mirrors.gone.target]\ntype = "ai-search"\ninstance = "gone"\ncreate = true'
        workspace.configure(more=f'[mirrors.gone]\npath = "{workspace.path}/nowhere"\n{gone}')
        workspace.write("a.md")
        with workspace.daemon() as daemon:
            daemon.saw("mirror.halted", mirror="gone")
            workspace.in_step()
            workspace.write("a.md", "edited")
            workspace.in_step()
            (workspace.path / "nowhere").mkdir()
            (workspace.path / "nowhere/x.md").write_text("the folder is there")
            daemon.saw("put.done", mirror="gone", key="x.md")


@contextmanager
def service_manager() -> Iterator[tuple[str, socket.socket]]:
    # The path of a socket may have 107 bytes at most, so it cannot be below tmp_path.
    with tempfile.TemporaryDirectory(prefix="n") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(f"{folder}/s")
        server.setblocking(False)
        yield f"{folder}/s", server


class Messages:
    """The messages that the service manager got so far."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self.received: list[str] = []

    def read(self) -> list[str]:
        try:
            while True:
                self.received.append(self._server.recv(4096).decode())
        except BlockingIOError:
            return self.received

    def wait_for(self, start: str, after: int = 0) -> int:
        """Wait for a message that begins so. Return the position after it."""
        until(lambda: any(each.startswith(start) for each in self.read()[after:]), lambda: (start, self.received))
        return after + next(i for i, each in enumerate(self.received[after:], 1) if each.startswith(start))


def test_systemd_gets_start_state_watchdog_reload_and_stop(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, service_manager() as (address, server):
        workspace.write("a.md")
        messages = Messages(server)
        with workspace.daemon(env={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"}) as daemon:
            ready = messages.wait_for("READY=1")
            messages.wait_for("STATUS=docs: idle, 1 in step")
            alive = messages.wait_for("WATCHDOG=1", messages.wait_for("WATCHDOG=1"))
            daemon.send(signal.SIGHUP)
            reloading = messages.wait_for("RELOADING=1\nMONOTONIC_USEC=", max(ready, alive))
            messages.wait_for("WATCHDOG=1", messages.wait_for("READY=1", reloading))
            daemon.send(signal.SIGTERM)
            assert daemon.ends()[0] == 0
            messages.wait_for("STOPPING=1", reloading)


def test_the_watchdog_of_another_process_is_not_fed(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, service_manager() as (address, server):
        messages = Messages(server)
        other = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000", "WATCHDOG_PID": str(os.getpid())}
        with workspace.daemon(env=other) as daemon:
            messages.wait_for("READY=1")
            messages.wait_for("STATUS=docs: idle")
            daemon.stop()
        assert "WATCHDOG=1" not in messages.read()


def test_the_next_daemon_uploads_edits_made_after_a_stop(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md")
        with workspace.daemon() as daemon:
            workspace.in_step()
            daemon.stop()
        workspace.write("a.md", "edited after the stop")
        workspace.write("b.md", "new after the stop")
        with workspace.daemon():
            workspace.in_step()


async def test_a_worker_that_is_woken_and_cancelled_at_once_ends(core: Core) -> None:
    worker = MirrorWorker(core.mirror, 3600.0, Gate(0, 1))
    running = asyncio.create_task(worker.run())
    for _ in range(3):
        await asyncio.sleep(0)  # The worker begins to wait.
    worker.request_full()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await running
