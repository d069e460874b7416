"""The MCP server: lists and calls the tools. An error of a tool is a result with a message that names the remedy."""

import sqlite3
from typing import Any

import structlog
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    TextContent,
    Tool,
    ToolAnnotations,
)
from pydantic import BaseModel, ValidationError

from syncd import __version__
from syncd.agents.tools import TOOLS, Agent, AgentTool
from syncd.core.errors import SyncdError
from syncd.core.keys import shown_path
from syncd.core.plain_text import printable
from syncd.state.directory import check

_log = structlog.get_logger()

_INSTRUCTIONS = """\
syncd keeps folders of documents on this machine in step with a search index. Use search to find passages, read to see\
 a file as it is now, and list to see which files there are. If an answer seems out of date, explain tells why for one\
 file, and status for a whole mirror. The tools change nothing."""


def make_server(agent: Agent) -> Server[Any]:
    """Return an MCP server that runs the tools with the resources of `agent`."""

    async def list_tools(_context: object, _parameters: object) -> ListToolsResult:
        return ListToolsResult(tools=[_tool_entry(tool) for tool in TOOLS.values()])

    async def call_tool(_context: object, called: CallToolRequestParams) -> CallToolResult:
        if called.name not in TOOLS:
            raise MCPError(INVALID_PARAMS, f"there is no tool {called.name!r}; the tools are: {', '.join(TOOLS)}")
        return await call(agent, TOOLS[called.name], called.arguments or {})

    return Server(
        "syncd",
        version=__version__,
        title="syncd",
        instructions=_instructions(agent),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _instructions(agent: Agent) -> str:
    sections = agent.config().mirrors.items()
    mirrors = [f"{name}: {shown_path(section.path)} → {section.target.spec}" for name, section in sections]
    return "\n".join([_INSTRUCTIONS, "", "The mirrors:", *mirrors])


def _tool_entry(tool: AgentTool) -> Tool:
    return Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.parameters.model_json_schema(),
        output_schema=tool.result.model_json_schema(mode="serialization"),
        annotations=ToolAnnotations(
            title=tool.title,
            read_only_hint=True,
            destructive_hint=False,
            idempotent_hint=True,
            # A tool, search included, reads only the documents of the mirrors.
            open_world_hint=False,
        ),
    )


async def call(agent: Agent, tool: AgentTool, arguments: dict[str, Any]) -> CallToolResult:
    """Run a tool. Return its result, or a result with the message of its error. Raises no error of the tool."""
    try:
        parameters = tool.parameters.model_validate(arguments)
    except ValidationError as error:
        return _refused("; ".join(_fault(fault) for fault in error.errors()))
    try:
        return _result(await tool.run(agent, parameters))
    except SyncdError as error:
        return _refused("; ".join(error.lines))
    except OSError as error:
        return _refused(f"{error.strerror or error}; try again, or run: syncd check")
    except Exception as error:  # noqa: BLE001 - a bug in one tool must not end the session
        return _refused(_unexpected(error, tool.name))


def _result(result: BaseModel) -> CallToolResult:
    values = result.model_dump(mode="json")
    return CallToolResult(content=[TextContent(type="text", text=result.model_dump_json())], structured_content=values)


def _refused(why: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=printable(why))], is_error=True)


def _fault(fault: Any) -> str:
    place = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        return f"{place}: there is no such parameter"
    if fault["type"] == "missing":
        return f"{place}: is needed"
    return f"{place}: {fault['msg'].lower()}"


def _unexpected(error: Exception, tool: str) -> str:
    """Return the message for an error of the state file, or for a bug. The log has the traceback of a bug."""
    try:
        if isinstance(error, sqlite3.Error):
            check(error)
    except SyncdError as halt:
        return str(halt)
    _log.error("mcp.bug", tool=tool, exc_info=error)
    return f"unexpected {type(error).__name__}; this is a bug, the log of syncd has the traceback"
