"""A gateway among many: fifty peers of which some are dead or slow, and an upload longer than its memory."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.fake_fleet import FakeGateway, fake_fleet
from support.gateways import Fleet, Gateway, fleet, free_port
from support.waiting import eventually

pytestmark = pytest.mark.process
MIB = 1024 * 1024


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as found:
        yield found


def aggregating(peers: dict[str, str], **more: Any) -> dict[str, Any]:
    """Parameters of a gateway with these peers."""
    names = {"aggregation.peer_urls": list(peers.values()), "aggregation.peer_names": list(peers)}
    return {"aggregation.enabled": True, **names, "aggregation.timeout_ms": 500, **more}


def took_ms(gateway: Gateway, path: str) -> float:
    """How long one good answer takes."""
    started = time.perf_counter()
    assert gateway.get(path).status_code == 200
    return (time.perf_counter() - started) * 1000


def test_with_ten_dead_and_ten_slow_peers_of_fifty_all_else_goes_on_as_ever(
    one: Fleet, ros_domains: Callable[[], int]
) -> None:
    good = [FakeGateway(f"good{number}", f"app{number}") for number in range(30)]
    slow = [FakeGateway(f"slow{number}", silent=True) for number in range(10)]
    with fake_fleet(*good, *slow):
        dead = {f"dead{number}": f"http://127.0.0.1:{free_port()}" for number in range(10)}
        peers = {**{peer.name: peer.url for peer in (*slow, *good)}, **dead}
        head = one.gateway("head", ros_domains(), node="head", parameters=aggregating(peers))
        alone = one.gateway("alone", ros_domains(), node="alone")
        head.lists("apps", "head", *(peer.app for peer in good))

        # The same requests at both, in turn, so that what else this machine does hits both.
        times: dict[str, list[float]] = {"head": [], "alone": []}
        for _ in range(150):
            times["head"].append(took_ms(head, "/apps/head/data"))
            times["alone"].append(took_ms(alone, "/apps/alone/data"))
        head_ms, alone_ms = (statistics.median(times[name]) for name in ("head", "alone"))
        assert head_ms < 3 * alone_ms + 1, times
        assert sorted(times["head"])[-8] < 100, "nothing local waits for a peer's timeout"

        changed = time.monotonic()
        for number, peer in enumerate(good):
            peer.change(f"new{number}")
        head.lists("apps", *(peer.app for peer in good), within=20)
        assert time.monotonic() - changed < 8
        head.lists_no("apps", *(f"app{number}" for number in range(30)))

        started = time.monotonic()
        faults = head.get("/faults").json()
        assert time.monotonic() - started < 2
        assert len(faults["items"]) == 30
        assert set(faults["x-medkit"]["failed_peers"]) == {*dead, *(peer.name for peer in slow)}
        states = {peer["name"]: peer["status"] for peer in head.get("/health").json()["peers"]}
        assert list(states.values()).count("online") == 30


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
