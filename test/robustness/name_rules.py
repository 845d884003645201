"""The judge of aliases, of filters, and of what is retained (AGGREGATION.md §4, §6, §10). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf

from .evidence import Evidence, Violation, ids_of
from .history import Ask
from .timeline import Run, life_of, slot_of
from .traffic import NOBODY

# A gateway that says nothing for 3 s is away, and a busy machine; everybody knows by then.
NOTICE_S = 5.0


def aliases_lead_to_their_peers(seen: Evidence) -> Iterator[Violation]:
    """`<peer>__<x>` is the peer's `x`: forwarded while it is up, away while it is down, 404 where it has no `x`."""
    for ask, run in seen.asks:
        if ask.what != "alias":
            continue
        peer, entity = map(str, ask.facts["alias"])
        own_name = (run.life, f"{peer}__{entity}")
        if seen.listed.get(own_name, inf) < ask.start:
            # It is an id here, and for ever that of whom it was given to, who may have left his place to another.
            owner = seen.owners.get(own_name)
            if owner is not None and ask.facts.get("reached", owner) != owner:
                yield Violation("another owner", f"'{peer}__{entity}' is {owner}", ask)
            continue
        link = f"{ask.gateway}>{peer}"
        lives = {run.life for run in seen.time.runs.get(peer, ())}
        owners = {seen.owners[life, entity] for life in lives if (life, entity) in seen.owners}
        # It may have become an id meanwhile.
        owners |= {seen.owners[own_name]} if owners and own_name in seen.owners else set()
        is_well = not seen.time.is_hurt([ask.gateway, peer, link], seen.since(ask.start), ask.end)
        is_away = seen.time.is_away(peer, ask.start - NOTICE_S, ask.end)
        if "reached" in ask.facts and ask.facts["reached"] not in owners and owners and link not in seen.time.swaps:
            yield Violation("another owner", f"{peer}'s '{entity}' is one of {sorted(owners)}", ask)
        if entity == NOBODY and is_well and ask.status != 404:
            yield Violation("undocumented", f"{peer} is up and has no such app", ask)
        if ask.status in (200, 404) and is_away and not seen.time.is_hurt([link], seen.since(ask.start), ask.end):
            yield Violation("undocumented", f"{peer} is away, and whatever it has as well", ask)
        now = seen.owners.get((seen.time.current_life(peer), entity))
        if ask.status != 200 and is_well and now is not None and seen.is_lost(ask.gateway, now, ask.start, ask.end):
            yield Violation("lost", f"{peer}'s '{entity}' is {now}, which exists, and nothing on any way was hurt", ask)


def filters_keep_what_they_say(seen: Evidence) -> Iterator[Violation]:
    """`?peer=`, `?origin=` and `?available=` keep what they say and nothing else."""
    for ask, run in seen.asks:
        if ask.what != "filtered" or ask.status != 200 or "ids" not in ask.facts:
            continue
        found = {entity: seen.owners[run.life, entity] for entity in ids_of(ask) if (run.life, entity) in seen.owners}
        for entity, owner in found.items():
            if not _belongs(seen, ask, run, owner):
                yield Violation("undocumented", f"'{entity}' is {owner}, which is not what was asked for", ask)
        name, value = map(str, ask.facts["filter"])
        if (name, value) == ("available", "false"):
            away = set(ids_of(ask)) - {str(one) for one in ask.facts.get("unavailable", ())}
            if away or (found and not seen.retain):
                yield Violation("undocumented", f"{sorted(found)} are available", ask)
            continue
        if name == "peer" and value != "local":
            # Over which peer a gateway is reached is its own affair.
            continue
        for (life, entity), owner in seen.owners.items():
            if life != run.life or entity in found or not _belongs(seen, ask, run, owner):
                continue
            if seen.is_lost(ask.gateway, owner, ask.start, ask.end):
                yield Violation("lost", f"'{entity}' ({owner}) is missing, and nothing on any way was hurt", ask)


def _belongs(seen: Evidence, ask: Ask, run: Run, owner: str) -> bool:
    name, value = map(str, ask.facts["filter"])
    if name == "origin":
        return slot_of(owner) == value
    if name == "available":
        return True
    if value == "local":
        return life_of(owner) == run.life
    return bool(seen.time.swaps) or (slot_of(owner) in seen.time.reachable(value) and life_of(owner) != run.life)


def who_is_away_leaves_and_who_is_declared_stays(seen: Evidence) -> Iterator[Violation]:
    """Entities of a gateway that is away leave the lists; declared ones stay where that is wanted, as not available."""
    listed: set[tuple[str, int, str]] = set()
    for ask, run in seen.asks:
        if ask.what != "apps" or ask.status != 200 or "ids" not in ask.facts:
            continue
        away = {str(one) for one in ask.facts.get("unavailable", ())}
        owners = {entity: owner for (life, entity), owner in seen.owners.items() if life == run.life}
        for entity, owner in owners.items():
            process = (run.slot, run.number, entity)
            is_away = seen.time.is_away(slot_of(owner), ask.start - NOTICE_S, ask.end)
            is_kept = seen.retain and is_declared(owner)
            if entity in ids_of(ask):
                listed.add(process)
                if is_away and not (is_kept and entity in away):
                    yield Violation("not gone", f"'{entity}' is {owner}, which is away since {NOTICE_S} s", ask)
                if entity in away and (not is_kept or seen.is_lost(ask.gateway, owner, ask.start, ask.end)):
                    yield Violation("lost", f"'{entity}' is {owner}, and said to be away", ask)
            elif is_kept and process in listed and not seen.time.is_replaced(life_of(owner), ask.end):
                yield Violation("lost", f"'{entity}' is {owner}, which is declared and stays listed", ask)


def who_is_declared_and_away_does_not_respond(seen: Evidence) -> Iterator[Violation]:
    """A request for what is retained answers 504, for anything else that is away 502."""
    for ask, run in seen.asks:
        owner = seen.owners.get((run.life, ask.entity))
        if owner is None or ask.status not in (502, 504) or seen.time.is_replaced(life_of(owner), ask.end):
            continue
        if slot_of(owner) != run.slot and seen.time.is_away(slot_of(owner), ask.start - NOTICE_S, ask.end):
            expected = 504 if seen.retain and is_declared(owner) else 502
            if ask.status != expected:
                yield Violation("undocumented", f"{owner} is away: {expected}", ask)


def is_declared(owner: str) -> bool:
    """Whether it is the node that the manifest of its robot declares."""
    return owner.endswith(f":/bot_{slot_of(owner)}")


NAME_RULES: tuple[Callable[[Evidence], Iterator[Violation]], ...] = (
    aliases_lead_to_their_peers,
    filters_keep_what_they_say,
    who_is_away_leaves_and_who_is_declared_stays,
    who_is_declared_and_away_does_not_respond,
)
