"""What docs/streams.md shows, run against the real application."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from pathlib import Path

import orjson
import pytest

from medkit_gateway_py.api.app import create_app
from medkit_gateway_py.api.context import GatewayContext
from medkit_gateway_py.resources.faults.model import CONFIRMED, ERROR, FAULT_CONFIRMED, Fault, FaultEvent
from support.api import gateway, merged, node, runtime_tree
from support.streams import StreamClient, serving
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "streams.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def context_with_a_fault() -> GatewayContext:
    """A gateway that has confirmed the fault of the page."""
    tree, given = runtime_tree([node("lidar", "/perception")])
    context = gateway(merged(tree, given))
    sources = ("/perception/lidar",)
    fault = Fault(
        "LIDAR_RANGE_INVALID", ERROR, "range is not a number", 1760000000.1, 1760000000.1, 1, CONFIRMED, sources
    )
    context.fault_events.add(FaultEvent(FAULT_CONFIRMED, fault, 1760000000.2))
    return context


async def printed(*command: str, until: str) -> str:
    """What a program prints until it has printed this; it is ended then."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    found = b""
    try:
        while until not in found.decode():
            piece = await asyncio.wait_for(process.stdout.read(4096), 20)
            assert piece, found.decode()
            found += piece
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return found.decode()


@pytest.mark.parametrize("number", range(len(blocks("console"))))
async def test_each_command_prints_what_the_page_shows(number: int) -> None:
    command, _, shown = blocks("console")[number].partition("\n")
    async with serving(create_app(context_with_a_fault())) as port:
        words = shlex.split(command.removeprefix("$ ").replace("localhost:8080", f"127.0.0.1:{port}"))
        got = await printed(words[0], "-sS", *words[1:], until="\n\n" if not shown else "data: ")
    if not shown:
        assert got == ":keepalive\n\n"
        return
    assert got.split("\n\n")[0] == shown.split("\n\n")[0]
    fields, wanted = (dict(line.split(": ", 1) for line in text.split("\n\n")[1].splitlines()) for text in (got, shown))
    assert fields["event"] == wanted["event"]
    data = orjson.loads(fields["data"])
    if data != orjson.loads(wanted["data"]):
        # The number of a tree is that of this run.
        assert data == {"base": data["seq"], "seq": data["seq"], "set": [], "gone": []}
        assert list(data) == list(orjson.loads(wanted["data"]))


async def test_the_program_prints_each_fault() -> None:
    (program,) = blocks("python")
    context = context_with_a_fault()
    async with serving(create_app(context)) as port:
        got = await printed(
            sys.executable, "-c", program.replace("localhost:8080", f"127.0.0.1:{port}"), until="CONFIRMED\n"
        )
        assert got == "LIDAR_RANGE_INVALID CONFIRMED\n"
        await async_eventually(lambda: context.streams.counts["client"] == 0, within=10)


async def test_the_stream_of_everything_tells_of_the_tree_of_peers_and_of_faults() -> None:
    context = context_with_a_fault()
    tree, given = runtime_tree([node("lidar", "/perception"), node("camera", "/perception")])
    before, after = context.federation.tree, merged(tree, given, version=2)
    async with serving(create_app(context)) as port, StreamClient(port, "/api/v1/x-medkit/events") as client:
        client.read_on()
        await async_eventually(lambda: client.names() == ["tree"])
        assert client.data()[0]["counts"]["apps"] == len(before.apps)
        context.federation._swap(after)
        await async_eventually(lambda: len(client.events) == 2)
        assert client.data()[1]["changes"]["apps"] == {"added": ["camera"]}
        fault = Fault("X", ERROR, "x", 1.0, 1.0, 1, CONFIRMED, ())
        context.fault_events.add(FaultEvent(FAULT_CONFIRMED, fault, 2.0))
        await async_eventually(lambda: client.names() == ["tree", "tree", FAULT_CONFIRMED])
        async with StreamClient(port, "/api/v1/x-medkit/events", {"Last-Event-ID": client.events[1].id}) as again:
            again.read_on()
            await async_eventually(lambda: again.names() == ["tree", FAULT_CONFIRMED])
            assert again.data()[0]["version"] == 2
