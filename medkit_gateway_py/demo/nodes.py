"""The nodes of the demo robots: names, namespaces, topics, services and parameters as a small vehicle has them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.action import ActionServer
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import FluidPressure, LaserScan, Temperature
from std_msgs.msg import Bool, Float32, String
from std_srvs.srv import SetBool, Trigger

try:
    from test_msgs.action import Fibonacci
except ImportError:  # not part of every installation
    Fibonacci = None

AMBIENT_K = 293.15
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE)


class DemoNode(Node):
    """A node at `namespace` (below a prefix) that does something every `period` seconds."""

    def __init__(self, context: Any, prefix: str, name: str, namespace: str, period: float = 0.5) -> None:
        within = "/".join(part for part in (prefix.strip("/"), namespace.strip("/")) if part)
        super().__init__(name, context=context, namespace=f"/{within}")
        self.ticks = 0
        self.rate = self._number("rate", 1.0 / period, "Publications per second.", 0.1, 50.0)
        self.create_timer(1.0 / self.rate, self._count)

    def tick(self) -> None:
        """Publish what there is to publish."""

    def _count(self) -> None:
        self.ticks += 1
        self.tick()

    def _number(self, name: str, value: float, description: str, low: float, high: float) -> float:
        bounds = FloatingPointRange(from_value=low, to_value=high, step=0.0)
        descriptor = ParameterDescriptor(description=description, floating_point_range=[bounds])
        return float(self.declare_parameter(name, value, descriptor).value)

    def _stamped(self, message: Any, frame: str) -> Any:
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = frame
        return message

    def _wave(self, middle: float, swing: float, period_s: float) -> float:
        return middle + swing * math.sin(2 * math.pi * self.ticks / (self.rate * period_s))


class TempSensor(DemoNode):
    """Engine temperature, best effort as sensors are."""

    def __init__(self, context: Any, prefix: str) -> None:
        super().__init__(context, prefix, "temp_sensor", "/powertrain/engine")
        self.declare_parameter("min_temp", 85.0, ParameterDescriptor(description="Lowest temperature, in Celsius."))
        self.declare_parameter("max_temp", 105.0, ParameterDescriptor(description="Highest temperature, in Celsius."))
        self._publisher = self.create_publisher(Temperature, "temperature", qos_profile_sensor_data)

    def tick(self) -> None:
        low, high = (float(self.get_parameter(name).value) for name in ("min_temp", "max_temp"))
        message = Temperature(temperature=self._wave((low + high) / 2, (high - low) / 2, 30.0), variance=0.5)
        self._publisher.publish(self._stamped(message, "engine"))


class TempMonitor(DemoNode):
    """Tells from the temperature whether the engine is too hot; the last word is kept for who comes later."""

    def __init__(self, context: Any, prefix: str) -> None:
        super().__init__(context, prefix, "temp_monitor", "/powertrain/engine")
        self._limit = self._number("warn_above", 100.0, "Too hot above, in Celsius.", 0.0, 200.0)
        self._publisher = self.create_publisher(String, "temperature_state", LATCHED)
        self._last = ""
        self.create_subscription(Temperature, "temperature", self._heard, qos_profile_sensor_data)

    def _heard(self, message: Temperature) -> None:
        state = "hot" if message.temperature > self._limit else "normal"
        if state != self._last:
            self._last = state
            self._publisher.publish(String(data=state))


class RpmSensor(DemoNode):
    """Engine speed."""

    def __init__(self, context: Any, prefix: str) -> None:
        super().__init__(context, prefix, "rpm_sensor", "/powertrain/engine", period=0.2)
        self._publisher = self.create_publisher(Float32, "rpm", 10)

    def tick(self) -> None:
        self._publisher.publish(Float32(data=self._wave(2500.0, 900.0, 20.0)))


class Calibration(DemoNode):
    """A service that takes no time."""

    def __init__(self, context: Any, prefix: str) -> None:
        super().__init__(context, prefix, "calibration", "/powertrain/engine")
        self._runs = 0
        self.create_service(Trigger, "calibrate", self._calibrate)

    def _calibrate(self, request: Any, response: Any) -> Any:
        self._runs += 1
        response.success, response.message = True, f"calibrated for the {self._runs}. time"
        return response


class LongCalibration(DemoNode):
    """An action: one Fibonacci number per tick, for want of a calibration that takes its time. Order < 0 is aborted."""

    def __init__(self, context: Any, prefix: str) -> None:
        super().__init__(context, prefix, "long_calibration", "/powertrain/engine")
        if Fibonacci is not None:
            self._server = ActionServer(
                self, Fibonacci, "long_calibration", self._execute, cancel_callback=self._may_cancel
            )

    @staticmethod
    def _may_cancel(goal: Any) -> Any:
        from rclpy.action import CancelResponse

        return CancelResponse.ACCEPT

    async def _execute(self, goal: Any) -> Any:
        sequence = [0, 1]
        if goal.request.order < 0:
            self.get_logger().error(f"cannot calibrate to order {goal.request.order}")
            goal.abort()
            return Fibonacci.Result(sequence=sequence)
        while len(sequence) < min(goal.request.order, 40):
            if goal.is_cancel_requested:
                goal.canceled()
                return Fibonacci.Result(sequence=sequence)
            sequence.append(sequence[-1] + sequence[-2])
            goal.publish_feedback(Fibonacci.Feedback(sequence=sequence))
            await self._pause()
        goal.succeed()
        return Fibonacci.Result(sequence=sequence)

    async def _pause(self) -> None:
        """Half a second, during which the executor serves the other nodes."""
        from rclpy.task import Future

        future = Future(executor=self.executor)
        timer = self.create_timer(0.5, lambda: future.done() or future.set_result(None))
        try:
            await future
        finally:
            self.destroy_timer(timer)


class DiagnosticsPublisher(DemoNode):
    """`/diagnostics` of the power train: too little of the parameter `oil_pressure` is a fault, enough of it heals."""

    def __init__(self, context: Any, prefix: str) -> None:
        super().__init__(context, prefix, "engine_diagnostics", "/powertrain", period=1.0)
        self._number(
            "oil_pressure", 3.5, "What the sensor shows, in bar. Below 2 is a warning, below 1 an error.", 0.0, 10.0
        )
        self._publisher = self.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def tick(self) -> None:
        bar = float(self.get_parameter("oil_pressure").value)
        level, message = DiagnosticStatus.OK, "ok"
        if bar < 2.0:
            level, message = (DiagnosticStatus.ERROR, "too low") if bar < 1.0 else (DiagnosticStatus.WARN, "low")
        status = DiagnosticStatus(
            level=level,
            name=f"{self.get_name()}: oil pressure",
            message=message,
            hardware_id="engine-ecu",
            values=[KeyValue(key="bar", value=f"{bar:g}")],
        )
        self._publisher.publish(self._stamped(DiagnosticArray(status=[status]), ""))


class PressureSensor(DemoNode):
    """Pressure in the brake line."""

    def __init__(self, context: Any, prefix: str) -> None:
        super().__init__(context, prefix, "pressure_sensor", "/chassis/brakes")
        self._publisher = self.create_publisher(FluidPressure, "pressure", qos_profile_sensor_data)

    def tick(self) -> None:
        message = FluidPressure(fluid_pressure=self._wave(8.0e6, 5.0e5, 10.0), variance=100.0)
        self._publisher.publish(self._stamped(message, "brake_line"))


class Actuator(DemoNode):
    """Takes a command in percent and approaches it."""

    def __init__(self, context: Any, prefix: str) -> None:
        super().__init__(context, prefix, "actuator", "/chassis/brakes", period=0.1)
        self._wanted = self._position = 0.0
        self._publisher = self.create_publisher(Float32, "actuator_position", 10)
        self.create_subscription(Float32, "command", self._command, 10)

    def _command(self, message: Float32) -> None:
        self._wanted = min(100.0, max(0.0, message.data)) if math.isfinite(message.data) else self._wanted

    def tick(self) -> None:
        self._position += 0.3 * (self._wanted - self._position)
        self._publisher.publish(Float32(data=self._position))


class StatusSensor(DemoNode):
    """Whether the front left door is open."""

    def __init__(self, context: Any, prefix: str) -> None:
        super().__init__(context, prefix, "status_sensor", "/body/door/front_left", period=1.0)
        self._publisher = self.create_publisher(Bool, "is_open", LATCHED)

    def tick(self) -> None:
        if self.ticks % 30 == 1:
            self._publisher.publish(Bool(data=self.ticks // 30 % 2 == 1))


class LightController(DemoNode):
    """Switches the lights by topic or by service."""

    def __init__(self, context: Any, prefix: str) -> None:
        super().__init__(context, prefix, "controller", "/body/lights", period=1.0)
        self._on = False
        self._publisher = self.create_publisher(Bool, "status", 10)
        self.create_subscription(Bool, "command", self._command, 10)
        self.create_service(SetBool, "set_lights", self._set)

    def _command(self, message: Bool) -> None:
        self._on = message.data

    def _set(self, request: Any, response: Any) -> Any:
        self._on = request.data
        response.success, response.message = True, "on" if self._on else "off"
        return response

    def tick(self) -> None:
        self._publisher.publish(Bool(data=self._on))


class LidarSensor(DemoNode):
    """A scan with directions in which there is nothing: infinite ranges, as real scanners have them."""

    def __init__(self, context: Any, prefix: str) -> None:
        super().__init__(context, prefix, "lidar_sensor", "/perception/lidar", period=0.2)
        self._range_min = self._number("min_range", 0.12, "Nearest object, in metres.", 0.0, 1.0)
        self._range_max = self._number("max_range", 12.0, "Farthest object, in metres.", 1.0, 100.0)
        self.declare_parameter("frame_id", "lidar", ParameterDescriptor(description="Frame of the scan."))
        self._publisher = self.create_publisher(LaserScan, "scan", qos_profile_sensor_data)
        self.create_service(Trigger, "calibrate", self._calibrate)

    def _calibrate(self, request: Any, response: Any) -> Any:
        response.success, response.message = True, "the mirror is straight"
        return response

    def tick(self) -> None:
        beams = 180
        ranges = [self._distance(beam) for beam in range(beams)]
        message = LaserScan(
            angle_min=-math.pi,
            angle_max=math.pi,
            angle_increment=2 * math.pi / beams,
            scan_time=1.0 / self.rate,
            range_min=self._range_min,
            range_max=self._range_max,
            ranges=ranges,
            intensities=[0.0 if math.isinf(distance) else 100.0 for distance in ranges],
        )
        self._publisher.publish(self._stamped(message, str(self.get_parameter("frame_id").value)))

    def _distance(self, beam: int) -> float:
        if beam % 3 == 0:
            return math.inf
        return min(self._range_max, 3.0 + math.sin(beam / 10.0 + self.ticks / 5.0))


class Heartbeat(DemoNode):
    """A node in the root namespace, as flat robots have them."""

    def __init__(self, context: Any, prefix: str, name: str) -> None:
        super().__init__(context, prefix, name, "/", period=1.0)
        self._publisher = self.create_publisher(String, f"{name}/status", 10)

    def tick(self) -> None:
        self._publisher.publish(String(data=f"alive {self.ticks}"))


NodeKind = Callable[[Any, str], DemoNode]

POWERTRAIN: tuple[NodeKind, ...] = (
    TempSensor, TempMonitor, RpmSensor, Calibration, LongCalibration, DiagnosticsPublisher,
    lambda context, prefix: Heartbeat(context, prefix, "engine_supervisor"),
)  # fmt: skip
VEHICLE: tuple[NodeKind, ...] = (
    PressureSensor, Actuator, StatusSensor, LightController, LidarSensor,
    lambda context, prefix: Heartbeat(context, prefix, "vehicle_supervisor"),
)  # fmt: skip


def robot(which: str) -> tuple[NodeKind, ...]:
    """The makers of the nodes of robot `a` (power train), `b` (chassis, body, perception) or `all`."""
    return {"a": POWERTRAIN, "b": VEHICLE, "all": POWERTRAIN + VEHICLE}[which]
