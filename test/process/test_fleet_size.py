"""A gateway among many: fifty peers of which some are dead or slow, and an upload longer than its memory."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from support.fake_fleet import DRIPPING, DRIPPING_TREE, LATE, SILENT, SLOW_HEALTH, FakeGateway, fake_fleet
from support.gateways import Fleet, Gateway, fleet, free_port
from support.waiting import eventually

pytestmark = pytest.mark.process
MIB = 1024 * 1024
TIMEOUT_S = 0.5


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as found:
        yield found


def aggregating(peers: dict[str, str], **more: Any) -> dict[str, Any]:
    """Parameters of a gateway with these peers."""
    names = {"aggregation.peer_urls": list(peers.values()), "aggregation.peer_names": list(peers)}
    return {"aggregation.enabled": True, **names, "aggregation.timeout_ms": int(TIMEOUT_S * 1000), **more}


class Asking:
    """Asks for a path again and again in a thread, and keeps how long each answer took, in seconds."""

    def __init__(self, gateway: Gateway, path: str) -> None:
        self.took: list[float] = []
        self.last: Any = None
        self._url = f"{gateway.url}/api/v1{path}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        with httpx.Client(timeout=20.0, trust_env=False) as client:
            while not self._over.is_set():
                started = time.monotonic()
                answer = client.get(self._url)
                self.took.append(time.monotonic() - started)
                assert answer.status_code == 200
                self.last = answer.json()

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(20)


def took(gateway: Gateway, path: str) -> float:
    """Seconds to one good answer."""
    started = time.monotonic()
    assert gateway.get(path).status_code == 200
    return time.monotonic() - started


def test_with_ten_dead_and_ten_slow_peers_of_fifty_all_else_goes_on_as_ever(
    one: Fleet, ros_domains: Callable[[], int]
) -> None:
    good = [FakeGateway(f"good{number}", f"app{number}") for number in range(30)]
    manners = (SILENT, LATE, DRIPPING, DRIPPING_TREE, SLOW_HEALTH)
    slow = [
        FakeGateway(f"{manner}{number}", f"app_{manner}{number}", manner=manner, late_s=0.8 * TIMEOUT_S)
        for manner in manners
        for number in range(2)
    ]
    with fake_fleet(*good, *slow):
        dead = {f"dead{number}": f"http://127.0.0.1:{free_port()}" for number in range(10)}
        peers = {**{peer.name: peer.url for peer in (*slow, *good)}, **dead}
        head = one.gateway("head", ros_domains(), node="head", parameters=aggregating(peers))
        alive = [peer.app for peer in slow if peer.manner not in (SILENT, DRIPPING_TREE)]
        head.lists("apps", "head", *alive, *(peer.app for peer in good))

        # Each of these costs the timeout, because some peers answer all but this.
        with Asking(head, "/faults") as faults:
            eventually(lambda: faults.took, within=20)
            times: dict[str, list[float]] = {}
            for number in range(100):
                for path in ("/apps/head/data", "/apps/{}/data", "/apps", "/health", "/x-medkit/peers"):
                    times.setdefault(path, []).append(took(head, path.format(f"app{number % 30}")))
            for path, found in times.items():
                # Of a wait for a peer there would be as many as there are requests.
                assert sorted(found)[-len(found) // 20] < TIMEOUT_S / 2, (path, sorted(found)[-10:])

            changed = time.monotonic()
            for number, peer in enumerate(good):
                peer.change(f"new{number}")
            head.lists("apps", *(peer.app for peer in good), within=20)
            head.lists_no("apps", *(f"app{number}" for number in range(30)))
            assert time.monotonic() - changed < 8
            asked = len(faults.took)
            eventually(lambda: len(faults.took) > asked + 3, within=20)
        # What the machine is busy with comes on top of the timeout.
        assert sorted(faults.took)[len(faults.took) // 2] < 2 * TIMEOUT_S, faults.took
        assert max(faults.took) < 4 * TIMEOUT_S, faults.took

        found = faults.last
        missing = set(found["x-medkit"]["failed_peers"])
        assert {*dead, *(peer.name for peer in slow if peer.manner in (SILENT, DRIPPING, DRIPPING_TREE))} <= missing
        assert missing.isdisjoint(peer.name for peer in good)
        by_peer = [item["x-medkit"]["peer"] for item in found["items"]]
        assert {peer.name for peer in good} <= set(by_peer)
        assert len(by_peer) == len(set(by_peer))
        states = {peer["name"]: peer["status"] for peer in head.get("/health").json()["peers"]}
        assert {name for name, state in states.items() if state == "online"} >= {peer.name for peer in good}
        assert {states[name] for name in dead} == {"offline"}


def test_an_upload_of_a_gigabyte_goes_through_with_flat_memory(one: Fleet, ros_domains: Callable[[], int]) -> None:
    size = 1024 * MIB
    sink = FakeGateway("sink", "recorder")
    with fake_fleet(sink):
        middle = one.gateway("middle", ros_domains(), parameters=aggregating({"sink": sink.url}))
        middle.lists("apps", "recorder")
        process = psutil.Process(middle.pid)
        head = f"POST /api/v1/apps/recorder/bulk-data/bags HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
        piece = bytes(MIB)
        with socket.create_connection(("127.0.0.1", middle.port), timeout=30) as client:
            client.sendall(head.encode())
            sizes = []
            for number in range(1024):
                client.sendall(piece)
                if number % 16 == 0:
                    sizes.append(process.memory_info().rss / MIB)
            answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        assert sink.received == size
        # The first pieces fill the buffers of both connections; from then on nothing may be kept.
        assert max(sizes) - sizes[0] < 48, sizes
        assert max(sizes[32:]) - max(sizes[:32]) < 8, sizes
        eventually(lambda: "post /api/v1/apps/recorder/bulk-data/bags" in sink.requests)
