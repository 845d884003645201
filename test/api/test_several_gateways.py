"""What changes when peers are there: shared entities, partial answers, members of others, the tree and the peers.

The merge and the envelope are real; asking and forwarding are replaced where a peer has to answer, because they have
tests of their own with real sockets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import MutableMapping
from typing import Any

import pytest

from medkit_gateway_py.aggregation import forward
from medkit_gateway_py.aggregation.fan_out import FanOut
from medkit_gateway_py.aggregation.routing import Warn
from medkit_gateway_py.api import gathering
from medkit_gateway_py.entities.ids import GivenIds
from medkit_gateway_py.entities.model import App, Area, Component, Function, Kind
from medkit_gateway_py.entities.tree import EntityTree
from support.api import NUMBER, OWN, Api, Parameters, PeerStatus, Topics, gateway, merged, node, runtime_tree

B = PeerStatus("b", "http://127.0.0.1:8081", "online", "closed", instance_id="instance-b")
WRITE = {"type": NUMBER, "data": {"data": 1.0}}


class Pair:
    """Gateway A with the nodes `cam` and `lidar`, gateway B with `arm` and a `cam` too, on hosts of one name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, b_is_up: bool = True, host_b: str = "robot") -> None:
        tree, given = runtime_tree([node("cam", "/front", "/image"), node("lidar", "/front", "/scan")])
        remote, given_b = runtime_tree(
            [node("arm", "/front", "/arm/state", "/image"), node("cam", "/back", "/image")], host_b, "instance-b"
        )
        self.topics, self.topics_b = Topics({"/image": {"data": 1.0}}), Topics({"/arm/state": {"data": 2.0}})
        self.b = Api(gateway(merged(remote, given_b), self.topics_b))
        federated = merged(tree, given, {"b": remote})
        if not b_is_up:
            federated = merged(tree, given, {"b": None})
        self.a = Api(gateway(federated, self.topics, enabled=True, peers=[B]))
        self.asked: list[tuple[str, str]] = []
        self.answers: FanOut | None = None
        if b_is_up:
            monkeypatch.setattr(forward, "forward_entity", self._forward)

    async def _forward(
        self, federation: Any, scope: MutableMapping[str, Any], receive: Any, send: Any, target: Any, remote: Any
    ) -> None:
        assert remote.peer == "b"
        path = f"/api/v1/{target.kind.value}/{remote.remote_id}{target.decoded_rest}"
        self.asked.append(("HEAD" if scope.get("medkit.head") else scope["method"], path))
        await self.b.app({**scope, "path": path, "raw_path": path.encode()}, receive, send)

    def gather(self, monkeypatch: pytest.MonkeyPatch, **found: Any) -> None:
        """Let peers answer collections with what B lists, or with `found`."""
        items = found.pop("items", None)
        if items is None:
            names = {"arm": "arm", "cam": "b__cam"}
            items = self.b.get("/components/robot/data").json()["items"]
            for item in items:
                item["x-medkit"]["member_ids"] = [names[one] for one in item["x-medkit"]["member_ids"]]
                item["x-medkit"]["peer"] = "b"

        async def gather(*_: Any) -> FanOut:
            return FanOut(items=items, **found)

        monkeypatch.setattr(gathering, "gather_entity", gather)
        monkeypatch.setattr(gathering, "gather_everyone", gather)


def test_a_shared_entity_lists_the_items_of_both_and_tells_equal_ones_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(monkeypatch)
    pair.gather(monkeypatch)
    body = pair.a.get("/components/robot/data").json()
    assert [item["id"] for item in body["items"]] == [
        "cam:/image",
        "cam:/rosout",
        "/scan",
        "/arm/state",
        "arm:/image",
        "arm:/rosout",
    ]
    assert body["x-medkit"] == {
        "entity_id": "robot",
        "aggregated": True,
        "aggregation_sources": ["robot", "arm", "b__cam", "cam", "lidar"],
        "aggregation_level": "component",
        "total_count": 6,
    }


@pytest.mark.parametrize(
    ("topic", "value", "asked"),
    [
        ("scan", {}, []),
        ("image", {"data": 1.0}, []),
        ("arm/state", {"data": 2.0}, [("GET", "/api/v1/apps/arm/data/arm/state")]),
        ("arm:/arm/state", {"data": 2.0}, [("GET", "/api/v1/apps/arm/data/arm/state")]),
        ("b__cam:/image", {}, [("GET", "/api/v1/apps/cam/data/image")]),
        ("cam:/image", {"data": 1.0}, []),
        ("nobody/has/it", {}, []),
    ],
)
def test_a_read_goes_to_the_member_that_has_the_item(
    monkeypatch: pytest.MonkeyPatch, topic: str, value: dict[str, Any], asked: list[tuple[str, str]]
) -> None:
    pair = Pair(monkeypatch)
    pair.gather(monkeypatch)
    answer = pair.a.get(f"/components/robot/data/{topic}")
    assert (answer.status_code, answer.json()["data"]) == (200, value)
    assert pair.asked == asked


@pytest.mark.parametrize(
    ("topic", "here", "there"),
    [
        ("scan", ["/scan"], []),
        ("arm/state", [], ["/arm/state"]),
        ("b__cam:/image", [], ["/image"]),
        ("cam:/image", ["/image"], []),
        ("new/topic", ["/new/topic"], []),
    ],
)
def test_a_write_reaches_the_one_robot_that_is_meant(
    monkeypatch: pytest.MonkeyPatch, topic: str, here: list[str], there: list[str]
) -> None:
    pair = Pair(monkeypatch)
    pair.gather(monkeypatch)
    answer = pair.a.put(f"/components/robot/data/{topic}", json=WRITE)
    assert answer.status_code == 200, answer.text
    assert [one[0] for one in pair.topics.published] == here
    assert [one[0] for one in pair.topics_b.published] == there


@pytest.mark.parametrize(
    ("data_id", "id_here", "entity_id"),
    [
        ("arm/state", "/arm/state", "robot"),
        ("arm:/arm/state", "arm:/arm/state", "robot"),
        ("arm:arm%2Fstate", "arm:/arm/state", "robot"),
        ("b__cam:/image", "b__cam:/image", "robot"),
        ("cam:/image", "cam:/image", "robot"),
    ],
)
def test_an_item_of_another_robot_has_the_id_that_it_has_in_the_list(
    monkeypatch: pytest.MonkeyPatch, data_id: str, id_here: str, entity_id: str
) -> None:
    pair = Pair(monkeypatch)
    pair.gather(monkeypatch)
    path = f"/components/robot/data/{data_id}"
    for answer in (pair.a.get(path), pair.a.put(path, json=WRITE)):
        body = answer.json()
        assert (body["id"], body["x-medkit"]["entity_id"]) == (id_here, entity_id)
        assert int(answer.headers["content-length"]) == len(answer.content)
    head = pair.a.request("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")


def test_a_write_that_could_mean_two_robots_is_400_with_the_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(monkeypatch)
    pair.gather(monkeypatch)
    answer = pair.a.put("/components/robot/data/image", json=WRITE)
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "invalid-request"
    assert answer.json()["parameters"]["data_ids"] == ["cam:/image", "arm:/image"]
    assert pair.topics.published == pair.topics_b.published == []


def test_a_write_to_what_a_missing_robot_may_have_is_502_and_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(monkeypatch)
    pair.gather(monkeypatch, items=[], failed=["b"])
    answer = pair.a.put("/components/robot/data/arm/state", json=WRITE)
    assert answer.status_code == 502
    assert answer.json()["parameters"]["failed_peers"] == ["b"]
    assert pair.topics.published == []


def test_a_write_to_what_another_has_while_one_is_missing_is_502_and_a_qualified_one_goes_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = Pair(monkeypatch)
    pair.gather(monkeypatch, failed=["c"])
    answer = pair.a.put("/components/robot/data/arm/state", json=WRITE)
    assert (answer.status_code, answer.json()["parameters"]["failed_peers"]) == (502, ["c"])
    assert pair.asked == pair.topics.published == pair.topics_b.published == []
    assert pair.a.get("/components/robot/data/arm/state").status_code == 200
    # Who says which robot is meant, and who means our own, is not kept waiting for another.
    assert pair.a.put("/components/robot/data/arm:/arm/state", json=WRITE).status_code == 200
    assert [one[0] for one in pair.topics_b.published] == ["/arm/state"]
    assert pair.a.put("/components/robot/data/scan", json=WRITE).status_code == 200
    assert [one[0] for one in pair.topics.published] == ["/scan"]


def test_a_write_to_a_component_of_two_others_is_never_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    local, given = runtime_tree([node("cam")])
    leaf = EntityTree(components={"plc": Component("plc")}, apps={"io": App("io", component_id="plc")})
    topics = Topics()
    api = Api(gateway(merged(local, given, {"b": leaf, "c": leaf}), topics, enabled=True))

    async def nothing(*_: Any) -> FanOut:
        return FanOut()

    monkeypatch.setattr(gathering, "gather_entity", nothing)
    answer = api.put("/components/plc/data/x", json=WRITE)
    assert answer.status_code == 400
    assert answer.json()["parameters"]["member_ids"] == ["c__io", "io"]
    assert topics.published == []


def test_muted_faults_and_clusters_of_peers_name_their_gateway_with_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(monkeypatch)
    told = [{"fault_code": "M"}, {"fault_code": "N", "x-medkit": {"peer": "leaf", "rule": 1}}, "no object"]
    body = {"items": [], "x-medkit": {"muted_faults": told, "clusters": [{"cluster_id": "c"}], "muted_count": 2}}
    pair.gather(monkeypatch, items=[], bodies=[("b", body)])
    medkit = pair.a.get("/faults?include_muted=true&include_clusters=true").json()["x-medkit"]
    assert medkit["muted_faults"] == [
        {"fault_code": "M", "x-medkit": {"peer": "b"}},
        {"fault_code": "N", "x-medkit": {"peer": "b/leaf", "rule": 1}},
    ]
    assert (medkit["clusters"], medkit["muted_count"]) == ([{"cluster_id": "c", "x-medkit": {"peer": "b"}}], 2)


def shared_robot(name: str) -> EntityTree:
    """An area, a component and a function of the same ids at every gateway, with an app of its own."""
    return EntityTree(
        areas={"front": Area("front")},
        components={"arm": Component("arm", area="front")},
        apps={name: App(name, component_id="arm", fqn=f"/{name}")},
        functions={"move": Function("move", hosts=(name,))},
    )


GATHERED = [
    "/faults",
    "/version-info",
    *(
        f"{entity}/{collection}"
        for entity in ("/areas/front", "/components/arm", "/functions/move")
        for collection in ("data", "operations", "faults", "configurations", "logs")
    ),
]


@pytest.mark.parametrize("path", [*GATHERED, "/x-medkit/fleet/faults"])
@pytest.mark.parametrize("b_is_up", [True, False])
def test_when_a_peer_does_not_answer_every_gathered_list_says_so(path: str, b_is_up: bool) -> None:
    given = GivenIds()
    tree = merged(shared_robot("cam"), given, {"b": shared_robot("nav")})
    if not b_is_up:
        # It had a share of all of them, and is away now.
        tree = dataclasses.replace(merged(shared_robot("cam"), given, {"b": None}), away={"instance-b": "b"})
    api = Api(gateway(tree, enabled=True, peers=[B], nodes=Parameters({"/cam": {}})))
    medkit = api.get(path).json()["x-medkit"]
    assert (medkit["partial"], medkit["failed_peers"]) == (True, ["b"])
    assert medkit["peers"]["b"]["status"] == "failed"
    refused = api.get(f"{path}?partial=fail")
    assert (refused.status_code, refused.json()["error_code"]) == (503, "service-unavailable")
    assert refused.json()["parameters"]["failed_peers"] == ["b"]
    alone = api.get(path, headers={"X-Medkit-No-Fan-Out": "1"})
    assert alone.status_code == 200
    assert not {"partial", "failed_peers", "peers"} & set(alone.json().get("x-medkit", {}))


def test_the_share_of_a_peer_that_is_down_is_missing_too(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Pair(monkeypatch, b_is_up=False).a
    assert api.get("/faults").json()["x-medkit"]["failed_peers"] == ["b"]


@pytest.mark.parametrize("header", [{"X-Medkit-No-Fan-Out": "1"}, {"X-Medkit-Via": f"x, {OWN.id}"}])
def test_no_peer_is_asked_when_the_request_says_so_or_came_from_here(
    monkeypatch: pytest.MonkeyPatch, header: dict[str, str]
) -> None:
    api = Pair(monkeypatch).a
    assert "partial" not in api.get("/faults", headers=header).json()["x-medkit"]
    assert "x-medkit" not in api.get("/version-info", headers=header).json()
    body = api.get("/components/robot/data", headers=header).json()
    assert [item["id"] for item in body["items"]] == ["/image", "/rosout", "/scan"]
    assert "partial" not in body["x-medkit"]


@pytest.mark.parametrize("path", ["/faults", "/version-info", "/components/robot/data", "/functions/front/logs"])
def test_a_request_that_came_round_says_whose_share_it_does_not_get(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    headers = {"X-Medkit-Via": f"{OWN.id}, instance-x", "X-Medkit-Origins": f"{OWN.id}, instance-b"}
    api = Pair(monkeypatch).a
    medkit = api.get(path, headers=headers).json()["x-medkit"]
    assert (medkit["partial"], medkit["failed_peers"]) == (True, ["b"])
    assert api.get(f"{path}?partial=fail", headers=headers).status_code == 503


def test_only_the_origins_that_are_asked_for_are_answered_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(monkeypatch)
    for path in ("/components/robot/data", "/version-info"):
        ours = pair.a.get(path, headers={"X-Medkit-Origins": OWN.id}).json()
        assert ours["items"]
        assert "partial" not in ours.get("x-medkit", {})
        theirs = pair.a.get(path, headers={"X-Medkit-Origins": "instance-b"}).json()
        assert theirs["items"] == []
        assert theirs["x-medkit"]["failed_peers"] == ["b"]
        assert pair.b.get(path, headers={"X-Medkit-Origins": "instance-x"}).json()["items"] == []


def test_faults_of_peers_are_listed_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(monkeypatch)
    fault = {"fault_code": "X", "x-medkit": {"peer": "b"}}
    body = {"items": [fault], "x-medkit": {"muted_count": 2, "cluster_count": True}}
    pair.gather(monkeypatch, items=[fault], bodies=[("b", body)])
    for path in ("/faults", "/components/robot/faults"):
        found = pair.a.get(path).json()
        assert found["items"] == [fault]
        medkit = found["x-medkit"]
        assert (medkit["count"], medkit["muted_count"], medkit["cluster_count"]) == (1, 2, 0)


@pytest.mark.parametrize(
    ("path", "facts"),
    [
        ("/apps/cam", {"source_id": "/front/cam"}),
        ("/components/robot", {"aggregation_level": "component", "aggregated": True, "app_count": 4}),
        ("/functions/front", {"aggregation_level": "function", "aggregated": True, "host_count": 3}),
    ],
)
def test_fault_lists_say_what_they_cover(monkeypatch: pytest.MonkeyPatch, path: str, facts: dict[str, Any]) -> None:
    medkit = Pair(monkeypatch).a.get(f"{path}/faults").json()["x-medkit"]
    assert facts.items() <= medkit.items()
    assert (medkit["entity_id"], medkit["count"]) == (path.rsplit("/", 1)[1], 0)


@pytest.mark.parametrize(("path", "parameter"), [("/faults", None), ("/apps/cam/faults", "app_id")])
def test_a_wrong_fault_status_is_400_that_names_the_right_ones(
    monkeypatch: pytest.MonkeyPatch, path: str, parameter: str | None
) -> None:
    api = Pair(monkeypatch).a
    for status in ("pending", "confirmed", "healed", "cleared", "all"):
        assert api.get(f"{path}?status={status}").status_code == 200
    answer = api.get(f"{path}?status=wrong")
    assert answer.status_code == 400
    assert answer.json()["message"] == "Invalid status parameter value"
    expected = {
        "allowed_values": ["pending", "confirmed", "healed", "cleared", "all"],
        "parameter": "status",
        "value": "wrong",
    }
    if parameter:
        expected[parameter] = "cam"
    assert answer.json()["parameters"] == expected


def test_remote_entities_are_forwarded_and_their_relations_answered_here(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(monkeypatch)
    listed = {item["id"]: item for item in pair.a.get("/apps").json()["items"]}
    assert listed["arm"]["source"] == listed["arm"]["x-medkit"]["source"] == "peer:b"
    assert pair.a.get("/apps/b__cam/is-located-on").json()["items"][0]["id"] == "robot"
    assert pair.asked == []
    assert pair.a.get("/apps/arm").json()["id"] == "arm"
    assert pair.asked == [("GET", "/api/v1/apps/arm")]
    assert pair.a.request("HEAD", "/apps/arm/").status_code == 200
    assert pair.asked[1] == ("HEAD", "/api/v1/apps/arm")
    # The gateway itself has a say in what it shares: nothing of this is forwarded.
    assert pair.a.get("/components/robot").json()["x-medkit"]["contributors"] == ["local", "peer:b"]


@pytest.mark.parametrize("kind", list(Kind))
def test_a_remote_entity_of_any_kind_says_twice_in_lists_whose_it_is(kind: Kind) -> None:
    local, given = runtime_tree([node("lidar", "/front", "/scan")])
    remote = EntityTree(
        areas={"yard": Area("yard")}, components={"ecu": Component("ecu")},
        apps={"arm": App("arm")}, functions={"grip": Function("grip")},
    )  # fmt: skip
    api = Api(gateway(merged(local, given, {"b": remote}), enabled=True, peers=[B]))
    (item,) = (one for one in api.get(f"/{kind.value}").json()["items"] if one["id"] in remote.of(kind))
    assert item["source"] == item["x-medkit"]["source"] == "peer:b"


@pytest.mark.parametrize("path", ["", "/data", "/data/x", "/belongs-to", "/operations", "/faults"])
def test_the_entities_of_a_missing_peer_answer_502_and_not_404(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    api = Pair(monkeypatch, b_is_up=False).a
    for entity_id in ("b__cam", "arm", "b__anything"):
        answer = api.get(f"/apps/{entity_id}{path}")
        assert answer.status_code == 502, answer.text
        assert answer.json()["error_code"] == "vendor-error"
        assert answer.json()["vendor_code"] == "x-medkit-peer-unavailable"
        assert answer.json()["parameters"] == {"entity_id": entity_id, "peer": "b"}
    assert api.get(f"/apps/ghost{path}").status_code == 404


def test_the_tree_is_told_whole_but_not_back_to_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Pair(monkeypatch).a
    whole = api.get("/x-medkit/tree")
    assert [origin["id"] for origin in whole.json()["origins"]] == [OWN.id, "instance-b"]
    assert whole.json()["origins"][1]["path"] == [OWN.id, "instance-b"]
    assert whole.headers["etag"] == f'"{OWN.boot_id}-1"'
    looped = api.get("/x-medkit/tree", headers={"X-Medkit-Via": OWN.id})
    assert [origin["id"] for origin in looped.json()["origins"]] == [OWN.id]
    assert looped.headers["etag"] != whole.headers["etag"]


def test_peers_are_listed_with_what_is_known_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Pair(monkeypatch).a
    item = api.get("/x-medkit/peers").json()["items"][0]
    assert item["name"] == "b"
    assert "last_seen_s" not in item
    assert api.get("/x-medkit/peers/b").json() == item
    unknown = api.get("/x-medkit/peers/x")
    assert (unknown.status_code, unknown.json()["error_code"]) == (404, "resource-not-found")


def test_health_names_peers_only_with_aggregation_and_warnings_always(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Api().get("/health").json()
    assert "peers" not in alone
    assert (alone["status"], alone["warning_schema_version"], alone["warnings"]) == ("healthy", 2, [])
    assert isinstance(alone["timestamp"], int)
    assert alone["x-medkit"] == {"instance_id": OWN.id, "boot_id": OWN.boot_id}
    assert Pair(monkeypatch).a.get("/health").json()["peers"] == [
        {"name": "b", "url": "http://127.0.0.1:8081", "status": "online"}
    ]
    context = gateway(
        warnings=[Warn("state_not_persistent", "In memory only", entity_ids=("x",))],
        health_blocks=lambda: {"x-medkit-data-provider": {"pool_size": 1}, "providers": {"state": "ok"}},
    )
    told = Api(context).get("/health").json()
    assert told["warnings"] == [
        {
            "code": "state_not_persistent",
            "message": "In memory only",
            "entity_ids": ["x"],
            "ros_node_fqns": [],
            "peer_names": [],
        }
    ]
    assert told["x-medkit-data-provider"] == {"pool_size": 1}
    assert told["x-medkit"]["providers"] == {"state": "ok"}


def test_root_tells_what_works_and_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    body = Pair(monkeypatch).a.get("/").json()
    assert (body["name"], body["api_base"], body["version"]) == ("ROS 2 Medkit Gateway", "/api/v1", "0.1.0")
    served = {name for name, flag in body["capabilities"].items() if flag}
    assert served == {
        "discovery", "data_access", "operations", "async_actions", "configurations", "faults", "logs", "aggregation"
    }  # fmt: skip
    assert body["server_name"] == "gateway_a"
    assert "auth" not in body
    assert "tls" not in body


def test_versions_of_peers_are_appended(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(monkeypatch)
    pair.gather(monkeypatch, items=[{"version": "1.0.0", "base_uri": "/api/v1", "x-medkit": {"peer": "b"}}])
    body = pair.a.get("/version-info").json()
    assert body["items"][0]["vendor_info"]["name"] == "ros2_medkit"
    assert body["items"][0]["vendor_info"]["instance_id"] == OWN.id
    assert [item.get("x-medkit", {}).get("peer") for item in body["items"]] == [None, "b"]
    assert "x-medkit" not in body
