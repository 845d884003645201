"""Who cannot be heard on the fault stream, and what is said when that changes (AGGREGATION.md §8). Pure.

Listeners are told by labels, `peer_down` and `peer_up`. Whatever a label was down for, a peer that is away, what a peer
says of its own peers, the tree, it is up as soon as none of it holds any more: nobody is left with a label that nothing
ever takes back, also where a gateway is heard over another way by then.

Between gateways a word goes with the origins it is about, for those who hear them here only, and with the gateways that
it passed: it never comes back to one of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .sections import MAX_ORIGINS

PEER_UP, PEER_DOWN, GAP = "peer_up", "peer_down", "gap"
OUT_OF_REACH = "its gateway cannot be reached"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Word:
    """What is said of the gateways behind a label: the origins it is about, and the instance ids that it passed."""

    reason: str = ""
    origins: frozenset[str] = frozenset()
    via: tuple[str, ...] = ()

    def marks(self, own_id: str) -> Json:
        """What goes with it in `x-medkit`, from us."""
        return {"origins": sorted(self.origins)[:MAX_ORIGINS], "via": [*self.via, own_id]}


def word_of(data: Mapping[str, Any], own_id: str, max_hops: int) -> Word | None:
    """What a peer says; None where it has no marks, has been here or too far, or is about its way over us."""
    marks = data.get("x-medkit")
    if not isinstance(marks, Mapping):
        return None
    origins, via = _strings(marks.get("origins")), _strings(marks.get("via"))
    if not origins or not via or own_id in (*via, *origins) or len(via) > max_hops:
        return None
    return Word("", frozenset(origins), tuple(via))


def unheard(
    down: Mapping[str, Word],
    behind: Mapping[str, Mapping[str, Word]],
    away: Mapping[str, str],
    routed: Mapping[str, Collection[str]],
) -> dict[str, Word]:
    """By label, who cannot be heard now.

    `down`: peers whose streams are not open; `behind`: what each peer says of its own, by our label; `away`: labels of
    the origins that the tree knows to be out of reach; `routed`: the origins that are reached over each peer.
    """
    found = dict(down)
    for peer, words in behind.items():
        elsewhere = {origin for other, origins in routed.items() if other != peer for origin in origins}
        for label, word in words.items():
            origins = word.origins - elsewhere
            if origins:
                found.setdefault(label, replace(word, origins=origins))
    for origin, label in away.items():
        # A peer that is heard can have the name of one that was in its place before.
        if label not in routed or label in down:
            word = found.get(label, Word(OUT_OF_REACH))
            found[label] = replace(word, origins=word.origins | {origin})
    return found


def changes(before: Mapping[str, Word], now: Mapping[str, Word]) -> tuple[list[str], list[str]]:
    """The labels that are up again, and those that are down since."""
    return sorted(before.keys() - now.keys()), sorted(now.keys() - before.keys())


def _strings(given: object) -> Sequence[str]:
    if not isinstance(given, list) or len(given) > MAX_ORIGINS:
        return ()
    found: Iterable[Any] = given
    return [one for one in found if isinstance(one, str)]
