"""One run: traffic while the plan of a seed is carried out, then quiet until all is back, and the history of it."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from support.gateways import fleet

from .failpoints import Scene, Step, plan
from .history import BACK, END, QUIET, Event, History
from .listeners import Listeners
from .model import BACK_S, GATHERED
from .traffic import Known, Traffic

_FOUR = ("g0", "g1", "g2", "g3")
TOPOLOGIES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "chain": {"g0": ("g1",), "g1": ("g2",), "g2": ()},
    # Each with each; what the four agree on has many ways.
    "mesh4": {one: tuple(other for other in _FOUR if other != one) for one in _FOUR},
    # Two that show the same two robots, and do not know of each other; what is declared of the robots is retained.
    "kept": {"a0": ("r0", "r1"), "a1": ("r1", "r0"), "r0": (), "r1": ()},
    "pairs": {"a0": ("r0", "r1"), "a1": ("r1", "r0"), "r0": (), "r1": ()},
    "mesh": {"g0": ("g1", "g2"), "g1": ("g0", "g2"), "g2": ("g0", "g1")},
}
# Of these, what is declared stays listed while its gateway is away.
RETAINING = ("kept",)
HARM_S = 12.0
TICK_S = 0.05


def run(folder: Path, history: History, domains: Sequence[int], harm_s: float = HARM_S) -> None:
    """Carry out the plan of a seed and write down what happens. `domains` is one ROS domain for each gateway.

    RuntimeError when a gateway ends by itself; that is in the history, too.
    """
    setup, seed = history.setup, history.setup.seed
    with fleet(folder) as processes:
        known = Known()
        scene = Scene(processes, setup, domains, history, known)
        try:
            scene.start()
            traffic = Traffic(scene.urls, history, known, seed)
            with Listeners(scene.urls, history, seed) as listeners, traffic:
                # Who was never heard of cannot be confused with anybody.
                _wait_until_back(scene, traffic, listeners, history)
                _harm(scene, plan(setup, harm_s), seed)
                scene.wait_until_ready()
                history.add(Event(time.monotonic(), QUIET))
                _wait_until_back(scene, traffic, listeners, history)
                _ask_once_more(scene, traffic)
            history.add(Event(time.monotonic(), END))
        finally:
            scene.close()


def _harm(scene: Scene, steps: Sequence[Step], seed: int) -> None:
    """Do and undo what is planned; all is undone at the end."""
    random_ = random.Random(f"{seed}/nodes")
    order = itertools.count()
    began = time.monotonic()
    agenda: list[tuple[float, int, Step | Callable[[], None]]] = [(step.at, next(order), step) for step in steps]
    heapq.heapify(agenda)
    held: dict[str, float] = {}
    while agenda:
        # Ends: what is undone is done, and nothing is put on the agenda twice.
        now = time.monotonic() - began
        if agenda[0][0] > now:
            scene.look()
            time.sleep(min(TICK_S, agenda[0][0] - now))
            continue
        _, _, what = heapq.heappop(agenda)
        if not isinstance(what, Step):
            what()
        elif held.get(what.subject, 0.0) <= now:
            undo = scene.do(what, random_)
            if undo is not None:
                held[what.subject] = now + what.lasts
                heapq.heappush(agenda, (now + what.lasts, next(order), undo))


def _wait_until_back(scene: Scene, traffic: Traffic, listeners: Listeners, history: History) -> None:
    """Ask until everybody is listed and heard of at every gateway, or it takes too long; the judge says which."""
    began = time.monotonic()
    deadline = began + BACK_S
    left = list(scene.setup.slots)
    while left and time.monotonic() < deadline:
        scene.look()
        left = [slot for slot in left if not _is_back(scene, traffic, listeners, slot, began)]
        time.sleep(0.2)
    if not left:
        history.add(Event(time.monotonic(), BACK))


def _is_back(scene: Scene, traffic: Traffic, listeners: Listeners, slot: str, since: float) -> bool:
    reachable, queue = {slot}, [slot]
    while queue:
        new = set(scene.setup.links[queue.pop()]) - reachable
        reachable |= new
        queue += sorted(new)
    answer = traffic.own.ask(slot, "apps")
    listed = answer.facts.get("ids", ())
    # Whose place another has taken stays listed where what is declared is retained; it is not asked.
    listed = [pair for pair in listed if pair[0] not in answer.facts.get("unavailable", ())]
    if len(listed) != sum(len(scene.nodes[one]) for one in reachable):
        return False
    for entity, fqn in listed:
        if traffic.own.ask(slot, "parameters", entity, fqn).status != 200:
            return False
    lives = {scene.life(one) for one in reachable}
    faults = (traffic.own.ask(slot, what).facts.get("from", ()) for what in ("faults", "fleet_faults"))
    versions = traffic.own.ask(slot, "versions").facts.get("from", ())
    is_whole = all(lives <= set(found) for found in faults) and len(versions) == len(reachable)
    return is_whole and listeners.have_heard(slot, lives, since)


def _ask_once_more(scene: Scene, traffic: Traffic) -> None:
    """What the judge takes for the end, from every gateway."""
    for slot in scene.setup.slots:
        for entity, fqn in traffic.own.ask(slot, "apps").facts.get("ids", ()):
            traffic.own.ask(slot, "parameters", entity, fqn)
        for what in GATHERED:
            traffic.own.ask(slot, what)
        traffic.own.ask_all_names(slot)
