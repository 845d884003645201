"""What the judge goes by: a history, and what follows from it at once. Pure; the rules are elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from .history import RECEIVED, Ask, Heard, History
from .timeline import Run, Timeline, life_of, slot_of

# After a link, a gateway or the machine was hurt, what was away because of it may stay away for so long: a probe with
# back-off, the exchange over all hops, and two busy cores.
RECOVERY_S = 20.0


@dataclass(frozen=True)
class Violation:
    """What was wrong, by the name of the rule, and the request that shows it (None: nobody asked)."""

    rule: str
    text: str
    ask: Ask | None = None

    def __str__(self) -> str:
        if self.ask is None:
            return f"{self.rule}: {self.text}"
        ask = self.ask
        where = f"client {ask.client} at {ask.gateway} {ask.path}, {ask.start:.3f} to {ask.end:.3f}, {ask.status}"
        return f"{self.rule}: {self.text}\n    {where} {dict(ask.facts)}"


@dataclass
class Evidence:
    """A history, with what follows from it at once."""

    asks: list[tuple[Ask, Run]]
    unattributed: list[Ask]
    time: Timeline
    # by the number of the listener, in order
    streams: dict[int, list[Heard]] = field(default_factory=dict)
    received: dict[str, list[str]] = field(default_factory=dict)
    tokens: dict[str, list[str]] = field(default_factory=dict)
    retain: bool = False
    # (life that was asked, id): its owner, as first seen
    owners: dict[tuple[str, str], str] = field(default_factory=dict)
    # (life that was asked, id): when it was first known to be listed there
    listed: dict[tuple[str, str], float] = field(default_factory=dict)

    @classmethod
    def of(cls, history: History) -> Evidence:
        """What a history says."""
        time = Timeline.of(history)
        known: list[tuple[Ask, Run]] = []
        unattributed: list[Ask] = []
        for ask in sorted(history.asks, key=lambda one: one.end):
            run = time.run_of(ask.gateway, ask.start)
            if run is None:
                unattributed.append(ask)
            else:
                known.append((ask, run))
        found = cls(known, unattributed, time, retain=history.setup.retain)
        for heard in history.heard:
            found.streams.setdefault(heard.client, []).append(heard)
        for event in sorted(history.events, key=lambda one: one.at):
            if event.what == RECEIVED:
                owner, token = str(event.facts["owner"]), str(event.facts["value"])
                found.received.setdefault(owner, []).append(token)
                found.tokens.setdefault(token, []).append(owner)
        for ask, run in known:
            for entity in ids_of(ask):
                found.listed.setdefault((run.life, entity), ask.end)
            for owner in found.seen_owners(ask):
                found.owners.setdefault((run.life, ask.entity), owner)
        return found

    def contributors(self, ask: Ask) -> set[str]:
        """The lives whose shares are in a gathered answer."""
        return {self.time.life_with(str(one)) for one in ask.facts.get("from", ())}

    def since(self, start: float) -> float:
        """From when on nothing may have been hurt that all be well at `start`: all was seen to be well, or long ago."""
        return max([start - RECOVERY_S, *(at for at in self.time.backs if at <= start)])

    def is_lost(self, gateway: str, owner: str, start: float, end: float) -> bool:
        """Whether this owner must be found at a gateway: it exists, and nothing on any way was hurt for a while."""
        since = self.since(start)
        if self.time.is_replaced(life_of(owner), end) or not self.time.was_always_present(owner, since, end):
            return False
        return not self.time.is_hurt(self.time.between(gateway, slot_of(owner)), since, end)

    def seen_owners(self, ask: Ask) -> list[str]:
        """Whom this request reached, as the answer says and as the robots that it was written to say."""
        said = [str(ask.facts["owner"])] if "owner" in ask.facts else []
        return said + (self.tokens.get(str(ask.facts["sent"]), []) if ask.what == "write" else [])


def ids_of(ask: Ask) -> list[str]:
    """The ids in a list of apps."""
    return [str(pair[0]) for pair in ask.facts.get("ids", ())]
