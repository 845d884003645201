"""What holds of every peer that a discovery adds, whoever wrote the discovery (AGGREGATION.md §1): its name, its URL,
`require_tls`, and how many there may be.

mDNS judges announcements itself, before anybody is asked; this is behind it, and alone in front of other plugins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...parameters import peer_url
from ...parameters.aggregation import PEER_NAME, PEER_NAME_RULE
from ...parameters.rules import hide_credentials
from . import ADDED, BY_MDNS, CONFIGURED, REMOVED, PeerEvent
from .candidate import shown
from .complaints import Complaints

if TYPE_CHECKING:
    from ..peer_status import PeerStatus


class Admission:
    """Passes events on to `emit`, and refuses those of peers that may not be, once for each reason."""

    def __init__(
        self, aggregation: Any, peers: Callable[[], tuple[PeerStatus, ...]], emit: Callable[[PeerEvent], None]
    ) -> None:
        self._aggregation = aggregation
        self._peers = peers
        self._emit = emit
        self._complaints = Complaints()

    def __call__(self, event: PeerEvent) -> None:
        """Pass one on, or not."""
        spec = event.peer
        if event.change == REMOVED:
            self._emit(event)
            return
        url = peer_url(spec.url)
        if not PEER_NAME.fullmatch(spec.name):
            self._refuse(event, f"its name must be {PEER_NAME_RULE}")
        elif isinstance(url, str):
            self._refuse(event, f"its URL {url}")
        elif url.scheme == "http" and self._aggregation.require_tls:
            self._refuse(event, "aggregation.require_tls is true, and its URL is http://", logging.ERROR)
        elif event.change == ADDED and not self._has_room(event):
            most = self._aggregation.max_discovered_peers
            self._refuse(event, f"there are {most} discovered peers already (aggregation.max_discovered_peers)")
        else:
            if url.scheme == "http" and spec.source not in (*CONFIGURED, BY_MDNS):
                text = (
                    f"Peer '{spec.name}' ({url.text}) is reached by cleartext HTTP: anybody on the way can read along"
                )
                self._complaints.say(f"{spec.name}\0{url.text}", logging.WARNING, text)
            self._emit(replace(event, peer=replace(spec, url=url.text)))

    def _has_room(self, event: PeerEvent) -> bool:
        # mDNS counts its own, for it knows who has been away for long and yields.
        if event.peer.source in (*CONFIGURED, BY_MDNS):
            return True
        others = [one for one in self._peers() if one.source not in CONFIGURED and one.name != event.peer.name]
        return bool(len(others) < self._aggregation.max_discovered_peers)

    def _refuse(self, event: PeerEvent, reason: str, level: int = logging.WARNING) -> None:
        spec = event.peer
        named = f"'{shown(spec.name)}' ({shown(hide_credentials(spec.url))})"
        text = f"Peer {named}, found by '{shown(spec.source)}', is not used: {reason}"
        self._complaints.say(f"{spec.name}\0{reason}", level, text)
