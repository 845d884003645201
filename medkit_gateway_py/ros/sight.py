"""Which nodes a process with the settings of this shell would see; for `medkit doctor`. Serves nothing."""

from __future__ import annotations

import time

import rclpy
from rclpy.signals import SignalHandlerOptions

OWN_NAME = "_medkit_doctor"  # hidden, as tools' nodes are
STEP_S = 0.1


def visible_nodes(seconds: float) -> tuple[frozenset[str], int, str]:
    """`(FQNs, domain id, RMW)` after looking for `seconds`, which blocks; the own node is left out."""
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node(OWN_NAME, context=context, enable_rosout=False, start_parameter_services=False)
        try:
            deadline = time.monotonic() + seconds
            found: set[str] = set()
            while time.monotonic() < deadline:
                names = node.get_node_names_and_namespaces()
                found |= {f"{space.rstrip('/')}/{name}" for name, space in names if name != OWN_NAME}
                time.sleep(STEP_S)
            return frozenset(found), context.get_domain_id(), rclpy.get_rmw_implementation_identifier()
        finally:
            node.destroy_node()
    finally:
        context.try_shutdown()
