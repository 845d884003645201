"""Tree documents from peers are read strictly: nothing a peer sends gets past the model (AGGREGATION.md §4, §6)."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given as forall
from hypothesis import strategies as st

from medkit_gateway_py.aggregation.section_reader import apply_delta, entity_from_wire, tree_from_wire
from medkit_gateway_py.aggregation.sections import GatewayIdentity, OriginSection, TreeDocumentError, tree_to_wire
from medkit_gateway_py.entities.model import App, Area, Component, Function, Kind, TopicUse
from medkit_gateway_py.entities.tree import EntityTree

IDENTITY = GatewayIdentity("id-b", "1-0", "b", "0.1.0")
TREE = EntityTree(
    areas={"cell": Area("cell", "Cell", parent_area_id="root", tags=("x",))},
    components={"arm": Component("arm", "Arm", identity={"model": "m"}, external=True, available=False)},
    apps={"nav": App("nav", "nav", fqn="/nav", is_online=False, graph_key="k", source="manifest")},
    functions={"move": Function("move", hosts=("nav",))},
)
SECTION = OriginSection("id-b", "b", "1-0", 7, ("id-b",), tree=TREE, served_as={"nav": "b__nav"})


def wire() -> Any:
    return json.loads(json.dumps(tree_to_wire(IDENTITY, 3, [SECTION])))


def test_a_document_reads_back_as_it_was_written() -> None:
    document = tree_from_wire(wire(), 100)
    assert document.gateway == IDENTITY
    assert document.seq == 3
    assert document.sections == (SECTION,)
    assert document.dropped_count == 0


def test_what_a_node_offers_does_not_travel() -> None:
    app = App("nav", topics=(TopicUse("/t", "std_msgs/msg/String", "publish"),), contributors=("local",))
    section = OriginSection("id-b", "b", "1-0", 1, ("id-b",), tree=EntityTree(apps={"nav": app}))
    item = tree_to_wire(IDENTITY, 1, [section])["origins"][0]["entities"]["apps"][0]
    assert set(item) == {"id", "source"}


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"id": 5}, "id:"),
        ({"id": "a b"}, "id:"),
        ({"id": "a", "is_online": 1}, "is_online: expected a boolean"),
        ({"id": "a", "name": ["x"]}, "name: expected a string"),
        ({"id": "a", "tags": "x"}, "tags: expected an array"),
        ({"id": "a", "tags": [1]}, "tags: expected a string"),
        ({"id": "a", "name": "\ud800"}, "name: holds a character that is no Unicode"),
        ({"id": "a", "depends_on": ["/x"]}, "depends_on: holds something that is no entity id"),
        ({"id": "a", "name": "x" * 5000}, "name: expected a string of at most"),
        ({"id": "a", "served_as": 5}, "served_as: not a valid entity id"),
        ("a", "not an object"),
        (None, "not an object"),
    ],
)
def test_a_wrong_item_is_dropped_and_named_and_the_others_stay(item: Any, reason: str) -> None:
    document = wire()
    document["origins"][0]["entities"]["apps"].append(item)
    read = tree_from_wire(document, 100)
    assert set(read.sections[0].tree.apps) == {"nav"}
    assert read.dropped_count == 1
    assert read.dropped[0].where == "origins[0].apps[1]"
    assert reason in read.dropped[0].reason


@pytest.mark.parametrize(
    "identity", [{"a": {"b": {}}}, {"a": [1]}, {"a": 2**64}, {"a": float("nan")}, {"\udc00": 1}, 5]
)
def test_a_nameplate_that_could_not_be_passed_on_drops_its_component(identity: Any) -> None:
    document = wire()
    document["origins"][0]["entities"]["components"].append({"id": "ecu", "identity": identity})
    read = tree_from_wire(document, 100)
    assert set(read.sections[0].tree.components) == {"arm"}
    assert "identity" in read.dropped[0].reason


def test_null_members_count_as_absent_and_unknown_ones_are_ignored() -> None:
    assert entity_from_wire(Kind.APP, {"id": "a", "name": None, "future": 1}) == App("a")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(schema=2),
        lambda d: d.update(schema=True),
        lambda d: d.update(seq="3"),
        lambda d: d.update(seq=-1),
        lambda d: d.update(origins={}),
        lambda d: d.update(gateway=None),
        lambda d: d["gateway"].update(id=5),
        lambda d: d["gateway"].update(id="x\n"),
        lambda d: d["gateway"].update(boot_id=""),
    ],
)
def test_a_wrong_envelope_refuses_the_document(change: Any) -> None:
    document = wire()
    change(document)
    with pytest.raises(TreeDocumentError):
        tree_from_wire(document, 100)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(path=[]),
        lambda s: s.update(path=["id-x"]),
        lambda s: s.update(path=["id-b", "id-x"]),
        lambda s: s.update(state="sideways"),
        lambda s: s.update(entities=[]),
        lambda s: s.update(id=""),
        lambda s: s.update(boot_id=None),
        lambda s: s.update(seq="1"),
    ],
)
def test_a_wrong_section_is_dropped(change: Any) -> None:
    document = wire()
    change(document["origins"][0])
    read = tree_from_wire(document, 100)
    assert read.sections == ()
    assert read.dropped_count == 1


def test_a_second_section_of_one_origin_and_a_second_item_of_one_id_are_dropped() -> None:
    document = wire()
    document["origins"].append(document["origins"][0])
    document["origins"][0]["entities"]["areas"].append({"id": "cell"})
    read = tree_from_wire(document, 100)
    assert len(read.sections) == 1
    assert read.sections[0].tree.areas["cell"].name == "Cell"
    assert read.dropped_count >= 2


def test_too_many_entities_refuse_the_tree_whole() -> None:
    assert tree_from_wire(wire(), 4).sections
    with pytest.raises(TreeDocumentError, match="more than 3 entities"):
        tree_from_wire(wire(), 3)


def test_a_section_that_is_down_has_no_entities() -> None:
    document = wire()
    document["origins"][0]["state"] = "down"
    assert tree_from_wire(document, 100).sections[0].tree == EntityTree()


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_places = [(), ("gateway",), ("gateway", "id"), ("seq",), ("origins",), ("origins", 0)] + [
    ("origins", 0, member) for member in ("id", "name", "boot_id", "seq", "path", "state", "entities")
]
_places += [("origins", 0, "entities", kind) for kind in ("areas", "apps", "components", "functions")]
_places += [("origins", 0, "entities", "apps", 0)]
_places += [
    ("origins", 0, "entities", kind, 0, member)
    for kind, members in {
        "apps": ["id", "fqn", "tags", "served_as", "is_online"],
        "components": ["identity", "area"],
    }.items()
    for member in members
]


@forall(st.sampled_from(_places), _json)
def test_rubbish_anywhere_is_refused_or_dropped_and_never_raises_otherwise(
    place: tuple[Any, ...], rubbish: Any
) -> None:
    document: Any = wire()
    if not place:
        document = rubbish
    else:
        target = document
        for step in place[:-1]:
            target = target[step]
        target[place[-1]] = rubbish
    try:
        read = tree_from_wire(document, 100)
    except TreeDocumentError:
        return
    orjson.dumps(tree_to_wire(read.gateway, read.seq, read.sections))
    for section in read.sections:
        for kind in Kind:
            for entity_id, entity in section.tree.of(kind).items():
                assert entity.id == entity_id
                hash((entity.name, entity.tags))


def with_apps(seq: int, *apps: object) -> dict[str, object]:
    """A section of one gateway as it travels."""
    return {"id": "id-b", "boot_id": "1", "seq": seq, "path": ["id-b"], "entities": {"apps": list(apps)}}


def test_of_a_change_only_the_apps_that_differ_are_read_again() -> None:
    nav, arm = {"id": "nav", "fqn": "/nav"}, {"id": "arm", "fqn": "/arm"}
    whole = {"schema": 1, "gateway": {"id": "id-b", "boot_id": "1"}, "seq": 1, "origins": [with_apps(1, nav, arm)]}
    document = tree_from_wire(whole, 100)
    before = document.sections[0].tree.apps
    for seq, wrong in ((2, {"id": "nav", "fqn": 7}), (3, ["nav"]), (4, {"id": ["nav"]})):
        moved = {"id": "arm", "fqn": "/arm", "is_online": False, "served_as": "b__arm"}
        delta = {"base": seq - 1, "seq": seq, "set": [with_apps(seq, dict(nav), moved, wrong)], "gone": []}
        after = apply_delta(document, delta, 100)
        assert after is not None
        apps = after.sections[0].tree.apps
        assert apps["nav"] is before["nav"]
        assert apps["arm"] == App("arm", fqn="/arm", is_online=False)
        assert after.sections[0].served_as == {"arm": "b__arm"}
        assert after.dropped_count == 1
        document = after


def test_what_was_read_is_not_kept_for_origins_that_are_gone() -> None:
    app = {"id": "nav", "fqn": "/nav"}
    whole = {"schema": 1, "gateway": {"id": "id-b", "boot_id": "1"}, "seq": 1, "origins": [with_apps(1, app)]}
    document = tree_from_wire(whole, 100)
    assert document.wires == {"id-b": {"nav": app}}
    without = apply_delta(document, {"base": 1, "seq": 2, "set": [], "gone": ["id-b"]}, 100)
    assert without is not None
    assert (without.sections, without.wires) == ((), {})
