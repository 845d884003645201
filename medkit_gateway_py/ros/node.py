"""What the gateway's own node needs: its parameters in and out, hints on where it looks, and its log.

Which parameters there are and what values are good is `parameters.py`'s affair; this module only carries them over
the border of rclpy.
"""

from __future__ import annotations

import array
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import rclpy
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.parameter import Parameter

from ..parameters import SPECIFICATIONS
from ..plugins.api import PluginParameter

DEFAULT_DISCOVERY_RANGE = "SUBNET"


class Specification(Protocol):
    """What `declare` reads of a `parameters.ParameterSpec`."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def minimum(self) -> float | None: ...
    @property
    def maximum(self) -> float | None: ...
    @property
    def choices(self) -> tuple[str, ...]: ...
    @property
    def read_only(self) -> bool: ...
    @property
    def secret(self) -> bool: ...


def raw_overrides(node: Any) -> dict[str, object]:
    """All parameter values given to this node by command line and parameter files, declared or not, by name.

    Plain Python values: bool, int, float, str, lists of them, bytes for a byte array, and None for an empty list,
    whose type ROS cannot tell. Read from the node's handle: rclpy shows undeclared overrides nowhere in public.
    """
    with node.handle:
        overrides = node.handle.get_parameters(Parameter)
    return {name: _plain(parameter.value) for name, parameter in overrides.items()}


def _plain(value: object) -> object:
    if isinstance(value, array.array):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(item, bytes) for item in value):
            return b"".join(value)
        return list(value)
    return value


def declare(
    node: Any, values: Mapping[str, object], specifications: Mapping[str, Specification] = SPECIFICATIONS
) -> None:
    """Declare every parameter of `specifications` on the node with its value of `values` (already checked).

    Overrides are ignored: what `ros2 param get` shows is what the gateway runs on. Only secrets are declared empty,
    because everybody in the ROS graph can read parameters. An empty array of strings is declared as `[""]`, because
    ROS cannot tell the type of an empty one.
    """
    for name, specification in specifications.items():
        value = _nothing_of(specification.type) if specification.secret else values[name]
        node.declare_parameter(
            name, _ros_value(specification.type, value), _descriptor(specification, value), ignore_override=True
        )


def _nothing_of(type_name: str) -> Any:
    return () if type_name == "string_array" else ""


def declare_plugins(node: Any, declared: Mapping[str, tuple[PluginParameter, Any]]) -> None:
    """Declare the parameters of plugins, `plugins.<name>.*`, with their checked values."""
    for name, (specification, value) in declared.items():
        shown = ([*value] or [""]) if isinstance(value, tuple) else value
        descriptor = ParameterDescriptor(name=name, description=specification.description, read_only=True)
        node.declare_parameter(name, shown, descriptor, ignore_override=True)


def _ros_value(type_name: str, value: Any) -> Any:
    if type_name == "string_array":
        return [str(item) for item in value] or [""]
    convert: dict[str, Callable[[Any], Any]] = {"bool": bool, "int": int, "double": float, "string": str}
    return convert[type_name](value)


def _descriptor(specification: Specification, value: Any) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        name=specification.name, description=specification.description, read_only=specification.read_only
    )
    if specification.choices:
        choices = ", ".join(choice or "(empty)" for choice in specification.choices)
        descriptor.additional_constraints = f"one of: {choices}"
    low, high = specification.minimum, specification.maximum
    if low is None and high is None:
        return descriptor
    if specification.type == "int":
        # A range of ROS has two ends. The value itself is always inside: it has been checked by finer rules.
        descriptor.integer_range = [
            IntegerRange(
                from_value=min(int(low) if low is not None else -(2**31), value),
                to_value=max(int(high) if high is not None else 2**31 - 1, value),
                step=0,
            )
        ]
    elif specification.type == "double":
        descriptor.floating_point_range = [
            FloatingPointRange(
                from_value=min(float(low) if low is not None else -sys.float_info.max, float(value)),
                to_value=max(float(high) if high is not None else sys.float_info.max, float(value)),
                step=0.0,
            )
        ]
    return descriptor


def graph_hints(node: Any) -> dict[str, str]:
    """Where this node looks for others, for a start-up summary: name to value, in the order to show them."""
    hints = {
        "ROS_DOMAIN_ID": str(node.context.get_domain_id()),
        "RMW": rclpy.get_rmw_implementation_identifier(),
        "discovery range": os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") or DEFAULT_DISCOVERY_RANGE,
    }
    for variable in ("ROS_STATIC_PEERS", "ROS_LOCALHOST_ONLY"):
        if os.environ.get(variable):
            hints[variable] = os.environ[variable]
    return hints


class RosLogHandler(logging.Handler):
    """Gives log records to the node's logger: console as ROS formats it, and `/rosout`.

        logging.getLogger("medkit_gateway_py").addHandler(RosLogHandler(node))

    Callable from every thread. Never raises: a record that ROS does not take goes to stderr.
    """

    def __init__(self, node: Any, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        logger = node.get_logger()
        # One lambda, hence one call site, a severity: rclpy refuses a call site that changes its severity.
        self._by_level: tuple[tuple[int, Callable[[str], Any]], ...] = (
            (logging.CRITICAL, lambda text: logger.fatal(text)),
            (logging.ERROR, lambda text: logger.error(text)),
            (logging.WARNING, lambda text: logger.warning(text)),
            (logging.INFO, lambda text: logger.info(text)),
            (logging.NOTSET, lambda text: logger.debug(text)),
        )
        self._inside = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record; with its traceback, as several lines."""
        if getattr(self._inside, "busy", False):  # rclpy itself logged in Python while it took a record
            return
        self._inside.busy = True
        try:
            text = self.format(record).encode("utf-8", "replace").decode("utf-8").replace("\0", " ")
            next(log for level, log in self._by_level if record.levelno >= level)(text)
        except Exception as error:
            try:
                sys.stderr.write(f"[{record.levelname}] {record.msg!s} (not logged to ROS: {error})\n")
            except (OSError, ValueError):  # stderr is closed: there is nobody left to tell
                return
        finally:
            self._inside.busy = False


def ros_logger(node: Any, name: str = "medkit_gateway_py", level: int = logging.INFO) -> RosLogHandler:
    """Send the records of the Python logger `name` and below to the node's logger; remove the handler to end it."""
    handler = RosLogHandler(node)
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    logger.setLevel(level)
    return handler
