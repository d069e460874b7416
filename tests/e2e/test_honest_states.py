"""The states that people see: a remote that is dead or silent, a daemon that is gone, a cut pass, an empty folder."""

import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from syncd.state.directory import lock
from tests.e2e.harness import Workspace, until

SEEN_WITHIN_S = 5.0


@contextmanager
def switch(server: str) -> Iterator["Switch"]:
    """Yield a relay before a stand-in, that can be closed and hushed."""
    relay = Switch(server)
    try:
        yield relay
    finally:
        relay.close()


class Switch:
    """Passes bytes on to the stand-in. mode: "on", "hushed" (takes requests, never answers) or "off" (refuses)."""

    def __init__(self, server: str) -> None:
        host, port = server.split("/")[2].split(":")
        self._behind = host, int(port)
        self._open: list[socket.socket] = []
        self._hushed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._serve()

    def off(self) -> None:
        """Refuse connections, and end those that are open."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._end()

    def on(self) -> None:
        """Pass bytes on again."""
        self._hushed = False
        self._end()
        if self._listener.fileno() < 0:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._serve()

    def hush(self) -> None:
        """Take requests, and answer none."""
        self._hushed = True

    def close(self) -> None:
        if self._listener.fileno() >= 0:
            self.off()

    def _end(self) -> None:
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()

    def _serve(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._open.append(client)
            behind = socket.create_connection(self._behind)
            self._open.append(behind)
            for one, other in ((client, behind), (behind, client)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if not self._hushed:
                    other.sendall(data)
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def whole(workspace: Workspace) -> Any:
    return workspace.syncd("status", "--json").json()


@pytest.mark.slow
@pytest.mark.parametrize("dead", ["off", "hush"])
def test_a_dead_remote_is_seen_while_requests_are_retried_and_so_is_its_return(workspace: Workspace, dead: str) -> None:
    with switch(workspace.server.base_url) as relay:
        base_url = re.sub(r":\d+", f":{relay.port}", workspace.server.base_url)
        env = {"SYNCD_CLOUDFLARE__BASE_URL": base_url, "SYNCD_CLOUDFLARE__RETRY_FOR": "600"}
        workspace.write("a.md", "text a")
        with workspace.daemon(env=env):
            workspace.in_step()
            until(lambda: workspace.status()["state"] == "idle")
            getattr(relay, dead)()
            workspace.write("b.md", "text b")
            until(lambda: workspace.status()["state"] == "degraded", within_s=SEEN_WITHIN_S, every_s=0.2)
            shown = workspace.status()
            assert ("no answer" if dead == "hush" else "could not connect") in shown["detail"]
            assert bool(shown["next_try"]) is (dead == "off")
            assert shown["last_contact"]
            relay.on()
            until(lambda: workspace.status()["state"] == "idle", within_s=60)
            assert "b.md" in workspace.remote.files()


@pytest.mark.slow
def test_an_idle_mirror_whose_remote_dies_is_shown_as_degraded_without_a_request(workspace: Workspace) -> None:
    with switch(workspace.server.base_url) as relay:
        base_url = re.sub(r":\d+", f":{relay.port}", workspace.server.base_url)
        workspace.write("a.md", "text a")
        with workspace.daemon(env={"SYNCD_CLOUDFLARE__BASE_URL": base_url}) as daemon:
            workspace.in_step()
            until(lambda: workspace.status()["state"] == "idle")
            sent = workspace.remote.counted()
            relay.off()
            until(lambda: workspace.status()["state"] == "degraded", within_s=SEEN_WITHIN_S, every_s=0.2)
            shown = workspace.status()
            assert shown["detail"] == f"could not connect: 127.0.0.1:{relay.port} refuses the connection"
            assert shown["next_try"]
            daemon.saw("remote.unreachable")
            relay.on()
            until(lambda: workspace.status()["state"] == "idle", within_s=SEEN_WITHIN_S, every_s=0.2)
            daemon.saw("remote.reachable")
            assert workspace.remote.counted() == sent
            workspace.write("b.md", "text b")
            daemon.saw("put.done", key="b.md")


def test_a_daemon_that_is_killed_or_stopped_is_told_apart(workspace: Workspace) -> None:
    workspace.write("a.md", "text a")
    assert (whole(workspace)["last_seen"], "not running\n" in workspace.syncd("status").out) == (None, True)
    with workspace.daemon() as daemon:
        workspace.in_step()
        assert daemon.stop()[0] == 0
    assert "it ended" in workspace.syncd("status").out
    assert whole(workspace)["ended"] is True
    killed = workspace.start("run")
    until(lambda: whole(workspace)["ended"] is False)
    killed.kill()
    shown = whole(workspace)
    assert (shown["daemon"], shown["ended"]) == ({"running": False, "pid": None}, False)
    assert f"no contact since {shown['last_seen']}" in workspace.syncd("status").out


def test_a_pass_of_a_command_is_shown_and_so_is_its_end_by_a_signal(workspace: Workspace) -> None:
    for number in range(30):
        workspace.write(f"{number}.md", f"text {number}")
    slow = {"SYNCD_CLOUDFLARE__TPSLIMIT": "5"}
    command = workspace.start("reconcile", env=slow)
    until(lambda: workspace.status()["counts"]["uploading"])
    shown = whole(workspace)
    assert (shown["command"], shown["mirrors"]["docs"]["state"]) == ({"pid": command.pid}, "syncing")
    assert f"another command is at work, pid {command.pid}" in workspace.syncd("status").out
    command.kill()
    shown = workspace.status()
    assert (shown["state"], shown["counts"]["uploading"]) == ("degraded", 0)
    assert "the last pass was interrupted" in shown["detail"]
    # Another command that holds the state directory does not go on with that pass.
    with lock(workspace.state):
        assert workspace.status()["state"] == "degraded"


@pytest.mark.slow
def test_a_command_whose_requests_are_retried_is_shown_as_degraded(workspace: Workspace) -> None:
    workspace.write("a.md", "text a")
    assert workspace.syncd("reconcile").code == 0
    workspace.write("b.md", "text b")
    dead = {"SYNCD_CLOUDFLARE__BASE_URL": "http://127.0.0.1:9/client/v4", "SYNCD_CLOUDFLARE__RETRY_FOR": "600"}
    # Another address is another target, of which nothing is known yet.
    command = workspace.start("reconcile", env=dead)
    until(lambda: workspace.status()["state"] == "degraded", within_s=SEEN_WITHIN_S + 5, every_s=0.2)
    shown = workspace.status()
    assert "could not connect" in shown["detail"]
    assert shown["next_try"]
    command.send(signal.SIGINT)
    assert command.ends()[0] == 130
    assert "the last pass was interrupted" in workspace.status()["detail"]


def test_an_empty_folder_says_so(workspace: Workspace) -> None:
    assert workspace.syncd("reconcile").code == 0
    assert "the folder is empty" in workspace.syncd("status").out
    workspace.write("a.md", "text a")
    assert workspace.syncd("reconcile").code == 0
    assert "1 in step" in workspace.syncd("status").out


def test_numbers_of_another_target_are_not_shown_as_those_of_the_new_one(workspace: Workspace) -> None:
    workspace.write("a.md", "text")
    assert workspace.syncd("reconcile").code == 0
    changed = {"SYNCD_MIRRORS__DOCS__KEY_PREFIX": "new/"}
    mirror = json.loads(workspace.syncd("status", "--json", env=changed).out)["mirrors"]["docs"]
    assert (mirror["state"], "run: syncd reconcile" in mirror["detail"]) == ("degraded", True)
    assert workspace.status()["state"] == "idle"
