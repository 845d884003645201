"""The judge: what may be answered, told from a history alone (AGGREGATION.md §4 to §8). Pure and deterministic.

Each rule is a function of the evidence that yields what broke it. A rule counts only what surely was so: where an
answer and a change overlap both orders are allowed, and for some time after something was hurt (named bounds below)
what is away may still be away. Nothing excuses another owner, an unmarked gap or an older answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .evidence import Evidence, Violation, ids_of
from .history import Ask, History
from .name_rules import NAME_RULES
from .stream_rules import STREAM_RULES
from .timeline import life_of

# A node that is new is told of by the ROS graph after at most this.
GRAPH_S = 8.0
# A gateway that is well answers in `timeout_ms` (1 s here) and the time limits of a node; more is a busy machine.
ANSWER_S = 10.0
# After the last harm all is as it was within this.
BACK_S = 45.0

GATHERED = ("faults", "fleet_faults", "versions")
# `?partial=fail`: it is answered whole, or not at all.
WHOLE = "whole_or_nothing"
OF_ENTITY = ("detail", "owner", "parameters", "data", "write")
# Not to be had now: its gateway, or the node itself (503 of its own gateway).
AWAY = (502, 503, 504, 508)
DOCUMENTED = {
    **dict.fromkeys(("apps", "filtered", "tree", "health", *GATHERED), (200,)),
    **dict.fromkeys((*OF_ENTITY, "alias"), (200, 404, *AWAY)),
    WHOLE: (200, 503),
}


def never_another_owner(seen: Evidence) -> Iterator[Violation]:
    """An id leads to one owner, for all times, and nowhere else; so do writes, which arrive once at most."""
    for ask, run in seen.asks:
        for owner in seen.seen_owners(ask):
            expected = seen.owners[run.life, ask.entity]
            if owner != expected:
                yield Violation("another owner", f"'{ask.entity}' is {expected}, and this reached {owner}", ask)
        if ask.what != "write":
            continue
        arrived = seen.tokens.get(str(ask.facts["sent"]), [])
        if len(arrived) > 1:
            yield Violation("another owner", f"one write arrived {len(arrived)} times: {arrived}", ask)
        if ask.status == 200 and not arrived:
            yield Violation("another owner", "a write that was answered with 200 arrived nowhere", ask)


def always_the_same_id(seen: Evidence) -> Iterator[Violation]:
    """An owner has one id at a gateway; a list has each id and each owner once, and the same name to an id always."""
    ids: dict[tuple[str, str], str] = {}
    names: dict[tuple[str, str], str] = {}
    for (life, entity), owner in seen.owners.items():
        before = ids.setdefault((life, owner), entity)
        if before != entity:
            yield Violation("another id", f"{owner} is '{before}' at {life}, and then '{entity}'")
    for ask, run in seen.asks:
        pairs = [(str(entity), str(fqn)) for entity, fqn in ask.facts.get("ids", ())]
        if ask.what == "detail" and "fqn" in ask.facts:
            pairs = [(ask.entity, str(ask.facts["fqn"]))]
        for entity, fqn in pairs:
            if names.setdefault((run.life, entity), fqn) != fqn:
                text = f"'{entity}' was {names[run.life, entity]}, and is now {fqn}"
                yield Violation("another id", text, ask)
        found = [entity for entity, _ in pairs]
        owners = [seen.owners[run.life, entity] for entity in found if (run.life, entity) in seen.owners]
        if len(found) != len(set(found)) or len(owners) != len(set(owners)):
            yield Violation("listed twice", f"ids {found} of {owners}", ask)


def no_unmarked_gap(seen: Evidence) -> Iterator[Violation]:
    """Who contributed once is in the answer, or the answer is partial; for as long as nobody else is in its place."""
    since: dict[tuple[str, str, str], float] = {}
    for ask, run in seen.asks:
        for who in seen.contributors(ask):
            since.setdefault((run.life, ask.what, who), ask.end)
    for ask, run in seen.asks:
        if ask.what not in (*GATHERED, WHOLE) or ask.status != 200 or "from" not in ask.facts:
            continue
        is_partial, failed = bool(ask.facts.get("partial")), list(ask.facts.get("failed", ()))
        if is_partial != bool(failed):
            yield Violation("unmarked gap", f"partial is {is_partial}, and failed_peers {failed}", ask)
        for label in failed:
            # Where addresses are swapped, a way has other names than its links.
            first, *behind = str(label).split("/")
            if first not in seen.time.links[ask.gateway] or not seen.time.links.keys() >= set(behind):
                yield Violation("unmarked gap", f"'{label}' is nobody that {ask.gateway} knows by this name", ask)
        if is_partial and ask.what == WHOLE:
            yield Violation("unmarked gap", "a partial answer to who wanted a whole one", ask)
        if is_partial:
            continue
        asked = "faults" if ask.what == WHOLE else ask.what
        for (life, what, who), when in since.items():
            if life != run.life or what != asked or when > ask.start or who in seen.contributors(ask):
                continue
            if seen.time.is_replaced(who, ask.end):
                continue
            yield Violation("unmarked gap", f"{who} is missing and the answer does not say so", ask)


def never_back_in_time(seen: Evidence) -> Iterator[Violation]:
    """Versions that one process tells never fall, and a read never gives less than what was read or written before."""
    order = {(owner, token): number for owner, tokens in seen.received.items() for number, token in enumerate(tokens)}
    observed: dict[tuple[str, ...], list[tuple[Ask, list[int | str]]]] = {}
    for ask, run in seen.asks:
        process = f"{run.slot}#{run.number}"
        if ask.what == "tree" and ask.status == 200:
            observed.setdefault((process, "its tree"), []).append((ask, [ask.facts["boot"], ask.facts["seq"]]))
            for origin, (boot, seq) in ask.facts["origins"].items():
                observed.setdefault((process, f"origin {origin}"), []).append((ask, [boot, seq]))
        elif ask.what == "health" and ask.status == 200:
            observed.setdefault((process, "its generation"), []).append((ask, [ask.facts["generation"]]))
        if ask.status == 200 and "note" in ask.facts:
            reached = ask.facts.get("owner") or seen.owners.get((run.life, ask.entity), "")
            number = order.get((str(reached), str(ask.facts["note"])))
            if number is not None:
                observed.setdefault((str(reached), "its note"), []).append((ask, [number]))
            elif reached:
                yield Violation("back in time", f"{reached} never had the note {ask.facts['note']!r}", ask)
    for (who, what), told in observed.items():
        yield from _falls(who, what, told)


def _falls(who: str, what: str, told: Sequence[tuple[Ask, list[int | str]]]) -> Iterator[Violation]:
    ended = sorted(told, key=lambda one: one[0].end)
    newest: list[int | str] | None = None
    position = 0
    for ask, value in sorted(told, key=lambda one: one[0].start):
        while position < len(ended) and ended[position][0].end < ask.start:
            newest = ended[position][1] if newest is None else max(newest, ended[position][1])
            position += 1
        if newest is not None and value < newest:
            yield Violation("back in time", f"{what} of {who} was {newest}, and is now {value}", ask)


def the_removed_stays_away(seen: Evidence) -> Iterator[Violation]:
    """A node that a list showed to be gone, beside others of its robot, is in no later list while it is gone."""
    shown: dict[tuple[str, int, str], list[Ask]] = {}
    known: dict[tuple[str, int], set[str]] = {}
    for ask, run in sorted(seen.asks, key=lambda one: one[0].start):
        if ask.what != "apps" or ask.status != 200:
            continue
        process = (run.slot, run.number)
        owners = {seen.owners[run.life, entity] for entity in ids_of(ask) if (run.life, entity) in seen.owners}
        for owner in owners:
            for before in shown.get((*process, owner), ()):
                if before.end < ask.start and seen.time.was_never_present(owner, before.start, ask.end):
                    yield Violation("back in time", f"{owner} was gone at {before.end:.3f}, and is back", ask)
                    break
        lives = {life_of(owner) for owner in owners}
        for owner in known.setdefault(process, set()) - owners:
            if life_of(owner) in lives:
                shown.setdefault((*process, owner), []).append(ask)
        known[process] |= owners


def remembered_is_never_unknown(seen: Evidence) -> Iterator[Violation]:
    """404 for an id that was listed: only when its owner was reached and has no such node (any more, or yet)."""
    for ask, run in seen.asks:
        owner = seen.owners.get((run.life, ask.entity))
        if ask.status != 404 or ask.what not in OF_ENTITY or owner is None:
            continue
        if seen.listed.get((run.life, ask.entity), ask.end) > ask.start:
            continue
        if seen.time.is_replaced(life_of(owner), ask.start):
            yield Violation("forgotten", f"'{ask.entity}' is {owner}, which is away; it is no unknown id", ask)
        elif seen.time.was_always_present(owner, ask.start - GRAPH_S, ask.end):
            yield Violation("forgotten", f"'{ask.entity}' is {owner}, which exists; it is no unknown id", ask)


def documented_answers_in_time(seen: Evidence) -> Iterator[Violation]:
    """A gateway that is well answers, with a documented status, as itself, in time."""
    for said in seen.time.died:
        yield Violation("died", said)
    for ask in seen.unattributed:
        if ask.status:
            yield Violation("undocumented", "an answer of a gateway that is dead", ask)
    for ask, run in seen.asks:
        is_hurt = seen.time.is_hurt([ask.gateway], ask.start - 0.5, ask.end + 0.5)
        if ask.status and ask.status not in DOCUMENTED[ask.what]:
            yield Violation("undocumented", f"{ask.status} is no answer to '{ask.what}'", ask)
        elif "bad" in ask.facts:
            yield Violation("undocumented", f"the body is not as documented: {ask.facts['bad']}", ask)
        elif ask.facts.get("instance", run.instance) != run.instance:
            yield Violation("undocumented", f"{run.life} is {run.instance}, not {ask.facts['instance']}", ask)
        elif not ask.status and not is_hurt:
            yield Violation("undocumented", f"no answer of a gateway that is well: {ask.facts.get('error')}", ask)
        elif ask.end - ask.start > ANSWER_S and not is_hurt:
            yield Violation("late", f"{ask.end - ask.start:.1f} s", ask)


def nothing_is_lost_without_cause(seen: Evidence) -> Iterator[Violation]:
    """What exists and was not hurt on any way for a while is listed and can be reached."""
    for ask, run in seen.asks:
        if ask.what == "apps" and ask.status == 200:
            wanted = [(entity, owner) for (life, entity), owner in seen.owners.items() if life == run.life]
            missing = [one for one in wanted if one[0] not in ids_of(ask)]
        elif (run.life, ask.entity) in seen.owners and (ask.status in AWAY or ask.facts.get("silent")):
            missing = [(ask.entity, seen.owners[run.life, ask.entity])]
        else:
            continue
        for entity, owner in missing:
            if seen.is_lost(ask.gateway, owner, ask.start, ask.end):
                yield Violation("lost", f"'{entity}' ({owner}) is missing, and nothing on any way was hurt", ask)


def all_is_back_at_the_end(seen: Evidence) -> Iterator[Violation]:
    """The last answers of each gateway: everybody that can be reached, once, under the old ids, nothing missing."""
    last: dict[tuple[str, str], Ask] = {}
    for ask, _ in seen.asks:
        if ask.start >= seen.time.quiet:
            last[ask.gateway, ask.what] = ask
    for slot in seen.time.links:
        yield from _is_back(seen, slot, last)


def _is_back(seen: Evidence, slot: str, last: dict[tuple[str, str], Ask]) -> Iterator[Violation]:
    time, me = seen.time, seen.time.current_life(slot)
    lives = {time.current_life(one) for one in time.reachable(slot)}
    nodes = {f"{life}:{fqn}" for life in lives for fqn in time.last_nodes.get(life, ())}
    lists = last.get((slot, "apps"))
    if lists is None:
        yield Violation("not back", f"nobody asked {slot} for its apps after the last harm")
        return
    found = {seen.owners.get((me, entity), f"? '{entity}'") for entity in ids_of(lists)}
    # Whose place another has taken stays listed where what is declared is retained, as not available.
    away = {seen.owners.get((me, str(entity)), "") for entity in lists.facts.get("unavailable", ())}
    found -= {owner for owner in away if owner and life_of(owner) not in lives}
    if found != nodes:
        text = f"{slot} lacks {sorted(nodes - found)}, and has beyond that {sorted(found - nodes)}"
        yield Violation("not back", text, lists)
    late = lists.end - time.quiet
    if late > BACK_S:
        yield Violation("not back", f"it took {late:.1f} s", lists)
    # An origin whose place another has taken is remembered, and so is missing for as long as that.
    was_replaced = any(len({run.life for run in time.runs[one]}) > 1 for one in time.reachable(slot))
    for what in GATHERED:
        ask = last.get((slot, what))
        if ask is None:
            yield Violation("not back", f"nobody asked {slot} for '{what}' after the last harm")
            continue
        missing = lives - seen.contributors(ask)
        if missing:
            yield Violation("not back", f"{sorted(missing)} are missing in '{what}'", ask)
        if ask.facts.get("partial") and not was_replaced:
            yield Violation("not back", f"'{what}' is partial without cause", ask)


RULES: tuple[Callable[[Evidence], Iterator[Violation]], ...] = (
    never_another_owner,
    always_the_same_id,
    no_unmarked_gap,
    never_back_in_time,
    the_removed_stays_away,
    remembered_is_never_unknown,
    documented_answers_in_time,
    nothing_is_lost_without_cause,
    all_is_back_at_the_end,
    *NAME_RULES,
    *STREAM_RULES,
)


def judge(history: History) -> list[Violation]:
    """All that was wrong in a history, rule by rule; empty: nothing."""
    seen = Evidence.of(history)
    return [violation for rule in RULES for violation in rule(seen)]
