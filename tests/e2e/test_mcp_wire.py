"""`syncd mcp` on the wire: the lines of stdin and stdout, the end of the program, and HTTP with its token."""

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest

from syncd.queries.status import snapshot
from tests.e2e.harness import TOKEN, Workspace, files_of, open_workspace, until
from tests.e2e.harness_mcp import TOOLS, Agent, Pipe, pipe
from tests.e2e.syncd_child import child

SECRET = "the-token-of-the-mcp-server-0815"
AUTHORIZED = {"Authorization": f"Bearer {SECRET}"}
ACCEPTING = {"Accept": "application/json, text/event-stream"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md", "zebra")
        yield workspace


def read(client: Pipe) -> str:
    """Return the text of a file."""
    text: str = client.ask("tools/call", name="read", arguments={"path": "a.md"})["structuredContent"]["text"]
    return text


def test_a_session_by_hand_and_its_end(workspace: Workspace) -> None:
    from syncd.agents.stdio import MAX_LINE_BYTES

    with pipe(workspace) as client:
        begun = client.begin()
        assert begun["serverInfo"]["name"] == "syncd"
        assert list(begun["capabilities"]) == ["tools"]
        assert [tool["name"] for tool in client.ask("tools/list")["tools"]] == list(TOOLS)
        assert read(client) == "zebra"
        # Lines that are no messages.
        client.send(b"nonsense\n{}\n[]\n\n\xff\xfe\n" + b"x" * (MAX_LINE_BYTES + 100_000) + b"\n")
        client.send(b'{"jsonrpc": "2.0", "id": 7, "method": "no/such"}\n')
        while (answer := client.receive()).get("id") != 7:
            assert "error" in answer
        assert answer["error"]["code"] == -32601
        client.notify("notifications/cancelled", requestId=99)
        assert read(client) == "zebra"
        code, rest, errors = client.ends()
        assert (code, rest) == (0, [])
        assert "Traceback" not in errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_at_once_while_stdin_is_open(workspace: Workspace, number: int, code: int) -> None:
    with pipe(workspace) as client:
        client.begin()
        client.process.send(number)
        assert client.process.ends(3.9)[0] == code, "before the thread of signals.py ends the process"
        assert "Traceback" not in client.process.text()


@pytest.mark.slow
def test_a_client_that_goes_away_and_one_that_does_not_read(workspace: Workspace) -> None:
    workspace.write("large.md", "x" * 250_000)
    with pipe(workspace) as client:
        client.begin()
        client.process.stdout.close()
        client.start("tools/call", name="read", arguments={"path": "a.md"})
        code, _, errors = client.ends()
        assert code == 0
        assert "Traceback" not in errors
    with pipe(workspace) as client:
        client.begin()
        for _ in range(4):
            client.start("tools/call", name="read", arguments={"path": "large.md", "limit": 250_000})
        client.process.stdin.close()
        client.process.send(signal.SIGTERM)
        assert client.process.ends(5)[0] == 0


def test_the_end_of_stdin_cancels_a_search(tmp_path: Path) -> None:
    with open_workspace(tmp_path, latency=60.0) as workspace, pipe(workspace) as client:
        client.begin()
        number = client.start("tools/call", name="search", arguments={"query": "zebra"})
        until(lambda: workspace.remote.counted()["total"] == 1, "the search was not sent")
        client.process.stdin.close()
        assert client.process.ends(10)[0] == 0
        assert all(message.get("id") == number and "error" in message for message in client.ends()[1])


def noisy_child(*given: Any) -> None:
    """Run a command whose tool prints, by itself and by a program that it starts."""

    def noisy(*given: Any) -> Any:
        sys.stdout.write("noise\n")
        sys.stdout.flush()
        os.system("echo noise")
        return snapshot(*given)

    mock.patch("syncd.agents.tools.snapshot", noisy).start()
    child(*given)


def test_what_others_print_does_not_reach_the_client(workspace: Workspace) -> None:
    with pipe(workspace, noisy_child) as client:
        client.begin()
        assert client.ask("tools/call", name="status", arguments={})["isError"] is False
        code, rest, errors = client.ends()
        assert (code, rest) == (0, [])
        assert errors.count("noise") == 2


# -- HTTP


@asynccontextmanager
async def served(workspace: Workspace, *options: str) -> AsyncIterator[str]:
    """Serve over HTTP at a free port, and yield the URL. Stop with SIGTERM."""
    process = workspace.really("mcp", "--http", "127.0.0.1:0", *options, env={"SYNCD_MCP_TOKEN": SECRET})
    try:
        assert process.stdout
        yield process.stdout.readline().decode().strip()
        process.terminate()
        assert process.wait(5) == 0
        errors = process.communicate()[1].decode()
        assert "Traceback" not in errors
        assert SECRET not in errors
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
async def test_agents_with_the_token_are_served_over_http(workspace: Workspace) -> None:
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    assert workspace.syncd("reconcile", "--wait").code == 0
    async with served(workspace) as url, httpx2.AsyncClient(headers=AUTHORIZED, timeout=30, verify=False) as http:
        for mode in ("auto", "legacy"):
            async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
                it = Agent(client)
                assert tuple(tool.name for tool in (await client.list_tools()).tools) == TOOLS
                assert await it.keys("zebra") == ["a.md"]
                assert (await it.ask("read", path="a.md"))["text"] == "zebra"
                assert "is in no mirrored folder" in await it.refused("read", path="../x")
        for path, headers, status in (
            ("", {"Authorization": ""}, 401),
            ("", {"Authorization": "Bearer x"}, 401),
            ("", {"Authorization": f"Basic {SECRET}"}, 401),
            ("", {"Authorization": "Bearer Grüße"}, 401),
            ("/other", {"Authorization": ""}, 401),
            ("/other", {}, 404),
            ("", {"Host": "rebound.example:80"}, 421),
            ("", {"Origin": "http://rebound.example"}, 403),
            ("", {"Origin": "null"}, 403),
        ):
            sent = {name: value.encode("latin-1") for name, value in headers.items()}
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            answer = await http.post(url + path, headers=sent, json=message)  # type: ignore[arg-type]
            assert (answer.status_code, SECRET in answer.text) == (status, False), headers
        # Clients that end without a word leave nothing behind that would keep others out.
        for _ in range(100):
            assert (await http.post(url, headers=ACCEPTING, json=INITIALIZE)).status_code == 200
        # A tunnel may have another port at its other end.
        answer = await http.post(url, headers={"Host": "localhost:99", "Origin": "http://localhost:99"}, json={})
        assert answer.status_code not in (401, 403, 421)


@pytest.mark.parametrize(
    ("options", "token", "words"),
    [
        (["--http", "0.0.0.0:0"], SECRET, "should be a loopback address and a port"),
        (["--http", "example.com:80"], SECRET, "should be a loopback address and a port"),
        (["--http", "127.0.0.1"], SECRET, "should be a loopback address and a port"),
        (["--http", ""], SECRET, "should be a loopback address and a port"),
        (["--http", "127.0.0.1:0"], "", "--http needs a token: set SYNCD_MCP_TOKEN"),
        (["--http", "127.0.0.1:0"], "a" * 15, "should have at least 16 ASCII characters and no spaces"),
        (["--http", "127.0.0.1:0"], "a b" * 16, "should have at least 16 ASCII characters and no spaces"),
        (["--http", "127.0.0.1:0", "--token-file", "none"], "", "--token-file: No such file"),
        (["--token-file", "none"], "", "--token-file needs --http"),
        (["-m", "none"], "", "none"),
    ],
)
def test_a_wrong_call_is_refused(workspace: Workspace, options: list[str], token: str, words: str) -> None:
    ended = workspace.syncd("mcp", *options, env={"SYNCD_MCP_TOKEN": token})
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err
    assert token == "" or token not in ended.err


def test_a_token_file_and_a_port_in_use(workspace: Workspace) -> None:
    file = workspace.path / "token"
    file.write_text(f"{SECRET}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = workspace.syncd("mcp", "--http", f"127.0.0.1:{port}", "--token-file", str(file))
        assert (ended.code, f"--http: 127.0.0.1:{port} is in use" in ended.err) == (2, True), ended.err
    file.chmod(0o666)
    assert (
        "everybody may write to the file"
        in workspace.syncd("mcp", "--http", "127.0.0.1:0", "--token-file", str(file)).err
    )
    file.chmod(0o600)
    workspace.write("token", SECRET)
    inside = workspace.syncd("mcp", "--http", "127.0.0.1:0", "--token-file", str(workspace.docs / "token"))
    assert (inside.code, "lies in the folder of mirror docs" in inside.err) == (2, True), inside.err
    running = workspace.start("mcp", "--http", "localhost:0", "--token-file", str(file))
    until(lambda: running.out().endswith("/mcp\n"), running.text)
    assert httpx.post(running.out().strip(), json={}, verify=False).status_code == 401
    assert httpx.post(running.out().strip(), json={}, headers=AUTHORIZED, verify=False).status_code != 401
    arguments = Path(f"/proc/{running.pid}/cmdline")
    assert not arguments.exists() or SECRET.encode() not in arguments.read_bytes()
    running.send(signal.SIGTERM)
    assert running.ends(5)[0] == 0
    assert (TOKEN in running.text(), SECRET in running.text()) == (False, False)


def test_nothing_is_changed(workspace: Workspace) -> None:
    assert workspace.syncd("reconcile", "--wait").code == 0

    state = workspace.state / "state.db"
    before = state.read_bytes(), files_of(workspace.docs)
    workspace.remote.forget_requests()
    with pipe(workspace) as client:
        client.begin()
        for tool, arguments in (
            ("search", {"query": "zebra"}),
            ("read", {"path": "a.md"}),
            ("list", {}),
            ("explain", {"path": "a.md"}),
            ("status", {}),
        ):
            assert client.ask("tools/call", name=tool, arguments=arguments)["isError"] is False
        assert client.ends()[0] == 0
    assert (state.read_bytes(), files_of(workspace.docs)) == before
    counted = workspace.remote.counted()
    assert (counted["changing"], counted["total"]) == (0, 1)


def test_a_closed_stdin_ends_it(workspace: Workspace) -> None:
    ended = workspace.streamed("mcp", stdin=None)
    assert (ended.code, ended.out) == (0, "")
    assert "Traceback" not in ended.err
