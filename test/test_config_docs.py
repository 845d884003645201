"""The configuration page, the default file, the topologies and the reports: all of them say what the code does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from medkit_gateway_py.parameters import REMOVED, SPECIFICATIONS, Finding, check
from medkit_gateway_py.parameters.files import read_overrides
from medkit_gateway_py.parameters.report import check_report, print_config

ROOT = Path(__file__).resolve().parent.parent
TOPOLOGIES = ROOT / "config" / "topologies"
FQN = "/robot/renamed"


def read(path: Path) -> dict[str, object]:
    return read_overrides(["--ros-args", "--params-file", str(path)], FQN).values


def test_the_written_files_are_up_to_date() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "generate-config-docs"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_page_names_every_parameter_with_its_description() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for name, spec in SPECIFICATIONS.items():
        mine = [row for row in rows if row.startswith(f"| `{name}` |")]
        assert len(mine) == 1, name
        assert spec.description.replace("|", "\\|") in mine[0]
    assert len(rows) == len(SPECIFICATIONS)
    for name in REMOVED:
        assert f"* `{name}`" in page


def test_the_default_file_is_read_without_a_word_and_changes_nothing() -> None:
    path = ROOT / "config" / "gateway_params.yaml"
    values = read(path)
    checked = check(values)
    assert checked.findings == ()
    assert checked.config == check({}).config
    for name, spec in SPECIFICATIONS.items():
        assert (name in values) == (not spec.status and name != "server.host"), name
    lines = [line.strip().removeprefix("# ") for line in path.read_text(encoding="utf-8").splitlines()]
    for name in SPECIFICATIONS:
        assert any(line.startswith(f"{name.rsplit('.', 1)[-1]}: ") for line in lines), name


def test_there_is_a_file_for_each_gateway_of_each_topology() -> None:
    found = {folder.name: {file.stem for file in folder.iterdir()} for folder in TOPOLOGIES.iterdir()}
    assert found == {
        "two_gateways": {"gateway_a", "gateway_b"},
        "star": {"primary", "arm_controller", "base_platform", "sensor_array"},
        "chain": {"gateway_a", "gateway_b", "gateway_c"},
        "mdns": {"gateway_a", "gateway_b"},
        "mixed": {"gateway", "base_platform"},
        "secure": {"gateway_a", "gateway_b"},
    }


@pytest.mark.parametrize("topology", ["two_gateways", "star", "chain", "mdns", "mixed", "secure"])
def test_the_gateways_of_a_topology_run_side_by_side_and_find_each_other(topology: str) -> None:
    configs = [check(read(file)).config for file in sorted((TOPOLOGIES / topology).iterdir())]
    ports = {config.server.port for config in configs}
    assert len(ports) == len(configs)
    assert len({config.discovery.runtime.default_component.id for config in configs}) == len(configs)
    for config in configs:
        for peer in config.aggregation.peers:
            assert int(peer.url.rsplit(":", 1)[1]) in ports - {config.server.port}


@pytest.mark.parametrize("file", sorted(TOPOLOGIES.rglob("*.yaml")), ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_topology_file_holds_no_mistake(file: Path) -> None:
    checked = check(read(file))
    missing_yet = ("has no effect in this",)
    intended = ("is reached by cleartext HTTP", "listening on all network interfaces")
    for finding in checked.findings:
        assert any(words in finding.message for words in (*missing_yet, *intended)), finding
    assert checked.refused == ()


def test_leaves_of_star_and_chain_listen_on_every_interface() -> None:
    for leaf in ("star/arm_controller", "star/base_platform", "star/sensor_array", "chain/gateway_c"):
        assert check(read(TOPOLOGIES / f"{leaf}.yaml")).config.server.host == "0.0.0.0"
    assert check(read(TOPOLOGIES / "two_gateways" / "gateway_b.yaml")).config.server.host == "127.0.0.1"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {
            "server.port": 8099,
            "topic_sample_timeout_sec": 2,
            "cors.allowed_origins": ["http://a", "http://b:1"],
            "gateway.name": "on",
            "aggregation.enabled": True,
            "aggregation.peer_urls": ["http://b:8080"],
            "aggregation.peer_names": ["yes"],
        },
        {"fault_manager.namespace": 'quote " backslash \\ line\nend', "state_dir": "# no comment: {}"},
        {"fault_manager.service_timeout_sec": 1e-3, "bulk_data.max_upload_size": 2**62},
        {"fault_manager.service_timeout_sec": 1e9, "logs.buffer_size": 7},
    ],
)
def test_the_printed_configuration_leads_to_the_same_values(values: dict[str, object], tmp_path: Path) -> None:
    first = check(values)
    file = tmp_path / "printed.yaml"
    file.write_text(print_config(first.effective, dict.fromkeys(values, "command line")))
    again = check(read(file))
    assert again.effective == first.effective
    assert again.config == first.config


def test_the_printed_configuration_says_where_each_value_comes_from_and_hides_secrets() -> None:
    checked = check({"server.port": 8099, "auth.jwt_secret": "hunter2"})
    text = print_config(checked.effective, {"server.port": "a.yaml, section /**", "auth.jwt_secret": "command line"})
    assert "      port: 8099  # a.yaml, section /**\n" in text
    assert "      keep_alive_timeout_sec: 75  # default\n" in text
    assert "hunter2" not in text
    assert "# jwt_secret: (a secret, not shown)  # command line" in text


def test_the_report_of_a_good_configuration() -> None:
    assert check_report(()) == ("The configuration is good: the gateway would start.", 0)


def test_the_report_begins_with_what_keeps_the_gateway_from_starting() -> None:
    findings = (
        Finding("WARN", "a", "", "a is odd."),
        Finding("ERROR", "b", "", "b is wrong."),
        Finding("ERROR", "c", "", "c is fatal.", True),
    )
    text, code = check_report(findings)
    assert code == 1
    assert text.splitlines() == [
        "ERROR  c is fatal.",
        "ERROR  b is wrong.",
        "WARN   a is odd.",
        "The gateway would not start: 1 error must be put right first.",
    ]
    assert check_report(findings[:2])[0].endswith("The gateway would start, with 1 error and 1 warning.")
    assert check_report(findings[:1]) == ("WARN   a is odd.\nThe gateway would start, with 1 warning.", 0)
