"""The judge of aliases, filters and what is retained: hand-made histories, each right but for one thing."""

from __future__ import annotations

from typing import Any

import pytest

from .history import BACK, DEAD, DYING, LINK, READY, SPAWNED, Event
from .test_model import NODES, OTHER, Story, told_story

DECLARED = {"ids": [*NODES["ids"], ["bot_g1", "/bot_g1"]]}
THERE = "g1.1:/bot_g1"


@pytest.fixture
def story() -> Story:
    """Everybody is there since long, and what was seen of both is known."""
    told = Story()
    told_story(told)
    return told


@pytest.fixture
def declared() -> Story:
    """The same with a declared node at g1, where what is declared is retained."""
    told = Story()
    told_story(told)
    told.history.setup = type(told.history.setup)("two", 0, told.history.setup.links, retain=True)
    told.has("g1.1", "/bot_nav", "/bot_g1")
    told.now += 60.0
    told.ask("apps", **DECLARED)
    told.ask("owner", "bot_g1", owner=THERE)
    return told


def alias(story: Story, entity: str, status: int = 200, **facts: Any) -> None:
    story.ask("alias", status=status, alias=["g1", entity], **facts)


def is_dead(story: Story, slot: str) -> None:
    """It is dead for longer than anybody needs to notice."""
    story.event(DYING, slot)
    story.event(DEAD, slot)
    story.now += 10.0


# aliases


def test_good_aliases_are_good(story: Story) -> None:
    story.ask("owner", "bot_cam", gateway="g1", owner="g1.1:/bot_cam")
    alias(story, "bot_cam", reached="g1.1:/bot_cam")
    alias(story, "bot_nobody", 404, code="entity-not-found")
    is_dead(story, "g1")
    alias(story, "bot_cam", 502, code="x-medkit-peer-unavailable")
    alias(story, "bot_nobody", 502, code="x-medkit-peer-unavailable")
    story.starts("g1", "g1.1")
    assert story.ends() == []


def test_an_alias_that_reaches_another_is_seen(story: Story) -> None:
    story.ask("owner", "bot_cam", gateway="g1", owner="g1.1:/bot_cam")
    alias(story, "bot_cam", reached="g0.1:/bot_cam")
    assert story.ends() == ["another owner"]


def test_an_alias_that_is_an_id_leads_to_whose_id_it_is(story: Story) -> None:
    alias(story, "bot_nav", reached=OTHER)
    assert story.ends() == []
    alias(story, "bot_nav", reached="g1.2:/bot_nav")
    assert "another owner" in story.broken()


@pytest.mark.parametrize("status", [200, 502])
def test_an_alias_of_nobody_must_be_unknown_while_the_peer_is_up(story: Story, status: int) -> None:
    alias(story, "bot_nobody", status, **({"reached": OTHER} if status == 200 else {"code": "x"}))
    assert "undocumented" in story.ends()


def test_an_alias_that_is_unknown_while_the_peer_is_down_is_seen(story: Story) -> None:
    is_dead(story, "g1")
    alias(story, "bot_nobody", 404, code="entity-not-found")
    story.starts("g1", "g1.1")
    assert story.ends() == ["undocumented"]


@pytest.mark.parametrize("status", [404, 502])
def test_an_alias_of_what_exists_must_be_answered(story: Story, status: int) -> None:
    story.has("g1.1", "/bot_nav", "/bot_cam")
    story.ask("owner", "bot_cam", gateway="g1", owner="g1.1:/bot_cam")
    story.now += 30.0
    alias(story, "bot_cam", status, code="x")
    assert "lost" in story.broken()


# filters


@pytest.mark.parametrize(
    ("name", "value", "ids", "broken"),
    [
        ("peer", "local", NODES["ids"][:1], []),
        ("peer", "local", NODES["ids"], ["undocumented"]),
        ("peer", "local", [], ["lost"]),
        ("peer", "g1", NODES["ids"][1:], []),
        ("peer", "g1", NODES["ids"], ["undocumented"]),
        ("origin", "g1", NODES["ids"][1:], []),
        ("origin", "g1", NODES["ids"], ["undocumented"]),
        ("origin", "g1", [], ["lost"]),
        ("available", "true", NODES["ids"], []),
        ("available", "true", NODES["ids"][:1], ["lost"]),
        ("available", "false", [], []),
        ("available", "false", NODES["ids"][1:], ["undocumented"]),
    ],
)
def test_a_filter_keeps_what_it_says(story: Story, name: str, value: str, ids: Any, broken: list[str]) -> None:
    story.ask("filtered", filter=[name, value], ids=ids)
    assert story.ends() == broken


# what is away


def test_who_is_away_and_stays_listed_is_seen(story: Story) -> None:
    is_dead(story, "g1")
    story.ask("apps", **NODES)
    story.starts("g1", "g1.1")
    assert story.ends() == ["not gone"]


def test_who_is_started_again_and_not_known_to_be_ready_is_not_away(story: Story) -> None:
    is_dead(story, "g1")
    story.event(SPAWNED, "g1")
    story.ask("apps", **NODES)
    story.event(READY, "g1", life="g1.1", instance="id-g1.1")
    assert story.ends() == []


def test_what_is_declared_stays_as_not_available_and_does_not_respond(declared: Story) -> None:
    is_dead(declared, "g1")
    declared.ask("apps", ids=[DECLARED["ids"][0], DECLARED["ids"][2]], unavailable=["bot_g1"])
    declared.ask("owner", "bot_g1", 504, code="not-responding")
    declared.ask("owner", "g1__bot_nav", 502, code="x-medkit-peer-unavailable")
    assert not {"lost", "not gone", "undocumented"} & set(declared.broken())


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        ({"ids": NODES["ids"][:1]}, "lost"),
        ({"ids": [DECLARED["ids"][0], DECLARED["ids"][2]]}, "not gone"),
        ({"ids": DECLARED["ids"], "unavailable": ["bot_g1", "g1__bot_nav"]}, "not gone"),
    ],
)
def test_what_is_declared_and_leaves_or_is_said_to_be_there_is_seen(
    declared: Story, facts: dict[str, Any], rule: str
) -> None:
    is_dead(declared, "g1")
    declared.ask("apps", **facts)
    assert rule in declared.broken()


@pytest.mark.parametrize(("entity", "status"), [("bot_g1", 502), ("g1__bot_nav", 504)])
def test_what_is_away_answers_with_its_own_status(declared: Story, entity: str, status: int) -> None:
    is_dead(declared, "g1")
    declared.ask("owner", entity, status, code="x")
    assert "undocumented" in declared.broken()


def test_what_is_there_and_said_to_be_away_is_seen(declared: Story) -> None:
    declared.ask("apps", **DECLARED, unavailable=["bot_g1"])
    assert "lost" in declared.broken()


def test_what_was_seen_to_be_back_must_stay(story: Story) -> None:
    story.event(LINK, "g0>g1", state="cut")
    story.event(LINK, "g0>g1", state="open")
    story.ask("owner", "g1__bot_nav", 502, code="x-medkit-peer-unavailable")
    assert story.ends() == []
    story.now += 1.0
    story.history.add(Event(story.now, BACK))
    story.ask("owner", "g1__bot_nav", 502, code="x-medkit-peer-unavailable")
    assert "lost" in story.broken()
