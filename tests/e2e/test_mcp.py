"""`syncd mcp`: a session of an agent with the real program, by the client of the official package."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import TextContent

from tests.e2e.harness import Workspace, open_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(tmp_path) as workspace:
        yield workspace


@asynccontextmanager
async def agent(workspace: Workspace, *options: str) -> AsyncIterator[Client]:
    """Start `syncd mcp` as an agent does, and yield the client."""
    command, *arguments = workspace.command("mcp", *options)
    parameters = StdioServerParameters(command=command, args=arguments, env=workspace.env(), cwd=workspace.path)
    async with Client(stdio_client(parameters)) as client:
        yield client


async def answer(client: Client, tool: str, **arguments: Any) -> Any:
    """Return the structured result of a tool. The text must say the same."""
    result = await client.call_tool(tool, arguments)
    [content] = result.content
    assert isinstance(content, TextContent)
    assert not result.is_error, content.text
    assert json.loads(content.text) == result.structured_content
    return result.structured_content


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    """Return the words of an error."""
    result = await client.call_tool(tool, arguments)
    [content] = result.content
    assert isinstance(content, TextContent)
    assert result.is_error, content.text
    assert "Traceback" not in content.text
    return content.text


async def test_an_agent_searches_and_reads_a_mirror(workspace: Workspace) -> None:
    workspace.write("guides/tokens.md", "# Tokens\n\nRotate the token once a year.\n")
    workspace.write("other.md", "# Other\n\nNothing to see.\n")
    workspace.write(".env", "PASSWORD=1")
    assert workspace.syncd("reconcile", "--wait").code == 0
    async with agent(workspace) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == [
            *("search", "read", "list", "explain", "status"),
        ]
        found = await answer(client, "search", query="rotate the token")
        [hit] = found["hits"]
        assert (hit["key"], hit["title"], hit["freshness"]) == ("guides/tokens.md", "Tokens", "current")
        assert hit["path"] == str(workspace.docs / "guides/tokens.md")
        read = await answer(client, "read", path=hit["key"])
        assert read["text"] == "# Tokens\n\nRotate the token once a year.\n"
        listed = await answer(client, "list", folder="guides")
        assert [(item["key"], item["state"], item["index"]) for item in listed["items"]] == [
            ("guides/tokens.md", "synced", "completed")
        ]
        explained = await answer(client, "explain", path="guides/tokens.md")
        facts = {fact["name"]: fact["value"] for fact in explained["found"][0]["facts"]}
        assert facts["rule"] == "taken: nothing excludes it"
        status = await answer(client, "status")
        assert (status["daemon_running"], status["mirrors"]["docs"]["searchable"]) == (False, 2)
        assert "built-in exclude: .env" in await refusal(client, "read", path=".env")
        workspace.write("guides/tokens.md", "# Tokens\n\nRotate the token every day.\n")
        [changed] = (await answer(client, "search", query="rotate the token"))["hits"]
        assert changed["freshness"] == "changed"
        assert "every day" in (await answer(client, "read", path=changed["key"]))["text"]
