"""One run as JSON and as a table in Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import picture

Run = dict[str, Any]

# Beyond this part of one core, the generator and not the server may be what limits the requests a second.
BUSY = 0.9
# Above this load for each CPU before the run, somebody else works on the machine.
QUIET = 0.25
SHARED = (
    "shared with other work during the run: requests a second and latencies are worse than on a quiet machine, and"
    " differ between rounds; ratios and CPU are what can be compared"
)


def write(run: Run, folder: Path, name: str) -> list[Path]:
    """`<name>.json`, `<name>.md` and `<name>.png` in `folder`, which is made. Gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{suffix}" for suffix in ("md", "json", "png")]
    paths[0].write_text(markdown(run, f"{name}.png"))
    paths[1].write_text(json.dumps(run, indent=1) + "\n")
    picture.draw(run, paths[2])
    return paths


def markdown(run: Run, image: str = "") -> str:
    """The whole report."""
    settings = run["settings"]
    parts = [
        f"# Benchmark of {run['date']}",
        f"{settings['rounds']} rounds of {settings['seconds']:g} s a case, {settings['connections']} connections, load"
        f" from {settings['generator']}. Medians over the rounds; in brackets the lowest and the highest round. A ratio"
        " compares a stretch with the stretch of the yardstick (a bare uvicorn app answering 1 KB) right before it."
        " CPU is user and system time of the server asked, a request; it is the number to trust on a busy machine.",
        table(
            ["case", "bytes", "requests/s", "to yardstick", "p50 ms", "p99 ms", "CPU us", "to yardstick", "errors"],
            [_yardstick_row(run["yardstick"]), *(_case_row(case) for case in run["cases"])],
        ),
    ]
    parts += [*_notes(run), *([f"![Ratios to the yardstick]({image})"] if image else [])]
    parts += [
        "## From a node to its listing",
        table(
            ["a node", "tries", "appears p50 ms", "p95 ms", "vanishes p50 ms", "p95 ms"],
            [
                [one["title"], str(one["tries"])]
                + [f"{one[f'{name}_p{p}_ms']:.0f}" for name in ("appeared", "vanished") for p in (50, 95)]
                for one in run["freshness"]
            ],
        ),
        "## Telling many clients",
        table(
            [
                "stream",
                "p50 ms",
                "p99 ms",
                "CPU us a delivery",
                "to yardstick",
                "yardstick p50 ms",
                "its CPU us",
            ],
            [_stream_row(one) for one in run.get("streams", ())],
        ),
        f"## Idle, over {settings['idle_s']:g} s",
        table(
            ["gateway", "memory (RSS) MB", "CPU % of a core", "memory after the load MB"],
            [
                [one["title"], f"{one['rss_mb']:.0f}", f"{one['cpu_percent']:.1f}", f"{one['rss_after_load_mb']:.0f}"]
                for one in run["idle"]
            ],
        ),
        "## Machine",
        machine_lines(run["machine"]),
    ]
    return "\n\n".join(parts) + "\n"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """`(lowest-highest)`, nothing for a single value."""
    if len(values) < 2:
        return ""
    return f" ({min(values):.{digits}f}-{max(values):.{digits}f})"


def _yardstick_row(bare: Run) -> list[str]:
    return ["yardstick", "1024", *_numbers(bare, "1", "1")]


def _case_row(case: Run) -> list[str]:
    return [
        case["title"],
        str(case["answer_bytes"]),
        *_numbers(
            case,
            f"{case['rps_ratio']:.2f}{spread(case['rps_ratios'])}",
            f"{case['cpu_ratio']:.1f}{spread(case['cpu_ratios'], 1)}",
        ),
    ]


def _stream_row(one: Run) -> list[str]:
    bare = one["yardstick"]
    ratio = f"{statistics.median(one['cpu_ratios']):.2f}{spread(one['cpu_ratios'])}"
    return [
        f"{one['title']}, {one['events_per_second']} events a second", f"{one['p50_ms']:.1f}", f"{one['p99_ms']:.1f}",
        f"{one['cpu_us']:.1f}", ratio, f"{bare['p50_ms']:.1f}", f"{bare['cpu_us']:.1f}",
    ]  # fmt: skip


def _numbers(one: Run, rps_ratio: str, cpu_ratio: str) -> list[str]:
    return [
        f"{one['rps']:.0f}", rps_ratio, f"{one['p50_ms']:.2f}", f"{one['p99_ms']:.2f}", f"{one['cpu_us']:.0f}",
        cpu_ratio, str(one["errors"]),
    ]  # fmt: skip


def _notes(run: Run) -> list[str]:
    notes = []
    behind = [case for case in run["cases"] if case["name"] in ("data_forwarded", "faults")]
    if behind:
        costs = ", ".join(f"{case['title']}: {case['peer_cpu_us']:.0f} us" for case in behind)
        notes.append(f"CPU that the peer behind needs in addition, a request: {costs}.")
    busy = [
        one.get("title", "yardstick")
        for one in (run["yardstick"], *run["cases"])
        if one["generator_cpu_us"] * one["rps"] / 1e6 > BUSY
    ]
    if busy:
        notes.append(
            f"The load generator was busy itself ({', '.join(busy)}): requests a second and latency are its limit"
            " there, CPU is not."
        )
    return notes


def machine_lines(facts: Run) -> str:
    """What has to be known of the machine, as a list."""
    libraries = ", ".join(f"{name} {version}" for name, version in facts["libraries"].items())
    load = ", ".join(f"{one:.2f}" for one in facts["load_average_before"])
    lines = [
        f"{facts['cpus']} CPUs ({facts['cpu']}), {facts['memory_gib']} GiB, {facts['system']}",
        f"{facts['python']}; ROS 2 {facts['ros']}",
        libraries,
        f"load average before the run: {load}",
        *([SHARED] if facts["load_average_before"][0] > QUIET * facts["cpus"] else []),
        *([f"commit {facts['commit']}"] if facts["commit"] else []),
    ]
    return "\n".join(f"* {line}" for line in lines)


def table(head: list[str], rows: list[list[str]]) -> str:
    """In Markdown; the first column is text, the others are numbers."""
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ruler, *rows))
