"""Settings of a peer change while its entities are listed and asked for: nobody notices but the peer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from medkit_gateway_py.aggregation import client
from medkit_gateway_py.errors import PeerUnavailable
from support.compatible import CompatibleGateway, app
from support.fake_peer import TestGateway, answer, running, tree_of
from support.proxy import Proxy
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio


def write(file: Path, text: str) -> None:
    """Put a text in a file, all at once."""
    new = file.with_suffix(".new")
    new.write_text(text)
    os.replace(new, file)


class Watch:
    """Looks at the lists and asks for an entity all the time; what was not as it should be is in `wrong`."""

    def __init__(self, gateway: TestGateway, app: str) -> None:
        self._gateway = gateway
        self._app = app
        self.rounds = 0
        self.wrong: list[str] = []
        # Every tree, also those that no poll sees.
        gateway.federation.subscribe(self._see)

    def _see(self, tree: Any) -> None:
        if self._app not in tree.apps:
            self.wrong.append(f"tree {tree.version} has only {sorted(tree.apps)}")

    async def run(self) -> None:
        async with httpx.AsyncClient(base_url=self._gateway.url, timeout=10, trust_env=False) as asking:
            while True:
                self._see(self._gateway.federation.tree)
                found = await asking.get(f"/api/v1/apps/{self._app}")
                if found.status_code != 200:
                    self.wrong.append(f"{found.status_code} {found.text[:200]}")
                (status,) = self._gateway.federation.peers
                if status.status != "online":
                    self.wrong.append(f"{status.status}: {status.last_error}")
                self.rounds += 1
                await asyncio.sleep(0.01)


@asynccontextmanager
async def watching(gateway: TestGateway, app: str) -> AsyncIterator[Watch]:
    """Looks while the block runs, and at least twenty times after what it did."""
    await async_eventually(lambda: app in gateway.federation.tree.apps, within=10)
    one = Watch(gateway, app)
    task = asyncio.create_task(one.run())
    try:
        yield one
        rounds = one.rounds
        await async_eventually(lambda: one.rounds > rounds + 20 or task.done(), within=20)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert one.wrong == []


def shown(peer: TestGateway, path: str = "/api/v1/x-medkit/tree/stream") -> set[str]:
    """The tokens that came with requests for a path."""
    return {headers.get("authorization", "") for _, target, headers in peer.requests if target == path}


@asynccontextmanager
async def pair(folder: Path, **aggregation: Any) -> AsyncIterator[tuple[TestGateway, TestGateway, Path]]:
    """A gateway `a` that has the peer `b` of the peers file, and the file."""
    file = folder / "peers.yaml"
    peer = TestGateway("b", {})
    async with running(peer):
        await peer.serve_tree(tree_of(["nav"]))
        write(file, f"peers: [{{name: b, url: '{peer.url}', token: first}}]")
        gateway = TestGateway("a", {}, peers_file=str(file), **aggregation)
        async with running(gateway):
            yield gateway, peer, file


async def test_entities_stay_listed_and_are_served_while_settings_change(tmp_path: Path) -> None:
    async with pair(tmp_path) as (gateway, peer, file), watching(gateway, "nav"):
        changes = (
            "token: second",
            "token: third, forward_auth: true",
            "token: fourth, allow: {methods: [GET], collections: [data]}",
            "token: fifth",
        )
        for change in changes:
            write(file, f"peers: [{{name: b, url: '{peer.url}', {change}}}]")
            word = change.split()[1].strip(",")
            # The stream of changes, too, is asked for anew by whoever has the new token.
            await async_eventually(lambda word=word: f"Bearer {word}" in shown(peer), within=10)
        await peer.serve_tree(tree_of(["nav", "late"]))
        await async_eventually(lambda: "late" in gateway.federation.tree.apps, within=5)


async def test_the_new_settings_are_the_only_ones_from_then_on(tmp_path: Path) -> None:
    async with pair(tmp_path) as (gateway, peer, file), watching(gateway, "nav"):
        write(file, f"peers: [{{name: b, url: '{peer.url}', token: second}}]")
        await async_eventually(lambda: "Bearer second" in shown(peer), within=10)
        before = len(peer.requests)
        await async_eventually(lambda: len(peer.requests) > before + 20, within=10)
        assert {headers["authorization"] for _, _, headers in peer.requests[before:]} == {"Bearer second"}
        # Nothing waits on the old connections, so they are closed.
        await async_eventually(lambda: not gateway.federation._closing, within=5)


async def test_a_token_that_is_refused_keeps_the_last_good_tree_and_says_so(tmp_path: Path) -> None:
    async with pair(tmp_path) as (gateway, peer, file):
        await async_eventually(lambda: "nav" in gateway.federation.tree.apps)

        async def judged(scope: Any, receive: Any, send: Any) -> None:
            await answer(send, {"error": "invalid_token"}, 401)

        for path in ("/api/v1/x-medkit/tree", "/api/v1/x-medkit/tree/stream"):
            peer.routes[path] = judged
        write(file, f"peers: [{{name: b, url: '{peer.url}', token: wrong}}]")
        await async_eventually(lambda: "401" in gateway.federation.peers[0].last_error, within=10)
        before = len(peer.requests)
        await async_eventually(lambda: len(peer.requests) > before + 5, within=20)
        assert "nav" in gateway.federation.tree.apps
        health = gateway.federation.health()
        assert (health["state"], "may be out of date" in health["reason"]) == ("degraded", True)
        peer.routes.clear()
        await async_eventually(lambda: not gateway.federation.peers[0].last_error, within=10)
        assert gateway.federation.health()["state"] == "ok"


async def test_a_request_that_is_under_way_ends_as_it_began(tmp_path: Path) -> None:
    async with pair(tmp_path) as (gateway, peer, file), watching(gateway, "nav"):
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"one ", "more_body": True})
            asked.set()
            await go_on.wait()
            await send({"type": "http.response.body", "body": b"two"})

        peer.routes["/api/v1/apps/nav/bulk-data/bags/1"] = slow
        async with httpx.AsyncClient(base_url=gateway.url, timeout=20, trust_env=False) as asking:
            download = asyncio.create_task(asking.get("/api/v1/apps/nav/bulk-data/bags/1"))
            await asyncio.wait_for(asked.wait(), 10)
            write(file, f"peers: [{{name: b, url: '{peer.url}', token: second}}]")
            await async_eventually(lambda: "Bearer second" in shown(peer), within=10)
            go_on.set()
            assert (await download).text == "one two"


async def test_what_does_not_end_is_cut_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "DRAIN_S", 0.5)
    async with pair(tmp_path) as (gateway, peer, file), watching(gateway, "nav"):
        asked = asyncio.Event()

        async def endless(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"one ", "more_body": True})
            asked.set()
            while (await receive())["type"] != "http.disconnect":
                pass

        peer.routes["/api/v1/apps/nav/bulk-data/bags/1"] = endless
        async with httpx.AsyncClient(base_url=gateway.url, timeout=20, trust_env=False) as asking:
            download = asyncio.create_task(asking.get("/api/v1/apps/nav/bulk-data/bags/1"))
            await asyncio.wait_for(asked.wait(), 10)
            write(file, f"peers: [{{name: b, url: '{peer.url}', token: second}}]")
            with pytest.raises(httpx.HTTPError):
                await asyncio.wait_for(download, 10)


async def test_another_address_of_the_same_gateway_takes_over(tmp_path: Path) -> None:
    async with pair(tmp_path) as (gateway, peer, file), watching(gateway, "nav"):
        with closing(Proxy(peer.port)) as proxy:
            write(file, f"peers: [{{name: b, url: '{proxy.url}', token: second}}]")
            await async_eventually(lambda: "Bearer second" in shown(peer), within=10)
            assert gateway.federation.peers[0].url == proxy.url
            write(file, f"peers: [{{name: b, url: '{peer.url}', token: third}}]")
            await async_eventually(lambda: "Bearer third" in shown(peer), within=10)


async def test_an_address_of_another_gateway_replaces_the_entities(tmp_path: Path) -> None:
    other = TestGateway("other", {})
    async with running(other), pair(tmp_path) as (gateway, _, file):
        await other.serve_tree(tree_of(["arm"]))
        await async_eventually(lambda: "nav" in gateway.federation.tree.apps)
        seen: list[set[str]] = []
        gateway.federation.subscribe(lambda tree: seen.append(set(tree.apps)))
        write(file, f"peers: [{{name: b, url: '{other.url}'}}]")
        await async_eventually(lambda: set(gateway.federation.tree.apps) == {"arm"}, within=10)
        assert set() not in seen, "the old ones stay until the new ones are there"


@pytest.mark.parametrize("where", ["nobody", "no gateway"])
async def test_an_address_without_a_gateway_takes_the_entities_away(tmp_path: Path, where: str) -> None:
    stranger = TestGateway("stranger", {})

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, {"hello": 1}, 404)

    for path in ("/api/v1/x-medkit/tree", "/api/v1/health"):
        stranger.routes[path] = nothing
    async with running(stranger), pair(tmp_path) as (gateway, _, file):
        await async_eventually(lambda: "nav" in gateway.federation.tree.apps)
        url = "http://127.0.0.1:1" if where == "nobody" else stranger.url
        write(file, f"peers: [{{name: b, url: '{url}'}}]")
        await async_eventually(lambda: not gateway.federation.tree.apps, within=15)
        assert gateway.federation.peers[0].status == "offline"


async def test_a_peer_that_an_operator_paused_stays_so_until_paused_itself_changes(tmp_path: Path) -> None:
    async with pair(tmp_path) as (gateway, peer, file):
        await async_eventually(lambda: "nav" in gateway.federation.tree.apps)
        one = gateway.federation.peer("b")
        assert one is not None
        one.set_paused(True)
        write(file, f"peers: [{{name: b, url: '{peer.url}', token: second}}]")
        await async_eventually(lambda: one.spec.access is not None and one.spec.access.token == "second", within=10)
        assert gateway.federation.peers[0].state == "paused"
        assert "Bearer second" not in shown(peer)
        one.set_paused(False)
        await async_eventually(lambda: "nav" in gateway.federation.tree.apps, within=10)
        write(file, f"peers: [{{name: b, url: '{peer.url}', token: second, paused: true}}]")
        await async_eventually(lambda: gateway.federation.peers[0].state == "paused", within=10)
        await async_eventually(lambda: "nav" not in gateway.federation.tree.apps, within=10)
        write(file, f"peers: [{{name: b, url: '{peer.url}', token: third}}]")
        await async_eventually(lambda: "nav" in gateway.federation.tree.apps, within=10)


async def test_what_fails_by_old_settings_is_not_held_against_the_new_ones(tmp_path: Path) -> None:
    async with pair(tmp_path) as (gateway, peer, file):
        await async_eventually(lambda: "nav" in gateway.federation.tree.apps)
        one = gateway.federation.peer("b")
        assert one is not None
        old = one.client
        async with watching(gateway, "nav"):
            write(file, f"peers: [{{name: b, url: '{peer.url}', token: second}}]")
            await async_eventually(lambda: "Bearer second" in shown(peer), within=10)
            for _ in range(3):
                one.call_failed(PeerUnavailable("connection refused"), old)
            assert one.breaker.allows_calls()
        for _ in range(3):
            one.call_failed(PeerUnavailable("connection refused"), one.client)
        assert not one.is_online


async def test_what_is_counted_goes_on_being_counted(tmp_path: Path) -> None:
    async with pair(tmp_path) as (gateway, peer, file):
        async with watching(gateway, "nav"):
            pass
        answered = (gateway.federation.peers[0].calls or {})["answered"]
        write(file, f"peers: [{{name: b, url: '{peer.url}', token: second}}]")
        await async_eventually(lambda: "Bearer second" in shown(peer), within=10)
        assert (gateway.federation.peers[0].calls or {})["answered"] >= answered > 0


async def test_half_of_a_file_is_not_read(tmp_path: Path) -> None:
    async with pair(tmp_path) as (gateway, peer, file), watching(gateway, "nav"):
        text = f"peers: [{{name: b, url: '{peer.url}', token: second}}]"
        with file.open("w") as opened:
            # Written as slowly as editors and copies do, and empty at first.
            for piece in ("", *text):
                opened.write(piece)
                opened.flush()
                await asyncio.sleep(0.02)
        await async_eventually(lambda: "Bearer second" in shown(peer), within=10)


async def test_listeners_of_faults_hear_nothing_of_new_settings(tmp_path: Path) -> None:
    async with pair(tmp_path) as (gateway, peer, file), watching(gateway, "nav"):
        asking = httpx.AsyncClient(base_url=gateway.url, timeout=20, trust_env=False)
        heard: list[str] = []
        async with asking, asking.stream("GET", "/api/v1/faults/stream") as stream:

            async def listen() -> None:
                async for line in stream.aiter_lines():
                    heard.append(line)

            task = asyncio.create_task(listen())
            await async_eventually(lambda: shown(peer, "/api/v1/faults/stream") == {"Bearer first"}, within=10)
            write(file, f"peers: [{{name: b, url: '{peer.url}', token: second}}]")
            await async_eventually(lambda: "Bearer second" in shown(peer), within=10)
            peer.fault("AFTER")
            await async_eventually(lambda: any("AFTER" in line for line in heard), within=10)
            await async_eventually(lambda: "Bearer second" in shown(peer, "/api/v1/faults/stream"), within=10)
            task.cancel()
        assert not [line for line in heard if "peer_down" in line or "gap" in line]


async def test_a_gateway_of_another_kind_is_read_on_after_new_settings(tmp_path: Path) -> None:
    file = tmp_path / "peers.yaml"
    async with CompatibleGateway(apps=[app("nav")]) as cpp:
        write(file, f"peers: [{{name: cpp, url: '{cpp.url}'}}]")
        gateway = TestGateway("a", {}, peers_file=str(file))
        async with running(gateway):
            await async_eventually(lambda: "nav" in gateway.federation.tree.apps, within=10)
            # The older a version of what it has, the less it is believed: the count must go on.
            for generation in (2, 3, 4):
                cpp.generation = generation
                cpp.pages["/apps"] = {"items": [app("nav"), app(f"cam_{generation}")]}
                await async_eventually(lambda n=generation: f"cam_{n}" in gateway.federation.tree.apps, within=10)
            seen: list[bool] = []
            gateway.federation.subscribe(lambda tree: seen.append("nav" in tree.apps))
            write(file, f"peers: [{{name: cpp, url: '{cpp.url}', token: second}}]")
            await async_eventually(lambda: any(b"Bearer second" in head for head in cpp.heads), within=10)
            cpp.generation = 5
            cpp.pages["/apps"] = {"items": [app("nav"), app("late")]}
            await async_eventually(lambda: "late" in gateway.federation.tree.apps, within=10)
            assert seen and all(seen)
            assert gateway.federation.peers[0].kind == "compatible"
