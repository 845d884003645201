"""A gateway without a tree (the C++ one, told from AGGREGATION.md §11): read item by item, its echoes dropped.

Not run against the real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from medkit_gateway_py.aggregation import echo, origins
from medkit_gateway_py.aggregation.compatible import origin_id
from medkit_gateway_py.aggregation.echo import HERE, EchoFilter, places
from medkit_gateway_py.entities.model import Kind
from support.compatible import CompatibleGateway, app
from support.fake_peer import FaultyServer, TestGateway, head_of, http, running, tree_of
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio


async def test_its_documented_collections_become_one_section() -> None:
    cpp = CompatibleGateway(
        areas=[{"id": "front", "name": "Front", "x-medkit": {"ros2": {"namespace": "/front"}}}],
        components=[{"id": "robot", "name": "Robot", "x-medkit": {"source": "manifest"}}],
        apps=[app("cam"), app("lidar", "sensor")],
        functions=[{"id": "vision", "name": "Vision"}],
    )
    cpp.pages["/areas/front/subareas"] = {"items": [{"id": "left", "name": "Left"}]}
    cpp.pages["/components/robot"] = {
        "id": "robot",
        "name": "Robot",
        "x-medkit": {"area": "front", "type": "controller"},
    }
    cpp.pages["/components/robot/subcomponents"] = {"items": [{"id": "sensor", "name": "Sensor"}]}
    cpp.pages["/components/sensor"] = {"id": "sensor", "x-medkit": {"dependsOn": ["robot"]}}
    cpp.pages["/functions/vision"] = {"id": "vision", "name": "Vision", "x-medkit": {"hosts": ["cam", "lidar", 3]}}
    async with cpp:
        a = TestGateway("a", {"cpp": cpp.url})
        async with running(a), httpx.AsyncClient() as client:
            await async_eventually(lambda: len(a.federation.tree.apps) == 2)
            tree = a.federation.tree
            assert tree.sections[0].id == origin_id(cpp.url) == f"url:{cpp.url}"
            assert set(tree.areas) == {"front", "left"}
            assert tree.areas["left"].parent_area_id == "front"
            assert (tree.components["robot"].area, tree.components["robot"].type) == ("front", "controller")
            assert tree.components["sensor"].parent_component_id == "robot"
            assert tree.components["sensor"].depends_on == ("robot",)
            assert (tree.apps["cam"].fqn, tree.apps["cam"].component_id) == ("/cam", "robot")
            assert tree.functions["vision"].hosts == ("cam", "lidar")
            assert a.federation.peers[0].kind == "compatible"
            cpp.pages["/apps/cam/data"] = {"items": [{"id": "/t"}], "x-medkit": {"entity_id": "cam"}}
            assert (await client.get(f"{a.url}/api/v1/apps/cam/data")).json()["items"] == [{"id": "/t"}]


async def test_two_gateways_that_show_it_are_two_ways_to_one_and_the_other_is_taken_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(origins, "CONTRADICTION_S", 0.3)
    cpp = CompatibleGateway(apps=[app("cam")])
    async with cpp:
        b, c = TestGateway("b", {"x": cpp.url}), TestGateway("c", {"x": cpp.url})
        for one in (b, c):
            await one.start()
        a = TestGateway("a", {"b": b.url, "c": c.url})
        async with running(a), contextlib.AsyncExitStack() as left:
            left.push_async_callback(c.stop)
            await async_eventually(lambda: len(a.federation.tree.sections) == 3, within=10)
            began = time.monotonic()
            # The shortest way, then the name of the peer; never who was started last.
            cpp.pages["/apps"] = {"items": [app("cam"), app("nav")]}
            cpp.generation = 2
            await async_eventually(lambda: "nav" in a.federation.tree.apps, within=10)
            assert a.federation.tree.remote[(Kind.APP, "cam")].peer == "b"
            await async_eventually(lambda: time.monotonic() > began + 1.0)
            assert a.federation.warnings() == ()
            await b.stop()
            await async_eventually(lambda: [one.name for one in a.federation.peers if one.status == "online"] == ["c"])
            await async_eventually(lambda: set(a.federation.tree.apps) == {"cam", "nav"}, within=3)
            assert a.federation.tree.remote[(Kind.APP, "cam")].peer == "c"


async def test_wrong_items_are_dropped_one_by_one() -> None:
    cpp = CompatibleGateway(
        apps=[app("cam"), app(7), app("a b"), app(None), "x", 3, None, [], {}, app("ok"), {**app("tags"), "tags": "x"}],
        functions=[{"id": "f"}, {"id": "g"}],
        components=[{"id": "c", "x-medkit": "wrong"}],
    )
    cpp.pages["/functions/f"] = http(b"oops", "500 Internal Server Error")
    cpp.pages["/functions/g"] = {"id": 3}
    cpp.pages["/components/c"] = http(b"<html>")
    async with cpp:
        a = TestGateway("a", {"cpp": cpp.url})
        async with running(a):
            await async_eventually(lambda: a.federation.tree.apps)
            assert set(a.federation.tree.apps) == {"cam", "ok"}
            assert set(a.federation.tree.functions) == {"f", "g"}
            assert set(a.federation.tree.components) == {"c"}
            status = a.federation.peers[0]
            assert (status.status, status.dropped_count) == ("online", 12)
            assert {one.where for one in status.dropped} >= {"/apps[1]", "f", "/functions/g", "c"}


async def test_a_list_that_is_none_leaves_the_last_good_tree() -> None:
    cpp = CompatibleGateway(apps=[app("cam")])
    async with cpp:
        a = TestGateway("a", {"cpp": cpp.url})
        async with running(a):
            await async_eventually(lambda: "cam" in a.federation.tree.apps)
            cpp.pages["/apps"] = {"items": "none"}
            cpp.generation = 2
            await async_eventually(lambda: "not an array" in a.federation.peers[0].last_error, within=5)
            assert set(a.federation.tree.apps) == {"cam"}
            assert a.federation.peers[0].status == "online"
            cpp.pages["/apps"] = {"items": [app("nav")]}
            await async_eventually(lambda: set(a.federation.tree.apps) == {"nav"}, within=5)


async def test_collections_are_fetched_when_the_generation_changes_and_four_at_once() -> None:
    functions = [{"id": f"f{n}"} for n in range(30)]
    cpp = CompatibleGateway(apps=[app("cam")], functions=functions)
    async with cpp:
        a = TestGateway("a", {"cpp": cpp.url})
        async with running(a):
            await async_eventually(lambda: len(a.federation.tree.functions) == 30)
            assert 2 <= cpp.most <= 4
            version = a.federation.tree.version
            await async_eventually(lambda: cpp.asked("/health") >= 3, within=8)
            assert cpp.asked("/apps") == 1
            assert cpp.asked("/x-medkit/tree") == 1
            cpp.generation = 2
            await async_eventually(lambda: cpp.asked("/apps") == 2, within=5)
            assert a.federation.tree.version == version
            assert all(b"x-medkit-no-fan-out" in head.lower() for head in cpp.heads if b"/apps" in head)


async def test_a_gateway_that_tells_no_generation_is_read_at_the_refresh_interval_only() -> None:
    cpp = CompatibleGateway(apps=[app("cam")])
    cpp.generation = None
    async with cpp:
        a = TestGateway("a", {"cpp": cpp.url})
        a.federation.config = a.config = replace(a.config, refresh_interval_ms=7000)
        async with running(a):
            await async_eventually(lambda: cpp.asked("/health") >= 3, within=10)
            assert cpp.asked("/apps") == 1
            await async_eventually(lambda: cpp.asked("/apps") == 2, within=15)


async def test_one_of_which_clients_may_ask_little_is_read_all_the_same(tmp_path: Path) -> None:
    cpp = CompatibleGateway(
        areas=[{"id": "front"}], components=[{"id": "robot"}], apps=[app("cam")], functions=[{"id": "vision"}]
    )
    cpp.pages["/components/robot/subcomponents"] = {"items": [{"id": "sensor"}]}
    async with cpp:
        file = tmp_path / "peers.yaml"
        allow = "allow: {methods: [PUT], collections: [logs]}"
        file.write_text(f"peers:\n  - name: cpp\n    url: {cpp.url}\n    {allow}\n")
        a = TestGateway("a", {}, peers_file=str(file))
        async with running(a), httpx.AsyncClient() as client:
            await async_eventually(lambda: "cam" in a.federation.tree.apps)
            assert set(a.federation.tree.components) == {"robot", "sensor"}
            assert (await client.get(f"{a.url}/api/v1/apps/cam/data")).status_code == 403
            status = a.federation.peers[0]
            assert (status.status, status.last_error) == ("online", "")
            # Its polls are no requests of clients.
            assert status.calls == {"answered": 0, "unavailable": 0, "late": 0}


async def test_entities_that_it_only_has_from_us_or_from_our_peers_are_dropped() -> None:
    leaf = TestGateway("leaf", {})
    cpp = CompatibleGateway(
        apps=[
            app("own"),
            app("us__cam", source="peer:us"),
            app("lidar", source="peer:leaf"),
            app("far", source="peer:other"),
            app("other__wheel", source="peer:other", ros2={"node": "/wheel"}),
        ]
    )
    async with running(leaf), cpp:
        await leaf.serve_tree(tree_of(["lidar"]))
        a = TestGateway("a", {"leaf": leaf.url, "cpp": cpp.url})
        async with running(a):
            cpp.peers = [
                {"name": "us", "url": f"http://localhost:{a.port}"},
                {"name": "leaf", "url": f"{leaf.url}/"},
                {"name": "other", "url": "http://10.0.0.7:8080"},
                {"name": 3},
                "x",
            ]
            await a.serve_tree(tree_of(["cam", "wheel"]))
            cpp.generation = 2
            expected = {"cam", "wheel", "own", "lidar", "far"}
            await async_eventually(lambda: set(a.federation.tree.apps) == expected, within=6)
            assert a.federation.tree.remote[(Kind.APP, "lidar")].peer == "leaf"


@pytest.mark.parametrize(
    ("url", "asked_from", "leads_to"),
    [
        ("http://10.0.0.5:8080", "10.0.0.9", (HERE, 8080)),
        ("http://[FD00::5]:8080/base", "10.0.0.9", (HERE, 8080)),
        ("http://10.0.0.7:8080/", "10.0.0.9", ("10.0.0.7", 8080)),
        ("https://10.0.0.7", "10.0.0.9", ("10.0.0.7", 443)),
        # `localhost` is the machine of who says so.
        ("http://localhost:8080", "10.0.0.9", ("10.0.0.9", 8080)),
        ("http://127.0.0.1:8080", "10.0.0.9", ("10.0.0.9", 8080)),
        ("http://[::1]:8080", HERE, (HERE, 8080)),
        ("http://arm:8080", "10.0.0.9", ("10.0.0.7", 8080)),
        ("http://alias-of-this-machine:8080", "10.0.0.9", (HERE, 8080)),
        (f"http://{socket.gethostname()}:8080", "10.0.0.9", (HERE, 8080)),
        ("http://of-another-network:8080", "10.0.0.9", ("of-another-network", 8080)),
    ],
)
def test_where_a_url_leads_depends_on_who_says_it(url: str, asked_from: str, leads_to: tuple[str, int]) -> None:
    found = {"arm": ("10.0.0.7",), "alias-of-this-machine": ("127.0.1.1",), "of-another-network": ()}
    assert places(url, found, ("127.0.0.1", "10.0.0.5", "fd00::5"), {asked_from}) == {leads_to}
    assert places("http://a:b", found, (), ()) == set()


async def test_what_of_a_gateway_elsewhere_is_an_echo() -> None:
    a = TestGateway("a", {"leaf": "http://10.0.0.7:8080"})
    async with running(a):
        echoes = EchoFilter(a.federation, lambda: ("127.0.0.1", "10.0.0.5"))
        names = {
            "us": f"http://10.0.0.5:{a.port}", "leaf": "http://10.0.0.7:8080", "other": "http://10.0.0.8:8080",
            "its_neighbour": f"http://localhost:{a.port}", "ours_too": "http://localhost:8080",
        }  # fmt: skip
        is_echo = await echoes.of("http://10.0.0.9:8080", names)
        found = {name for name in names if is_echo({"id": "x", "x-medkit": {"source": f"peer:{name}"}})}
        assert found == {"us", "leaf"}
        is_echo = await echoes.of("http://10.0.0.7:9090", names)
        assert is_echo({"id": "x", "x-medkit": {"source": "peer:ours_too"}}), "said at 10.0.0.7"
        for strange in ({}, {"x-medkit": "x"}, {"x-medkit": {"source": 3}}, {"x-medkit": {"source": "runtime"}}):
            assert not is_echo({"id": "x", **strange})


async def test_a_name_that_is_not_found_in_time_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo, "RESOLVE_S", 0.1)

    async def never(_: str) -> tuple[str, ...]:
        await asyncio.sleep(60)
        return ()

    monkeypatch.setattr(echo, "_addresses_of", never)
    a = TestGateway("a", {"leaf": "http://some-name:8080"})
    async with running(a):
        is_echo = await EchoFilter(a.federation).of("http://10.0.0.9:8080", {"leaf": "http://some-name:8080"})
        assert is_echo({"id": "x", "x-medkit": {"source": "peer:leaf"}}), "the same as a text"


async def test_a_page_that_is_no_gateway_is_no_peer() -> None:
    async def nginx(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(http(b"<html>404</html>", "404 Not Found", "Content-Type: text/html"))

    async with FaultyServer(nginx) as server:
        a = TestGateway("a", {"web": server.url})
        async with running(a):
            await async_eventually(lambda: "health" in a.federation.peers[0].last_error)
            assert (a.federation.peers[0].status, a.federation.peers[0].kind) == ("offline", "")


async def test_one_of_ours_after_it_is_asked_for_its_tree() -> None:
    cpp = CompatibleGateway(apps=[app("cam")])
    async with cpp:
        port = int(cpp.url.rsplit(":", 1)[1])
        a = TestGateway("a", {"p": cpp.url})
        async with running(a):
            await async_eventually(lambda: a.federation.peers[0].kind == "compatible")
            await cpp.__aexit__()
            await async_eventually(lambda: a.federation.peers[0].status == "offline", within=6)
            ours = TestGateway("ours", {})
            await ours.start(port)
            try:
                await ours.serve_tree(tree_of(["cam"]))
                await async_eventually(lambda: a.federation.peers[0].kind == "medkit_gateway_py", within=8)
                # Another owner: the id that the C++ gateway's app had stays its.
                await async_eventually(lambda: set(a.federation.tree.apps) == {"p__cam"})
            finally:
                await ours.stop()


def test_a_long_url_is_still_an_origin() -> None:
    one, other = (origin_id(f"http://host/{'x' * 300}{n}") for n in (1, 2))
    assert len(one) == len(other) == 200
    assert one != other
