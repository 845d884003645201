"""Names of hosts whose server does not answer hold up neither other names nor anybody who has gone."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from medkit_gateway_py.aggregation import lookup
from medkit_gateway_py.aggregation.lookup import SystemResolver, look_up
from support.fake_peer import TestGateway, running, tree_of
from support.waiting import async_eventually, eventually

pytestmark = pytest.mark.anyio
really = socket.getaddrinfo


class Names:
    """Names that begin with `hang` are answered at the end only; `asked` are all that were looked up."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.over = threading.Event()

    def __call__(self, host: Any, *more: Any, **options: Any) -> Any:
        self.asked.append(host)
        if host.startswith("hang"):
            self.over.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return really(host, *more, **options)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    made = Names()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.over.set()
    eventually(lambda: not lookup._running, within=10)


async def test_peers_with_names_that_hang_do_not_keep_another_from_being_found(names: Names) -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["cam"]))
        hanging = {f"h{number}": f"http://hang{number}:1" for number in range(40)}
        a = TestGateway("a", {**hanging, "b": b.url.replace("127.0.0.1", "localhost")})
        async with running(a):
            await async_eventually(lambda: "cam" in a.federation.tree.apps)
            assert [peer.name for peer in a.federation.peers if peer.status == "online"] == ["b"]
            # Asked again and again, each name still has one look-up only.
            await async_eventually(lambda: all(peer.last_error for peer in a.federation.peers[:40]))
            assert sorted(one for one in names.asked if one.startswith("hang")) == sorted(f"hang{n}" for n in range(40))


async def test_who_asks_for_one_name_shares_one_look_up_and_may_leave(names: Names) -> None:
    first, second = asyncio.create_task(look_up("hang")), asyncio.create_task(look_up("hang"))
    await async_eventually(lambda: names.asked == ["hang"])
    first.cancel()
    await asyncio.wait({first})
    names.over.set()
    with pytest.raises(OSError, match="no answer"):
        await second
    assert names.asked == ["hang"]


async def test_only_so_many_names_are_looked_up_at_once(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "MAX_LOOK_UPS", 2)
    tasks = [asyncio.create_task(look_up(f"hang{number}")) for number in range(2)]
    await async_eventually(lambda: len(names.asked) == 2)
    with pytest.raises(OSError, match="too many"):
        await look_up("localhost")
    names.over.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    await async_eventually(lambda: not lookup._running)
    assert await look_up("localhost")


async def test_the_resolver_gives_addresses_with_the_port_and_the_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await SystemResolver().resolve("127.0.0.1", 8080, socket.AF_INET)
    assert [(one["host"], one["port"], one["family"]) for one in found] == [("127.0.0.1", 8080, socket.AF_INET)]
    scoped = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::7", 0, 0, 3))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: scoped)
    assert [one["host"] for one in await SystemResolver().resolve("robot", 80)] == ["fe80::7%3"]
    monkeypatch.setattr(socket, "getaddrinfo", really)
    with pytest.raises(OSError, match="no host name"):
        await SystemResolver().resolve("a" * 64 + ".example")
