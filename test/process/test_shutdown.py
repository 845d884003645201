"""Every gateway ends within 5 s with exit code 0, whatever it is doing."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.gateways import Fleet, fleet, free_port
from support.waiting import eventually

pytestmark = pytest.mark.process

LIMIT_S = 5.0


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as found:
        yield found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_gateway_ends_with_0(one: Fleet, ros_domain: int, number: int) -> None:
    gateway = one.gateway("a", ros_domain)
    started = time.monotonic()
    assert gateway.stop(number) == 0
    assert time.monotonic() - started < LIMIT_S
    assert "Traceback" not in gateway.output


def test_a_signal_during_the_start_ends_it_with_0(one: Fleet, ros_domain: int) -> None:
    gateway = one.gateway("a", ros_domain, start=False)
    gateway.spawn()
    # rclpy is being imported then: the moment at which a default handler would print a traceback.
    eventually(lambda: "librcl" in Path(f"/proc/{gateway.pid}/maps").read_text(), within=10)
    assert gateway.stop(signal.SIGINT) == 0
    assert "Traceback" not in gateway.output


def test_a_reader_that_waits_for_a_silent_topic_does_not_hold_it_up(one: Fleet, ros_domain: int) -> None:
    gateway = one.gateway("a", ros_domain, parameters={"topic_sample_timeout_sec": 30.0})
    app = next(iter(gateway.ids("apps")))

    def read() -> None:
        try:
            gateway.client.get(f"/apps/{app}/data/parameter_events", timeout=20)
        except Exception:
            return  # being cut off is one of the right answers

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    eventually(lambda: gateway.get("/health").json()["x-medkit-data-provider"]["concurrent_cold_waits"] == 1, within=10)
    started = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - started < LIMIT_S


def test_topics_that_were_written_and_read_do_not_trouble_the_stop(one: Fleet, ros_domain: int) -> None:
    gateway = one.gateway("a", ros_domain)
    app = next(iter(gateway.ids("apps")))
    for number in range(5):
        path = f"/apps/{app}/data/written/topic_{number}"
        written = gateway.client.put(path, json={"type": "std_msgs/msg/Float64", "data": {"data": 5}})
        assert written.status_code == 200
        assert gateway.get(path).json()["x-medkit"]["status"] == "data"
    assert gateway.stop() == 0
    assert "Traceback" not in gateway.output


def test_idle_connections_do_not_hold_it_up(one: Fleet, ros_domain: int) -> None:
    gateway = one.gateway("a", ros_domain)
    idle = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(20)]
    half = socket.create_connection(("127.0.0.1", gateway.port))
    half.sendall(b"PUT /api/v1/apps/x/data/y HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    started = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - started < LIMIT_S
    for connection in [*idle, half]:
        connection.close()


def test_a_peer_that_accepts_and_says_nothing_does_not_hold_it_up(one: Fleet, ros_domain: int) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", free_port()))
        silent.listen(50)
        gateway = one.gateway(
            "a",
            ros_domain,
            parameters={
                "aggregation.enabled": True,
                "aggregation.timeout_ms": 60000,
                "aggregation.peer_urls": [f"http://127.0.0.1:{silent.getsockname()[1]}"],
                "aggregation.peer_names": ["silent"],
            },
        )
        waiting = threading.Thread(target=lambda: _ignore(lambda: gateway.get("/faults", timeout=20)), daemon=True)
        waiting.start()
        started = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - started < LIMIT_S


def _ignore(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        return  # the gateway went away in the middle, as it should
