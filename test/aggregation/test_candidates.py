"""Announcements become peers only when a gateway answers: floods, spoofs and absences, with time in the test's hand."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import pytest

from medkit_gateway_py.aggregation.peer_discovery import DiscoveryContext, PeerEvent, PeerSpec
from medkit_gateway_py.aggregation.peer_discovery.announcement import Announcement
from medkit_gateway_py.aggregation.peer_discovery.candidate import Answer, Limits
from medkit_gateway_py.aggregation.peer_discovery.candidates import Candidates
from medkit_gateway_py.aggregation.peer_discovery.complaints import Complaints
from medkit_gateway_py.aggregation.peer_status import PeerStatus
from medkit_gateway_py.aggregation.sections import GatewayIdentity
from support.fake_peer import configuration
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio
OWN = GatewayIdentity("own", "boot", "me")
QUICK = Limits(candidate_s=0.3, first_retry_s=0.02, longest_retry_s=0.05, probe_s=0.5, sweep_s=0.01)


@dataclass
class World:
    """A network: who answers where, which peers the federation has, and what the discovery said."""

    limits: Limits = QUICK
    settings: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    others: tuple[PeerStatus, ...] = ()
    now: float = 1000.0
    banned: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []
        self.asked: list[str] = []
        self.running = self.most = 0
        self.heard: dict[str, float] = {}
        self.specs: dict[str, PeerSpec] = {}
        self.offline: set[str] = set()
        context = DiscoveryContext(configuration({}, **self.settings), OWN, self.statuses)
        self.candidates = Candidates(context, self.emit, self.ask, "mdns", self.limits, lambda: self.now)

    def emit(self, event: PeerEvent) -> None:
        self.events.append((event.change, event.peer.name, event.peer.url))
        self.specs.pop(event.peer.name, None)
        if event.change != "removed" and event.peer.url not in self.banned:
            self.specs[event.peer.name] = event.peer
            self.heard[event.peer.name] = self.now

    def statuses(self) -> tuple[PeerStatus, ...]:
        known = [
            PeerStatus(
                name, spec.url, "offline" if name in self.offline else "online", "closed", source="mdns",
                last_seen_s=self.now - self.heard[name],
            )
            for name, spec in self.specs.items()
        ]  # fmt: skip
        return (*self.others, *known)

    def all_answer_now(self) -> None:
        self.heard = dict.fromkeys(self.specs, self.now)

    async def ask(self, spec: PeerSpec) -> Answer | None:
        self.asked.append(spec.url)
        self.running += 1
        self.most = max(self.most, self.running)
        await anyio.sleep(0.001)
        self.running -= 1
        return self.answers.get(spec.url)

    def urls(self) -> set[str]:
        return {spec.url for spec in self.specs.values()}


def gateway(number: int, name: str = "robot", *, boot: str = "b", port: int = 8080, label: str = "") -> Announcement:
    address = f"10.0.{number // 250}.{number % 250 + 1}"
    service = f"{label or f'{name}-{number}'}._medkit._tcp.local."
    return Announcement(service, name, (f"http://{address}:{port}",), (address,), port, f"id{number}", boot, "1", "h")


def answering(world: World, announcement: Announcement) -> Announcement:
    world.answers[announcement.urls[0]] = Answer(announcement.instance_id, announcement.boot_id)
    return announcement


async def taken_in(world: World, *announcements: Announcement) -> None:
    for one in announcements:
        world.candidates.found(answering(world, one))
    await async_eventually(lambda: {one.urls[0] for one in announcements} <= world.urls())


async def test_a_gateway_that_answers_becomes_a_peer_and_one_that_does_not_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    await taken_in(world, gateway(1, "arm"))
    assert world.events == [("added", "arm", "http://10.0.0.2:8080")]
    world.candidates.found(gateway(2))
    await async_eventually(lambda: gateway(2).urls[0] in world.asked)
    world.now += 1
    await async_eventually(lambda: "does not answer as one" in caplog.text)
    assert world.candidates.size == 1
    await world.candidates.close()


async def test_who_answers_with_another_identity_than_announced_is_not_taken_for_it() -> None:
    world = World()
    two_addresses = replace(gateway(1), urls=("http://172.17.0.1:8080", "http://10.0.0.2:8080"))
    world.answers["http://172.17.0.1:8080"] = Answer("own", "boot")
    world.answers["http://10.0.0.2:8080"] = Answer("id1", "b")
    world.candidates.found(two_addresses)
    await async_eventually(lambda: world.urls() == {"http://10.0.0.2:8080"})
    await world.candidates.close()


async def test_we_are_not_our_own_peer() -> None:
    world = World()
    world.candidates.found(replace(gateway(1), instance_id="own", boot_id="boot"))
    assert world.candidates.size == 0
    silent_about_itself = replace(gateway(1), instance_id="", boot_id="")
    world.answers[silent_about_itself.urls[0]] = Answer("own", "boot")
    world.candidates.found(silent_about_itself)
    await async_eventually(lambda: world.candidates.size == 0)
    assert world.asked
    assert not world.events
    await world.candidates.close()


async def test_equal_names_are_told_apart_and_names_come_back() -> None:
    world = World()
    world.others = (PeerStatus("robot", "http://b:1", "online", "closed"),)
    await taken_in(world, gateway(1), gateway(2))
    assert set(world.specs) == {"robot-id1", "robot-id2"}
    world.answers.clear()
    world.candidates.lost(gateway(1).service)
    await async_eventually(lambda: set(world.specs) == {"robot-id2"})
    world.others = ()
    await taken_in(world, gateway(1, boot="c"))
    assert set(world.specs) == {"robot-id1", "robot-id2"}
    await world.candidates.close()


async def test_a_gateway_that_starts_again_on_another_port_is_the_same_peer_elsewhere() -> None:
    world = World()
    await taken_in(world, gateway(1))
    world.answers.clear()
    world.candidates.found(answering(world, gateway(1, boot="c", port=9090)))
    await async_eventually(lambda: world.urls() == {"http://10.0.0.2:9090"})
    assert world.events[-1] == ("updated", "robot", "http://10.0.0.2:9090")
    assert world.candidates.size == 1
    await world.candidates.close()


async def test_one_that_starts_again_under_another_service_name_takes_the_place_of_the_old() -> None:
    world = World()
    await taken_in(world, gateway(1, label="old"))
    world.answers.clear()
    world.candidates.found(answering(world, gateway(1, boot="c", port=9090, label="new")))
    await async_eventually(lambda: world.urls() == {"http://10.0.0.2:9090"})
    assert [change for change, *_ in world.events] == ["added", "updated"]
    await world.candidates.close()


async def test_a_spoofed_announcement_does_not_move_a_peer_that_answers() -> None:
    world = World()
    await taken_in(world, gateway(1))
    spoofed = replace(gateway(1, boot="c"), urls=("http://10.6.6.6:8080",), addresses=("10.6.6.6",))
    world.candidates.found(answering(world, spoofed))
    await async_eventually(lambda: "http://10.6.6.6:8080" in world.asked)
    await async_eventually(lambda: not world.candidates._pending)
    assert world.urls() == {"http://10.0.0.2:8080"}
    assert [change for change, *_ in world.events] == ["added"]
    await world.candidates.close()


async def test_another_gateway_that_announces_the_name_of_a_living_one_is_refused() -> None:
    world = World()
    await taken_in(world, gateway(1, label="same"))
    world.candidates.found(answering(world, gateway(2, label="same")))
    await async_eventually(lambda: world.candidates.counts.refused == 1)
    assert world.urls() == {"http://10.0.0.2:8080"}
    await world.candidates.close()


async def test_copies_of_one_disk_image_are_both_peers() -> None:
    world = World()
    one = gateway(1, label="one")
    copy = replace(gateway(1, boot="other", label="copy"), urls=("http://10.0.0.9:8080",), addresses=("10.0.0.9",))
    await taken_in(world, one, copy)
    assert set(world.specs) == {"robot", "robot-id1"}
    await world.candidates.close()


async def test_a_second_announcement_of_one_process_is_kept_aside_until_the_first_goes() -> None:
    world = World()
    await taken_in(world, gateway(1, label="first"))
    again = replace(gateway(1, label="second"), urls=("http://10.7.7.7:8080",), addresses=("10.7.7.7",))
    world.candidates.found(answering(world, again))
    await async_eventually(lambda: "http://10.7.7.7:8080" in world.asked and not world.candidates._pending)
    assert len(world.specs) == 1
    del world.answers["http://10.0.0.2:8080"]
    world.candidates.lost(gateway(1, label="first").service)
    await async_eventually(lambda: world.urls() == {"http://10.7.7.7:8080"})
    await world.candidates.close()


async def test_a_goodbye_removes_at_once_who_no_longer_answers() -> None:
    world = World()
    await taken_in(world, gateway(1))
    world.answers.clear()
    world.candidates.lost(gateway(1).service)
    await async_eventually(lambda: not world.specs)
    assert world.events[-1][0] == "removed"
    await world.candidates.close()


async def test_a_spoofed_goodbye_removes_nobody_until_it_stops_answering(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    await taken_in(world, gateway(1))
    world.candidates.lost(gateway(1).service)
    await async_eventually(lambda: "still answers" in caplog.text)
    world.candidates.sweep()
    assert len(world.specs) == 1
    world.offline.add("robot")
    world.candidates.sweep()
    assert not world.specs
    await world.candidates.close()


async def test_one_that_announces_itself_again_after_a_goodbye_stays_when_it_is_away() -> None:
    world = World()
    await taken_in(world, gateway(1))
    world.candidates.lost(gateway(1).service)
    await async_eventually(lambda: not world.candidates._goodbyes)
    world.candidates.found(gateway(1))
    world.offline.add("robot")
    world.candidates.sweep()
    assert len(world.specs) == 1
    await world.candidates.close()


async def test_a_peer_that_is_away_is_kept_until_it_is_forgotten() -> None:
    world = World(settings={"forget_after_s": 5000})
    await taken_in(world, gateway(1))
    world.now += 4999
    world.candidates.sweep()
    assert len(world.specs) == 1
    world.now += 2
    world.candidates.sweep()
    assert not world.specs
    await world.candidates.close()


async def test_no_more_than_the_configured_number_are_taken_in_and_one_waits_for_a_slot(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(settings={"max_discovered_peers": 2})
    await taken_in(world, gateway(1), gateway(2))
    world.candidates.found(answering(world, gateway(3)))
    await async_eventually(lambda: "max_discovered_peers" in caplog.text)
    assert len(world.specs) == 2
    del world.answers[gateway(1).urls[0]]
    world.candidates.lost(gateway(1).service)
    await async_eventually(lambda: gateway(3).urls[0] in world.urls())
    await world.candidates.close()


def test_a_candidate_has_a_minute_to_answer() -> None:
    assert Limits().candidate_s == 60.0


async def test_one_that_was_away_for_ten_minutes_yields_its_slot_and_not_before() -> None:
    world = World(settings={"max_discovered_peers": 2})
    await taken_in(world, gateway(1), gateway(2))
    world.now += 599
    world.heard[world.candidates.peers[1].name] = world.now
    world.candidates.found(answering(world, gateway(3)))
    await async_eventually(lambda: world.candidates.counts.refused == 1)
    world.now += 2
    world.candidates.found(answering(world, gateway(4)))
    await async_eventually(lambda: world.urls() == {gateway(2).urls[0], gateway(4).urls[0]})
    await world.candidates.close()


async def test_what_a_static_peer_reaches_as_well_takes_no_slot() -> None:
    world = World(settings={"max_discovered_peers": 1})
    world.others = (PeerStatus("fixed", "http://b:1", "online", "closed", instance_id="id1"),)
    await taken_in(world, gateway(1), gateway(2))
    await world.candidates.close()


async def test_who_is_not_admitted_takes_no_slot_and_there_is_a_bound_on_them_too() -> None:
    banned = [gateway(number) for number in range(10, 20)]
    world = World(replace(QUICK, aside=4), {"max_discovered_peers": 1}, banned=frozenset(one.urls[0] for one in banned))
    for one in banned:
        world.candidates.found(answering(world, one))
    await async_eventually(lambda: not world.candidates._pending)
    assert len(world.candidates.peers) <= 5
    assert world.candidates.size <= 9
    await world.candidates.close()
    world = World(settings={"max_discovered_peers": 1}, banned=frozenset(one.urls[0] for one in banned))
    for one in banned:
        world.candidates.found(answering(world, one))
    await taken_in(world, gateway(1))
    await world.candidates.close()


async def test_the_certificate_of_a_gateway_is_for_the_target_of_its_srv_record() -> None:
    world = World()
    await taken_in(world, replace(gateway(1), urls=("https://10.0.0.2:8080",), server_name="robot-1.local"))
    access = world.specs["robot"].access
    assert access is not None
    assert access.server_name == "robot-1.local"
    await world.candidates.close()


async def test_one_whose_name_a_configured_peer_takes_gets_another() -> None:
    world = World()
    await taken_in(world, gateway(1))
    world.others = (PeerStatus("robot", "http://b:1", "online", "closed"),)
    world.candidates.sweep()
    await async_eventually(lambda: set(world.specs) == {"robot-id1"})
    await world.candidates.close()


async def test_other_addresses_are_tried_when_a_peer_is_away_from_its_own() -> None:
    world = World()
    both = replace(gateway(1), urls=("http://10.0.0.2:8080", "http://10.9.9.9:8080"))
    await taken_in(world, both)
    world.answers = {"http://10.9.9.9:8080": Answer("id1", "b")}
    world.now += 11
    world.candidates.sweep()
    await async_eventually(lambda: world.urls() == {"http://10.9.9.9:8080"})
    assert [change for change, *_ in world.events] == ["added", "updated"]
    await world.candidates.close()


async def test_a_complaint_is_said_once_and_a_minute_holds_only_so_many(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    complaints = Complaints(lambda: now[0])
    for _ in range(3):
        complaints.say("same", logging.WARNING, "the same")
    for number in range(100):
        complaints.say(str(number), logging.WARNING, f"number {number}")
    assert caplog.text.count("the same") == 1
    assert len(caplog.records) == 20
    now[0] = 61.0
    complaints.summarize()
    assert caplog.messages[-1].startswith("81 more announcements")
    complaints.say("another", logging.ERROR, "another")
    assert caplog.messages[-1] == "another"


async def test_a_flood_costs_bounded_memory_and_work_and_displaces_nobody(caplog: pytest.LogCaptureFixture) -> None:
    world = World(replace(QUICK, pending=20, probes_at_once=4), {"max_discovered_peers": 50})
    good = [gateway(number, f"good{number}") for number in range(3)]
    await taken_in(world, *good)
    for number in range(100, 1100):
        world.candidates.found(gateway(number))
        assert world.candidates.size <= 23
        if number % 50 == 0:
            await asyncio.sleep(0)
    late = gateway(4, "late")
    answering(world, late)
    await async_eventually(lambda: world.candidates.found(late) or late.urls[0] in world.urls())
    assert {one.urls[0] for one in good} <= world.urls()
    assert world.most <= 4
    assert all(change == "added" for change, *_ in world.events)
    await async_eventually(lambda: all(one.failures for one in world.candidates._pending.values()))
    world.now += 1
    await async_eventually(lambda: world.candidates.size == 4)
    assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) <= 20
    await world.candidates.close()
