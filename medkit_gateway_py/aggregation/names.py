"""The id that a remote app gets here (AGGREGATION.md §4). Pure; what was given before always wins, in `merge.py`."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..entities.ids import shorten, with_hash
from ..parameters.aggregation import PEER_NAME

SEPARATOR = "__"


def is_valid_peer_name(name: str) -> bool:
    """Whether `name` can name a peer: `[A-Za-z0-9_-]{1,64}` without `__` (AGGREGATION.md §1)."""
    return PEER_NAME.fullmatch(name) is not None


def peer_name_from(text: str, fallback: str) -> str:
    """A valid peer name made of an announced one; `fallback` when nothing of it is left."""
    cleaned = re.sub(r"_{2,}", "_", re.sub(r"[^A-Za-z0-9_-]", "_", text))[:64]
    return cleaned if is_valid_peer_name(cleaned) else fallback


def prefixed(prefix: str, entity_id: str) -> str:
    """`prefix__entity_id`."""
    return f"{prefix}{SEPARATOR}{entity_id}"


def choose_app_id(base: str, prefix: str, owner: tuple[str, str], always: bool, is_free: Callable[[str], bool]) -> str:
    """The id of an app that has none yet.

    `base` is the id under which the next gateway serves it, `prefix` the peer's name (or the origin's, with
    `naming: always_prefix`), `owner` its origin and key, which salt the hash where the wish is taken or too long.
    """
    if not always and is_free(base):
        return base
    wish = shorten(prefixed(prefix, base), *owner)
    if is_free(wish):
        return wish
    attempt = with_hash(wish, *owner)
    number = 2
    while not is_free(attempt):
        attempt = with_hash(wish, *owner, str(number))
        number += 1
    return attempt


def split_alias(entity_id: str) -> tuple[str, str] | None:
    """`peer__x` -> `(peer, x)`, or None. The first separator splits: peer names hold none."""
    peer, separator, rest = entity_id.partition(SEPARATOR)
    return (peer, rest) if separator and peer and rest else None
