"""Lists, details and relations (API.md §3), and their ETags."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medkit_gateway_py.api.snapshots import Snapshots
from medkit_gateway_py.entities.model import App, Area, Component, Function
from medkit_gateway_py.entities.tree import EntityTree
from support.api import Api, Federation, gateway, manifest_tree, merged, node, runtime_tree

api = Api()


def ids(answer: Any) -> list[str]:
    return [item["id"] for item in answer.json()["items"]]


def no_nulls(value: Any) -> bool:
    if isinstance(value, dict):
        return all(member is not None and no_nulls(member) for member in value.values())
    return not isinstance(value, list) or all(no_nulls(member) for member in value)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/areas", ["empty", "powertrain"]),
        ("/components", ["battery", "ecu"]),
        ("/apps", ["charger", "drifter", "logger", "temp_sensor"]),
        ("/functions", ["driving"]),
        ("/areas/powertrain/components", ["battery"]),
        ("/areas/powertrain/subareas", ["engine"]),
        ("/areas/powertrain/contains", ["battery", "ecu"]),
        ("/areas/empty/contains", []),
        ("/components/battery/subcomponents", ["cell"]),
        ("/components/ecu/subcomponents", []),
        ("/components/ecu/hosts", ["temp_sensor"]),
        ("/components/ecu/depends-on", ["battery", "ghost"]),
        ("/apps/temp_sensor/is-located-on", ["ecu"]),
        ("/apps/drifter/is-located-on", []),
        ("/apps/logger/is-located-on", ["nowhere"]),
        ("/apps/temp_sensor/belongs-to", ["engine"]),
        ("/apps/charger/belongs-to", []),
        ("/apps/drifter/belongs-to", []),
        ("/apps/logger/belongs-to", [""]),
        ("/apps/temp_sensor/depends-on", ["logger", "nobody"]),
        ("/functions/driving/hosts", ["temp_sensor"]),
    ],
)
def test_lists_hold_what_the_contract_says(path: str, expected: list[str]) -> None:
    answer = api.get(path)
    assert answer.status_code == 200
    assert ids(answer) == expected
    assert answer.json()["x-medkit"]["total_count"] == len(expected)
    assert no_nulls(answer.json())


def test_items_say_their_kind_and_where_they_came_from() -> None:
    items = {item["id"]: item for path in ("/areas", "/components", "/apps", "/functions") for item in
             api.get(path).json()["items"]}  # fmt: skip
    assert items["powertrain"] == {
        "id": "powertrain",
        "name": "Powertrain",
        "href": "/api/v1/areas/powertrain",
        "type": "area",
        "tags": ["drive"],
        "x-medkit": {"ros2": {"namespace": "/powertrain"}},
    }
    assert items["empty"] == {"id": "empty", "name": "empty", "href": "/api/v1/areas/empty", "type": "area"}
    assert items["battery"]["source"] == "manifest"
    assert items["battery"]["x-medkit"] == {"source": "manifest", "external": True}
    assert items["temp_sensor"]["x-medkit"] == {
        "source": "manifest",
        "is_online": True,
        "component_id": "ecu",
        "ros2": {"node": "/powertrain/engine/temp_sensor"},
    }
    assert items["logger"]["x-medkit"]["is_online"] is False
    assert items["driving"]["x-medkit"] == {"source": "runtime"}


def test_something_that_nobody_has_stays_listed_as_missing() -> None:
    ghost = api.get("/components/ecu/depends-on").json()["items"][1]
    assert ghost == {
        "id": "ghost",
        "name": "ghost",
        "href": "/api/v1/components/ghost",
        "type": "component",
        "x-medkit": {"missing": True},
    }
    unknown = api.get("/apps/logger/belongs-to").json()["items"][0]
    assert (unknown["name"], unknown["x-medkit"]) == (
        "<unknown area>",
        {"missing": True, "unresolved_component": "nowhere"},
    )
    assert "x-medkit" not in api.get("/apps/temp_sensor/is-located-on").json()["items"][0]


@pytest.mark.parametrize(
    ("path", "links"),
    [
        ("/areas/engine/components", None),
        ("/areas/engine/subareas", {"parent": "/api/v1/areas/engine"}),
        ("/areas/engine/contains", {"area": "/api/v1/areas/engine"}),
        ("/components/ecu/subcomponents", {"parent": "/api/v1/components/ecu"}),
        ("/components/ecu/hosts", {"component": "/api/v1/components/ecu"}),
        ("/components/ecu/depends-on", {"component": "/api/v1/components/ecu"}),
        ("/apps/temp_sensor/belongs-to", {"app": "/api/v1/apps/temp_sensor"}),
        ("/functions/driving/hosts", {"function": "/api/v1/functions/driving"}),
    ],
)
def test_relations_link_back(path: str, links: dict[str, str] | None) -> None:
    found = api.get(path).json().get("_links")
    assert found == (None if links is None else {"self": f"/api/v1{path}", **links})


CAPABILITIES = {
    "/areas/engine": "subareas contains data operations configurations faults logs bulk-data triggers",
    "/components/ecu": "status data operations configurations faults logs subcomponents hosts bulk-data"
    " cyclic-subscriptions triggers depends-on",
    "/components/cell": "status data operations configurations faults logs subcomponents hosts bulk-data"
    " cyclic-subscriptions triggers",
    "/apps/temp_sensor": "status data operations configurations faults logs bulk-data cyclic-subscriptions triggers"
    " is-located-on belongs-to depends-on",
    "/apps/drifter": "status data operations configurations faults logs bulk-data cyclic-subscriptions triggers",
    "/functions/driving": "hosts data operations configurations faults logs bulk-data cyclic-subscriptions triggers",
}


@pytest.mark.parametrize(("path", "names"), CAPABILITIES.items())
def test_capabilities_come_in_their_order(path: str, names: str) -> None:
    detail = api.get(path).json()
    assert [one["name"] for one in detail["capabilities"]] == names.split()
    assert all(one["href"] == f"/api/v1{path}/{one['name']}" for one in detail["capabilities"])
    if path.startswith("/components"):
        assert detail["x-medkit"]["capabilities"] == detail["capabilities"]
    assert no_nulls(detail)


def test_details_link_to_their_relatives() -> None:
    ecu = api.get("/components/ecu").json()
    assert ecu["_links"] == {
        "self": "/api/v1/components/ecu",
        "collection": "/api/v1/components",
        "area": "/api/v1/areas/engine",
    }
    assert ecu["belongs-to"] == "/api/v1/areas/engine"
    assert ecu["source"] == ecu["x-medkit"]["source"] == "manifest"
    assert (ecu["type"], ecu["x-medkit"]["type"]) == ("component", "controller")
    assert ecu["x-medkit"]["dependsOn"] == ["battery", "ghost"]
    cell = api.get("/components/cell").json()
    assert (cell["_links"]["parent"], cell["x-medkit"]["parentComponentId"]) == (
        "/api/v1/components/battery",
        "battery",
    )
    app = api.get("/apps/temp_sensor").json()
    assert app["is-located-on"] == app["_links"]["is-located-on"] == "/api/v1/components/ecu"
    assert app["belongs-to"] == app["_links"]["belongs-to"] == "/api/v1/apps/temp_sensor/belongs-to"
    assert app["_links"]["depends-on"] == ["/api/v1/apps/logger", "/api/v1/apps/nobody"]
    engine = api.get("/areas/engine").json()
    assert engine["_links"]["parent"] == "/api/v1/areas/powertrain"
    assert engine["x-medkit"] == {"ros2": {"namespace": "/powertrain/engine"}, "parent_area_id": "powertrain"}
    driving = api.get("/functions/driving").json()
    assert driving["x-medkit-graph"] == "/api/v1/functions/driving/x-medkit-graph"
    assert driving["x-medkit"]["hosts"] == ["temp_sensor", "ecu"]
    assert driving["_links"]["depends-on"] == ["/api/v1/functions/charging"]


def test_contributors_are_told_only_with_aggregation() -> None:
    assert "contributors" not in api.get("/components/ecu").json()["x-medkit"]
    aggregating = Api(gateway(enabled=True))
    assert aggregating.get("/components/ecu").json()["x-medkit"]["contributors"] == ["local"]


def test_a_runtime_tree_has_one_host_its_apps_and_no_areas() -> None:
    tree, given_ids = runtime_tree([node("cam", "/front"), node("cam", "/rear"), node("rosbag")])
    robot = Api(gateway(merged(tree, given_ids)))
    assert ids(robot.get("/areas")) == []
    assert ids(robot.get("/components/robot/hosts")) == ids(robot.get("/apps")) == ["front_cam", "rear_cam", "rosbag"]
    assert robot.get("/components/robot").json()["name"] == "ROBOT"
    assert ids(robot.get("/functions")) == ["front", "rear", "root"]
    assert robot.get("/apps/rosbag").json()["x-medkit"]["source"] == "heuristic"


names = st.sampled_from(["a", "b", "c", "d"])
maybe = st.one_of(st.just(""), names)
several = st.lists(names, max_size=2, unique=True).map(tuple)


@st.composite
def trees(draw: st.DrawFn) -> EntityTree:
    def of(kind: Any, **members: Any) -> dict[str, Any]:
        found = draw(st.lists(names, unique=True))
        return {one: kind(one, **{name: draw(strategy) for name, strategy in members.items()}) for one in found}

    return EntityTree(
        areas=of(Area, parent_area_id=maybe),
        components=of(Component, area=maybe, parent_component_id=maybe, depends_on=several),
        apps=of(App, component_id=maybe, depends_on=several),
        functions=of(Function, hosts=several, depends_on=several),
    )


@settings(max_examples=20)
@given(trees())
def test_every_listed_id_has_a_detail_and_every_link_of_it_leads_somewhere(tree: EntityTree) -> None:
    robot = Api(gateway(merged(tree)))
    present = {f"/api/v1/{kind}/{one}" for kind, count in tree.counts().items() if count for one in getattr(tree, kind)}
    for kind in ("areas", "components", "apps", "functions"):
        for entity_id in getattr(tree, kind):
            detail = robot.get(f"/{kind}/{entity_id}")
            assert detail.status_code == 200
            assert detail.json()["id"] == entity_id
            links = [
                value for value in detail.json().values() if isinstance(value, str) and value.startswith("/api/v1/")
            ]
            for link in links:
                # To something that nobody has, as a manifest may say.
                dangling = link.count("/") == 4 and link not in present
                assert (robot.get(link.removeprefix("/api/v1")).status_code in (400, 404)) == dangling, link


ETAGGED = [
    "/apps",
    "/areas",
    "/components/ecu",
    "/apps/temp_sensor",
    "/components/ecu/hosts",
    "/docs",
    "/x-medkit/tree",
]


@pytest.mark.parametrize("path", ETAGGED)
@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_an_answer_that_is_known_already_is_304(path: str, form: str) -> None:
    etag = api.get(path).headers["etag"]
    again = api.get(path, headers={"If-None-Match": form.format(etag)})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert api.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_query_changes_nothing_of_a_list() -> None:
    assert api.get("/apps?x=1").content == api.get("/apps").content


def test_a_new_tree_is_served_at_once_under_a_new_etag() -> None:
    context = gateway()
    robot = Api(context)
    before = robot.get("/apps")
    tree, given_ids = runtime_tree([node("cam")])
    assert isinstance(context.federation, Federation)
    context.federation.tree = merged(tree, given_ids, version=2)
    after = robot.get("/apps", headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200
    assert ids(after) == ["cam"]


def test_the_cache_of_answers_has_a_bound() -> None:
    snapshots = Snapshots(gateway().federation, max_snapshots=3)
    for app in manifest_tree().apps:
        assert snapshots.get(f"/api/v1/apps/{app}") is not None
    assert len(snapshots._by_path) <= 3
