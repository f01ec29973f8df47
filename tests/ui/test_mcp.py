"""The endpoints as tools of the Model Context Protocol, called by a real client of it."""

import ast

import pytest

pytest.importorskip("mcp", reason="the extra 'mcp' is not installed")
from mcp import ClientSession  # noqa: E402  (only where the extra is)
from mcp.client.streamable_http import streamablehttp_client  # noqa: E402
from test_guard import apart  # noqa: E402


def test_tools_are_listed_and_called(server):
    tools, answer = apart(session(server[0] + "gradio_api/mcp/"))
    described = {tool.name.removeprefix("app_"): tool for tool in tools}
    assert {"classify", "routing", "compare"} <= described.keys()
    shots = described["compare"].inputSchema["properties"]["shots"]
    assert shots["type"] == "number" and "per class" in shots["description"]
    last = ast.literal_eval(answer.content[-1].text)  # gradio writes Python, not JSON
    assert not answer.isError and last["status"] == "done"
    assert [row["method"] for row in last["rows"]] == ["linear"]


async def session(address: str):
    async with streamablehttp_client(address) as (read, write, _), ClientSession(read, write) as s:
        await s.initialize()
        tools = (await s.list_tools()).tools
        name = next(tool.name for tool in tools if tool.name.endswith("compare"))
        values = {"task": "tones", "methods": "linear", "shots": 2, "epochs": 1, "seeds": "0"}
        return tools, await s.call_tool(name, values)
