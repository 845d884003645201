"""What clients of an aggregating gateway see when a peer dies, hangs, lies or comes back as another."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.gateways import Fleet, Gateway, fleet, free_port
from support.waiting import eventually

pytestmark = pytest.mark.process


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as found:
        yield found


def aggregating(peers: dict[str, str], **more: Any) -> dict[str, Any]:
    return {
        "aggregation.enabled": True,
        "aggregation.peer_urls": list(peers.values()),
        "aggregation.peer_names": list(peers),
        "discovery.runtime.default_component.id": "head",
        **more,
    }


def pair(one: Fleet, domains: Callable[[], int]) -> tuple[Gateway, Gateway]:
    b = one.gateway("b", domains(), node="gateway_b", parameters={"discovery.runtime.default_component.id": "arm"})
    a = one.gateway("a", domains(), node="gateway_a", parameters=aggregating({"peer_b": b.url}))
    a.lists("apps", "gateway_a", "gateway_b")
    return a, b


def faults_of(gateway: Gateway, status: str) -> list[str]:
    """Codes and first sources of the faults that the gateway itself keeps."""
    items = gateway.get(f"/faults?status={status}").json()["items"]
    return [f"{item['fault_code']} of {item['reporting_sources'][0]}" for item in items if "x-medkit" not in item]


def test_a_killed_peer_is_marked_and_comes_back_under_the_same_ids(one: Fleet, ros_domains: Callable[[], int]) -> None:
    a, b = pair(one, ros_domains)
    b.kill()
    a.lists_no("apps", "gateway_b")
    assert a.get("/apps/gateway_b").status_code == 502
    assert a.get("/faults").json()["x-medkit"]["failed_peers"] == ["peer_b"]
    offline = ["PEER_OFFLINE of peer_b"]
    eventually(lambda: faults_of(a, "confirmed") == offline, within=20, message=lambda: a.output)
    one.again(b)
    a.lists("apps", "gateway_b")
    assert a.get("/apps/gateway_b").status_code == 200
    eventually(lambda: faults_of(a, "healed") == offline, within=20, message=lambda: a.output)


def test_a_killed_aggregator_comes_back_with_the_ids_it_had_given(one: Fleet, ros_domains: Callable[[], int]) -> None:
    first = one.gateway("b", ros_domains(), node="nav")
    second = one.gateway("c", ros_domains(), node="nav")
    peers = {"r1": first.url, "r2": second.url}
    a = one.gateway("a", ros_domains(), node="gateway_a", parameters=aggregating(peers))
    a.lists("apps", "nav")
    eventually(lambda: len(a.ids("apps") & {"nav", "r1__nav", "r2__nav"}) == 2, within=10)
    before = a.ids("apps")
    owner = a.items("/apps")["nav"]["x-medkit"]["source"].removeprefix("peer:")
    silent = first if owner == "r1" else second
    a.kill()
    silent.kill()
    a = one.again(a)
    other = (before - {"nav", "gateway_a"}).pop()
    a.lists("apps", other)
    assert "nav" not in a.ids("apps"), "the id of the silent robot went to the other one"
    assert a.get("/apps/nav").status_code == 502


def test_a_frozen_peer_is_missing_and_nobody_waits_for_it(one: Fleet, ros_domains: Callable[[], int]) -> None:
    a, b = pair(one, ros_domains)
    b.send(signal.SIGSTOP)
    try:
        answer = a.get("/faults")
        assert answer.status_code == 200
        assert answer.elapsed.total_seconds() < 4.0
        assert answer.json()["x-medkit"]["failed_peers"] == ["peer_b"]
        a.lists_no("apps", "gateway_b")
        # Known to be down: nothing is waited for any more.
        assert a.get("/faults").elapsed.total_seconds() < 1.0
    finally:
        b.send(signal.SIGCONT)
    a.lists("apps", "gateway_b")


def test_a_peer_that_restarts_with_other_entities_is_followed(one: Fleet, ros_domains: Callable[[], int]) -> None:
    a, b = pair(one, ros_domains)
    assert b.stop() == 0
    b.command = [word.replace("gateway_b", "gateway_x") for word in b.command]
    one.again(b)
    a.lists("apps", "gateway_x")
    a.lists_no("apps", "gateway_b")
    assert a.get("/apps/gateway_b").status_code == 404


def test_two_gateways_on_one_graph_list_each_node_once_as_local(one: Fleet, ros_domain: int) -> None:
    b = one.gateway("b", ros_domain, node="gateway_b", namespace="/subsystem_b")
    a = one.gateway(
        "a", ros_domain, node="gateway_a", namespace="/subsystem_a", parameters=aggregating({"subsystem_b": b.url})
    )
    a.lists("apps", "gateway_a", "gateway_b")
    eventually(
        lambda: "shared_ros_graph" in [warning["code"] for warning in a.get("/health").json()["warnings"]], within=10
    )
    apps = a.items("/apps")
    assert set(apps) == {"gateway_a", "gateway_b"}
    assert {item["x-medkit"]["source"] for item in apps.values()} == {"heuristic"}
    data = a.get("/functions/subsystem_b/data").json()
    topics = [item["id"] for item in data["items"]]
    assert len(topics) == len(set(topics))


class Liar:
    """A peer that answers every request with what `answer` says: (status, headers, body)."""

    def __init__(self, answer: Callable[[str], tuple[int, dict[str, str], bytes]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, body = answer(self.path)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def rubbish(path: str) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, b"\x00\xff{not json"


def html(path: str) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "text/html"}, b"<html>It works!</html>"


def redirect(path: str) -> tuple[int, dict[str, str], bytes]:
    return 302, {"Location": "http://127.0.0.1:1/elsewhere"}, b""


def wrong_types(path: str) -> tuple[int, dict[str, str], bytes]:
    """A compatible gateway whose apps have ids of every type but one that is right."""
    bodies: dict[str, Any] = {
        "/api/v1/health": {"status": "healthy", "timestamp": "soon", "x-medkit-entity-cache": {"generation": "x"}},
        "/api/v1/apps": {"items": [{"id": 5, "name": []}, None, "app", {"name": "x"}, {"id": "good", "name": "good"}]},
        "/api/v1/components": {"items": [7, {"id": ["x"]}]},
        "/api/v1/areas": {"items": [{"id": "ok area"}]},
        "/api/v1/functions": {"items": [{"id": "f", "x-medkit": 5}]},
    }
    if path not in bodies:
        return 404, {"Content-Type": "application/json"}, b'{"error_code":"resource-not-found","message":"x"}'
    return 200, {"Content-Type": "application/json"}, json.dumps(bodies[path]).encode()


@pytest.mark.parametrize("answer", [rubbish, html, redirect, wrong_types])
def test_a_peer_that_answers_nonsense_hurts_neither_the_local_tree_nor_another_peer(
    one: Fleet, ros_domains: Callable[[], int], answer: Callable[[str], tuple[int, dict[str, str], bytes]]
) -> None:
    liar = Liar(answer)
    try:
        b = one.gateway("b", ros_domains(), node="gateway_b")
        a = one.gateway(
            "a", ros_domains(), node="gateway_a", parameters=aggregating({"liar": liar.url, "peer_b": b.url})
        )
        a.lists("apps", "gateway_a", "gateway_b")
        if answer is wrong_types:
            a.lists("apps", "good")
        faults = a.get("/faults")
        assert faults.status_code == 200
        assert faults.json()["x-medkit"]["failed_peers"] == ["liar"]
        assert a.get("/apps/gateway_b").status_code == 200
        assert "Traceback" not in a.output
    finally:
        liar.close()


def test_a_slow_peer_does_not_slow_local_requests(one: Fleet, ros_domains: Callable[[], int]) -> None:
    def slow(path: str) -> tuple[int, dict[str, str], bytes]:
        release.wait(10)
        return 200, {}, b"{}"

    release = threading.Event()
    liar = Liar(slow)
    try:
        a = one.gateway("a", ros_domains(), node="gateway_a", parameters=aggregating({"slow": liar.url}))
        began = time.monotonic()
        for _ in range(20):
            assert a.get("/apps/gateway_a").status_code == 200
            assert a.get("/apps").status_code == 200
        assert time.monotonic() - began < 2.0
    finally:
        release.set()
        liar.close()


@pytest.mark.timeout(120)
def test_a_node_that_dies_between_list_and_read_gives_documented_answers(one: Fleet, ros_domain: int) -> None:
    gateway = one.gateway(
        "a", ros_domain, parameters={"service_call_timeout_sec": 1, "parameter_service_timeout_sec": 0.5}
    )
    robot = one.robot("a", ros_domain)
    gateway.lists("apps", "temp_sensor", "calibration", "long_calibration")
    path = "/apps/temp_sensor/data/powertrain/engine/temperature"
    eventually(lambda: gateway.get(path).json()["x-medkit"]["status"] == "data", within=20.0)
    robot.kill()
    # Killed nodes stay in the graph for some 19 s, so all of it is still listed.
    assert {"temp_sensor", "calibration"} <= gateway.ids("apps")
    statuses: dict[str, int] = {}
    for app in ("temp_sensor", "calibration", "long_calibration"):
        for part in ("", "/data", "/operations", "/configurations", "/faults", "/logs", "/status"):
            answer = gateway.get(f"/apps/{app}{part}")
            statuses[f"/apps/{app}{part}"] = answer.status_code
            assert answer.status_code in (200, 503), answer.text
    assert statuses["/apps/temp_sensor/configurations"] == 503, statuses
    assert gateway.get(path).status_code == 200
    called = gateway.client.post("/apps/calibration/operations/calibrate/executions", json={})
    assert (called.status_code, called.json()["vendor_code"]) == (500, "x-medkit-ros2-service-unavailable")
    started = gateway.client.post(
        "/apps/long_calibration/operations/long_calibration/executions", json={"parameters": {"order": 3}}
    )
    assert started.status_code in (500, 503), started.text
    assert started.json()["error_code"] == "vendor-error", started.text
    changed = gateway.client.put("/apps/temp_sensor/configurations/use_sim_time", json={"data": True})
    assert changed.status_code == 503, changed.text
    # Once the graph has noticed, they are unknown, and in no list.
    gateway.lists_no("apps", "temp_sensor", "calibration", within=40.0)
    assert gateway.get(path).json()["error_code"] == "entity-not-found"
