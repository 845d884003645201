"""Which peers' trees take part in the merge, and under which identities (AGGREGATION.md §2).

Decides on what peers told: our own address is dropped, a second address of one gateway is its fallback, clones of one
identity are told apart. No I/O; time is passed in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .merge_state import PeerView
from .peer import Peer
from .peer_discovery import CONFIGURED
from .routing import Warn
from .sections import GatewayIdentity, OriginSection

# Two boots of one instance are clones when both were alive at the same moment, this recently.
CLONE_WINDOW_S = 10.0
# A restart and the last answer of the process before it are this far apart at most, as two polls see them.
OVERLAP_MARGIN_S = 0.5
# Of several addresses of one gateway that is used whose source comes first here (AGGREGATION.md §2).
RANK = {"static": 0, "registry": 2, "mdns": 3}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Views:
    """What goes into a merge, and what is wrong with identities.

    `undecided` while two boots of one identity are known: only time tells a restart from a clone.
    """

    views: tuple[PeerView, ...] = ()
    warnings: tuple[Warn, ...] = ()
    undecided: bool = False


def peer_views(
    peers: Sequence[Peer],
    own: GatewayIdentity,
    now: float,
    way: Callable[[str], object] = lambda _: None,
    is_pinned: Callable[[str, str], bool] = lambda *_: False,
) -> Views:
    """The views of all peers that are online, configured ones first; sets each peer's `role`.

    `way` is the memory of origins. A peer that was told apart from another of its identity stays so while that one is
    away, also over our restarts: otherwise it would get the ids of the other's robot. `is_pinned` says of an instance
    id and a peer whether that one is known to be this gateway by its certificate.
    """
    views: list[PeerView] = []
    warnings: list[Warn] = []
    first_of: dict[str, Peer] = {}
    undecided = False
    copies = {peer.name for peer in peers if way(_id_of_copy(peer.gateway.id, peer.name)) is not None}

    def rank(peer: Peer) -> tuple[bool, int, bool]:
        is_second = not is_pinned(peer.gateway.id, peer.name)
        return (peer.name in copies, RANK.get(peer.spec.source, 1), is_second)

    for peer in sorted(peers, key=rank):
        if peer.sections is None:
            continue
        gateway = peer.gateway
        if (gateway.id, gateway.boot_id) == (own.id, own.boot_id):
            _mark_self(peer)
            continue
        known = first_of.setdefault(gateway.id, peer)
        undecided = undecided or known.gateway.boot_id != gateway.boot_id
        is_second_address = known is not peer and known.gateway.boot_id == gateway.boot_id
        is_copy = peer.name in copies and not is_second_address
        is_clone = gateway.id == own.id or is_copy or (known is not peer and _are_clones(known, peer, now))
        is_configured = [one.spec.source in CONFIGURED for one in (known, peer)]
        is_certified = [is_pinned(gateway.id, one.name) for one in (known, peer)]
        if is_clone and (is_configured == [True, False] or is_certified == [True, False]):
            peer.role = "refused"
            warnings.append(_impostor(gateway.id, known.name, peer.name))
            views.append(PeerView(peer.name, ()))
        elif is_clone:
            peer.role = "peer"
            others = () if gateway.id == own.id else (known.name,)
            if known is not peer or gateway.id == own.id:
                warnings.append(_duplicate(gateway.id, (*others, peer.name)))
            sections = tuple(_told_apart(section, gateway.id, peer.name) for section in peer.sections)
            views.append(PeerView(peer.name, sections, _id_of_copy(gateway.id, peer.name)))
        elif known is not peer:
            if peer.role != "fallback":
                _log.info("Peer '%s' is a second address of '%s'", peer.name, known.name)
            peer.role = "fallback"
            views.append(PeerView(peer.name, (), gateway.id))
        else:
            peer.role = "peer"
            views.append(PeerView(peer.name, peer.sections, gateway.id))
    return Views(tuple(views), tuple(warnings), undecided)


def _mark_self(peer: Peer) -> None:
    if peer.role != "self":
        _log.warning("Peer '%s' (%s) is this gateway itself and is not used", peer.name, peer.spec.url)
    peer.role = "self"


def _are_clones(one: Peer, other: Peer, now: float) -> bool:
    """Whether two boots of one instance id lived at the same time; a restart seen by one poll first is none."""
    if one.gateway.boot_id == other.gateway.boot_id or one.last_seen is None or other.last_seen is None:
        return False
    if now - min(one.last_seen, other.last_seen) > CLONE_WINDOW_S:
        return False
    return (
        one.last_seen > other.first_seen_boot + OVERLAP_MARGIN_S
        and other.last_seen > one.first_seen_boot + OVERLAP_MARGIN_S
    )


def _told_apart(section: OriginSection, instance_id: str, peer: str) -> OriginSection:
    """The section with the clone's own identity made different by the name of the peer that is the clone."""
    here = _id_of_copy(instance_id, peer)
    path = (here, *section.path[1:])
    if section.path == (instance_id,):
        return replace(section, id=here, path=(here,))
    return replace(section, path=path)


def _id_of_copy(instance_id: str, peer: str) -> str:
    return f"{instance_id}~{peer}"


def _impostor(instance_id: str, configured: str, peer: str) -> Warn:
    return Warn(
        "origin_conflict",
        f"'{peer}' says that it is the gateway {instance_id}; that is '{configured}', which is configured or has its"
        " certificate pinned. It is not believed.",
        peer_names=(peer,),
    )


def _duplicate(instance_id: str, peers: tuple[str, ...]) -> Warn:
    who = " and ".join(f"'{name}'" for name in peers) if len(peers) > 1 else f"'{peers[0]}' and this gateway"
    return Warn(
        "duplicate_instance_id",
        f"{who} are different gateways with one instance id ({instance_id}), as copies of one disk image are."
        " Give one of them another aggregation.instance_id, or remove its state directory.",
        peer_names=peers,
    )
