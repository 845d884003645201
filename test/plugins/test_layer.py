"""What plugins say exists, put into the tree: refused item by item, never a broken tree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.entities.ids import GivenId, GivenIds, is_valid_id
from medkit_gateway_py.entities.model import App, Component, Function, Kind
from medkit_gateway_py.entities.plugin_layer import MAX_ENTITIES, with_plugins
from medkit_gateway_py.entities.tree import EntityTree
from medkit_gateway_py.plugin import DataItem, Entities, PluginApp, PluginArea, PluginComponent, PluginFunction

TREE = EntityTree(
    components={"robot": Component("robot")},
    apps={"lidar": App("lidar", fqn="/lidar")},
    functions={"see": Function("see", hosts=("lidar",))},
)


def layer(given: GivenIds | None = None, **said: Entities) -> Any:
    return with_plugins(TREE, said, given or GivenIds(), "origin")


def test_an_app_of_a_plugin_is_beside_the_others_under_an_id_that_is_remembered() -> None:
    found = layer(device=Entities(apps=(PluginApp("pump", component_id="robot", data=(DataItem("flow"),)),)))
    assert set(found.tree.apps) == {"lidar", "pump"}
    app = found.tree.apps["pump"]
    assert (app.source, app.plugin, app.name, app.component_id) == ("device", "device", "pump", "robot")
    assert [(one.key, one.id) for one in found.new_ids] == [("device:pump", "pump")]
    assert found.offers["pump"][0] == "device"
    again = layer(GivenIds(found.new_ids), device=Entities(apps=(PluginApp("pump"),)))
    assert (again.new_ids, again.refused) == ((), {})


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        (PluginApp("lidar"), "another source has this id"),
        (PluginApp("camera"), "was given to something else before"),
        (PluginApp(""), "no usable id"),
        (PluginApp("a/b"), "no usable id"),
        (PluginApp("docs"), "no usable id"),
        (PluginApp("peer__pump"), "no usable id"),
        (PluginApp("pump", name=7), "must be str"),  # type: ignore[arg-type]
        (PluginApp("pump", tags=["x"]), "must be str"),  # type: ignore[arg-type]
        (PluginApp("pump", description="x" * 5000), "must be str of at most"),
        ("pump", "is no PluginApp"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_a_reason_and_the_rest_is_taken(app: Any, reason: str) -> None:
    before = GivenIds([GivenId("origin", "apps", "/old/camera", "camera")])
    found = layer(before, device=Entities(apps=(app, PluginApp("good"))))
    assert reason in found.refused["device"][0]
    assert set(found.tree.apps) == {"lidar", "good"}


def test_two_plugins_do_not_take_each_others_ids_and_share_functions() -> None:
    pump = PluginApp("pump")
    found = layer(
        a=Entities(apps=(pump, pump), functions=(PluginFunction("see", hosts=("pump",)),)),
        b=Entities(apps=(pump,), components=(PluginComponent("robot"),), areas=(PluginArea("hall"),)),
    )
    assert found.offers["pump"][0] == "a"
    assert found.tree.functions["see"].hosts == ("lidar", "pump")
    assert "more than once" in found.refused["a"][0]
    assert len(found.refused["b"]) == 2
    assert found.tree.components["robot"].source == "runtime"
    assert found.tree.areas["hall"].source == "b"


def test_more_entities_than_anything_has_are_cut_and_said() -> None:
    apps = tuple(PluginApp(f"a{number}") for number in range(MAX_ENTITIES + 5))
    found = layer(device=Entities(apps=apps))
    assert len(found.tree.apps) == MAX_ENTITIES + 1
    assert "more than" in found.refused["device"][0]


texts = st.one_of(st.sampled_from(["lidar", "pump", "see", "robot", "x__y", ""]), st.text(max_size=3), st.none())
anything = st.one_of(
    st.none(),
    st.integers(),
    st.text(),
    st.builds(PluginApp, texts, texts, component_id=texts, tags=st.one_of(st.none(), st.tuples(texts))),
    st.builds(PluginFunction, texts, hosts=st.one_of(st.none(), st.tuples(texts))),
    st.builds(PluginArea, texts, parent_area_id=texts),
)
many = st.one_of(st.none(), st.text(), st.lists(anything, max_size=4), st.lists(anything, max_size=4).map(tuple))


@given(st.dictionaries(st.sampled_from("ab"), st.builds(Entities, many, many, many, many)))
def test_whatever_a_plugin_says_the_tree_stays_sound(said: Any) -> None:
    found = with_plugins(TREE, said, GivenIds(), "origin")
    for kind in Kind:
        assert set(TREE.of(kind)) <= set(found.tree.of(kind))
        for entity_id, entity in found.tree.of(kind).items():
            assert entity.id == entity_id and is_valid_id(entity_id)
    assert {one.id for one in found.new_ids} == set(found.offers) == set(found.tree.apps) - {"lidar"}
