"""The id that a remote app gets here (AGGREGATION.md §4). Pure; what was given before always wins, in `merge.py`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

from ..entities.ids import shorten, with_hash
from ..parameters.aggregation import PEER_NAME
from ..parameters.files import ALIASES

SEPARATOR = "__"
# Stands in the ids that copies of one disk image have here (`views.py`).
COPY = "~"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_valid_peer_name(name: str) -> bool:
    """Whether `name` can name a peer: `[A-Za-z0-9_-]{1,64}` without `__` (AGGREGATION.md §1)."""
    return PEER_NAME.fullmatch(name) is not None


def peer_name_from(text: str, fallback: str) -> str:
    """A valid peer name made of an announced one; `fallback` when nothing of it is left."""
    cleaned = re.sub(r"_{2,}", "_", re.sub(r"[^A-Za-z0-9_-]", "_", text))[:64]
    return cleaned if is_valid_peer_name(cleaned) else fallback


def origin_prefix(origin: str, announced: str) -> str:
    """What apps of an origin are prefixed with in `naming: always_prefix`: made of the origin alone.

    It is the name that the origin announces, where somebody chose it for this gateway. Names that many have, because
    nobody chose one, that cannot stand in an id as they are, or that belong to a copy of a disk image get `-` and eight
    hex digits of the instance id behind them: waiting for the second of the same name would make ids depend on which
    was heard first.
    """
    cleaned = peer_name_from(announced, "gateway")
    is_chosen = cleaned == announced and announced not in ALIASES
    if is_chosen and not announced.endswith("_") and COPY not in origin:
        return announced
    digits = origin[:8] if _UUID.fullmatch(origin) else hashlib.blake2b(origin.encode(), digest_size=4).hexdigest()
    return f"{cleaned[:55]}-{digits}"


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
