"""Every operation of the document, called with generated input on a live gateway with real nodes (DECISIONS 3).

schemathesis makes the requests: ids are those of the demo robot or free text, bodies follow the schemas or do not. An
answer must never be an internal error, must have a status that the document declares, and a body of that schema.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks, response_schema_conformance, status_code_conformance
from schemathesis.core.failures import FailureGroup

from support.gateways import Gateway, fleet

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

EXAMPLES = int(os.environ.get("MEDKIT_DOCUMENT_EXAMPLES", "12"))  # of each operation
# What belongs together on the demo robot; the names of the placeholders are those of the document.
SCENES: tuple[dict[str, str], ...] = (
    {"app_id": "calibration", "operation_id": "calibrate", "fault_code": "ENGINE_OIL_PRESSURE"},
    {"app_id": "long_calibration", "operation_id": "long_calibration", "config_id": "use_sim_time"},
    {"app_id": "temp_sensor", "data_id": "/powertrain/engine/temperature", "config_id": "use_sim_time"},
    {"app_id": "rpm_sensor", "data_id": "powertrain/engine/rpm", "config_id": "rpm_sensor:use_sim_time"},
    {"component_id": "robot_host", "operation_id": "calibrate", "data_id": "/rosout"},
    {"component_id": "robot_host", "operation_id": "long_calibration", "config_id": "temp_sensor:use_sim_time"},
    {"function_id": "powertrain", "operation_id": "calibrate", "data_id": "/powertrain/engine/temperature"},
    {"function_id": "chassis", "config_id": "use_sim_time", "name": "nobody"},
)
APPS = ("temp_sensor", "calibration", "long_calibration", "rpm_sensor")
# Their answers have no end.
STREAMS = "text/event-stream"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, ros_domain: int) -> Iterator[Gateway]:
    with fleet(tmp_path_factory.mktemp("fleet")) as found:
        one = found.gateway(
            "a",
            ros_domain,
            parameters={
                "discovery.runtime.default_component.id": "robot_host",
                "service_call_timeout_sec": 1,
                "topic_sample_timeout_sec": 0.1,
                "parameter_service_timeout_sec": 1.0,
                "aggregation.enabled": True,
            },
        )
        found.robot("all", ros_domain)
        one.lists("apps", *APPS, within=30.0)
        yield one


@pytest.fixture(scope="module")
def document(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = gateway.get("/docs").json()
    return found


def test_no_operation_ends_in_an_internal_error_or_an_undeclared_answer(
    gateway: Gateway, document: dict[str, Any]
) -> None:
    load_all_checks()
    schema = schemathesis.openapi.from_dict(document)
    checked, failures = 0, []
    for found in schema.get_all_operations():
        operation = found.ok()
        declared = document["paths"][operation.path][operation.method]
        if any(STREAMS in answer.get("content", {}) for answer in declared["responses"].values()):
            continue
        checked += 1
        try:
            exercise(gateway, operation)
        except (Exception, FailureGroup) as error:
            # One operation's fault must not hide the next one's.
            failures.append(f"{operation.method.upper()} {operation.path}: {error}\n{reasons(error)}")
    assert not failures, f"{len(failures)} of {checked} operations:\n" + "\n\n".join(failures)
    assert checked > 200


def reasons(error: BaseException) -> str:
    """What a group of failures is made of."""
    return "\n".join(f"{type(one).__name__}: {one}" for one in getattr(error, "exceptions", ()))


def exercise(gateway: Gateway, operation: Any) -> None:
    """Call one operation as often as EXAMPLES says."""
    placeholders = re.findall(r"{(\w+)}", operation.path)
    fitting = [scene for scene in SCENES if placeholders and placeholders[0] in scene]

    @seed(1)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), data=st.data())
    def call(case: Any, data: Any) -> None:
        # Once in four as generated, else as the robot has it.
        if fitting and data.draw(st.integers(0, 3), label="real"):
            scene = data.draw(st.sampled_from(fitting), label="scene")
            case.path_parameters.update({name: scene[name] for name in placeholders if name in scene})
        answer = case.call(base_url=f"{gateway.url}/api/v1", timeout=15.0)
        shown = f"{case.as_curl_command()}\n{answer.status_code} {answer.text[:2000]}"
        assert answer.status_code not in (405, 422), shown
        if answer.headers.get("content-type", [""])[0].startswith("application/json") and answer.status_code >= 400:
            assert answer.json().get("error_code") != "internal-error", shown
        case.validate_response(answer, checks=[status_code_conformance, response_schema_conformance])

    call()
