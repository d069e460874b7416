"""Clients of `syncd mcp`: the client of the official package, and a pipe that speaks the protocol by hand.

The package is imported late, because each worker of pytest-xdist imports this module, and few use the package.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from syncd.config.schema import Config
from syncd.config.sources import load
from tests.e2e.harness import Piped, Program, Workspace
from tests.e2e.syncd_child import child

if TYPE_CHECKING:
    from mcp import Client
    from mcp_types import CallToolResult

TOOLS = ("search", "read", "list", "explain", "status")


class Agent:
    """An agent. It checks every answer: its schema, and that the text says the same as the structured result."""

    def __init__(self, client: "Client") -> None:
        self.client = client
        self._results: dict[str, Draft202012Validator] = {}

    async def ask(self, tool: str, **arguments: Any) -> Any:
        """Return the structured result of a tool."""
        result = await self.client.call_tool(tool, arguments)
        text = _text(result)
        assert not result.is_error, text
        assert json.loads(text) == result.structured_content
        if not self._results:
            for each in (await self.client.list_tools()).tools:
                assert each.output_schema
                self._results[each.name] = Draft202012Validator(each.output_schema)
        self._results[tool].validate(result.structured_content)
        return result.structured_content

    async def refused(self, tool: str, **arguments: Any) -> str:
        """Return the text of an error."""
        result = await self.client.call_tool(tool, arguments)
        text = _text(result)
        assert result.is_error, text
        assert result.structured_content is None
        assert "Traceback" not in text
        assert "\n" not in text
        return text

    async def keys(self, query: str, **arguments: Any) -> list[str]:
        """Return the keys of the hits of a search."""
        return [hit["key"] for hit in (await self.ask("search", query=query, **arguments))["hits"]]


def _text(result: "CallToolResult") -> str:
    [content] = result.content
    assert content.type == "text"
    return content.text


@asynccontextmanager
async def agent(workspace: Workspace, *options: str) -> AsyncIterator[Agent]:
    """Start `syncd mcp` as an agent does. Its stderr must be free of tracebacks."""
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    command, *arguments = workspace.command("mcp", *options)
    parameters = StdioServerParameters(command=command, args=arguments, env=workspace.env(), cwd=workspace.path)
    log = workspace.path / "mcp.err"
    with log.open("w") as errors:
        async with Client(stdio_client(parameters, errlog=errors)) as client:
            yield Agent(client)
    assert "Traceback" not in log.read_text()


@asynccontextmanager
async def inner_agent(workspace: Workspace, *names: str) -> AsyncIterator[Agent]:
    """Connect an agent with a server in this process. The start of the program takes most of the time of a test."""
    from mcp import Client

    from syncd.agents import tools
    from syncd.agents.server import make_server

    def read_config() -> Config:
        return load(workspace.config, workspace.env())

    async with (
        aclosing(tools.Agent(read_config, names)) as served,
        Client(make_server(served), raise_exceptions=True) as client,
    ):
        yield Agent(client)


class Pipe:
    """A client that writes and reads the lines of the protocol."""

    def __init__(self, process: Piped) -> None:
        self.process = process
        self._number = 0

    def send(self, data: bytes) -> None:
        """Write bytes to stdin of the server."""
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def receive(self) -> Any:
        """Return the next message."""
        return json.loads(self.process.stdout.readline())

    def start(self, method: str, **parameters: Any) -> int:
        """Send a request. Return its id."""
        self._number += 1
        message = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": parameters}
        self.send(json.dumps(message).encode() + b"\n")
        return self._number

    def ask(self, method: str, **parameters: Any) -> Any:
        """Send a request, and return its result."""
        number = self.start(method, **parameters)
        answer = self.receive()
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", number)
        return answer["result"]

    def notify(self, method: str, **parameters: Any) -> None:
        """Send a notification."""
        self.send(json.dumps({"jsonrpc": "2.0", "method": method, "params": parameters}).encode() + b"\n")

    def begin(self) -> Any:
        """Make the handshake of the versions before 2026. Return its result."""
        client = {"name": "test", "version": "1"}
        result = self.ask("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=client)
        self.notify("notifications/initialized")
        return result

    def ends(self) -> tuple[int, list[Any], str]:
        """Close stdin, and wait for the end. Return the exit code, the messages that were left, and stderr."""
        self.process.stdin.close()
        messages = [] if self.process.stdout.closed else [json.loads(line) for line in self.process.stdout]
        return self.process.ends()[0], messages, self.process.text()


@contextmanager
def pipe(workspace: Workspace, program: Program = child) -> Iterator[Pipe]:
    """Start `syncd mcp`, and kill it at the end if it still runs."""
    with workspace.piped("mcp", program=program) as process:
        yield Pipe(process)
