"""Operating a fleet over HTTP: who may change peers, and how; the graph of gateways, faults counted, filters."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from medkit_gateway_py.aggregation.federation import Federation
from medkit_gateway_py.api.routes.operating import counted
from medkit_gateway_py.security.principal import Principal, set_principal
from medkit_gateway_py.state import StateStore
from support.api import OWN, Api, gateway, manifest_tree, merged, node, runtime_tree
from support.fake_peer import FaultyServer, TestGateway, always, http, running, tree_of
from support.waiting import async_eventually

ADMIN = Principal("root", "admin")
Ask = Callable[..., Awaitable[httpx.Response]]


def as_(api: Api, principal: Principal | None) -> Api:
    """The same application, its requests already authenticated as this client."""
    inner = api.app

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if principal is not None:
            set_principal(scope, principal)
        await inner(scope, receive, send)

    api.app = app
    return api


def with_admins(federation: Federation, principal: Principal | None = ADMIN, auth: bool = True) -> Api:
    """The real routes over a running federation, where authentication found out who asks."""
    context = gateway()
    config = federation.config
    # Who asks is set by the test, so nobody else has to check tokens.
    config = dataclasses.replace(config, auth=dataclasses.replace(config.auth, enabled=False))
    api = Api(dataclasses.replace(context, config=config, federation=federation, identity=federation.identity))
    object.__setattr__(
        api.context, "config", dataclasses.replace(config, auth=dataclasses.replace(config.auth, enabled=auth))
    )
    return as_(api, principal)


CHANGES = [
    ("POST", "/x-medkit/peers", {"name": "c", "url": "http://10.9.9.9:1"}),
    ("PUT", "/x-medkit/peers/b/pause", None),
    ("PUT", "/x-medkit/peers/b/resume", None),
    ("DELETE", "/x-medkit/peers/b", None),
]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("principal", "auth"),
    [(None, True), (Principal("v", "viewer"), True), (Principal("c", "configurator"), True), (ADMIN, False)],
)
async def test_only_an_admin_changes_peers_and_nobody_where_authentication_is_off(
    principal: Principal | None, auth: bool
) -> None:
    a = TestGateway("a", {"b": "http://127.0.0.1:1"})
    async with running(a):
        api = with_admins(a.federation, principal, auth)
        for method, path, body in CHANGES:
            answer = await api.arequest(method, path, json=body)
            assert (answer.status_code, answer.json()["error_code"]) == (403, "forbidden"), path
        assert a.federation.peer_names() == ("b",)
        assert a.federation.peers[0].state != "paused"


@pytest.mark.anyio
async def test_a_peer_is_paused_and_resumed() -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["nav"]))
        a = TestGateway("a", {"b": b.url})
        async with running(a), httpx.AsyncClient() as client:
            api = with_admins(a.federation)
            await async_eventually(lambda: "nav" in a.federation.tree.apps)
            paused = await api.arequest("PUT", "/x-medkit/peers/b/pause")
            assert (paused.status_code, paused.json()["state"], paused.json()["status"]) == (200, "paused", "offline")
            await async_eventually(lambda: "nav" not in a.federation.tree.apps)
            await asyncio.sleep(0)
            asked = len(b.requests)
            answer = await client.get(f"{a.url}/api/v1/apps/nav/data")
            assert (answer.status_code, answer.json()["error_code"]) == (502, "vendor-error")
            resumed = await api.arequest("PUT", "/x-medkit/peers/b/resume")
            assert resumed.json()["state"] != "paused"
            await async_eventually(lambda: "nav" in a.federation.tree.apps)
            assert not any(path.endswith("/data") for _, path, _ in b.requests[asked:])
            assert (await api.arequest("PUT", "/x-medkit/peers/ghost/pause")).status_code == 404


@pytest.mark.anyio
async def test_an_added_peer_is_asked_with_its_own_settings_and_a_deleted_one_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The tests have loopback addresses only, which a request may not name.
    for room in ("operate", "resolver"):
        monkeypatch.setattr(f"medkit_gateway_py.aggregation.{room}.refusal", lambda text, allow_loopback: "")
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["nav"]))
        a = TestGateway("a", {})
        async with running(a):
            api = with_admins(a.federation)
            body = {"name": "b", "url": f"{b.url}/", "token": "geheim"}
            added = await api.arequest("POST", "/x-medkit/peers", json=body)
            assert (added.status_code, added.headers["location"]) == (201, "/api/v1/x-medkit/peers/b")
            assert (added.json()["url"], added.json()["origin"]) == (b.url, "added")
            assert "geheim" not in added.text
            await async_eventually(lambda: "nav" in a.federation.tree.apps)
            assert {headers.get("authorization") for _, _, headers in b.requests} == {"Bearer geheim"}
            again = await api.arequest("POST", "/x-medkit/peers", json=body)
            assert (again.status_code, again.json()["message"]) == (400, "Another peer has this name")
            assert (await api.arequest("DELETE", "/x-medkit/peers/b")).status_code == 204
            await async_eventually(lambda: "nav" not in a.federation.tree.apps)
            # Now that nothing of it is listed, its ids are forgotten as well.
            await api.arequest("DELETE", "/x-medkit/peers/b")
            assert not [one for one in a.federation.given if one.via == "b"]
            assert (await api.arequest("DELETE", "/x-medkit/peers/b")).status_code == 404


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "Malformed JSON"),
        ([], "must be a JSON object"),
        ({"name": "c"}, "validation failed"),
        ({"name": 3, "url": "http://h"}, "validation failed"),
        ({"name": "c", "url": "http://h", "ca_file": "/etc/shadow"}, "validation failed"),
        ({"name": "a__b", "url": "http://h"}, "name of a peer must be"),
        ({"name": "c", "url": "ftp://h"}, "must begin with http"),
        ({"name": "c", "url": "http://u:geheim@h"}, "must not hold a user name"),
        ({"name": "c", "url": "http://127.0.0.1:1"}, "loopback"),
        ({"name": "c", "url": "http://localhost:1"}, "loopback"),
        ({"name": "c", "url": "http://[::1]:1"}, "loopback"),
        ({"name": "c", "url": "http://[::ffff:127.0.0.1]:1"}, "loopback"),
        ({"name": "c", "url": "http://2130706433"}, "loopback"),
        ({"name": "c", "url": "http://0.0.0.0:1"}, "unspecified"),
        ({"name": "c", "url": "http://169.254.169.254"}, "metadata"),
        ({"name": "c", "url": "http://224.0.0.1"}, "multicast"),
        ({"name": "c", "url": "http://no-such-host.invalid"}, "not known"),
        ({"name": "c", "url": "http://10.9.9.9", "token": "ge heim"}, "token"),
        ({"name": "c", "url": "https://10.9.9.9", "fingerprint": "ab"}, "SHA-256"),
        ({"name": "c", "url": "http://10.9.9.9", "fingerprint": "ab" * 32}, "https://"),
    ],
)
async def test_a_peer_that_must_not_be_added_is_400_and_nothing_is_changed(body: Any, words: str) -> None:
    a = TestGateway("a", {})
    async with running(a):
        options = {"content": body} if isinstance(body, bytes) else {"json": body}
        answer = await with_admins(a.federation).arequest("POST", "/x-medkit/peers", **options)
        assert answer.status_code == 400, answer.text
        assert words in answer.text
        assert "geheim" not in answer.text
        assert a.federation.peers == ()


@pytest.mark.anyio
async def test_cleartext_is_refused_where_tls_is_required_and_a_gateway_that_stands_alone_takes_no_peers() -> None:
    a = TestGateway("a", {}, require_tls=True)
    async with running(a):
        body = {"name": "c", "url": "http://10.9.9.9"}
        answer = await with_admins(a.federation).arequest("POST", "/x-medkit/peers", json=body)
        assert (answer.status_code, "require_tls" in answer.text) == (400, True)
    alone = Federation(gateway().config, OWN, StateStore.open(None))
    answer = await with_admins(alone).arequest("POST", "/x-medkit/peers", json=body)
    assert (answer.status_code, "aggregation.enabled" in answer.text) == (400, True)


@pytest.mark.anyio
async def test_a_peer_tells_how_it_does() -> None:
    b = TestGateway("b", {})
    async with running(b), FaultyServer(always(http(b"no", "500 Oops"))) as bad:
        await b.serve_tree(tree_of(["nav"]))
        a = TestGateway("a", {"b": b.url, "bad": bad.url})
        async with running(a), httpx.AsyncClient() as client:
            api = with_admins(a.federation)
            await async_eventually(lambda: "nav" in a.federation.tree.apps and a.federation.peers[1].last_error)
            await client.get(f"{a.url}/api/v1/apps/nav/data/x")
            told = (await api.arequest("GET", "/x-medkit/peers/b")).json()
            assert (told["origin"], told["status"], told["state"]) == ("static", "online", "closed")
            assert told["calls"] == {"answered": 1, "unavailable": 0, "late": 0}
            assert 0 < told["rtt_percentiles_ms"]["p50"] <= told["rtt_percentiles_ms"]["p99"]
            assert told["counts"]["apps"] == 1
            listed = (await api.arequest("GET", "/x-medkit/peers")).json()["items"]
            assert "answered 500" in listed[1]["last_error"]


# The graph of gateways


@pytest.mark.anyio
async def test_the_topology_of_a_chain_and_a_dead_peer() -> None:
    c = TestGateway("c", {})
    async with running(c):
        await c.serve_tree(tree_of(["deep"]))
        b = TestGateway("b", {"c": c.url})
        async with running(b):
            await b.serve_tree(tree_of(["nav"]))
            a = TestGateway("a", {"b": b.url, "dead": "http://127.0.0.1:1", "direct": c.url})
            async with running(a):
                await a.serve_tree(tree_of(["cam", "lidar"]))
                direct = a.federation.peer("b")
                assert direct is not None
                await async_eventually(lambda: len(a.federation.tree.apps) == 4 and len(direct.sections or ()) == 2)
                found = (await with_admins(a.federation).arequest("GET", "/x-medkit/topology")).json()
    ids = [gateway_.identity.id for gateway_ in (a, b, c)]
    nodes = {one["id"]: one for one in found["nodes"]}
    assert set(nodes) == {*ids, "peer:dead"}
    assert [(nodes[one]["name"], nodes[one]["hops"], nodes[one]["state"]) for one in ids] == [
        ("a", 0, "online"), ("b", 1, "online"), ("c", 1, "online"),
    ]  # fmt: skip
    assert nodes["peer:dead"]["state"] == "offline"
    assert [nodes[one]["entities"]["apps"] for one in ids] == [2, 1, 1]
    links = {(one["from"], one["to"]): one for one in found["links"]}
    # The link that is on no best way is told, too.
    assert set(links) == {(ids[0], ids[1]), (ids[0], ids[2]), (ids[1], ids[2]), (ids[0], "peer:dead")}
    assert links[(ids[0], ids[2])]["peer"] == "direct"
    assert links[(ids[0], "peer:dead")]["state"] == "offline"


def test_a_gateway_without_peers_is_a_graph_of_one() -> None:
    found = Api().get("/x-medkit/topology").json()
    assert [one["id"] for one in found["nodes"]] == [OWN.id]
    assert found["links"] == []


# All faults, counted


def fault(code: str, label: str, peer: str = "") -> dict[str, Any]:
    """An item of GET /faults."""
    medkit = {"x-medkit": {"peer": peer}} if peer else {}
    return {"fault_code": code, "severity_label": label, **medkit}


def test_faults_are_counted_by_peer_severity_and_code() -> None:
    items = [fault("X", "ERROR"), fault("X", "ERROR", "b"), fault("X", "ERROR", "b"), fault("Y", "WARN", "b/c"), {}]
    found = counted({"items": items, "x-medkit": {"count": 5, "partial": True, "failed_peers": ["d"]}})
    assert found["total"] == 5
    assert found["by_peer"] == {"b": 2, "b/c": 1, "local": 2}
    assert found["by_severity"] == {"ERROR": 3, "UNKNOWN": 1, "WARN": 1}
    assert found["items"][0] == {"peer": "b", "severity": "ERROR", "fault_code": "X", "count": 2}
    assert found["x-medkit"] == {"partial": True, "failed_peers": ["d"]}


def test_more_codes_than_are_told_are_in_the_sums_and_marked() -> None:
    found = counted({"items": [fault(f"X{number}", "ERROR") for number in range(1500)], "x-medkit": {}})
    assert (found["total"], len(found["items"]), found["x-medkit"]) == (1500, 1000, {"truncated": True})


@pytest.mark.anyio
async def test_the_count_of_the_fleet_says_which_gateways_are_missing() -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["nav"]))
        a = TestGateway("a", {"b": b.url, "dead": "http://127.0.0.1:1"})
        async with running(a):
            await async_eventually(lambda: "nav" in a.federation.tree.apps)
            api = with_admins(a.federation)
            found = (await api.arequest("GET", "/x-medkit/fleet/faults")).json()
            assert found["by_peer"] == {"b": 1}
            assert found["items"][0]["fault_code"] == "FAULT_OF_b"
            assert (found["x-medkit"]["partial"], found["x-medkit"]["failed_peers"]) == (True, ["dead"])
            assert (await api.arequest("GET", "/x-medkit/fleet/faults?partial=fail")).status_code == 503
            assert (await api.arequest("GET", "/x-medkit/fleet/faults?status=x")).status_code == 400


# Filters of lists


def listed(api: Api, path: str) -> list[str]:
    """The ids in a list."""
    answer = api.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.json()["x-medkit"]["total_count"] == len(answer.json()["items"])
    return [item["id"] for item in answer.json()["items"]]


def test_lists_are_narrowed_by_peer_and_origin() -> None:
    ours, given = runtime_tree([node("cam"), node("lidar")])
    theirs, _ = runtime_tree([node("arm"), node("cam")], origin="instance-b")
    api = Api(gateway(merged(ours, given, {"b": theirs}), enabled=True))
    assert listed(api, "/apps") == ["arm", "b__cam", "cam", "lidar"]
    assert listed(api, "/apps?peer=b") == listed(api, "/apps?origin=b") == ["arm", "b__cam"]
    assert listed(api, "/apps?origin=instance-b") == ["arm", "b__cam"]
    assert listed(api, "/apps?peer=local") == listed(api, f"/apps?origin={OWN.id}") == ["cam", "lidar"]
    assert listed(api, "/apps?peer=b&origin=instance-a") == listed(api, "/apps?peer=nobody") == []
    # The host is the same machine for both.
    assert listed(api, "/components?peer=b") == listed(api, "/components?peer=local") == ["robot"]
    assert listed(api, "/components?origin=instance-b") == ["robot"]


def test_lists_are_narrowed_by_availability() -> None:
    tree = manifest_tree()
    apps = {**tree.apps, "drifter": dataclasses.replace(tree.apps["drifter"], available=False)}
    api = Api(gateway(merged(dataclasses.replace(tree, apps=apps))))
    assert listed(api, "/apps?available=false") == ["drifter"]
    assert len(listed(api, "/apps?available=true")) == 3
    assert len(listed(api, "/areas?available=true")) == 2


@pytest.mark.parametrize(
    "query", ["available=maybe", "available=", "peer=", "peer=a%20b", "origin=%00", "peer=a&peer=b"]
)
def test_a_filter_that_cannot_be_meant_is_400(query: str) -> None:
    answer = Api().get(f"/apps?{query}")
    assert (answer.status_code, answer.json()["error_code"]) == (400, "invalid-parameter")
    assert answer.json()["parameters"]["parameter"] in ("peer", "origin", "available")
