"""What is held of an announcement, what it may cost, and when two of them are the same gateway. Values only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from . import PeerSpec
from .announcement import Announcement


@dataclass(frozen=True)
class Limits:
    """Bounds on what announcements can cost; seconds where a name ends in `_s`."""

    # Announcements that are being asked for their health. A flood beyond costs nothing but a line in the log.
    pending: int = 128
    # Announcements that are not used now and looked at again when a peer goes: no slot was free, or a second address.
    aside: int = 128
    probes_at_once: int = 8
    probe_s: float = 2.0
    # "Others are dropped after 60 s" (AGGREGATION.md §1).
    candidate_s: float = 60.0
    first_retry_s: float = 0.5
    longest_retry_s: float = 10.0
    # "One that has been away for 10 min yields its slot."
    yields_slot_s: float = 600.0
    # A peer that answered this recently is alive, and nobody takes its place.
    alive_s: float = 10.0
    sweep_s: float = 1.0
    # Names that gateways had are given to them again.
    names: int = 1024


@dataclass(frozen=True)
class Answer:
    """What `/health` said of itself; both are "" for a gateway that has no identity (C++)."""

    instance_id: str = ""
    boot_id: str = ""


# Asks a gateway for its health: None when nobody answers there as a gateway.
Ask = Callable[[PeerSpec], Awaitable["Answer | None"]]


@dataclass
class Pending:
    """An announcement that is being asked for its health."""

    announcement: Announcement
    task: asyncio.Task[None] | None = None
    failures: int = 0


@dataclass
class Taken:
    """A peer that was taken in; `leaving` after its goodbye, `since` in seconds of the clock in use."""

    announcement: Announcement
    answer: Answer
    spec: PeerSpec
    since: float
    leaving: bool = False
    # When its other addresses are tried again while it does not answer at the one in use.
    retry_at: float = 0.0


@dataclass
class Counts:
    """What was refused, for `/health` and tests."""

    refused: int = 0
    dropped: int = 0


def key_of(answer: Answer, url: str) -> str:
    """What tells gateways apart: the instance, or the URL of one that has no identity."""
    return answer.instance_id or url


def is_of(announcement: Announcement, answer: Answer) -> bool:
    """Whether who answers is who was announced: an address of a private network may be that of another there."""
    return not announcement.instance_id or announcement.instance_id == answer.instance_id


def is_unchanged(peer: Taken, announcement: Announcement) -> bool:
    """Whether an announcement says nothing new of a peer: the same process, still where it is asked."""
    return (
        peer.spec.url in announcement.urls
        and announcement.instance_id == peer.announcement.instance_id
        and announcement.boot_id == peer.announcement.boot_id
    )


def shown(service: str) -> str:
    """A name that a stranger chose, fit for a log."""
    text = service if len(service) <= 100 else f"{service[:97]}..."
    return "".join(character if character.isprintable() else "?" for character in text)
