"""Where peers come from: the configured ones, and plugins that may do anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from medkit_gateway_py.aggregation import peer_discovery
from medkit_gateway_py.aggregation.peer_discovery import PeerEvent, PeerSpec
from support.fake_peer import TestGateway, running, tree_of
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio
ROLES = {"found": "fallback", "fixed": "peer"}


class Plugin:
    """A discovery whose events the test makes."""

    name = "plugin"
    emit: Callable[[PeerEvent], None]

    def __init__(self, context: Any) -> None:
        Plugin.last = self
        self.stopped = False

    last: Plugin

    async def start(self, emit: Callable[[PeerEvent], None]) -> None:
        self.emit = emit

    async def stop(self) -> None:
        self.stopped = True


class Broken(Plugin):
    """Cannot start."""

    name = "broken"

    def __init__(self, context: Any) -> None:
        pass

    async def start(self, emit: Callable[[PeerEvent], None]) -> None:
        raise RuntimeError("no")


def unusable(context: Any) -> Any:
    """Cannot even be made."""
    raise RuntimeError("no")


async def test_peers_are_added_moved_and_removed_by_plugins_and_a_broken_one_hurts_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    factories = {"broken": Broken, "unusable": unusable, "plugin": Plugin}
    monkeypatch.setattr(peer_discovery, "find_plugins", lambda *_: (factories, {}))
    b, c = TestGateway("b", {}), TestGateway("c", {})
    a = TestGateway("a", {}, allow_loopback_discovery=True)
    async with running(b, c, a):
        await b.serve_tree(tree_of(["cam"]))
        await c.serve_tree(tree_of(["lidar"]))
        plugin = Plugin.last
        plugin.emit(PeerEvent("added", PeerSpec("p", b.url, "plugin")))
        await async_eventually(lambda: set(a.federation.tree.apps) == {"cam"})
        assert a.federation.peers[0].source == "plugin"
        plugin.emit(PeerEvent("added", PeerSpec("p", c.url, "plugin")))
        assert [peer.url for peer in a.federation.peers] == [b.url]
        plugin.emit(PeerEvent("updated", PeerSpec("p", c.url, "plugin")))
        await async_eventually(lambda: set(a.federation.tree.apps) == {"lidar"})
        plugin.emit(PeerEvent("removed", PeerSpec("p", "")))
        await async_eventually(lambda: not a.federation.tree.apps)
        assert a.federation.peers == ()
    assert plugin.stopped
    text = caplog.text
    assert "'broken' did not start" in text
    assert "'unusable' cannot be used" in text
    assert "second peer named 'p'" in text


async def test_a_plugin_leads_us_to_this_machine_only_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_discovery, "find_plugins", lambda *_: ({"plugin": Plugin}, {}))
    b, a = TestGateway("b", {}), TestGateway("a", {})
    async with running(b, a):
        await b.serve_tree(tree_of(["cam"]))
        Plugin.last.emit(PeerEvent("added", PeerSpec("p", b.url, "plugin")))
        await async_eventually(lambda: "loopback" in a.federation.peers[0].last_error)
        assert (a.federation.peers[0].status, b.requests) == ("offline", [])


@pytest.mark.parametrize(
    ("name", "url", "level", "said"),
    [
        ("p", "http://user:hunter2@10.0.0.1", "WARNING", "must not hold a user name or password"),
        ("p", "http://10.0.0.1/?token=hunter2", "WARNING", "must not have a query"),
        ("p", "ftp://10.0.0.1", "WARNING", "must begin with http"),
        ("a__b", "https://10.0.0.1", "WARNING", "its name must be"),
        ("x\ny", "https://10.0.0.1", "WARNING", "its name must be"),
        ("p", "http://10.0.0.1", "ERROR", "aggregation.require_tls is true"),
    ],
)
async def test_the_rules_for_peers_hold_for_those_of_plugins(
    name: str, url: str, level: str, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(peer_discovery, "find_plugins", lambda *_: ({"plugin": Plugin}, {}))
    a = TestGateway("a", {}, require_tls=level == "ERROR")
    async with running(a):
        for change in ("added", "updated", "added"):
            Plugin.last.emit(PeerEvent(change, PeerSpec(name, url, "plugin")))
        assert a.federation.peers == ()
    (record,) = [one for one in caplog.records if "found by 'plugin'" in one.getMessage()]
    assert (record.levelname, said in record.getMessage()) == (level, True)
    assert "hunter2" not in caplog.text
    assert "\n" not in record.getMessage()


async def test_a_plugin_adds_no_more_peers_than_may_be_discovered_and_cleartext_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(peer_discovery, "find_plugins", lambda *_: ({"plugin": Plugin}, {}))
    a = TestGateway("a", {}, max_discovered_peers=2)
    async with running(a):
        for number in range(5):
            Plugin.last.emit(PeerEvent("added", PeerSpec(f"p{number}", f"http://10.0.0.{number}:80/", "plugin")))
        assert [one.url for one in a.federation.peers] == ["http://10.0.0.0", "http://10.0.0.1"]
        Plugin.last.emit(PeerEvent("removed", PeerSpec("p0", "", "plugin")))
        Plugin.last.emit(PeerEvent("added", PeerSpec("p9", "http://10.0.0.9", "plugin")))
        assert [one.name for one in a.federation.peers] == ["p1", "p9"]
    assert caplog.text.count("is reached by cleartext HTTP") == 3
    assert caplog.text.count("max_discovered_peers") == 3


async def test_of_two_addresses_of_a_gateway_the_configured_one_is_used_whichever_came_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer_discovery, "find_plugins", lambda *_: ({"plugin": Plugin}, {}))
    b, a = TestGateway("b", {}), TestGateway("a", {}, allow_loopback_discovery=True)
    async with running(b, a):
        await b.serve_tree(tree_of(["cam"]))
        Plugin.last.emit(PeerEvent("added", PeerSpec("found", b.url, "mdns")))
        await async_eventually(lambda: set(a.federation.tree.apps) == {"cam"})
        Plugin.last.emit(PeerEvent("added", PeerSpec("fixed", b.url, "static")))
        await async_eventually(lambda: {peer.name: peer.role for peer in a.federation.peers} == ROLES)
