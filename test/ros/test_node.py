"""The gateway's own node: parameters in and out, hints, and its log on /rosout."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import rclpy
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter

from medkit_gateway_py.parameters import SPECIFICATIONS, check
from medkit_gateway_py.ros.bridge import RosBridge
from medkit_gateway_py.ros.node import RosLogHandler, declare, graph_hints, raw_overrides, ros_logger
from support.waiting import eventually

pytestmark = pytest.mark.ros

FILE = """
/**:
  ros__parameters:
    server: {port: 9001, host: "127.0.0.1"}
    cors: {allowed_origins: ["http://a", "http://b"], allowed_methods: []}
    ratio: 0.5
    flags: [true, false]
    numbers: [1, 2]
    doubles: [1.5, 2.0]
    empty: ""
other_node:
  ros__parameters: {not_mine: 1}
"""


def started_with(*arguments: str) -> RosBridge:
    return RosBridge("gateway", args=["--ros-args", *arguments])


def test_overrides_come_as_plain_values_whether_declared_or_not(ros_domain: int, tmp_path: Path) -> None:
    file = tmp_path / "parameters.yaml"
    file.write_text(FILE)
    bridge = started_with("--params-file", str(file), "-p", "server.port:=9002", "-p", "name:=x")
    assert raw_overrides(bridge.node) == {
        "server.port": 9002,
        "server.host": "127.0.0.1",
        "cors.allowed_origins": ["http://a", "http://b"],
        "cors.allowed_methods": None,
        "ratio": 0.5,
        "flags": [True, False],
        "numbers": [1, 2],
        "doubles": [1.5, 2.0],
        "empty": "",
        "name": "x",
    }
    assert bridge.stop(5.0)


def test_no_overrides_are_no_values(ros_domain: int) -> None:
    bridge = RosBridge("gateway")
    assert raw_overrides(bridge.node) == {}
    assert bridge.stop(5.0)


def test_every_parameter_is_declared_with_the_checked_value_and_described(ros_domain: int) -> None:
    bridge = started_with(
        "-p", "server.port:=99999", "-p", "aggregation.timeout_ms:=250", "-p", "cors.max_age_seconds:=5"
    )
    node = bridge.node
    checked = check(raw_overrides(node))
    declare(node, checked.effective)
    for name, specification in SPECIFICATIONS.items():
        assert node.has_parameter(name), name
        descriptor = node.describe_parameter(name)
        assert descriptor.description == specification.description
        assert descriptor.read_only == specification.read_only
    # 99999 is no port: what is shown is what is used, not what was given.
    assert node.get_parameter("server.port").value == checked.config.server.port != 99999
    assert node.get_parameter("aggregation.timeout_ms").value == 250
    bounds = node.describe_parameter("aggregation.timeout_ms").integer_range[0]
    assert (bounds.from_value, bounds.to_value) == (50, 60000)
    assert "runtime_only" in node.describe_parameter("discovery.mode").additional_constraints
    assert node.get_parameter("aggregation.peer_urls").type_ == Parameter.Type.STRING_ARRAY
    assert node.get_parameter("topic_sample_timeout_sec").type_ == Parameter.Type.DOUBLE
    assert not node.set_parameters([Parameter("server.port", value=8085)])[0].successful
    assert bridge.stop(5.0)


def test_secrets_are_not_readable_as_parameters(ros_domain: int) -> None:
    secret, client = "a secret that nobody may read here", "id:another-secret:admin"
    bridge = started_with("-p", f"auth.jwt_secret:={secret}", "-p", f"auth.clients:=['{client}']")
    node = bridge.node
    checked = check(raw_overrides(node))
    assert (checked.config.auth.jwt_secret, checked.config.auth.clients) == (secret, (client,))
    declare(node, checked.effective)
    bridge.start()
    asker = rclpy.create_node("asker", context=node.context)
    service = asker.create_client(GetParameters, "/gateway/get_parameters")
    try:
        assert service.wait_for_service(10.0)
        future = service.call_async(GetParameters.Request(names=["auth.jwt_secret", "auth.clients", "auth.issuer"]))
        executor = SingleThreadedExecutor(context=node.context)
        rclpy.spin_until_future_complete(asker, future, executor, timeout_sec=10.0)
        executor.remove_node(asker)
        values = future.result().values
        assert [values[0].string_value, list(values[1].string_array_value)] == ["", [""]]
        assert values[2].string_value == "ros2_medkit_gateway"
    finally:
        asker.destroy_node()
        assert bridge.stop(5.0)


def test_every_kind_of_value_can_be_declared(ros_domain: int) -> None:
    def specification(name: str, kind: str, low: float | None = None, high: float | None = None) -> Any:
        return SimpleNamespace(
            name=name,
            type=kind,
            description=name,
            minimum=low,
            maximum=high,
            choices=(),
            read_only=False,
            secret=False,
        )

    wanted = [
        specification("b", "bool"), specification("i", "int", 1), specification("d", "double", None, 3),
        specification("s", "string"), specification("a", "string_array"), specification("n", "string_array"),
    ]  # fmt: skip
    bridge = RosBridge("gateway")
    values: dict[str, object] = {"b": False, "i": 5_000_000_000, "d": 2, "s": "", "a": ("x", "y"), "n": ()}
    declare(bridge.node, values, {one.name: one for one in wanted})
    node = bridge.node
    assert [node.get_parameter(name).value for name in "bidsan"] == [False, 5_000_000_000, 2.0, "", ["x", "y"], [""]]
    assert node.describe_parameter("i").integer_range[0].from_value == 1
    assert node.describe_parameter("d").floating_point_range[0].to_value == 3.0
    assert bridge.stop(5.0)


def test_hints_say_where_the_node_looks(ros_domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = RosBridge("gateway")
    hints = graph_hints(bridge.node)
    assert hints["ROS_DOMAIN_ID"] == str(ros_domain)
    assert hints["RMW"].startswith("rmw_")
    assert hints["discovery range"] == "LOCALHOST"
    monkeypatch.delenv("ROS_AUTOMATIC_DISCOVERY_RANGE")
    monkeypatch.setenv("ROS_STATIC_PEERS", "10.0.0.1")
    assert graph_hints(bridge.node)["discovery range"] == "SUBNET"
    assert graph_hints(bridge.node)["ROS_STATIC_PEERS"] == "10.0.0.1"
    assert bridge.stop(5.0)


@pytest.fixture
def rosout(ros_domain: int) -> Iterator[tuple[RosBridge, list[Log]]]:
    """A started bridge, and what arrives on /rosout."""
    bridge = RosBridge("gateway")
    seen: list[Log] = []
    bridge.node.create_subscription(Log, "/rosout", seen.append, 100)
    bridge.start()
    yield bridge, seen
    assert bridge.stop(5.0)


def test_python_log_records_go_to_rosout_with_their_level(rosout: tuple[RosBridge, list[Log]]) -> None:
    bridge, seen = rosout
    logger = logging.getLogger("medkit_gateway_py.some.part")
    handler = ros_logger(bridge.node)
    try:
        levels = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
        # One call site, four severities: rclpy itself would refuse the second.
        for level in levels * 2:
            logger.log(level, "level %d", level)
        eventually(lambda: len(seen) >= 8)
    finally:
        logging.getLogger("medkit_gateway_py").removeHandler(handler)
    found = [(int.from_bytes(m.level, "little") if isinstance(m.level, bytes) else m.level, m.msg) for m in seen]
    assert found == [(level, f"level {level}") for level in levels] * 2
    assert {message.name for message in seen} == {"gateway"}


def test_a_traceback_is_part_of_the_record(rosout: tuple[RosBridge, list[Log]]) -> None:
    bridge, seen = rosout
    handler = ros_logger(bridge.node)
    try:
        try:
            raise KeyError("the reason")
        except KeyError:
            logging.getLogger("medkit_gateway_py").exception("it failed")
        message = eventually(lambda: seen)[0].msg
    finally:
        logging.getLogger("medkit_gateway_py").removeHandler(handler)
    assert message.startswith("it failed")
    assert "KeyError: 'the reason'" in message


def test_logging_never_raises_whatever_is_logged(ros_domain: int, capfd: pytest.CaptureFixture[str]) -> None:
    bridge = RosBridge("gateway")
    handler = RosLogHandler(bridge.node)
    for text, arguments in (
        ("surrogate \ud800", ()),
        ("nul \0", ()),
        ("%s %s", ("too few",)),
        ("%d", ("x",)),
        ("", ()),
    ):
        handler.handle(logging.LogRecord("medkit_gateway_py", logging.INFO, "", 0, text, arguments, None))
    assert "not logged to ROS" in capfd.readouterr().err
    assert bridge.stop(5.0)
    handler.handle(logging.LogRecord("medkit_gateway_py", logging.INFO, "", 0, "after the end", (), None))


def test_many_threads_may_log_at_once(rosout: tuple[RosBridge, list[Log]]) -> None:
    bridge, seen = rosout
    logger = logging.getLogger("medkit_gateway_py")
    handler = ros_logger(bridge.node)
    try:
        threads = [
            threading.Thread(target=lambda n=n: [logger.info("%d/%d", n, i) for i in range(10)]) for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10.0)
        eventually(lambda: len({message.msg for message in seen}) == 80)
    finally:
        logger.removeHandler(handler)
