"""The judge of event streams: what a listener may hear, and what it must (AGGREGATION.md §6, §8). Pure.

Everything is told of one process of the asked gateway: another process counts anew, and replays what it has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .evidence import Evidence, Violation
from .history import Heard
from .listeners import FAULTS, LOCAL_FAULTS, TREE, applied
from .timeline import slot_of

# The longest silence of a gateway that is well: a comment each 30 s and each second, and a busy machine. Three seconds
# on the tree are what a peer takes for absence.
SILENCE_S = {FAULTS: 32.0, LOCAL_FAULTS: 32.0, TREE: 3.0}
PEER_UP, PEER_DOWN, GAP = "peer_up", "peer_down", "gap"
CONNECTION = ("opened", "left", "broken", "ended", "refused", "silence")
# A connection that a process answered just before it ended may be written down just after.
NOTED_S = 0.25


@dataclass
class _Told:
    """What one listener heard from one process of a gateway, over all its connections to it."""

    slot: str
    stream: str
    heard: list[Heard] = field(default_factory=list)


def _by_process(seen: Evidence, *streams: str) -> list[_Told]:
    found: list[_Told] = []
    for records in seen.streams.values():
        told: dict[int, _Told] = {}
        number = -1
        for one in records:
            if one.stream not in streams:
                continue
            if one.what == "opened":
                run = seen.time.run_of(one.gateway, one.at - NOTED_S)
                number = run.number if run is not None else -1
            told.setdefault(number, _Told(one.gateway, one.stream)).heard.append(one)
        found += [one for process, one in told.items() if process >= 0]
    return found


def every_event_once_and_in_order(seen: Evidence) -> Iterator[Violation]:
    """Ids rise, no event comes twice, and those of a robot come in the order in which it reported them."""
    for told in _by_process(seen, FAULTS, LOCAL_FAULTS):
        last = 0
        newest: dict[str, int] = {}
        events: set[tuple[object, ...]] = set()
        for one in told.heard:
            if one.number:
                # The word of a restart comes with the id from which it goes on: the newest there is, 0 for none.
                least = last if one.what == GAP else last + 1
                if not one.number.isdecimal() or int(one.number) < least:
                    yield _wrong("back in time", f"the id {one.number} after {last}", one)
                last = int(one.number) if one.number.isdecimal() else last
            if "life" not in one.facts:
                continue
            life, number = str(one.facts["life"]), int(one.facts["n"])
            event = (one.what, life, number)
            if event in events:
                yield _wrong("heard twice", f"{life} said {number}, and again", one)
            elif number < newest.get(life, 0):
                yield _wrong("out of order", f"{life} said {number} after {newest[life]}", one)
            events.add(event)
            newest[life] = max(newest.get(life, 0), number)


def no_event_is_lost_unsaid(seen: Evidence) -> Iterator[Violation]:
    """Between two events of a robot none is missing that anybody heard, unless `gap` or `peer_down` said so."""
    happened: dict[str, set[int]] = {}
    for records in seen.streams.values():
        for one in records:
            if "life" in one.facts:
                happened.setdefault(str(one.facts["life"]), set()).add(int(one.facts["n"]))
    for told in _by_process(seen, FAULTS, LOCAL_FAULTS):
        before: dict[str, Heard] = {}
        excuses: dict[str, list[Heard]] = {}
        for one in told.heard:
            if one.what in (GAP, PEER_DOWN):
                for life in before:
                    excuses.setdefault(life, []).append(one)
            if "life" not in one.facts:
                continue
            life = str(one.facts["life"])
            previous, said = before.get(life), excuses.pop(life, [])
            before[life] = one
            if previous is None:
                continue
            missing = [n for n in happened[life] if previous.facts["n"] < n < one.facts["n"]]
            if missing and not any(_excuses(seen, excuse, life, (previous, one)) for excuse in said):
                text = f"{life} said {sorted(missing)} after {previous.facts['n']}, and nothing says that it is missing"
                yield _wrong("lost event", text, one)


def a_restart_is_said(seen: Evidence) -> Iterator[Violation]:
    """Who comes back with an id that this process of the gateway has not come to is told that it lost something."""
    for records in seen.streams.values():
        last = 0
        for one in records:
            if one.stream == TREE:
                continue
            if one.what == "opened":
                last = int(one.facts["last"] or 0)
            elif one.what == GAP:
                last = 0
            elif one.number.isdecimal() and last:
                if int(one.number) <= last:
                    text = f"the ids begin anew after {last}, and nothing says that events are missing"
                    yield _wrong("lost event", text, one)
                last = 0


def _excuses(seen: Evidence, excuse: Heard, life: str, around: tuple[Heard, Heard]) -> bool:
    """Whether a `gap` or `peer_down` is about this robot, or about a gateway on the way that its events came."""
    label = excuse.facts.get("peer")
    if label is None or label.split("/")[-1] == slot_of(life):
        return True
    ways = [str(one.facts.get("peer", "")) for one in around]
    if any(way.startswith(f"{label}/") for way in ways):
        return True
    # Where addresses are swapped, a way has other names than its links.
    links = seen.time.between(excuse.gateway, slot_of(life))
    return seen.time.is_swapped(links, around[0].at - SWAPPED_S, around[1].at)


# Names of a time when addresses were swapped are heard as long after it.
SWAPPED_S = 10.0


def streams_are_as_documented(seen: Evidence) -> Iterator[Violation]:
    """A gateway that is well is never silent for longer than it says, and neither ends, breaks nor refuses a stream."""
    for records in seen.streams.values():
        for one in records:
            is_hurt = seen.time.is_hurt([one.gateway], one.at - 0.5, one.at + 0.5)
            if "bad" in one.facts:
                yield _wrong("undocumented", f"the event is not as documented: {one.facts['bad']}", one)
            elif one.what == "silence":
                seconds = float(one.facts["seconds"])
                if seconds > SILENCE_S[one.stream] and not seen.time.is_hurt([one.gateway], one.at - seconds, one.at):
                    yield _wrong("silent", f"nothing for {seconds} s", one)
            elif one.what == "ended":
                yield _wrong("undocumented", "the gateway ended a stream that has no end", one)
            elif one.what in ("broken", "refused") and not is_hurt:
                # Silence has a rule of its own.
                if not str(one.facts.get("error", "")).startswith("ReadTimeout"):
                    yield _wrong("undocumented", f"a stream is {one.what} by a gateway that is well", one)
            elif "peer" in one.facts and not _is_known(seen, one):
                text = f"'{one.facts['peer']}' is nobody that {one.gateway} knows by this name"
                yield _wrong("undocumented", text, one)


def _is_known(seen: Evidence, one: Heard) -> bool:
    """Whether a label names a way; where nobody ever takes another's address, the way to the one who said it."""
    names = str(one.facts["peer"]).split("/")
    if names[0] not in seen.time.links[one.gateway] or not seen.time.links.keys() >= set(names):
        return False
    if seen.time.swaps or any(len({run.life for run in runs}) > 1 for runs in seen.time.runs.values()):
        # Ways have other names than links, and who was exchanged is remembered by the name of its place.
        return True
    places = [one.gateway, *names]
    is_way = all(peer in seen.time.links[place] for place, peer in itertools.pairwise(places))
    return (
        is_way
        and len(places) == len(set(places))
        and ("life" not in one.facts or slot_of(str(one.facts["life"])) == names[-1])
    )


def followed_trees_are_the_trees(seen: Evidence) -> Iterator[Violation]:
    """Who follows the changes has what who fetches the whole has, version for version, and it never goes back."""
    versions: dict[tuple[str, int], Mapping[str, Any]] = {}
    for ask, _ in seen.asks:
        if ask.what == "tree" and ask.status == 200 and "origins" in ask.facts:
            versions.setdefault((str(ask.facts["boot"]), int(ask.facts["seq"])), ask.facts["origins"])
    for told in _by_process(seen, TREE):
        newest: dict[tuple[str, str], list[Any]] = {}
        tree: dict[str, Any] = {}
        for one in told.heard:
            if one.what == "opened":
                tree = {key: one.facts[key] for key in ("boot", "seq", "origins")}
            elif one.what not in CONNECTION and tree and "bad" not in one.facts:
                is_place = one.facts["base"] == one.facts["seq"] and not one.facts["set"]
                after = applied(tree, one.facts, one.number)
                if not after and not is_place:
                    yield _wrong("undocumented", f"a change of another tree than {tree['seq']}", one)
                tree = after
            if not tree:
                continue
            expected = versions.setdefault((tree["boot"], tree["seq"]), tree["origins"])
            if _ages(expected) != _ages(tree["origins"]):
                yield _wrong("undocumented", f"the followed tree {tree} is {dict(expected)} when fetched", one)
            for origin, age in tree["origins"].items():
                before = newest.setdefault((tree["boot"], origin), age)
                if list(age) < list(before):
                    yield _wrong("back in time", f"origin {origin} was {before}, and is now {age}", one)
                newest[tree["boot"], origin] = max(list(before), list(age))


def _ages(origins: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {origin: list(age) for origin, age in origins.items()}


def streams_are_back_at_the_end(seen: Evidence) -> Iterator[Violation]:
    """After the last harm every stream tells of everybody, and of nobody that is away."""
    time = seen.time
    for records in seen.streams.values():
        told = next((one for one in reversed(_by_process(seen, FAULTS)) if one.heard[-1] is records[-1]), None)
        if told is None:
            continue
        reachable = time.reachable(told.slot)
        heard = {str(one.facts["life"]) for one in told.heard if one.at >= time.quiet and "life" in one.facts}
        missing = {time.current_life(one) for one in reachable} - heard
        if missing:
            yield Violation(
                "not back", f"listener {records[-1].client} at {told.slot} heard nothing of {sorted(missing)}"
            )
        # Whose place another has taken is away for as long as it is remembered.
        if time.swaps or any(len({run.life for run in time.runs[one]}) > 1 for one in reachable):
            continue
        said = {str(one.facts["peer"]): one for one in told.heard if one.what in (PEER_UP, PEER_DOWN)}
        for label, one in said.items():
            if one.what == PEER_DOWN:
                yield _wrong("not back", f"{told.slot} said that '{label}' is down, and never that it is up", one)


def _wrong(rule: str, text: str, one: Heard) -> Violation:
    where = f"listener {one.client} at {one.gateway}, {one.stream}, {one.at:.3f}"
    return Violation(rule, f"{text}\n    {where} {one.what} {one.number} {dict(one.facts)}")


STREAM_RULES: tuple[Callable[[Evidence], Iterator[Violation]], ...] = (
    every_event_once_and_in_order,
    no_event_is_lost_unsaid,
    a_restart_is_said,
    streams_are_as_documented,
    followed_trees_are_the_trees,
    streams_are_back_at_the_end,
)
