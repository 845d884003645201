"""What tests of the ROS room share: a bridge with its node, and another process with nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from medkit_gateway_py.ros.bridge import RosBridge
from support.ros import Nodes


@pytest.fixture(scope="module")
def nodes(ros_domain: int) -> Iterator[Nodes]:
    """A process that hosts other nodes, in this module's ROS domain."""
    with Nodes() as started:
        yield started


@pytest.fixture
def bridge(ros_domain: int) -> Iterator[RosBridge]:
    """A started bridge with the node `/gateway`."""
    made = RosBridge("gateway")
    made.start()
    yield made
    assert made.stop(5.0)
