"""The command `benchmarks/run`: starts everything, measures, writes the report, ends everything."""

from __future__ import annotations

import argparse
import datetime
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from . import cases, fleet, freshness, idle, machine, manifest, report, streams, topology
from .compare import compare
from .load import Generator
from .processes import ROOT, Failed, children

SETTLE_S = 2.0
IDLE_S = 5.0
TRIES = 15


def main(argv: Sequence[str] | None = None) -> int:
    """0: measured; 1: something failed, or answers were wrong; 2: wrong usage."""
    own = _parse(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if own.compare:
            print(compare(*own.compare))
            return 0
        generator = Generator(own.generator, own.connections, own.seconds)
        if own.manifest:
            return _manifests(own, generator)
        if own.fleet:
            return _fleet(own, generator)
        run = _measure(own, generator)
        paths = report.write(run, own.out, own.name)
    except (Failed, ValueError, RuntimeError, subprocess.SubprocessError) as problem:
        print(f"benchmarks: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 1
    print(paths[0].read_text())
    _say(f"written: {', '.join(str(path) for path in paths)}")
    wrong = sum(case["errors"] for case in run["cases"])
    if wrong:
        _say(f"{wrong} wrong or missing answers: these are no measurements")
    return 1 if wrong else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run", description="Measures the gateway against a bare server, in about four minutes."
    )
    parser.add_argument("--seconds", type=_positive, default=3.0, help="of load for each case in each round (3)")
    parser.add_argument("--rounds", type=_count, default=3, help="of all cases (3)")
    parser.add_argument("--connections", type=_count, default=16, help="kept open, one request in flight on each (16)")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    parser.add_argument("--name", default="latest", help="of the three files (latest)")
    parser.add_argument("--generator", choices=("auto", "wrk", "client"), default="auto", help="of load (auto: wrk)")
    parser.add_argument(
        "--domains",
        type=_domains,
        default=(7, 8, 9, 10),
        metavar="A,B,C,D",
        help="ROS domain ids to use (7,8,9,10); without C and D, no chain of gateways is measured",
    )
    parser.add_argument("--quick", action="store_true", help="two tries of freshness, half a second of idling")
    parser.add_argument("--manifest", action="store_true", help="measure large manifests, and nothing else")
    parser.add_argument("--fleet", action="store_true", help="measure hops and up to 50 peers, and nothing else")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("OLD.json", "NEW.json"), help="measure nothing")
    return parser.parse_args(argv)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 600:
        raise argparse.ArgumentTypeError("more than 0, at most 600")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError("1 to 1000")
    return value


def _domains(text: str) -> tuple[int, ...]:
    found = [int(part) for part in text.split(",")]
    if len(found) not in (2, 4) or len(set(found)) != len(found) or not all(0 <= one <= 232 for one in found):
        raise argparse.ArgumentTypeError("two or four different ROS domain ids, as in 7,8,9,10")
    return tuple(found)


def _measure(own: argparse.Namespace, generator: Generator) -> dict[str, Any]:
    idle_s, tries = (0.5, 2) if own.quick else (IDLE_S, TRIES)
    known = machine.facts()
    with tempfile.TemporaryDirectory(prefix="medkit-benchmark-") as name, children(Path(name)) as started:
        _say(f"starting {topology.NODES} nodes, two gateways and the yardstick")
        running = topology.start(started, Path(name), *own.domains[:2])
        time.sleep(0.2 if own.quick else SETTLE_S)
        _say(f"idle for {idle_s:g} s")
        resting = idle.measure(running, idle_s)
        series = cases.run_cases(running, generator, own.seconds, own.rounds, _say)
        cases.provoke_faults(running)
        series += cases.run_cases(running, generator, own.seconds, own.rounds, _say, cases.LATE_CASES)
        idle.after_load(resting)
        _say(f"from a node to its listing, {tries} tries each")
        delays = freshness.measure(running, tries)
        events = 5 if own.quick else streams.EVENTS
        _say(f"{events} events to {streams.CLIENTS} clients")
        told = streams.measure(running, started, events, own.rounds, _say)
        if len(own.domains) == 4:
            _say(f"through a chain of gateways, {2 * tries} tries")
            head = topology.chain(started, Path(name), running, *own.domains[2:])
            delays.append(freshness.measure_chain(running, head, 2 * tries))
    return {
        "date": datetime.date.today().isoformat(),
        "settings": {
            "seconds": own.seconds,
            "rounds": own.rounds,
            "connections": own.connections,
            "generator": generator.description,
            "idle_s": idle_s,
            "nodes": topology.NODES,
        },
        "machine": known,
        "yardstick": cases.medians([bare for one in series for bare in one.yardsticks]),
        "cases": [one.as_json() for one in series],
        "freshness": [one.as_json() for one in delays],
        "streams": [told.as_json()],
        "idle": [one.as_json() for one in resting],
    }


def _manifests(own: argparse.Namespace, generator: Generator) -> int:
    with tempfile.TemporaryDirectory(prefix="medkit-benchmark-") as name, children(Path(name)) as started:
        found = manifest.measure(started, Path(name), own.domains[0], generator, own.seconds, own.rounds, _say)
    print(manifest.write(found, own.out))
    return 1 if any(one.errors for one in found) else 0


def _fleet(own: argparse.Namespace, generator: Generator) -> int:
    plan = fleet.QUICK if own.quick else fleet.Plan()
    found = fleet.measure(plan, own.domains, generator, own.seconds, own.rounds, _say)
    print(fleet.write(found, own.out))
    wrong = fleet.errors(found)
    if wrong:
        _say(f"{wrong} wrong or missing answers: these are no measurements")
    return 1 if wrong else 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(f"[benchmarks] {text}", file=sys.stderr, flush=True)
