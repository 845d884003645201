"""What a history says was so at which time: who lived where, what was hurt, which nodes a robot had. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from .history import (
    BACK,
    CHANGED,
    CHANGING,
    DEAD,
    DIED,
    DYING,
    FREEZING,
    LINK,
    QUIET,
    READY,
    SPAWNED,
    STALL,
    SWAP,
    THAWED,
    Event,
    History,
)


@dataclass(frozen=True)
class Span:
    """From `start` to `end`, both included; `end` is infinite while it lasts."""

    start: float
    end: float = inf

    def meets(self, start: float, end: float) -> bool:
        """Whether there is a moment in both."""
        return self.start <= end and start <= self.end


@dataclass(frozen=True)
class Run:
    """One process of a gateway: the life it leads (`g1.2`: the second robot at this place), and when."""

    slot: str
    life: str
    number: int
    instance: str
    span: Span


@dataclass
class Timeline:
    """The events of a history, by what they say."""

    runs: dict[str, list[Run]] = field(default_factory=dict)
    hurt: dict[str, list[Span]] = field(default_factory=dict)
    # when a gateway surely answered nobody: dead until it is started again, or frozen
    away: dict[str, list[Span]] = field(default_factory=dict)
    stalls: list[Span] = field(default_factory=list)
    # owner, `life:fqn`: when it was surely there
    present: dict[str, list[Span]] = field(default_factory=dict)
    # owner: when it can have been there: from before it came until after it left
    possible: dict[str, list[Span]] = field(default_factory=dict)
    # life: the nodes that it had at last
    last_nodes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    # link: when it began or ended to lead elsewhere
    swaps: dict[str, list[float]] = field(default_factory=dict)
    died: list[str] = field(default_factory=list)
    quiet: float = inf
    # when all was seen to be there
    backs: list[float] = field(default_factory=list)
    links: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, history: History) -> Timeline:
        """The timeline of a history."""
        found = cls(links=dict(history.setup.links))
        events = sorted(history.events, key=lambda event: event.at)
        for slot in history.setup.slots:
            found._gateway(slot, [event for event in events if event.subject == slot])
        for event in events:
            if event.what == STALL:
                found.stalls.append(Span(event.at - float(event.facts["seconds"]), event.at))
            elif event.what == DIED:
                found.died.append(str(event.facts["said"]))
            elif event.what == QUIET:
                found.quiet = event.at
            elif event.what == BACK:
                found.backs.append(event.at)
        for link in {event.subject for event in events if event.what == LINK}:
            found._link(link, [event for event in events if event.what == LINK and event.subject == link])
        return found

    def _gateway(self, slot: str, events: Sequence[Event]) -> None:
        runs: list[Run] = []
        hurt: list[Span] = []
        spawned: Event | None = None
        began: float | None = -inf
        frozen: float | None = None
        changing: float | None = None
        dead: float | None = None
        away = self.away.setdefault(slot, [])
        for event in events:
            if event.what == SPAWNED:
                spawned = event
                if dead is not None:
                    away.append(Span(dead, event.at))
                    dead = None
            elif event.what == READY and spawned is not None:
                instance = str(event.facts.get("instance", ""))
                runs.append(Run(slot, str(event.facts["life"]), len(runs), instance, Span(spawned.at)))
                if began is not None:
                    hurt.append(Span(began, event.at))
                began = None
            elif event.what == DYING:
                began = event.at
            elif event.what == DEAD and runs:
                dead = event.at
                runs[-1] = replace(runs[-1], span=Span(runs[-1].span.start, event.at))
            elif event.what == FREEZING:
                frozen = event.at
            elif event.what == THAWED and frozen is not None:
                hurt.append(Span(frozen, event.at))
                away.append(Span(frozen, event.at))
                frozen = None
            elif event.what == CHANGING:
                changing = event.at
            elif event.what == CHANGED:
                self._nodes(str(event.facts["life"]), event.facts["nodes"], changing or event.at, event.at)
                changing = None
        for left in (began, frozen):
            if left is not None:
                hurt.append(Span(left))
        away += [Span(left) for left in (dead, frozen) if left is not None]
        self.runs[slot] = runs
        self.hurt[slot] = hurt

    def _nodes(self, life: str, nodes: Iterable[str], until: float, since: float) -> None:
        """The nodes of a life from `since` on; those that it had and has not were there `until`."""
        names = tuple(str(name) for name in nodes)
        for name in names:
            spans = self.present.setdefault(f"{life}:{name}", [])
            if not spans or spans[-1].end < inf:
                spans.append(Span(since))
                self.possible.setdefault(f"{life}:{name}", []).append(Span(until))
        slot = slot_of(life)
        for owner, spans in self.present.items():
            if slot_of(owner) != slot or owner in {f"{life}:{name}" for name in names}:
                continue
            if spans[-1].end == inf:
                spans[-1] = Span(spans[-1].start, until)
                self.possible[owner][-1] = Span(self.possible[owner][-1].start, since)
        self.last_nodes[life] = names

    def _link(self, link: str, events: Sequence[Event]) -> None:
        began: float | None = None
        spans = self.hurt.setdefault(link, [])
        was_elsewhere = False
        for event in events:
            is_open = event.facts["state"] == "open"
            if was_elsewhere != (SWAP in event.facts["state"].split("+")):
                was_elsewhere = not was_elsewhere
                self.swaps.setdefault(link, []).append(event.at)
            if is_open and began is not None:
                spans.append(Span(began, event.at))
                began = None
            elif not is_open and began is None:
                began = event.at
        if began is not None:
            spans.append(Span(began))

    # What the rules ask

    def run_of(self, slot: str, start: float) -> Run | None:
        """The process that a request which began then can have been answered by: the first that was not dead yet."""
        return next((run for run in self.runs.get(slot, ()) if start <= run.span.end), None)

    def life_with(self, instance: str) -> str:
        """The life that an instance id belongs to; itself where it is none that lived here."""
        found = (run.life for runs in self.runs.values() for run in runs if run.instance == instance)
        return next(found, instance)

    def current_life(self, slot: str) -> str:
        """The life that was led at last."""
        runs = self.runs.get(slot)
        return runs[-1].life if runs else ""

    def is_replaced(self, life: str, before: float) -> bool:
        """Whether another robot has taken this life's place before this time."""
        return any(newer(run.life, life) and run.span.start <= before for run in self.runs.get(slot_of(life), ()))

    def reachable(self, slot: str) -> set[str]:
        """The places that a gateway can hear of, itself too."""
        found, queue = {slot}, [slot]
        while queue:
            for peer in self.links.get(queue.pop(), ()):
                if peer not in found:
                    found.add(peer)
                    queue.append(peer)
        return found

    def between(self, asked: str, owner: str) -> set[str]:
        """All places and links on any way from a gateway to another."""
        places = {place for place in self.reachable(asked) if owner in self.reachable(place)}
        links = {f"{place}>{peer}" for place in places for peer in self.links.get(place, ()) if peer in places}
        return places | links

    def is_hurt(self, subjects: Iterable[str], start: float, end: float) -> bool:
        """Whether any of these places and links was hurt at some moment in between, or the machine did not run."""
        return any(span.meets(start, end) for span in self.stalls) or any(
            span.meets(start, end) for subject in subjects for span in self.hurt.get(subject, ())
        )

    def is_away(self, slot: str, since: float, until: float) -> bool:
        """Whether the gateway was dead or frozen all the time."""
        return any(span.start <= since and until <= span.end for span in self.away.get(slot, ()))

    def is_swapped(self, subjects: Iterable[str], start: float, end: float) -> bool:
        """Whether any of these links began or ended to lead elsewhere in between."""
        return any(start <= at <= end for subject in subjects for at in self.swaps.get(subject, ()))

    def was_never_present(self, owner: str, start: float, end: float) -> bool:
        """Whether the node was there at no moment in between."""
        return not any(span.meets(start, end) for span in self.possible.get(owner, ()))

    def was_always_present(self, owner: str, start: float, end: float) -> bool:
        """Whether the node was there all the time in between."""
        return any(span.start <= start and end <= span.end for span in self.present.get(owner, ()))


def slot_of(life_or_owner: str) -> str:
    """`g1.2:/nav` or `g1.2`: `g1`."""
    return life_or_owner.partition(":")[0].partition(".")[0]


def life_of(owner: str) -> str:
    """`g1.2:/nav`: `g1.2`."""
    return owner.partition(":")[0]


def newer(life: str, than: str) -> bool:
    """Whether a life at the same place came later."""
    return int(life.partition(".")[2]) > int(than.partition(".")[2])
