"""The benchmark runs and writes its report. How fast anything is, is no matter of tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
CASES = (
    "health",
    "apps",
    "apps_304",
    "detail",
    "data",
    "data_forwarded",
    "faults",
    "service",
    "parameters",
    "faults_1000",
)

WRK = """Running 1s test @ http://127.0.0.1:23000/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   432.10us  100.00us   2.50ms   80.00%
    Req/Sec    36.10k     1.00k   38.00k    70.00%
  Latency Distribution
     50%  420.00us
     75%  500.00us
     90%  600.00us
     99%    1.25ms
  39500 requests in 1.10s, 44.00MB read
  Socket errors: connect 0, read 1, write 0, timeout 2
  Non-2xx or 3xx responses: 4
Requests/sec:  35909.09
Transfer/sec:     40.00MB
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARKS), *arguments], capture_output=True, text=True, timeout=110, check=False
    )


@pytest.mark.process
def test_large_manifests_are_loaded_and_measured(tmp_path: Path, ros_domains: Callable[[], int]) -> None:
    ran = run(
        *("--manifest", "--seconds", "0.3", "--rounds", "1", "--connections", "4", "--out", str(tmp_path)),
        *("--domains", f"{ros_domains()},{ros_domains()}"),
    )
    assert ran.returncode == 0, ran.stderr
    small, large = json.loads((tmp_path / "manifest.json").read_text())
    assert (small["entities"], large["entities"]) == (100, 5000)
    assert large["answer_bytes"] > 40 * small["answer_bytes"]
    assert all(one["rps"] > 0 and one["errors"] == 0 for one in (small, large))
    assert "| 5000 |" in (tmp_path / "manifest.md").read_text()


@pytest.mark.process
def test_hops_fan_out_and_an_aggregator_are_measured(tmp_path: Path, ros_domains: Callable[[], int]) -> None:
    ran = run(
        *("--fleet", "--quick", "--seconds", "0.3", "--rounds", "1", "--connections", "4", "--out", str(tmp_path)),
        *("--domains", ",".join(str(ros_domains()) for _ in range(4))),
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "fleet.json").read_text())
    assert [one["title"] for one in found["hops"]] == ["directly", "through one hop", "through two hops"]
    assert all(one["requests"] > 0 and one["errors"] == 0 for one in (*found["hops"], *found["fan_out"]))
    assert [one["title"] for one in found["fan_out"]] == ["GET /faults", "GET a function's data"]
    timeout_ms = found["settings"]["timeout_ms"]
    for one in found["fan_out"]:
        slow, dead, both = one["troubles"]
        assert [each["modes"] for each in (slow, dead, both)] == ["one slow", "one dead", "one dead, one slow"]
        assert both["p50_ms"] >= 0.9 * timeout_ms
        assert slow["p50_ms"] >= 0.9 * timeout_ms > dead["p50_ms"]
        assert dead["known_s"] > 0
    (aggregator,) = found["aggregator"]
    assert aggregator["tries"] == 4
    assert aggregator["rss_mb"] > 10
    assert aggregator["quiet_p50_ms"] > 0
    assert aggregator["merge"]["merge_ms"] > 0
    assert "| through two hops |" in (tmp_path / "fleet.md").read_text()


@pytest.mark.process
def test_a_quick_run_writes_table_data_and_picture(tmp_path: Path, ros_domains: Callable[[], int]) -> None:
    ran = run(
        *("--seconds", "0.2", "--rounds", "1", "--connections", "4", "--quick", "--out", str(tmp_path)),
        *("--domains", ",".join(str(ros_domains()) for _ in range(4))),
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "latest.json").read_text())
    assert tuple(case["name"] for case in found["cases"]) == CASES
    for case in found["cases"]:
        assert case["requests"] > 0
        assert case["errors"] == 0
        assert case["rps_ratio"] > 0
    assert [one["tries"] for one in found["freshness"]] == [2, 2, 4]
    assert [one["clients"] for one in found["streams"]] == [200]
    assert found["streams"][0]["p50_ms"] > 0
    assert all(one["rss_mb"] > 10 for one in found["idle"])
    table = (tmp_path / "latest.md").read_text()
    for case in found["cases"]:
        assert f"| {case['title']} |" in table
    assert (tmp_path / "latest.png").read_bytes().startswith(b"\x89PNG")
    same = run("--compare", str(tmp_path / "latest.json"), str(tmp_path / "latest.json"))
    assert same.returncode == 0, same.stderr
    assert found["cases"][0]["title"] in same.stdout


def test_the_committed_runs_have_the_cases_of_today() -> None:
    kept = sorted((BENCHMARKS / "results").glob("[0-9]*.json"))
    assert kept
    for path in kept:
        assert path.with_suffix(".md").exists()
        assert path.with_suffix(".png").exists()
    assert tuple(case["name"] for case in json.loads(kept[-1].read_text())["cases"]) == CASES


@pytest.mark.parametrize(("load", "is_said"), [(0.1, False), (3.0, True)])
def test_a_report_says_when_the_machine_was_shared(load: float, is_said: bool) -> None:
    from benchmarks.machine import facts
    from benchmarks.report import SHARED, machine_lines

    assert (SHARED in machine_lines({**facts(), "cpus": 2, "load_average_before": [load, 0.0, 0.0]})) is is_said


def test_the_numbers_of_wrk_are_read() -> None:
    from benchmarks.load import parse_wrk

    assert parse_wrk(WRK) == {"requests": 39500, "seconds": 1.1, "p50_ms": 0.42, "p99_ms": 1.25, "errors": 7}
    with pytest.raises(RuntimeError, match="something else"):
        parse_wrk("unable to connect to 127.0.0.1:23000 Connection refused\n")


def test_the_command_is_a_program_that_bash_can_read() -> None:
    command = BENCHMARKS / "run"
    assert os.access(command, os.X_OK)
    assert subprocess.run(["bash", "-n", str(command)], check=False, timeout=10).returncode == 0


def test_a_file_that_is_no_run_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("[]")
    ran = run("--compare", str(file), str(file))
    assert ran.returncode == 1
    assert ran.stderr == f"benchmarks: {file}: not the JSON of a run\n"
