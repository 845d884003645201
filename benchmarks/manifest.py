"""Large manifests: how long one of 5 000 entities takes to load, and what a byte of its lists costs against one of 100.

Each gateway runs in manifest_only and is measured beside a bare server that answers as many bytes.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .load import Generator
from .processes import START_S, Children, Failed, Server, free_ports, wait_for
from .topology import API

SIZES = (100, 5000)
APPS_OF_TEN = 8  # the other two of ten entities are components
AREAS = 10
RELOAD_S = 30.0


@dataclass
class Size:
    """One manifest. Times in seconds; CPU in microseconds a request and a KB of the answer; ratios to the yardstick."""

    entities: int
    manifest_bytes: int
    start_s: float
    reload_s: float
    answer_bytes: int
    rps: float
    cpu_us: float
    cpu_us_per_kb: float
    rps_ratio: float
    cpu_ratio: float
    errors: int


def text(entities: int, generation: int) -> str:
    """A manifest of so many entities; `generation` is the name of the first area."""
    apps = entities * APPS_OF_TEN // 10
    components = entities - apps - AREAS
    lines = ['manifest_version: "1.0"', "areas:", f"  - {{id: area0, name: generation {generation}}}"]
    lines += [f"  - {{id: area{n}, name: Area {n}}}" for n in range(1, AREAS)]
    lines.append("components:")
    for n in range(components):
        lines += [f"  - id: part{n}", f"    name: Part {n}", f"    area: area{n % AREAS}", "    tags: [measured]"]
    lines.append("apps:")
    for n in range(apps):
        lines += [f"  - id: app{n}", f"    name: App {n}", f"    is_located_on: part{n % components}"]
        lines += [f"    ros_binding: {{node_name: node{n}, namespace: /bench}}"]
    return "\n".join(lines) + "\n"


def measure(
    children: Children, folder: Path, domain: int, generator: Generator, seconds: float, rounds: int,
    say: Callable[[str], None],
) -> list[Size]:  # fmt: skip
    """Every size, one after the other. Raises Failed when an answer is not the one expected."""
    return [_measure(children, folder, domain, generator, seconds, rounds, say, size) for size in SIZES]


def _measure(
    children: Children, folder: Path, domain: int, generator: Generator, seconds: float, rounds: int,
    say: Callable[[str], None], entities: int,
) -> Size:  # fmt: skip
    path = folder / f"manifest-{entities}.yaml"
    path.write_text(text(entities, 0))
    port, port_y = free_ports(2)
    began = time.monotonic()
    parameters = {
        "server.port": port,
        "state_dir": str(folder / f"state-{entities}"),
        "discovery.mode": "manifest_only",
        "discovery.manifest_path": str(path),
    }
    ros = [item for key, value in parameters.items() for item in ("-p", f"{key}:={json.dumps(value)}")]
    gateway = children.server(
        f"gateway-{entities}", "medkit_gateway_py.gateway_node", "--ros-args", *ros, port=port, domain=domain
    )
    wait_for(lambda: gateway.answers(f"{API}/health"), START_S, f"a gateway with {entities} entities")
    start_s = time.monotonic() - began
    url = f"{API}/apps"
    size = len(gateway.get(url)[2])
    yardstick = children.server(
        f"yardstick-{entities}", "benchmarks.yardstick", "--port", str(port_y), "--bytes", str(size), port=port_y
    )
    wait_for(lambda: yardstick.answers("/"), START_S, "the yardstick")
    pairs = []
    for number in range(rounds):
        bare = generator.run(f"{yardstick.url}/", seconds, yardstick)
        one = generator.run(f"{gateway.url}{url}", seconds, gateway)
        pairs.append((one, bare))
        say(f"round {number + 1}/{rounds}  {entities} entities {one.rps:8.0f} requests/s  {one.cpu_us:7.1f} us CPU")
    middle: Callable[..., Any] = statistics.median
    cpu_us = middle(one.cpu_us for one, _ in pairs)
    return Size(
        entities=entities,
        manifest_bytes=path.stat().st_size,
        start_s=start_s,
        reload_s=_reload(gateway, path, entities),
        answer_bytes=size,
        rps=middle(one.rps for one, _ in pairs),
        cpu_us=cpu_us,
        cpu_us_per_kb=cpu_us / (size / 1024),
        rps_ratio=middle(one.rps / bare.rps for one, bare in pairs),
        cpu_ratio=middle(one.cpu_us / bare.cpu_us if bare.cpu_us else 0.0 for one, bare in pairs),
        errors=sum(one.errors for one, _ in pairs),
    )


def _reload(gateway: Server, path: Path, entities: int) -> float:
    """From a changed file to a list that shows it; up to a second of it is waiting for two equal looks at the file."""
    path.write_text(text(entities, 1))
    began = time.monotonic()

    def shown() -> bool:
        status, _, body = gateway.get(f"{API}/areas")
        if status != 200:
            raise Failed(f"GET /areas answered {status}")
        return b"generation 1" in body

    wait_for(shown, RELOAD_S, "the manifest to be read again")
    return time.monotonic() - began


def report(found: list[Size]) -> str:
    """A table."""
    lines = [
        "| entities | start s | reload s | answer KB | requests/s | to yardstick | CPU us | to yardstick | us a KB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one.entities} | {one.start_s:.1f} | {one.reload_s:.1f} | {one.answer_bytes / 1024:.0f} | {one.rps:.0f} |"
        f" {one.rps_ratio:.2f} | {one.cpu_us:.0f} | {one.cpu_ratio:.2f} | {one.cpu_us_per_kb:.1f} |"
        for one in found
    ]
    return "\n".join(lines) + "\n"


def write(found: list[Size], folder: Path) -> str:
    """Write `manifest.json` and `manifest.md` to a folder; the table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    (folder / "manifest.md").write_text(report(found))
    return report(found)
