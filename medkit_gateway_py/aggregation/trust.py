"""Who alone may speak as a gateway (AGGREGATION.md §5): pins by configured peer and by certificate. Pure.

A pin is about what a peer says of itself. What others say of a gateway behind them is judged in `origins.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Pin:
    """Who a gateway was first heard from directly: a peer, and the pinned certificate that it showed, if any."""

    peer: str
    certificate: str = ""


@dataclass(frozen=True)
class Trust:
    """What the configuration and the connections say now.

    `static`: the names of configured peers. `certificates`: by peer, the SHA-256 of the certificate that it showed,
    where its settings pin one. `accepted`: all certificates that settings pin.
    """

    static: Collection[str] = frozenset()
    certificates: Mapping[str, str] = field(default_factory=dict)
    accepted: Collection[str] = frozenset()

    def counts(self, pin: Pin) -> bool:
        """Whether the configuration still has what the pin was made by."""
        return pin.certificate in self.accepted if pin.certificate else pin.peer in self.static

    def pin_by(self, peer: str) -> Pin | None:
        """The pin that a peer makes when it is heard directly; None: nobody vouches for it."""
        certificate = self.certificates.get(peer, "")
        return Pin(peer, certificate) if certificate or peer in self.static else None

    def is_own_word(self, pin: Pin, peer: str) -> bool:
        """Whether it is the pinned gateway itself that speaks over this peer."""
        shown = self.certificates.get(peer, "")
        if not pin.certificate or (shown and peer in self.static and peer == pin.peer):
            # A configured peer may get another certificate; its settings say which one is good.
            return peer == pin.peer
        return shown == pin.certificate

    def may_speak(self, pin: Pin, peer: str, is_known_start: bool) -> bool:
        """Whether another peer may be the pinned gateway at a second address; `is_known_start`: of no new start.

        Anybody can copy a boot id, so where a certificate was shown only a person's word is as good.
        """
        if not pin.certificate:
            return peer in self.static or is_known_start
        return peer in self.static and (is_known_start or pin.peer not in self.static)

    def beats(self, peer: str, pin: Pin) -> bool:
        """Whether a peer that speaks makes the pin anew: it is the pinned one, or configured, and that one is not."""
        return peer == pin.peer or (peer in self.static and pin.peer not in self.static)
