"""`./scripts/demo --once`: the multi-instance tutorial's steps 1, 2, 3, 5 and 6, each claim of it checked once.

One line a check. A check that fails does not end the run, so that one sees all that is wrong; a gateway that does not
start does.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx

from .fleet import Fleet, Site
from .processes import until

KINDS = ("areas", "components", "apps", "functions")

REFRESH_WITHIN_S = 15.0
"""The tutorial's refresh takes 10 s; what follows it has to be there a little later."""


class Checks:
    """Prints each check as it is made and counts."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0
        self._step = ""

    def step(self, number: int, title: str) -> None:
        """Begins a step of the tutorial."""
        self._step = f"step {number}"
        print(f"\nStep {number}: {title}", flush=True)

    def check(self, claim: str, test: Callable[[], bool], within_s: float = 0.0) -> bool:
        """Makes one check, again and again until it holds or `within_s` is over. An exception is a failure."""
        reason = ""

        def holds() -> bool:
            nonlocal reason
            try:
                reason = ""
                return test()
            except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
                reason = f" ({type(error).__name__}: {error})"
                return False

        began = time.monotonic()
        ok = until(holds, within_s)
        took = f" after {time.monotonic() - began:.1f} s" if within_s else ""
        print(f"  {'ok    ' if ok else 'FAILED'}  {self._step}: {claim}{took}{'' if ok else reason}", flush=True)
        self.passed += ok
        self.failed += not ok
        return ok


class Gateway:
    """A few calls that a user makes with curl."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=f"{url}/api/v1", timeout=10.0, trust_env=False)

    def get(self, path: str) -> httpx.Response:
        """GET below /api/v1, whatever the status."""
        return self._client.get(path)

    def json(self, path: str) -> Any:
        """The body of a 200. Raises ValueError for any other status."""
        answer = self.get(path)
        if answer.status_code != 200:
            raise ValueError(f"GET {path}: {answer.status_code} {answer.text[:200]}")
        return answer.json()

    def ids(self, kind: str) -> set[str]:
        """Ids of a collection."""
        return {item["id"] for item in self.json(f"/{kind}")["items"]}

    def remote(self, kind: str) -> dict[str, str]:
        """Ids of the entities of peers, with their `source`."""
        items = self.json(f"/{kind}")["items"]
        sources = {item["id"]: item.get("source") or item.get("x-medkit", {}).get("source", "") for item in items}
        return {entity: source for entity, source in sources.items() if source.startswith("peer:")}

    def peers(self) -> dict[str, str]:
        """`/health.peers` as name to status; empty when aggregation is off."""
        return {peer["name"]: peer["status"] for peer in self.json("/health").get("peers", [])}

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()


def run_checks() -> int:
    """Runs all steps on this machine; 0 when every check passed, else 1."""
    began = time.monotonic()
    checks = Checks()
    (domain_a, port_a), (domain_b, port_b), (domain_c, port_c) = Fleet.places(3)
    c = Site("gateway_c", "gripper", "b", domain_c, port_c)
    b = Site("gateway_b", "arm_controller", "b", domain_b, port_b)
    a = Site("gateway_a", "robot_a", "a", domain_a, port_a)
    with Fleet(show=False) as fleet:
        for site in (a, b):
            fleet.start_robot(site)
        _two_gateways(checks, fleet, a, b)
        a.peers = {"subsystem_b": b.url}
        _static_peers(checks, fleet, a)
        _merged(checks, a, b)
        _failures(checks, fleet, a, b)
        _chain(checks, fleet, a, b, c)
        clean = fleet.stop_all()
        checks.check("robots and gateways end within 5 s", lambda: clean)
    print(f"\n{checks.passed} passed, {checks.failed} failed in {time.monotonic() - began:.0f} s", flush=True)
    return 1 if checks.failed else 0


def _two_gateways(checks: Checks, fleet: Fleet, a: Site, b: Site) -> None:
    checks.step(1, "two gateways")
    for site, namespace in ((a, "/subsystem_a"), (b, "/subsystem_b")):
        component = f"discovery.runtime.default_component.id:={site.component}"
        command = fleet.start_gateway(
            site, remap=[f"__ns:={namespace}"], parameters=[f"server.port:={site.port}", component]
        )
        print(f"          {' '.join(command)}")
        gateway = Gateway(site.url)
        checks.check(f"{site.name} is healthy", lambda g=gateway: g.json("/health")["status"] == "healthy")  # type: ignore[misc]
        checks.check(
            f"{site.name} lists its own node and its robot's",
            lambda g=gateway, s=site: s.name in g.ids("apps") and len(g.ids("apps")) > 3,  # type: ignore[misc]
            within_s=10,
        )
        checks.check(f"{site.name} has no peers", lambda g=gateway: "peers" not in g.json("/health"))  # type: ignore[misc]
        gateway.close()


def _static_peers(checks: Checks, fleet: Fleet, a: Site) -> None:
    checks.step(2, "a static peer")
    in_time, code = fleet.stop_gateway(a)
    checks.check("gateway_a ends on Ctrl-C within 5 s, exit code 0", lambda: in_time and code == 0)
    print(f"          {' '.join(fleet.start_gateway(a))}")
    gateway = Gateway(a.url)
    checks.check(
        "the parameter file applies to the renamed node, and subsystem_b is online",
        lambda: gateway.peers() == {"subsystem_b": "online"},
        within_s=REFRESH_WITHIN_S,
    )
    gateway.close()


def _merged(checks: Checks, a: Site, b: Site) -> None:
    checks.step(3, "one API for both")
    one, two = Gateway(a.url), Gateway(b.url)
    checks.check(
        f"/components lists {a.component}, and {b.component} with source peer:subsystem_b",
        lambda: a.component in one.ids("components") and one.remote("components") == {b.component: "peer:subsystem_b"},
        within_s=REFRESH_WITHIN_S,
    )
    checks.check("/areas answers", lambda: isinstance(one.json("/areas")["items"], list))
    checks.check("/functions holds those of both", lambda: one.ids("functions") >= two.ids("functions"), within_s=5)
    checks.check(
        "every app of gateway_b is listed", lambda: len(one.remote("apps")) >= len(two.ids("apps")), within_s=5
    )
    checks.check(
        f"/components/{b.component}/data is forwarded",
        lambda: len(one.json(f"/components/{b.component}/data")["items"]) > 0,
        within_s=5,
    )
    checks.check(
        "every listed entity answers",
        lambda: all(_answers(one, kind, entity) for kind in KINDS for entity in one.ids(kind)),
    )
    app, topic = remote_topic(one)
    path = f"/apps/{app}/data/{quote(topic.lstrip('/'), safe='')}"
    checks.check(f"GET {path} brings a value from the other robot", lambda: _has_value(one.json(path)), within_s=5)
    one.close()
    two.close()


def _failures(checks: Checks, fleet: Fleet, a: Site, b: Site) -> None:
    checks.step(5, "a peer that goes and comes back")
    gateway = Gateway(a.url)
    before = {kind: gateway.remote(kind) for kind in KINDS}
    app = next(iter(before["apps"]), "none")
    known = gateway.json(f"/apps/{app}").get("name", app) if before["apps"] else app
    in_time, code = fleet.stop_gateway(b)
    checks.check("gateway_b ends within 5 s, exit code 0", lambda: in_time and code == 0)
    checks.check(
        "its entities leave the lists", lambda: not any(gateway.remote(k) for k in KINDS), within_s=REFRESH_WITHIN_S
    )
    checks.check("the local ones stay", lambda: a.component in gateway.ids("components"))

    def partial() -> bool:
        notes = gateway.json("/faults")["x-medkit"]
        return notes["partial"] is True and "subsystem_b" in notes["failed_peers"]

    checks.check("/faults is partial and names subsystem_b", partial)
    checks.check(f"/apps/{app}/data answers 502", lambda: gateway.get(f"/apps/{app}/data").status_code == 502)
    alias = f"subsystem_b__{known}"
    checks.check(f"/apps/{alias}/data answers 502", lambda: gateway.get(f"/apps/{alias}/data").status_code == 502)
    checks.check("/health says offline", lambda: gateway.peers() == {"subsystem_b": "offline"}, within_s=5)
    fleet.start_gateway_again(b)
    checks.check(
        "started again, it is back under the same ids",
        lambda: {kind: gateway.remote(kind) for kind in KINDS} == before,
        within_s=REFRESH_WITHIN_S,
    )
    checks.check(
        "/faults is whole again", lambda: "partial" not in gateway.json("/faults").get("x-medkit", {}), within_s=5
    )
    gateway.close()


def _chain(checks: Checks, fleet: Fleet, a: Site, b: Site, c: Site) -> None:
    checks.step(6, "a chain of three")
    fleet.stop_gateway(a)
    fleet.stop_gateway(b)
    fleet.start_robot(c)
    b.peers = {"leaf_system": c.url}
    a.peers = {"mid_level": b.url}
    for site in (c, b, a):
        fleet.start_gateway(site)
    top, leaf = Gateway(a.url), Gateway(c.url)
    checks.check(
        "gateway_a lists the components of all three",
        lambda: {a.component, b.component, c.component} <= top.ids("components"),
        within_s=2 * REFRESH_WITHIN_S,
    )
    checks.check(
        f"/components/{c.component}/data is forwarded over two hops",
        lambda: len(top.json(f"/components/{c.component}/data")["items"]) > 0,
        within_s=5,
    )
    checks.check(
        "it is what gateway_c says itself",
        lambda: _topics(top, c.component) == _topics(leaf, c.component),
        within_s=5,
    )
    fleet.stop_gateway(c)
    checks.check(
        f"without gateway_c, {c.component} answers 502 at the top",
        lambda: top.get(f"/components/{c.component}/data").status_code == 502,
        within_s=REFRESH_WITHIN_S,
    )
    top.close()
    leaf.close()


def remote_topic(gateway: Gateway) -> tuple[str, str]:
    """A remote app and one of its own topics that it publishes; ("none", "none") when there is none."""
    for app in gateway.remote("apps"):
        for item in gateway.json(f"/apps/{app}/data")["items"]:
            ros = item.get("x-medkit", {}).get("ros2", {})
            topic = str(ros.get("topic", item["id"]))
            if ros.get("direction") in ("publish", "both") and topic not in ("/rosout", "/parameter_events"):
                return app, topic
    print("          no remote app publishes anything", file=sys.stderr)
    return "none", "none"


def _answers(gateway: Gateway, kind: str, entity: str) -> bool:
    answer = gateway.get(f"/{kind}/{quote(entity, safe='')}")
    return answer.status_code == 200 and answer.json()["id"] == entity


def _has_value(item: dict[str, Any]) -> bool:
    return bool(item["data"]) and item["x-medkit"]["status"] == "data"


def _topics(gateway: Gateway, component: str) -> set[str]:
    return {item["id"] for item in gateway.json(f"/components/{component}/data")["items"]}
