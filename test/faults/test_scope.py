"""Which faults belong to which entity (API.md §7.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.entities.model import App, Area, Component, Function, Kind
from medkit_gateway_py.entities.tree import EntityTree
from medkit_gateway_py.resources.faults.model import CONFIRMED, ERROR, Fault
from medkit_gateway_py.resources.faults.scope import is_in_scope, owned_sources

APPS = {
    "driver": App("driver", component_id="arm", fqn="/left/driver"),
    "camera": App("camera", component_id="head", fqn="/head/camera"),
    "plc": App("plc", component_id="head", external=True),
    "theirs": App("theirs", component_id="arm", fqn="/right/driver"),
}
TREE = EntityTree(
    areas={
        "robot": Area("robot"),
        "upper": Area("upper", parent_area_id="robot"),
        "loop_a": Area("loop_a", parent_area_id="loop_b"),
        "loop_b": Area("loop_b", parent_area_id="loop_a"),
    },
    components={
        "arm": Component("arm", area="robot"),
        "head": Component("head", area="upper"),
        "battery": Component("battery", area="upper", external=True),
        "bare": Component("bare", area="loop_a"),
        "far": Component("far", area="robot", external=True),
    },
    apps=APPS,
    functions={"see": Function("see", hosts=("camera", "battery", "nobody")), "move": Function("move", hosts=("arm",))},
)
LOCAL = EntityTree(
    areas=TREE.areas, functions=TREE.functions,
    components={component_id: one for component_id, one in TREE.components.items() if component_id != "far"},
    apps={app_id: app for app_id, app in APPS.items() if app_id != "theirs"},
)  # fmt: skip


def fault(*sources: str) -> Fault:
    return Fault("F", ERROR, "", 1.0, 1.0, 1, CONFIRMED, sources)


@pytest.mark.parametrize(
    ("kind", "entity_id", "sources"),
    [
        (Kind.APP, "driver", {"/left/driver"}),
        (Kind.APP, "plc", {"plc"}),
        (Kind.APP, "theirs", set()),
        (Kind.APP, "nobody", set()),
        (Kind.COMPONENT, "arm", {"/left/driver"}),
        (Kind.COMPONENT, "head", {"/head/camera", "plc"}),
        (Kind.COMPONENT, "battery", {"battery"}),
        (Kind.COMPONENT, "bare", set()),
        (Kind.COMPONENT, "far", set()),
        (Kind.AREA, "upper", {"/head/camera", "plc", "battery"}),
        (Kind.AREA, "robot", {"/left/driver", "/head/camera", "plc", "battery"}),
        (Kind.AREA, "loop_a", set()),
        (Kind.FUNCTION, "see", {"/head/camera", "battery"}),
        (Kind.FUNCTION, "move", {"/left/driver"}),
        (Kind.FUNCTION, "nobody", set()),
    ],
)
def test_what_an_entity_owns(kind: Kind, entity_id: str, sources: set[str]) -> None:
    assert owned_sources(TREE, kind, entity_id, LOCAL) == sources


@pytest.mark.parametrize(
    ("sources", "is_seen"),
    [
        (["/a/b"], True),
        (["/a/b/c"], True),
        (["/a/b/c/d", "/a/b", "plc"], True),
        (["/a/bc"], False),
        (["/a"], False),
        (["/a/b", "/other"], False),
        (["plc/x"], True),
        (["plc2"], False),
        ([], False),
    ],
)
def test_every_source_has_to_be_owned_or_below_one_that_is(sources: list[str], is_seen: bool) -> None:
    assert is_in_scope(fault(*sources), {"/a/b", "plc"}) is is_seen


PATHS = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(PATHS, st.sets(PATHS))
def test_being_below_is_what_the_words_say(source: str, owned: set[str]) -> None:
    expected = any(source == one or source.startswith(f"{one}/") for one in owned)
    assert is_in_scope(fault(source), owned) is expected
