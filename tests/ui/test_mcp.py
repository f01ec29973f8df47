"""The endpoints as tools of the Model Context Protocol, called by a real client of it."""

import ast
import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("mcp", reason="the extra 'mcp' is not installed")
from mcp import ClientSession  # noqa: E402  (only where the extra is)
from mcp.client.streamable_http import streamablehttp_client  # noqa: E402

ROOT = Path(__file__).parents[2]


def test_tools_are_listed_and_called():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port)],
        cwd=ROOT,
        env=os.environ | {"GRADIO_MCP_SERVER": "True"},
    )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(address + "config", timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        with ThreadPoolExecutor(1) as apart:  # the browser's loop runs on this thread
            asked = apart.submit(asyncio.run, session(address + "gradio_api/mcp/"))
            tools, answer = asked.result()
    finally:
        process.terminate()
        process.wait(timeout=20)
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
