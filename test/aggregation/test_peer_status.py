"""What is said of all peers in one word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from medkit_gateway_py.aggregation.peer_status import PeerStatus, health_block


def peers(*states: str) -> list[PeerStatus]:
    """Peers that are online, offline, paused, or our own address."""
    return [
        PeerStatus(
            f"p{number}",
            "http://h",
            "online" if state == "online" else "offline",
            "paused" if state == "paused" else "closed",
            role="self" if state == "self" else "peer",
            since=float(number),
        )
        for number, state in enumerate(states)
    ]


@pytest.mark.parametrize(
    ("states", "state"),
    [
        ((), "ok"),
        (("online", "online"), "ok"),
        (("online", "paused", "self"), "ok"),
        (("online", "offline"), "degraded"),
        (("offline", "offline", "paused"), "down"),
    ],
)
def test_the_state_is_that_of_the_peers_that_are_asked(states: tuple[str, ...], state: str) -> None:
    assert health_block(True, peers(*states), [])["state"] == state


def test_the_reason_names_who_is_away_and_what_is_wrong() -> None:
    found = health_block(True, peers("online", *["offline"] * 7), ["the file is bad"])
    assert found["reason"] == "the file is bad; 7 of 8 peers do not answer: p1, p2, p3, p4, p5 and 2 more"
    assert found["since"] == 7.0
    assert health_block(True, peers("online"), ["the file is bad"])["state"] == "degraded"
    assert health_block(False, [], []) == {"state": "off"}


def test_a_peer_whose_tree_cannot_be_read_is_no_good_sign() -> None:
    found = health_block(True, [replace(one, is_stale=True) for one in peers("online", "paused")], [])
    assert found["state"] == "degraded"
    assert found["reason"] == "what 1 of 1 peers have may be out of date, see last_error: p0"
