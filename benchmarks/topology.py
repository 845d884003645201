"""What is measured: gateway A with many nodes, which aggregates gateway B of another ROS domain, and the yardstick.

Domain A has bench_000 to bench_099 and source_a; domain B has source_b. Both get the nodes of freshness.py in addition.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .processes import START_S, Child, Children, Server, free_ports, wait_for

API = "/api/v1"
NODES = 100
SOURCE_A = "source_a"
SOURCE_B = "source_b"


@dataclass(frozen=True)
class Topology:
    """The processes; `robot_a` and `robot_b` take the commands of `ros_nodes.py`."""

    yardstick: Server
    a: Server
    b: Server
    robot_a: Child
    robot_b: Child


def data_item(source: str) -> str:
    """The path of the topic that a source publishes."""
    return f"{API}/apps/{source}/data/bench/{source}/temperature"


def start(children: Children, folder: Path, domain_a: int, domain_b: int) -> Topology:
    """Start everything and wait until A lists all nodes and has read both topics once."""
    port_y, port_a, port_b = free_ports(3)
    robot_a = children.python(
        "robot-a", "benchmarks.ros_nodes", "--count", str(NODES), "--source", SOURCE_A, domain=domain_a, piped=True
    )
    robot_b = children.python(
        "robot-b", "benchmarks.ros_nodes", "--count", "0", "--source", SOURCE_B, domain=domain_b, piped=True
    )
    yardstick = children.server("yardstick", "benchmarks.yardstick", "--port", str(port_y), port=port_y)
    b = gateway(children, folder, "gateway-b", port_b, domain_b)
    robot_a.answer()
    robot_b.answer()
    a = gateway(
        children, folder, "gateway-a", port_a, domain_a,
        {
            "sse.max_clients": 400,
            "aggregation.enabled": True,
            "aggregation.peer_urls": [f"http://127.0.0.1:{port_b}"],
            "aggregation.peer_names": ["gateway_b"],
        },
    )  # fmt: skip
    wait_for(lambda: yardstick.answers("/"), START_S, "the yardstick")
    wait_for(lambda: b.answers(f"{API}/health"), START_S, "gateway B")
    wait_for(lambda: a.answers(f"{API}/health"), START_S, "gateway A")
    wait_for(lambda: _lists_all(a), START_S, f"gateway A to list {NODES} nodes and those of gateway B")
    wait_for(lambda: has_data(a, data_item(SOURCE_A)), START_S, "a message of source_a")
    wait_for(lambda: has_data(a, data_item(SOURCE_B)), START_S, "a message of source_b")
    return Topology(yardstick, a, b, robot_a, robot_b)


def chain(children: Children, folder: Path, topology: Topology, domain_c: int, domain_d: int) -> Server:
    """Two more gateways in front of A, in domains of their own; the head, once it lists what B has."""
    behind, name = topology.a, "gateway_a"
    for own, port, domain in zip(("gateway-c", "gateway-d"), free_ports(2), (domain_c, domain_d), strict=True):
        peers = {
            "aggregation.enabled": True, "aggregation.peer_urls": [behind.url], "aggregation.peer_names": [name],
        }  # fmt: skip
        head = gateway(children, folder, own, port, domain, peers)
        wait_for(lambda head=head: head.answers(f"{API}/health"), START_S, own)
        behind, name = head, own.replace("-", "_")
    wait_for(lambda: _lists_all(behind), START_S, "the head of the chain to list all")
    return behind


def gateway(
    children: Children, folder: Path, name: str, port: int, domain: int, parameters: dict[str, object] | None = None
) -> Server:
    """Start a gateway; its log, its state and its ROS node have this name."""
    given = {"server.port": port, "state_dir": str(folder / f"{name}-state"), **(parameters or {})}
    ros = [item for key, value in given.items() for item in ("-p", f"{key}:={json.dumps(value)}")]
    ros += ["-r", f"__node:={name.replace('-', '_')}"]
    return children.server(name, "medkit_gateway_py.gateway_node", "--ros-args", *ros, port=port, domain=domain)


def _lists_all(server: Server) -> bool:
    server.check()
    ids = {item["id"] for item in json.loads(server.get(f"{API}/apps")[2])["items"]}
    return {SOURCE_A, SOURCE_B, *(f"bench_{number:03d}" for number in range(NODES))} <= ids


def has_data(server: Server, path: str) -> bool:
    """Whether a data item has a message already."""
    server.check()
    status, _, body = server.get(path)
    return status == 200 and json.loads(body)["x-medkit"]["status"] == "data"
