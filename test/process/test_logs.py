"""Log lines of a real gateway, at home and through a peer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.gateways import Fleet, fleet
from support.waiting import eventually

pytestmark = pytest.mark.process


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as found:
        yield found


def test_what_a_gateway_logs_is_read_there_and_through_its_peer(one: Fleet, ros_domains: Callable[[], int]) -> None:
    b = one.gateway("b", ros_domains(), node="gateway_b")
    peers = {"aggregation.enabled": True, "aggregation.peer_urls": [b.url], "aggregation.peer_names": ["peer_b"]}
    a = one.gateway("a", ros_domains(), node="gateway_a", parameters=peers)
    a.lists("apps", "gateway_a", "gateway_b")
    items = eventually(lambda: a.get("/apps/gateway_b/logs").json()["items"], within=10)
    assert items[0]["context"]["node"] == "gateway_b"
    assert items == b.get("/apps/gateway_b/logs").json()["items"][: len(items)]
    assert a.client.put("/apps/gateway_b/logs/configuration", json={"severity_filter": "fatal"}).status_code == 204
    assert b.get("/apps/gateway_b/logs").json()["items"] == []
    # A subscription of the gateway's own making is nothing that its node offers.
    uses = {item["id"]: item["x-medkit"]["ros2"]["direction"] for item in b.get("/apps/gateway_b/data").json()["items"]}
    assert uses["/rosout"] == "publish"
