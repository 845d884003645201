"""`benchmarks/run --fleet`: hops, fan-out and an aggregator with up to fifty peers; writes `fleet.md` and `fleet.json`.

The peers of the aggregator are simulated by one process (`fake_fleet.py`); the gateways in a row are real.
"""

from __future__ import annotations

import datetime
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import aggregator, fan_out, hops, machine
from .fake_fleet import Mode
from .load import Generator
from .processes import START_S, Child, Children, Failed, Server, children, free_ports, wait_for
from .report import machine_lines, spread, table
from .topology import API, gateway

APPS = 100
SIZES = (0, 2, 10, 50)
TRIES = 30
IDLE_S = 10.0
ONLINE_S = 60.0

Run = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much is measured: `sizes` are numbers of peers, `apps` those of each, `modes` how one or two behave."""

    sizes: Sequence[int] = SIZES
    apps: int = APPS
    tries: int = TRIES
    idle_s: float = IDLE_S
    modes: Sequence[Sequence[Mode]] = fan_out.MODES


QUICK = Plan(sizes=(3,), apps=10, tries=4, idle_s=0.5, modes=((Mode.SLOW,), (Mode.DEAD,), (Mode.DEAD, Mode.SLOW)))


def measure(
    plan: Plan, domains: tuple[int, ...], generator: Generator, seconds: float, rounds: int, say: Callable[[str], None]
) -> Run:
    """Everything, one part after the other. Raises Failed when something does not work as it should."""
    if len(domains) < 4:
        raise Failed("--fleet needs four ROS domains")
    known = machine.facts()
    with tempfile.TemporaryDirectory(prefix="medkit-benchmark-") as name, children(Path(name)) as started:
        say("three gateways in a row")
        row = hops.measure(started, Path(name), domains[:3], generator, seconds, rounds, say)
    # One request at a time: what counts is how long somebody waits for all.
    single = Generator(generator.name, 1, seconds)
    told: list[fan_out.FanOut] = []
    rest: list[aggregator.Aggregator] = []
    for peers in plan.sizes:
        say(f"an aggregator with {peers} peers of {plan.apps} apps")
        with tempfile.TemporaryDirectory(prefix="medkit-benchmark-") as name, children(Path(name)) as started:
            server, fleet = _start(started, Path(name), peers, plan.apps, domains[3])
            rest.append(aggregator.measure(server, fleet, peers, plan.apps, plan.idle_s, plan.tries, say))
            if fleet is not None:
                told += fan_out.measure(server, fleet, peers, single, seconds, rounds, say, plan.modes)
    return {
        "date": datetime.date.today().isoformat(),
        "settings": {
            "seconds": seconds,
            "rounds": rounds,
            "connections": generator.connections,
            "generator": generator.description,
            "idle_s": plan.idle_s,
            "apps": plan.apps,
            "timeout_ms": fan_out.TIMEOUT_MS,
        },
        "machine": known,
        "hops": [one.as_json() for one in row],
        "fan_out": [one.as_json() for one in told],
        "aggregator": [one.as_json() for one in rest],
    }


def _start(started: Children, folder: Path, peers: int, apps: int, domain: int) -> tuple[Server, Child | None]:
    """The aggregator, and the process that is all its peers; returns when all are online."""
    port, *theirs = free_ports(1 + peers)
    fleet: Child | None = None
    if peers:
        ports = ",".join(str(one) for one in theirs)
        fleet = started.python(
            "fleet", "benchmarks.fake_fleet", "--ports", ports, "--apps", str(apps),
            "--late", str(fan_out.LATE_S), piped=True,
        )  # fmt: skip
        fleet.answer()
    parameters: dict[str, object] = {"aggregation.enabled": True, "aggregation.timeout_ms": fan_out.TIMEOUT_MS}
    if peers:
        parameters["aggregation.peer_urls"] = [f"http://127.0.0.1:{one}" for one in theirs]
        parameters["aggregation.peer_names"] = [f"robot_{number:02d}" for number in range(peers)]
    server = gateway(started, folder, "aggregator", port, domain, parameters)
    wait_for(lambda: server.answers(f"{API}/health"), START_S, "the aggregator")
    wait_for(lambda: fan_out.online(server) == peers, ONLINE_S, f"{peers} peers to be online", 0.1)
    wait_for(lambda: _lists(server) >= peers * apps, ONLINE_S, "the aggregator to list all", 0.1)
    return server, fleet


def _lists(server: Server) -> int:
    return len(json.loads(server.get(f"{API}/apps")[2])["items"])


def errors(run: Run) -> int:
    """Wrong or missing answers."""
    return sum(one["errors"] for one in (*run["hops"], *run["fan_out"])) + sum(
        trouble["errors"] for one in run["fan_out"] for trouble in one["troubles"]
    )


def write(run: Run, folder: Path) -> str:
    """Write `fleet.json` and `fleet.md` to a folder; the report."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fleet.json").write_text(json.dumps(run, indent=1) + "\n")
    (folder / "fleet.md").write_text(markdown(run))
    return markdown(run)


def markdown(run: Run) -> str:
    """The whole report."""
    settings = run["settings"]
    parts = [
        f"# Fleets, {run['date']}",
        f"{settings['rounds']} rounds of {settings['seconds']:g} s, load from {settings['generator']}. Medians over the"
        " rounds; in brackets the lowest and the highest. CPU is user and system time of the gateway that is asked.",
        "## Hops",
        f"The same data item, asked of its own gateway and through others, over {settings['connections']} connections.",
        table(
            ["a data item", "requests/s", "to direct", "p50 ms", "p99 ms", "CPU us", "to direct", "errors"],
            [_hop_row(one) for one in run["hops"]],
        ),
        "## Fan-out",
        "One request at a time. *Nobody asked* is the same request with `X-Medkit-No-Fan-Out: 1`.",
        table(
            ["request", "peers", "p50 ms", "p99 ms", "CPU us", "nobody asked: p50 ms", "CPU us", "CPU us a peer"],
            [_fan_out_row(one) for one in run["fan_out"]],
        ),
        f"The same with a peer that is not well, or two; `aggregation.timeout_ms` is {settings['timeout_ms']}. A *slow*"
        " peer answers after the timeout and is alive, so it is asked every time. A *dead* one refuses, a *silent* one"
        " says nothing any more: until that is known, requests may wait for it, afterwards none does.",
        table(
            ["request", "peers", "not well", "known after s", "slowest until then ms", "of these waited",
             "from then on p50 ms", "p99 ms", "CPU us"],
            [_trouble_row(one, trouble) for one in run["fan_out"] for trouble in one["troubles"]],
        ),
        "## An aggregator",
        f"Every peer has {settings['apps']} apps, under the same ids as all others. *Changing*: an app of every peer"
        " comes or goes once a second, one peer after the other.",
        table(
            ["peers", "RSS MB", "after changes MB", "idle CPU %", "changing CPU %", "trees a second", "CPU ms a tree"],
            [_aggregator_row(one) for one in run["aggregator"]],
        ),
        "From a change at a peer to the list of all apps at the aggregator, read by a client that polls with"
        " `If-None-Match`; and the CPU of reading that change and merging all, by itself:",
        table(
            ["peers", "tries", "quiet p50 ms", "p95 ms", "all changing p50 ms", "p95 ms", "read ms", "merge ms"],
            [_fresh_row(one) for one in run["aggregator"] if one["merge"]],
        ),
        "## Machine",
        machine_lines(run["machine"]),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _hop_row(one: Run) -> list[str]:
    return [
        one["title"], f"{one['rps']:.0f}", f"{one['rps_ratio']:.2f}{spread(one['rps_ratios'])}", f"{one['p50_ms']:.2f}",
        f"{one['p99_ms']:.2f}", f"{one['cpu_us']:.0f}", f"{one['cpu_ratio']:.1f}{spread(one['cpu_ratios'], 1)}",
        str(one["errors"]),
    ]  # fmt: skip


def _fan_out_row(one: Run) -> list[str]:
    alone = one["alone"]
    return [
        one["title"], str(one["peers"]), f"{one['p50_ms']:.2f}", f"{one['p99_ms']:.2f}", f"{one['cpu_us']:.0f}",
        f"{alone['p50_ms']:.2f}", f"{alone['cpu_us']:.0f}", f"{one['cpu_us_a_peer']:.0f}",
    ]  # fmt: skip


def _trouble_row(one: Run, trouble: Run) -> list[str]:
    was_known = trouble["known_s"] > 0
    return [
        one["title"], str(one["peers"]), trouble["modes"],
        *([f"{trouble['known_s']:.2f}", f"{trouble['first_ms']:.0f}", str(trouble["waited"])] if was_known
          else ["-", "-", "-"]),
        f"{trouble['p50_ms']:.2f}", f"{trouble['p99_ms']:.2f}", f"{trouble['cpu_us']:.0f}",
    ]  # fmt: skip


def _aggregator_row(one: Run) -> list[str]:
    if not one["peers"]:
        return ["0", f"{one['rss_mb']:.0f}", "-", f"{one['idle_cpu_percent']:.1f}", "-", "-", "-"]
    return [
        str(one["peers"]), f"{one['rss_mb']:.0f}", f"{one['rss_after_mb']:.0f}", f"{one['idle_cpu_percent']:.1f}",
        f"{one['churn_cpu_percent']:.1f}", f"{one['merges_a_second']:.1f}", f"{one['cpu_ms_a_merge']:.1f}",
    ]  # fmt: skip


def _fresh_row(one: Run) -> list[str]:
    delays = [f"{one[f'{name}_p{percent}_ms']:.0f}" for name in ("quiet", "churning") for percent in (50, 95)]
    merge = one["merge"]
    return [str(one["peers"]), str(one["tries"]), *delays, f"{merge['read_ms']:.2f}", f"{merge['merge_ms']:.1f}"]
