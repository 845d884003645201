"""Real gateways and robots, what can be done to them, and when: all of it written into the history.

A *place* (`g1`) is a port and a ROS domain. Who lives there is a gateway process with a robot; `replace` gives it to
another robot, with another gateway identity, as when a robot is exchanged and the new one gets the old address.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from support.gateways import Fleet, Gateway, Process, free_port
from support.proxy import Proxy
from support.waiting import eventually

from .history import (
    CHANGED,
    CHANGING,
    DEAD,
    DIED,
    DYING,
    FREEZING,
    LINK,
    READY,
    RECEIVED,
    SPAWNED,
    STALL,
    SWAP,
    THAWED,
    Event,
    History,
    Setup,
)
from .traffic import Known

START_S = 60.0
# A thread that sleeps 50 ms and wakes so much later was not run: the machine is overloaded, or was suspended.
STALL_S = 0.75
SLOW_S = 0.15
# The node that is always there, and that reports the fault.
MANIFEST = """manifest_version: "1.0"
components:
  - id: fleet
    name: The fleet
apps:
  - id: bot_{slot}
    name: The bot of {slot}
    is_located_on: fleet
    ros_binding: {{node_name: bot_{slot}}}
"""

# What can be done: to places, to links, and to a place that asks two others (`swap`: they exchange their addresses).
TO_PLACES = ("kill", "replace", "freeze", "nodes")
TO_LINKS = ("cut", "halt", "half", "slow")
# Several steps: all ways to a place are held but one; it gets other nodes, and then that one way is cut. Who asked over
# it is left with what was so before.
OUTDATE = "outdate"
# When the nodes change, and when the way is cut: whoever asks over it knows by then, and those whose ways are held have
# not noticed yet (3 s of silence).
CHANGE_S, CUT_S, OUTDATED_S = 0.2, 1.6, 4.0


@dataclass(frozen=True)
class Step:
    """At `at` seconds of the run do something to a place or a link, and undo it after `lasts` seconds."""

    at: float
    deed: str
    subject: str
    lasts: float


def plan(setup: Setup, seconds: float) -> list[Step]:
    """What happens in a run of this length; the same for the same seed."""
    random_ = random.Random(f"{setup.seed}/{setup.topology}")
    links = [f"{place}>{peer}" for place, peers in setup.links.items() for peer in peers]
    forks = [place for place, peers in setup.links.items() if len(peers) > 1]
    owners = [
        (place, peer) for place, peers in setup.links.items() for peer in peers if _other_ways(setup, place, peer)
    ]
    deeds = [*TO_PLACES, *TO_LINKS, *([SWAP] if forks else []), *([OUTDATE] if owners else [])]
    steps: list[Step] = []
    deck: list[str] = []
    at = 0.5
    if owners:
        # Once while nothing else disturbs it; afterwards as one of many.
        steps += _outdate(setup, *random_.choice(owners), at)
        at += OUTDATED_S
    while at < seconds - 2.0:
        # A deck, not a die: nearly every run has each of them.
        deck = deck or random_.sample(deeds, len(deeds))
        deed = deck.pop()
        if deed == OUTDATE:
            steps += _outdate(setup, *random_.choice(owners), round(at, 2))
            at += OUTDATED_S
            continue
        subject = random_.choice(links if deed in TO_LINKS else forks if deed == SWAP else list(setup.slots))
        lasts = random_.uniform(0.3, {"kill": 3.0, "freeze": 8.0}.get(deed, 5.0))
        steps.append(Step(round(at, 2), deed, subject, round(min(lasts, seconds - at), 2)))
        at += random_.uniform(0.3, 2.2)
    return steps


def _other_ways(setup: Setup, asker: str, owner: str) -> list[str]:
    """The links to a place of those that an asker of it asks as well."""
    return [f"{place}>{owner}" for place in setup.links[asker] if owner in setup.links[place]]


def _outdate(setup: Setup, asker: str, owner: str, at: float) -> list[Step]:
    held = [Step(at, "halt", link, OUTDATED_S) for link in _other_ways(setup, asker, owner)]
    changed = Step(round(at + CHANGE_S, 2), "nodes", owner, 0.0)
    return [*held, changed, Step(round(at + CUT_S, 2), "cut", f"{asker}>{owner}", OUTDATED_S - CUT_S)]


class Robots(Process):
    """The program `robot.py`, one process for all robots."""

    def __init__(self, domains: Mapping[str, int], history: History) -> None:
        words = [f"{slot}={domain}" for slot, domain in domains.items()]
        super().__init__([sys.executable, str(Path(__file__).with_name("robot.py")), *words])
        self._history = history
        self._told: dict[str, tuple[str, list[str]]] = {}

    def spawn(self) -> None:
        self._child = subprocess.Popen(
            self.command, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def become(self, slot: str, life: str, nodes: Sequence[str]) -> None:
        """Have the robot of a place be this one, with these nodes, and wait until it is."""
        assert self._child is not None and self._child.stdin is not None
        self._history.add(Event(time.monotonic(), CHANGING, slot))
        order = (life, list(nodes))
        self._child.stdin.write(json.dumps({"slot": slot, "life": life, "nodes": order[1]}) + "\n")
        self._child.stdin.flush()
        eventually(lambda: self._told.get(slot) == order, within=START_S)

    def _read(self) -> None:
        assert self._child is not None and self._child.stdout is not None
        for line in self._child.stdout:
            said = json.loads(line)
            if "owner" in said:
                facts = {"owner": said["owner"], "value": said["value"]}
                self._history.add(Event(said["at"], RECEIVED, facts=facts))
            else:
                facts = {"life": said["life"], "nodes": said["nodes"]}
                self._history.add(Event(said["at"], CHANGED, said["slot"], facts))
                self._told[said["slot"]] = (said["life"], said["nodes"])


class Scene:
    """The gateways and robots of a setup, each link through a proxy of its own; all methods from one thread."""

    def __init__(self, fleet: Fleet, setup: Setup, domains: Sequence[int], history: History, known: Known) -> None:
        self.setup = setup
        self._fleet = fleet
        self._history = history
        self._known = known
        self._domains = dict(zip(setup.slots, domains, strict=True))
        self._ports = {slot: free_port() for slot in setup.slots}
        self._proxies = {
            f"{slot}>{peer}": Proxy(self._ports[peer]) for slot, peers in setup.links.items() for peer in peers
        }
        self._lives = dict.fromkeys(setup.slots, 1)
        self.nodes = {slot: self._usual(slot) for slot in setup.slots}
        self._gateways: dict[str, Gateway] = {}
        self._starting: set[str] = set()
        self._frozen: set[str] = set()
        self._down: set[str] = set()
        self._hurts: dict[str, set[str]] = {}
        self._robots = Robots(self._domains, history)
        fleet.processes.append(self._robots)
        self._closed = threading.Event()

    @property
    def urls(self) -> dict[str, str]:
        return {slot: f"http://127.0.0.1:{port}" for slot, port in self._ports.items()}

    def life(self, slot: str) -> str:
        return f"{slot}.{self._lives[slot]}"

    @staticmethod
    def _usual(slot: str) -> list[str]:
        # The first is always there and reports the fault; the others have the same names everywhere.
        return [f"/bot_{slot}", "/bot_nav", "/arm/bot_cam"]

    def start(self) -> None:
        """Start everything at once and wait until all gateways answer."""
        threading.Thread(target=self._watch_machine, daemon=True).start()
        self._robots.spawn()
        for slot in self.setup.slots:
            self._spawn(slot)
        for slot in self.setup.slots:
            self._robots.become(slot, self.life(slot), self.nodes[slot])
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until no gateway is starting any more."""
        eventually(lambda: not self.look(), within=START_S, message=lambda: self.output(*self._starting))

    def output(self, *slots: str) -> str:
        """What gateways said, the ends of it."""
        return "\n".join(f"== {slot}\n{self._gateways[slot].output[-4000:]}" for slot in slots or self.setup.slots)

    def close(self) -> None:
        """Let go of everything that is held; the processes are ended by the fleet."""
        self._closed.set()
        for slot in list(self._frozen):
            self._thaw(slot)
        for proxy in self._proxies.values():
            proxy.close()

    def look(self) -> set[str]:
        """See which gateways have become ready; gives those that have not. RuntimeError when one ended by itself."""
        for slot, gateway in self._gateways.items():
            if gateway.returncode is not None and slot not in self._down:
                said = f"{slot} ended by itself with {gateway.returncode}:\n{gateway.output[-4000:]}"
                self._note(DIED, slot, {"said": said})
                raise RuntimeError(said)
        for slot in self._starting - self._frozen:
            gateway = self._gateways[slot]
            try:
                answer = gateway.client.get("/health", timeout=2.0)
            except httpx.TransportError:
                continue
            self._starting.discard(slot)
            facts = {"life": self.life(slot), "instance": answer.json()["x-medkit"]["instance_id"]}
            self._note(READY, slot, facts)
        return self._starting

    # What can be done

    def do(self, step: Step, random_: random.Random) -> Callable[[], None] | None:
        """Do what a step says; gives what undoes it, None when it cannot be done now."""
        slot = step.subject
        if step.deed in ("kill", "replace", "freeze") and slot in (self._down | self._frozen | self._starting):
            return None
        if step.deed == "kill":
            return self._kill(slot, lambda: None)
        if step.deed == "replace":
            return self._kill(slot, lambda: self._move_in(slot))
        if step.deed == "freeze":
            self._note(FREEZING, slot)
            self._frozen.add(slot)
            self._gateways[slot].send(signal.SIGSTOP)
            return lambda: self._thaw(slot)
        if step.deed == "nodes":
            if slot in self._down:
                return None
            self._have(slot, self._other_nodes(slot, random_))
            return None
        if step.deed == SWAP:
            return self._swap(slot, random_)
        return self._hurt_link(step.deed, slot)

    def _hurt_link(self, deed: str, link: str) -> Callable[[], None]:
        proxy = self._proxies[link]
        self._link(link, deed, True)
        {"cut": proxy.cut, "halt": proxy.freeze, "half": proxy.half_open, "slow": lambda: proxy.slow(SLOW_S)}[deed]()

        def restore() -> None:
            proxy.restore()
            self._link(link, deed, False)

        return restore

    def _link(self, link: str, deed: str, begins: bool) -> None:
        """Write down what a link is now; it is open when nothing is done to it any more."""
        hurts = self._hurts.setdefault(link, set())
        (hurts.add if begins else hurts.discard)(deed)
        self._note(LINK, link, {"state": "+".join(sorted(hurts)) or "open"})

    def _swap(self, slot: str, random_: random.Random) -> Callable[[], None]:
        """Two of those that a gateway asks have each other's address, as it sees them."""
        one, other = random_.sample(sorted(self.setup.links[slot]), 2)
        links = [f"{slot}>{one}", f"{slot}>{other}"]
        for link, target in zip(links, (other, one), strict=True):
            self._link(link, SWAP, True)
            self._proxies[link].lead_to(self._ports[target])

        def back() -> None:
            for link, target in zip(links, (one, other), strict=True):
                self._proxies[link].lead_to(self._ports[target])
                self._link(link, SWAP, False)

        return back

    def _kill(self, slot: str, before_the_next: Callable[[], None]) -> Callable[[], None]:
        self._note(DYING, slot)
        self._down.add(slot)
        self._gateways[slot].kill()
        self._note(DEAD, slot)

        def again() -> None:
            before_the_next()
            self._down.discard(slot)
            self._spawn(slot)

        return again

    def _move_in(self, slot: str) -> None:
        """Another robot in this place: other nodes of the same names, and a gateway that nobody knows."""
        self._lives[slot] += 1
        self._known.forget(slot)
        self._have(slot, self._usual(slot))

    def _have(self, slot: str, nodes: list[str]) -> None:
        self.nodes[slot] = nodes
        self._robots.become(slot, self.life(slot), nodes)

    def _other_nodes(self, slot: str, random_: random.Random) -> list[str]:
        pool = [*self._usual(slot)[1:], "/leg/bot_cam", "/bot_nav2", "/arm/bot_nav"]
        # Some leave and some come: drawn from those that are not there, and from those that are.
        new = [one for one in pool if one not in self.nodes[slot]]
        old = [one for one in pool if one in self.nodes[slot]]
        kept = random_.sample(old, random_.randint(0, len(old) - 1))
        come = random_.sample(new, random_.randint(1, min(len(new), 3 - len(kept))))
        return [f"/bot_{slot}", *sorted([*kept, *come])]

    def _thaw(self, slot: str) -> None:
        self._gateways[slot].send(signal.SIGCONT)
        self._frozen.discard(slot)
        self._note(THAWED, slot)

    def _spawn(self, slot: str) -> None:
        peers = self.setup.links[slot]
        parameters: dict[str, Any] = {
            "gateway.name": slot,
            "aggregation.enabled": True,
            "aggregation.timeout_ms": 1000,
            "aggregation.peer_names": list(peers) or [""],
            "aggregation.peer_urls": [self._proxies[f"{slot}>{peer}"].url for peer in peers] or [""],
            "discovery.runtime.default_component.id": "fleet",
            "aggregation.unreachable": "retain" if self.setup.retain else "drop",
            # A busy machine must not make a node silent for a minute.
            "parameter_service_negative_cache_sec": 1.0,
        }
        if self.setup.retain:
            declared = self._fleet.folder / f"{slot}.yaml"
            declared.write_text(MANIFEST.format(slot=slot))
            parameters |= {"discovery.mode": "hybrid", "discovery.manifest_path": str(declared)}
        if slot in self._gateways:
            self._gateways[slot].client.close()
        state = self._fleet.folder / f"state-{self.life(slot)}"
        gateway = Gateway(state, self._domains[slot], port=self._ports[slot], node=slot, parameters=parameters)
        self._gateways[slot] = gateway
        self._fleet.processes.append(gateway)
        self._starting.add(slot)
        self._note(SPAWNED, slot)
        gateway.spawn()

    def _note(self, what: str, subject: str, facts: Mapping[str, Any] | None = None) -> None:
        self._history.add(Event(time.monotonic(), what, subject, facts or {}))

    def _watch_machine(self) -> None:
        before = time.monotonic()
        while not self._closed.wait(0.05):
            now = time.monotonic()
            if now - before > STALL_S:
                self._history.add(Event(now, STALL, facts={"seconds": round(now - before, 3)}))
            before = now
