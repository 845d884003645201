"""Reports get the names of real nodes, also of those that the graph shows a moment later."""

from __future__ import annotations

from medkit_gateway_py.entities.model import GraphNode
from medkit_gateway_py.resources.faults.diagnostics import Observation
from medkit_gateway_py.resources.faults.model import Report
from medkit_gateway_py.resources.faults.naming import subject_of_status
from medkit_gateway_py.resources.faults.outbox import MAX_WAITING, SETTLE_S, Outbox


class Room:
    """An outbox, its graph and what came out."""

    def __init__(self, *nodes: GraphNode) -> None:
        self.nodes = nodes
        self.reports: list[Report] = []
        self.outbox = Outbox(self.reports.append, lambda: self.nodes, lambda: 1000.0)

    def put(self, name: str, failed: bool = True, now: float = 0.0) -> None:
        code = name.upper().partition(":")[0]
        self.outbox.put(Observation(code, failed, subject_of_status(name, "hw", "/diagnostics")), now)

    @property
    def sources(self) -> list[str]:
        return [one.source_id for one in self.reports]


LIDAR = GraphNode("lidar", "/front")


def test_a_report_about_a_known_node_goes_at_once() -> None:
    room = Room(LIDAR)
    room.put("lidar: rate")
    assert room.sources == ["/front/lidar"]
    assert room.reports[0].stamp == 1000.0


def test_a_report_about_a_node_that_is_new_waits_for_it_with_those_after_it() -> None:
    room = Room()
    room.put("lidar: rate", failed=True, now=0.0)
    room.outbox.flush(0.5)
    assert room.reports == []
    room.nodes = (LIDAR,)
    room.put("lidar: rate", failed=False, now=0.6)
    assert room.reports == []
    room.outbox.flush(1.0)
    assert [(one.source_id, one.failed) for one in room.reports] == [("/front/lidar", True), ("/front/lidar", False)]
    room.put("lidar: rate", now=1.1)
    assert len(room.reports) == 3


def test_what_is_no_node_is_reported_under_another_name_and_not_waited_for_again() -> None:
    room = Room(LIDAR)
    room.put("battery", now=0.0)
    room.outbox.flush(SETTLE_S)
    room.put("battery", now=SETTLE_S + 0.1)
    assert room.sources == ["hw", "hw"]
    room.nodes = (LIDAR, GraphNode("battery", "/"))
    room.put("battery", now=SETTLE_S + 0.2)
    assert room.sources[2:] == ["/battery"]


def test_no_report_is_lost_when_very_many_wait() -> None:
    room = Room()
    for number in range(MAX_WAITING + 100):
        room.put(f"n{number}", now=0.0)
    assert (len(room.reports), len(room.outbox)) == (100, MAX_WAITING)
    room.outbox.drain()
    assert [one.fault_code for one in room.reports] == [f"N{number}" for number in range(MAX_WAITING + 100)]
