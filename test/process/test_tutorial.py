"""The multi-instance tutorial with real gateways and robots: steps 1, 2, 3, 5 and 6."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.gateways import Fleet, Gateway, Process, fleet
from support.waiting import eventually

pytestmark = pytest.mark.process


@dataclass
class Pair:
    fleet: Fleet
    a: Gateway
    b: Gateway
    robot_b: Process
    domain_b: int


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, two_domains: tuple[int, int]) -> Iterator[Pair]:
    """Gateway A with robot a, aggregating gateway B with robot b, in two ROS domains; A by a file as printed."""
    folder = tmp_path_factory.mktemp("pair")
    domain_a, domain_b = two_domains
    with fleet(folder) as one:
        one.robot("a", domain_a)
        robot_b = one.robot("b", domain_b)
        b = one.gateway(
            "b",
            domain_b,
            node="gateway_b",
            namespace="/subsystem_b",
            parameters={"discovery.runtime.default_component.id": "arm_controller"},
        )
        file = folder / "gateway_a_params.yaml"
        a = Gateway(folder / "state-a", domain_a, own_parameters=False)
        file.write_text(
            "medkit_gateway_py:\n"
            "  ros__parameters:\n"
            "    server:\n"
            f"      port: {a.port}\n"
            "    aggregation:\n"
            "      enabled: true\n"
            f'      peer_urls: ["{b.url}"]\n'
            '      peer_names: ["subsystem_b"]\n'
            "    discovery:\n"
            "      runtime:\n"
            "        default_component:\n"
            "          id: robot\n"
            f'    state_dir: "{folder / "state-a"}"\n'
        )
        a.command += ["--params-file", str(file), "-r", "__node:=gateway_a"]
        one.processes.append(a)
        a.start()
        yield Pair(one, a, b, robot_b, domain_b)


@pytest.fixture(scope="module")
def two_domains(module_domains: Callable[[], int]) -> tuple[int, int]:
    return module_domains(), module_domains()


def test_step_1_each_gateway_is_healthy(pair: Pair) -> None:
    assert pair.a.get("/health").json()["status"] == "healthy"
    assert pair.b.get("/health").json()["status"] == "healthy"


def test_step_2_the_peer_is_online(pair: Pair) -> None:
    eventually(
        lambda: (
            pair.a.get("/health").json()["peers"] == [{"name": "subsystem_b", "url": pair.b.url, "status": "online"}]
        ),
        within=10,
    )
    assert "peers" not in pair.b.get("/health").json()


def test_step_3_components_of_both_are_listed_with_their_source(pair: Pair) -> None:
    pair.a.lists("components", "robot", "arm_controller")
    components = pair.a.items("/components")
    assert components["robot"]["source"] == "runtime"
    assert components["arm_controller"]["source"] == "peer:subsystem_b"


def test_step_3_functions_are_merged_by_id_with_the_hosts_of_both(pair: Pair) -> None:
    pair.a.lists("functions", "powertrain", "chassis", "root")
    hosts = pair.a.get("/functions/root/hosts").json()["items"]
    assert {item["x-medkit"]["source"] for item in hosts} == {"heuristic", "peer:subsystem_b"}


def test_step_3_data_of_a_remote_app_is_read_through_a(pair: Pair) -> None:
    pair.a.lists("apps", "pressure_sensor")
    eventually(
        lambda: pair.a.get("/apps/pressure_sensor/data/chassis/brakes/pressure").json()["x-medkit"]["status"] == "data",
        within=10,
    )


def test_step_3_data_of_a_remote_component_is_listed_through_a(pair: Pair) -> None:
    pair.a.lists("components", "arm_controller")
    eventually(lambda: "/chassis/brakes/pressure" in pair.a.items("/components/arm_controller/data"), within=10)


def test_every_listed_entity_answers_on_its_detail(pair: Pair) -> None:
    pair.a.lists("apps", "pressure_sensor", "temp_sensor")
    for collection in ("areas", "components", "apps", "functions"):
        for entity_id in pair.a.ids(collection):
            detail = pair.a.get(f"/{collection}/{entity_id}")
            assert detail.status_code == 200, (collection, entity_id, detail.text)
            assert detail.json()["id"] == entity_id


def test_a_write_reaches_the_remote_node(pair: Pair) -> None:
    pair.a.lists("apps", "actuator")
    answer = pair.a.client.put(
        "/apps/actuator/data/chassis/brakes/command", json={"type": "std_msgs/msg/Float32", "data": {"data": 5}}
    )
    assert answer.status_code == 200
    assert answer.json()["x-medkit"]["status"] == "published"


def test_step_5_a_stopped_peer_is_said_to_be_missing_and_comes_back_under_the_same_ids(pair: Pair) -> None:
    pair.a.lists("apps", "pressure_sensor", "vehicle_supervisor")
    before = {kind: pair.a.ids(kind) for kind in ("apps", "components", "functions")}
    assert pair.b.stop() == 0
    pair.a.lists_no("components", "arm_controller")
    assert pair.a.ids("components") == {"robot"}
    faults = pair.a.get("/faults").json()
    assert faults["x-medkit"]["partial"] is True
    assert faults["x-medkit"]["failed_peers"] == ["subsystem_b"]
    for path in (
        "/apps/subsystem_b__some_node/data",
        "/apps/pressure_sensor/data",
        "/apps/pressure_sensor",
        "/components/arm_controller/data",
    ):
        answer = pair.a.get(path)
        assert answer.status_code == 502, (path, answer.text)
        assert answer.json()["vendor_code"] == "x-medkit-peer-unavailable"
    assert pair.a.get("/apps/never_heard_of").status_code == 404
    assert pair.a.get("/health").json()["peers"][0]["status"] == "offline"
    pair.b = pair.fleet.again(pair.b)
    for kind, ids in before.items():
        pair.a.lists(kind, *ids)
    eventually(lambda: "partial" not in pair.a.get("/faults").json()["x-medkit"], within=10)


def test_step_6_a_chain_lists_and_forwards_through_two_hops(tmp_path: Path, ros_domains: Callable[[], int]) -> None:
    with fleet(tmp_path) as one:
        domain_a, domain_b, domain_c = ros_domains(), ros_domains(), ros_domains()
        one.robot("b", domain_c)

        def parameters(component: str, peer: Gateway | None, name: str) -> dict[str, object]:
            given: dict[str, object] = {
                "discovery.runtime.default_component.id": component,
                "aggregation.enabled": peer is not None,
            }
            if peer is not None:
                given |= {"aggregation.peer_urls": [peer.url], "aggregation.peer_names": [name]}
            return given

        c = one.gateway("c", domain_c, node="gateway_c", parameters=parameters("leaf", None, ""))
        b = one.gateway("b", domain_b, node="gateway_b", parameters=parameters("middle", c, "leaf_system"))
        a = one.gateway("a", domain_a, node="gateway_a", parameters=parameters("head", b, "mid_level"))
        a.lists("components", "head", "middle", "leaf")
        a.lists("apps", "gateway_a", "gateway_b", "gateway_c", "pressure_sensor")
        eventually(
            lambda: a.get("/apps/pressure_sensor/data/chassis/brakes/pressure").json()["x-medkit"]["status"] == "data",
            within=10,
        )
        c.kill()
        a.lists_no("components", "leaf")
        assert a.get("/apps/pressure_sensor/data").status_code == 502
        # Behind the middle one it goes by the name that the middle one has for it.
        eventually(
            lambda: a.get("/faults").json()["x-medkit"].get("failed_peers") == ["mid_level/leaf_system"], within=10
        )
