"""`./scripts/demo`: two robots, a gateway on each, the first showing both, and a third that asks for tokens.

`--once` goes through the tutorial by itself instead (self_check.py). No part of the gateway: it is a user of it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from .fleet import Fleet, Site, ready
from .processes import StartFailed
from .self_check import run_checks

# An app and a topic of robot b, for the commands that are printed.
REMOTE_APP = "pressure_sensor"
REMOTE_TOPIC = "chassis%2Fbrakes%2Fpressure"


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


# It is a demo on one machine: everybody may know them.
CLIENTS = ("viewer:only-looking:viewer", "operator:drive-with-care:operator")
VIEWER = "-d client_id=viewer -d client_secret=only-looking"


def sites() -> tuple[Site, Site, Site]:
    """The two machines of the demo and an office, in free ROS domains and on free ports from 8080 on."""
    (domain_a, port_a), (domain_b, port_b), (domain_office, port_office) = Fleet.places(3)
    b = Site("gateway_b", "arm_controller", "b", domain_b, port_b)
    a = Site("gateway_a", "robot_a", "a", domain_a, port_a, {"subsystem_b": b.url})
    office = Site("gateway_office", "office", "", domain_office, port_office, {"robot": a.url}, CLIENTS)
    return a, b, office


def guide(a: Site, b: Site, office: Site) -> str:
    """What to open and what to type."""
    api = f"{a.url}/api/v1"
    return f"""
Two robots are running, each in a ROS domain of its own ({a.domain} and {b.domain}), and a gateway on each.
gateway_a ({a.url}) shows robot_a, and arm_controller behind gateway_b ({b.url}) as if it were its own.
gateway_office ({office.url}) shows everything of gateway_a; who wants to change something there has to log in.

  Open     {api}/swagger-ui

  Try      curl -s {api}/components
           curl -s {api}/apps
           curl -s {api}/functions
           curl -s {api}/health
  Remote   curl -s {api}/components/arm_controller/data
           curl -s {api}/apps/{REMOTE_APP}/data/{REMOTE_TOPIC}
  Faults   curl -s {api}/faults
  Log in   curl -s {office.url}/api/v1/auth/authorize -d grant_type=client_credentials {VIEWER}

docs/tour.md goes on from here: services, actions, parameters, faults and their stream, logs, tokens.

Ctrl-C stops everything. What the gateways say comes below.
"""


def watch(show: bool = True) -> int:
    """Runs the demo until it is interrupted. Exit code: 0, or 1 when a child failed."""
    a, b, office = sites()
    with Fleet(show) as fleet:
        print(f"Starting robot_a in ROS domain {a.domain} and arm_controller in ROS domain {b.domain} ...", flush=True)
        fleet.start_robot(a)
        fleet.start_robot(b)
        for site in (b, a, office):
            print(f"Starting {site.name} on port {site.port} ...", flush=True)
            fleet.start_gateway(site)
        print("Waiting until gateway_a shows both robots ...", flush=True)
        fleet.wait_for(a, f"/apps/{REMOTE_APP}/data/{REMOTE_TOPIC}")
        print(guide(a, b, office), flush=True)
        try:
            while not (ended := fleet.ended()):
                time.sleep(0.5)
            print(f"ended by itself: {', '.join(ended)}", file=sys.stderr)
        except KeyboardInterrupt:
            print("\nStopping ...", flush=True)
            clean = fleet.stop_all()
            print("All stopped." if clean else "All stopped, not all by themselves.", flush=True)
            return 0
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of the demo."""
    parser = argparse.ArgumentParser(prog="demo", description="Two robots and two gateways on this machine.")
    parser.add_argument("--once", action="store_true", help="check the tutorial's steps, then exit with 0 or 1")
    arguments = parser.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if problem := ready():
        print(problem, file=sys.stderr)
        return 1
    try:
        return run_checks() if arguments.once else watch()
    except StartFailed as error:
        print(f"The demo could not start: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130 if arguments.once else 0


if __name__ == "__main__":
    sys.exit(main())
