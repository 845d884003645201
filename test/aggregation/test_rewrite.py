"""What of a peer's answers is rewritten to our ids, and what never is (AGGREGATION.md §7)."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.aggregation.rewrite import Rewriter
from medkit_gateway_py.entities.model import Kind

IDS = {"cam": "b__cam", "nav": "b__nav"}
NAMES = {"b__cam": "b__Camera", "b__nav": "b__Nav"}


def rewriter(kind: Kind | None = Kind.APP, entity_id: str = "cam", owner: str = "") -> Rewriter:
    return Rewriter(IDS, NAMES.__getitem__, kind, entity_id, owner)


REWRITTEN: list[tuple[str, Any, Any]] = [
    (
        "an app of a list",
        {"id": "cam", "name": "Camera", "type": "app"},
        {"id": "b__cam", "name": "b__Camera", "type": "app"},
    ),
    (
        "an app told by its href",
        {"items": [{"id": "nav", "href": "/api/v1/apps/nav"}]},
        {"items": [{"id": "b__nav", "href": "/api/v1/apps/b__nav"}]},
    ),
    (
        "links of a detail, `data` among them",
        {"id": "cam", "type": "app", "data": "/api/v1/apps/cam/data", "_links": {"self": "/api/v1/apps/cam"}},
        {"id": "b__cam", "type": "app", "data": "/api/v1/apps/b__cam/data", "_links": {"self": "/api/v1/apps/b__cam"}},
    ),
    (
        "lists of links",
        {"_links": {"depends-on": ["/api/v1/apps/nav"]}},
        {"_links": {"depends-on": ["/api/v1/apps/b__nav"]}},
    ),
    (
        "capabilities",
        {"capabilities": [{"name": "data", "href": "/api/v1/apps/cam/data"}]},
        {"capabilities": [{"name": "data", "href": "/api/v1/apps/b__cam/data"}]},
    ),
    (
        "links to items of a member",
        {"observed_resource": "/api/v1/components/arm/data/cam:/t", "x": ["/api/v1/functions/f/operations/nav%3Ago/y"]},
        {
            "observed_resource": "/api/v1/components/arm/data/b__cam:/t",
            "x": ["/api/v1/functions/f/operations/b__nav%3Ago/y"],
        },
    ),
    ("entity_id", {"x-medkit": {"entity_id": "cam"}}, {"x-medkit": {"entity_id": "b__cam"}}),
    ("member_ids", {"x-medkit": {"member_ids": ["cam", "x"]}}, {"x-medkit": {"member_ids": ["b__cam", "x"]}}),
    (
        "sources",
        {"aggregation_sources": ["fn", "cam"], "source_ids": ["nav"]},
        {"aggregation_sources": ["fn", "b__cam"], "source_ids": ["b__nav"]},
    ),
    ("source_app", {"source_app": "cam"}, {"source_app": "b__cam"}),
    (
        "values of an aggregated list of parameters",
        {"x-medkit": {"parameters": [{"name": "cam", "value": "cam", "x-medkit": {"source": "cam", "node": "/cam"}}]}},
        {
            "x-medkit": {
                "parameters": [{"name": "cam", "value": "cam", "x-medkit": {"source": "b__cam", "node": "/cam"}}]
            }
        },
    ),
    (
        "the member and the candidates of an error",
        {"error_code": "x", "message": "cam", "parameters": {"member_id": "cam", "data_ids": ["cam:/a", "x:/b"]}},
        {"error_code": "x", "message": "cam", "parameters": {"member_id": "b__cam", "data_ids": ["b__cam:/a", "x:/b"]}},
    ),
    ("hosts", {"x-medkit": {"hosts": ["cam"]}}, {"x-medkit": {"hosts": ["b__cam"]}}),
    ("dependencies of an app", {"depends_on": ["nav"]}, {"depends_on": ["b__nav"]}),
    (
        "member prefixes",
        {"items": [{"id": "cam:/a:b"}, {"id": "x:cam"}]},
        {"items": [{"id": "b__cam:/a:b"}, {"id": "x:cam"}]},
    ),
    ("one item", {"item": {"id": "cam:calibrate"}}, {"item": {"id": "b__cam:calibrate"}}),
    (
        "configurations",
        {"items": [{"id": "cam:rate", "type": "parameter", "x-medkit": {"source": "cam"}}]},
        {"items": [{"id": "b__cam:rate", "type": "parameter", "x-medkit": {"source": "b__cam"}}]},
    ),
    (
        "bulk data",
        {"bulk_data_uri": "/apps/cam/bulk-data/rosbags/1"},
        {"bulk_data_uri": "/apps/b__cam/bulk-data/rosbags/1"},
    ),
    (
        "triggers",
        {"observed_resource": "/api/v1/apps/cam/data/x", "event_source": "/api/v1/apps/cam/triggers/1/events"},
        {"observed_resource": "/api/v1/apps/b__cam/data/x", "event_source": "/api/v1/apps/b__cam/triggers/1/events"},
    ),
    (
        "the parameters of an error",
        {"error_code": "entity-not-found", "message": "no cam", "parameters": {"entity_id": "cam", "details": "cam"}},
        {
            "error_code": "entity-not-found",
            "message": "no cam",
            "parameters": {"entity_id": "b__cam", "details": "cam"},
        },
    ),
    (
        "candidates of an ambiguous operation",
        {
            "error_code": "invalid-request",
            "message": "m",
            "parameters": {"member_ids": ["cam"], "operation_ids": ["cam:go"]},
        },
        {
            "error_code": "invalid-request",
            "message": "m",
            "parameters": {"member_ids": ["b__cam"], "operation_ids": ["b__cam:go"]},
        },
    ),
    (
        "an event with a list of faults",
        {"payload": {"items": [{"fault_code": "X", "x-medkit": {"entity_id": "cam"}}]}},
        {"payload": {"items": [{"fault_code": "X", "x-medkit": {"entity_id": "b__cam"}}]}},
    ),
    (
        "an event with an item of data",
        {"payload": {"id": "/t", "data": {"entity_id": "cam"}, "x-medkit": {"entity_id": "cam"}}},
        {"payload": {"id": "/t", "data": {"entity_id": "cam"}, "x-medkit": {"entity_id": "b__cam"}}},
    ),
    (
        "an event with a fault",
        {"payload": {"fault_code": "X", "entity_id": "cam"}},
        {"payload": {"fault_code": "X", "entity_id": "b__cam"}},
    ),
]

UNTOUCHED: list[tuple[str, Any]] = [
    ("data of a robot", {"data": {"id": "cam", "type": "app", "href": "/api/v1/apps/cam", "entity_id": "cam"}}),
    ("a text that a robot sent", {"id": "/topic", "data": "/api/v1/apps/cam"}),
    ("the value", {"value": {"entity_id": "cam"}}),
    (
        "parameters of a node",
        {"x-medkit": {"parameters": [{"name": "x", "value": "/api/v1/apps/cam", "entity_id": "cam"}]}},
    ),
    ("a log message", {"items": [{"id": "log_1", "message": "/api/v1/apps/cam"}]}),
    ("schemas", {"type_info": {"schema": {"entity_id": "cam"}, "default_value": {"id": "cam"}}}),
    ("defaults", {"default_value": "/api/v1/apps/cam", "schema": {"hosts": ["cam"]}}),
    ("a message in an event", {"payload": {"id": "cam", "entity_id": "cam", "text": "/api/v1/apps/cam"}}),
    (
        "a message with a list of items",
        {"payload": {"items": [{"id": "cam:x", "entity_id": "cam", "href": "/api/v1/apps/cam"}]}},
    ),
    ("a message with an id and data", {"payload": {"id": "cam:x", "data": {}, "entity_id": "cam"}}),
    (
        "the message of a freeze frame",
        {"environment_data": {"snapshots": [{"x-medkit": {"full_data": {"entity_id": "cam", "hosts": ["cam"]}}}]}},
    ),
    (
        "what an action gave",
        {
            "status": "completed",
            "result": {"id": "cam:x", "to": "/api/v1/apps/cam"},
            "last_feedback": {"app_id": "cam"},
        },
    ),
    ("a trigger's condition", {"id": "t", "trigger_condition": {"target_value": {"entity_id": "cam"}}}),
    ("a nameplate", {"x-medkit": {"identity": {"entity_id": "cam", "extra": {"id": "cam:x"}}}}),
    ("a component of the same id", {"id": "cam", "type": "component", "href": "/api/v1/components/cam"}),
    ("a link to an item that is called as an app is", {"href": "/api/v1/components/arm/operations/cam", "id": "cam"}),
    ("a link to a fault with a colon", {"href": "/api/v1/components/arm/faults/cam:x"}),
    ("a link to a component of the same id", {"belongs-to": "/api/v1/components/cam"}),
    ("an app whose id only begins so", {"href": "/api/v1/apps/camera", "id": "camera"}),
    ("text that only holds a link", {"details": "see /api/v1/apps/cam", "url": "http://x/api/v1/apps/cam"}),
    ("a topic", {"items": [{"id": "/cam/image", "name": "/cam/image"}]}),
    ("an item that is called as an app is", {"items": [{"id": "cam", "category": "currentData"}]}),
    ("numbers, null, lists", [1, 2.5, None, True, ["x"], {}]),
]


@pytest.mark.parametrize(("before", "after"), [row[1:] for row in REWRITTEN], ids=[row[0] for row in REWRITTEN])
def test_ids_become_ours(before: Any, after: Any) -> None:
    kept = copy.deepcopy(before)
    assert rewriter().body(before) == after
    assert before == kept


@pytest.mark.parametrize("body", [row[1] for row in UNTOUCHED], ids=[row[0] for row in UNTOUCHED])
def test_what_is_not_ours_stays(body: Any) -> None:
    assert rewriter().body(copy.deepcopy(body)) == body


def test_a_component_called_as_an_app_keeps_its_id_in_its_own_answers() -> None:
    body = {"x-medkit": {"entity_id": "cam", "aggregation_sources": ["cam", "nav"], "member_ids": ["cam"]}}
    assert rewriter(Kind.COMPONENT, "cam").body(body) == {
        "x-medkit": {"entity_id": "cam", "aggregation_sources": ["cam", "b__nav"], "member_ids": ["b__cam"]}
    }
    assert rewriter(Kind.COMPONENT, "arm").body({"depends_on": ["cam"]}) == {"depends_on": ["cam"]}


def test_a_detail_says_whose_it_is() -> None:
    body = {
        "id": "arm",
        "type": "component",
        "_links": {},
        "x-medkit": {"source": "runtime", "contributors": ["local"]},
    }
    found = rewriter(Kind.COMPONENT, "arm", owner="b").body(body)
    assert (found["source"], found["x-medkit"]) == ("peer:b", {"source": "peer:b", "contributors": ["peer:b"]})


@pytest.mark.parametrize("kind", list(Kind))
def test_a_detail_says_whose_it_is_also_where_its_owner_says_nothing_of_a_source(kind: Kind) -> None:
    body = {"id": "x", "type": kind.type, "_links": {}}
    whose = {"source": "peer:b", "x-medkit": {"source": "peer:b", "contributors": ["peer:b"]}}
    assert rewriter(kind, "x", owner="b").body(body) == {**body, **whose}


def test_paths_go_out_with_the_peers_member() -> None:
    at = rewriter(Kind.COMPONENT, "arm").rest
    assert at("/configurations/b__cam:rate") == "/configurations/cam:rate"
    assert at("/data/b__cam%3A%2Fa%2Fb") == "/data/cam%3A%2Fa%2Fb"
    assert at("/operations/b__nav:go/executions") == "/operations/nav:go/executions"
    for other in ("/data/x:b__cam", "/data/b__cam", "/faults/b__cam:x", "", "/data/b__other:x"):
        assert at(other) == other


def test_etags_are_made_anew_and_turned_back() -> None:
    one = rewriter()
    for tag in ('"a-b"', 'W/"x"', '""'):
        assert one.etag(tag) != tag
        assert one.peer_etags(f'{one.etag(tag)}, "other"') == f'{tag}, "other"'
    assert Rewriter({"cam": "other"}, str).peer_etags(one.etag('"a"')) == ""
    assert one.peer_etags("*") == "*"


def test_the_body_of_a_trigger_goes_out_with_the_peers_id() -> None:
    one = rewriter()
    assert one.request_body({"resource": "/api/v1/apps/b__cam/faults"}) == {"resource": "/api/v1/apps/cam/faults"}
    shared = {"resource": "/api/v1/components/arm/data/b__cam:/t"}
    assert one.request_body(shared) == {"resource": "/api/v1/components/arm/data/cam:/t"}
    for body in ({"resource": "/api/v1/apps/cam/faults"}, {"resource": 3}, [], {"other": "/api/v1/apps/b__cam"}):
        assert one.request_body(body) == body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["cam", "/api/v1/apps/cam/x", "cam:x", "app", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "type", "href", "items", "x-medkit", "hosts", "entity_id", "data", "payload", "y"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_survived_and_keeps_its_shape(body: Any) -> None:
    found = rewriter().body(copy.deepcopy(body))
    assert _shape(found) == _shape(body)
    orjson.dumps(found)
    assert Rewriter({}, str).body(copy.deepcopy(body)) == body


@given(st.text(max_size=40), JSON)
def test_nothing_below_data_is_ever_changed(name: str, body: Any) -> None:
    wire = {"id": name, "data": {"inner": body}, "x-medkit": {"parameters": [body], "value": body}}
    found = rewriter().body(copy.deepcopy(wire))
    assert found["data"] == wire["data"]
    assert found["x-medkit"] == wire["x-medkit"]


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shape(inner) for inner in value]
    return type(value)
