"""A C++ gateway that aggregates us: what it asks, and what it takes out of the answers (AGGREGATION.md §11).

It is played by models that are as strict as its JSON library: a member of another type ends its refresh. Not run
against the real one.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from medkit_gateway_py.entities.ids import GivenIds
from medkit_gateway_py.entities.model import ActionUse, Kind, ServiceUse
from medkit_gateway_py.entities.tree import EntityTree
from support.api import FIBONACCI, TRIGGER, Api, gateway, manifest_tree, merged

Id = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_-]{1,256}$")]
Text = StrictStr
NO_FAN_OUT = {"X-Medkit-No-Fan-Out": "1"}


class Read(BaseModel):
    """Members that are not read may be there; those that are read may be missing, and are never null."""

    model_config = ConfigDict(extra="ignore")


class Ros2(Read):
    node: Text = ""
    namespace: Text = ""
    type: Text = ""
    topic: Text = ""
    direction: Literal["publish", "subscribe", "both"] = "publish"
    service: Text = ""
    action: Text = ""
    kind: Literal["service", "action", ""] = ""


class Medkit(Read):
    ros2: Ros2 = Ros2()
    source: Text = ""
    is_online: StrictBool = True
    component_id: Id | Literal[""] = ""
    parent_area_id: Id | Literal[""] = ""
    parent_component_id: Id | Literal[""] = Field("", alias="parentComponentId")
    depends_on: list[Id] = Field(default=[], alias="dependsOn")
    hosts: list[Id] = []
    area: Id | Literal[""] = ""
    type: Text = ""
    variant: Text = ""
    description: Text = ""
    available: Literal[False] = False
    external: Literal[True] = True


class Item(Read):
    id: Id
    name: Text
    type: Literal["area", "component", "app", "function"]
    href: Annotated[str, Field(pattern=r"^/api/v1/[a-z]+/[A-Za-z0-9_-]+$")]
    description: Text = ""
    tags: list[Text] = []
    located_on: Annotated[str, Field(pattern=r"^/api/v1/components/[A-Za-z0-9_-]+$")] | Literal[""] = Field(
        "", alias="is-located-on"
    )
    medkit: Medkit = Field(Medkit(), alias="x-medkit")


class Detail(Read):
    id: Id
    name: Text
    type: Text
    description: Text = ""
    tags: list[Text] = []
    medkit: Medkit = Field(Medkit(), alias="x-medkit")


class Resource(Read):
    id: Text
    name: Text
    medkit: Medkit = Field(alias="x-medkit")


class Reader:
    """Asks as it does, and keeps all that it read."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.found: dict[str, dict[str, Item]] = {kind.value: {} for kind in Kind}
        self.details: dict[str, dict[str, Detail]] = {"components": {}, "functions": {}}
        self.data: dict[str, list[Resource]] = {}
        self.operations: dict[str, list[Resource]] = {}

    def read(self) -> Reader:
        """One refresh."""
        for kind, below in (("areas", "subareas"), ("components", "subcomponents"), ("apps", ""), ("functions", "")):
            for item in self._items(f"/{kind}"):
                self._take(kind, item, below)
        for kind, details in self.details.items():
            for one in self.found[kind]:
                details[one] = Detail.model_validate(self._get(f"/{kind}/{one}"))
        for app in self.found["apps"]:
            for collection, kept in (("data", self.data), ("operations", self.operations)):
                items = self._get(f"/apps/{app}/{collection}", headers=NO_FAN_OUT)["items"]
                kept[app] = [Resource.model_validate(item) for item in items]
        return self

    def _take(self, kind: str, item: Item, below: str) -> None:
        assert item.type == kind[:-1]
        self.found[kind][item.id] = item
        for child in self._items(f"/{kind}/{item.id}/{below}") if below else ():
            self._take(kind, child, below)

    def _items(self, path: str) -> list[Item]:
        return [Item.model_validate(item) for item in self._get(path)["items"]]

    def _get(self, path: str, **options: Any) -> dict[str, Any]:
        answer = self._api.get(path, **options)
        assert answer.status_code == 200, (path, answer.text)
        body: dict[str, Any] = answer.json()
        _no_null(body, path)
        return body


def _no_null(value: Any, where: str) -> None:
    assert value is not None, where
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        if key not in ("schema", "type_info"):
            _no_null(one, f"{where}/{key}")


def robot() -> EntityTree:
    """The robot of the manifest, one of whose nodes serves something."""
    tree = manifest_tree()
    sensor = dataclasses.replace(
        tree.apps["temp_sensor"],
        services=(ServiceUse("/powertrain/engine/calibrate", TRIGGER),),
        actions=(ActionUse("/powertrain/engine/long_calibration", FIBONACCI),),
    )
    return dataclasses.replace(tree, apps={**tree.apps, "temp_sensor": sensor})


def test_all_that_it_reads_of_us_is_there_and_of_the_right_type() -> None:
    read = Reader(Api(gateway(merged(robot())))).read()
    assert {kind: set(items) for kind, items in read.found.items()} == {
        "areas": {"powertrain", "engine", "empty"},
        "components": {"ecu", "battery", "cell"},
        "apps": {"temp_sensor", "logger", "drifter", "charger"},
        "functions": {"driving"},
    }
    apps, components = read.found["apps"], read.found["components"]
    assert {one: item.medkit.source for one, item in apps.items()} == {
        "temp_sensor": "manifest",
        "logger": "manifest",
        "drifter": "heuristic",
        "charger": "manifest",
    }
    assert {item.medkit.source for item in components.values()} == {"manifest"}
    assert {one: item.located_on for one, item in apps.items()} == {
        "temp_sensor": "/api/v1/components/ecu",
        "logger": "/api/v1/components/nowhere",
        "drifter": "",
        "charger": "/api/v1/components/cell",
    }
    assert apps["logger"].medkit.is_online is False
    assert apps["temp_sensor"].medkit.ros2.node == "/powertrain/engine/temp_sensor"
    detail = read.details["components"]
    assert detail["cell"].medkit.parent_component_id == "battery"
    assert (detail["ecu"].medkit.area, detail["ecu"].medkit.depends_on) == ("engine", ["battery", "ghost"])
    assert read.details["functions"]["driving"].medkit.hosts == ["temp_sensor", "ecu"]
    facts = [one.medkit.ros2 for one in read.data["temp_sensor"]]
    assert [(one.topic, one.direction) for one in facts] == [
        ("/powertrain/engine/temperature", "publish"),
        ("/rosout", "publish"),
    ]
    facts = [one.medkit.ros2 for one in read.operations["temp_sensor"]]
    assert [(one.kind, one.service, one.action, one.type) for one in facts] == [
        ("service", "/powertrain/engine/calibrate", "", TRIGGER),
        ("action", "", "/powertrain/engine/long_calibration", FIBONACCI),
    ]


def test_what_we_have_from_peers_is_read_in_the_same_way() -> None:
    given = GivenIds()
    tree = merged(manifest_tree(), given, {"b": EntityTree(apps={}, functions=robot().functions)})
    read = Reader(Api(gateway(tree, enabled=True))).read()
    assert set(read.found["functions"]) == {"driving"}
    assert all(item.medkit.source for kind in ("apps", "components") for item in read.found[kind].values())


@pytest.mark.parametrize("path", ["/areas", "/components", "/apps", "/functions"])
def test_an_empty_gateway_has_empty_lists(path: str) -> None:
    assert Reader(Api(gateway(merged(EntityTree()))))._items(path) == []
