"""A fault manager written from API.md §7.1, as far as a gateway sees it: services and events without a ROS.

Its messages have the fields of `ros2_medkit_msgs`, whose types need generated code and are on no package index.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from medkit_gateway_py.ros.fault_manager import NoAnswer, NoServer


def stamp(seconds: float) -> SimpleNamespace:
    """A `builtin_interfaces/Time`."""
    return SimpleNamespace(sec=int(seconds), nanosec=int(seconds % 1 * 1e9))


class FakeFaultManager:
    """A `Link`. `away`: nobody serves; `silent`: calls are taken and not answered."""

    def __init__(self) -> None:
        self.faults: dict[str, SimpleNamespace] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.away = self.silent = False
        self.error = ""
        self.together: dict[str, list[str]] = {}
        self.publish: Callable[[Any], None] | None = None

    def answer(self, name: str, fields: dict[str, Any]) -> SimpleNamespace:
        """The response of a service."""
        found: SimpleNamespace = getattr(self, f"_{name}")(**fields)
        return found

    async def call(self, name: str, **fields: Any) -> Any:
        self.calls.append((name, fields))
        await asyncio.sleep(0)
        if self.away:
            raise NoServer(f"the service /fault_manager/{name} is not available")
        answer = self.answer(name, fields)
        if self.silent:
            raise NoAnswer(f"the service /fault_manager/{name} did not answer in time")
        return answer

    async def listen(self, heard: Callable[[Any], None]) -> None:
        self.publish = heard

    async def stop(self) -> None:
        self.publish = None

    def tell(self, event_type: str, code: str, auto_cleared: tuple[str, ...] = ()) -> None:
        """Publish an event."""
        if self.publish is not None:
            event = SimpleNamespace(
                event_type=event_type,
                fault=self.faults[code],
                timestamp=stamp(time.time()),
                auto_cleared_codes=list(auto_cleared),
            )
            self.publish(event)

    def _report_fault(
        self, fault_code: str, event_type: int, severity: int, description: str, source_id: str
    ) -> SimpleNamespace:
        known = self.faults.get(fault_code)
        if event_type == 1:
            if known is None:
                return SimpleNamespace(accepted=False)
            known.status, known.last_passed = "HEALED", stamp(time.time())
            self.tell("fault_cleared", fault_code)
            return SimpleNamespace(accepted=True)
        now = stamp(time.time())
        if known is None:
            known = self.faults[fault_code] = SimpleNamespace(
                fault_code=fault_code, first_occurred=now, occurrence_count=0, reporting_sources=[],
                last_passed=stamp(0),
            )  # fmt: skip
        known.severity, known.description, known.last_occurred = severity, description, now
        known.occurrence_count += 1
        known.status = "CONFIRMED"
        if source_id not in known.reporting_sources:
            known.reporting_sources.append(source_id)
        self.tell("fault_confirmed", fault_code)
        return SimpleNamespace(accepted=True)

    def _list_faults(
        self, filter_by_severity: bool, severity: int, statuses: list[str], include_muted: bool, include_clusters: bool
    ) -> SimpleNamespace:
        found = [one for one in self.faults.values() if one.status in statuses]
        muted = [SimpleNamespace(fault_code="M", root_cause_code="R", rule_id="rule", delay_ms=20)]
        cluster = SimpleNamespace(
            cluster_id="c1", rule_id="rule", rule_name="Rule", label="motors", representative_code="R",
            representative_severity=2, fault_codes=["R", "M"], count=2, first_at=stamp(1.5), last_at=stamp(2.5),
        )  # fmt: skip
        return SimpleNamespace(
            faults=found,
            muted_count=1,
            muted_faults=muted if include_muted else [],
            cluster_count=1,
            clusters=[cluster] if include_clusters else [],
        )

    def _get_fault(self, fault_code: str) -> SimpleNamespace:
        known = self.faults.get(fault_code)
        if known is None or self.error:
            text = self.error or f"Fault not found: {fault_code}"
            return SimpleNamespace(success=False, error_message=text, fault=None, environment_data=None)
        snapshot = SimpleNamespace(
            type="freeze_frame", name="temperature", data='{"data":1}', topic="/t", message_type="std_msgs/msg/Float64",
            bulk_data_id="", size_bytes=0, duration_sec=0.0, format="", captured_at_ns=1_500_000_000,
        )  # fmt: skip
        environment = SimpleNamespace(snapshots=[snapshot])
        return SimpleNamespace(success=True, error_message="", fault=known, environment_data=environment)

    def _clear_fault(self, fault_code: str, skip_correlation_auto_clear: bool) -> SimpleNamespace:
        known = self.faults.get(fault_code)
        if known is None:
            return SimpleNamespace(success=False, message="not found", auto_cleared_codes=[])
        also = [] if skip_correlation_auto_clear else self.together.get(fault_code, [])
        for code in [fault_code, *also]:
            self.faults[code].status = "CLEARED"
        return SimpleNamespace(success=True, message="", auto_cleared_codes=list(also))
