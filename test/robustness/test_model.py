"""The judge sees what is wrong and nothing else: hand-made histories, each right but for one thing.

`g0` asks `g1`. Both robots have a node `/bot_nav`; at g0 the one of g1 is called `g1__bot_nav`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .history import (
    CHANGED,
    CHANGING,
    DEAD,
    DIED,
    DYING,
    FREEZING,
    LINK,
    QUIET,
    READY,
    RECEIVED,
    SPAWNED,
    STALL,
    THAWED,
    Ask,
    Event,
    History,
    Setup,
)
from .judge import main
from .model import judge

MINE, OTHER = "g0.1:/bot_nav", "g1.1:/bot_nav"
NODES = {"ids": [["bot_nav", "/bot_nav"], ["g1__bot_nav", "/bot_nav"]]}
BOTH = {"from": ["g0.1", "g1.1"]}


@dataclass
class Story:
    """A history as it is told: each request takes a tenth of a second, each thing comes a second after the last."""

    history: History = field(default_factory=lambda: History(Setup("two", 0, {"g0": ("g1",), "g1": ()})))
    now: float = 100.0
    _tokens: Any = field(default_factory=lambda: itertools.count(1))

    def event(self, what: str, subject: str = "", **facts: Any) -> None:
        self.now += 1.0
        self.history.add(Event(self.now, what, subject, facts))

    def starts(self, slot: str, life: str) -> None:
        self.event(SPAWNED, slot)
        self.event(READY, slot, life=life, instance=f"id-{life}")

    def has(self, life: str, *nodes: str) -> None:
        self.event(CHANGED, life.partition(".")[0], life=life, nodes=list(nodes))

    def dies(self, slot: str) -> None:
        self.event(DYING, slot)
        self.event(DEAD, slot)

    def ask(
        self, what: str, entity: str = "", status: int = 200, gateway: str = "g0", took: float = 0.1, **facts: Any
    ) -> None:
        self.now += 1.0
        end = self.now + took
        self.history.add(Ask(0, gateway, what, entity, f"/{what}", self.now, end, status, facts))
        self.now = end

    def write(self, entity: str, *reached: str, status: int = 200) -> str:
        """A write that arrives at these owners while it is under way."""
        token = f"t{next(self._tokens)}"
        for owner in reached:
            self.history.add(Event(self.now + 1.05, RECEIVED, facts={"owner": owner, "value": token}))
        facts = {"note": token} if status == 200 else {"code": "x"}
        self.ask("write", entity, status, sent=token, **facts)
        return token

    def whole(self, gateway: str, ids: dict[str, Any], lives: list[str], owners: dict[str, str]) -> None:
        """A look at everything that a gateway says, all of it as it should be."""
        self.ask("apps", gateway=gateway, **ids)
        for entity, owner in owners.items():
            self.ask("owner", entity, gateway=gateway, owner=owner)
        for what in ("faults", "fleet_faults"):
            self.ask(what, gateway=gateway, **{"from": lives})
        self.ask("versions", gateway=gateway, **{"from": [f"id-{life}" for life in lives]})

    def ends(self) -> list[str]:
        """Quiet, a last look at everything, and what the judge says: the names of the broken rules."""
        self.event(QUIET)
        self.last_look()
        return self.broken()

    def last_look(self) -> None:
        """At everything, with everything as it should be."""
        self.whole("g0", NODES, ["g0.1", "g1.1"], {"bot_nav": MINE, "g1__bot_nav": OTHER})
        self.whole("g1", {"ids": [["bot_nav", "/bot_nav"]]}, ["g1.1"], {"bot_nav": OTHER})

    def broken(self) -> list[str]:
        """The names of the broken rules."""
        return sorted({violation.rule for violation in judge(self.history)})


def told_story(told: Story) -> None:
    """Everybody is there since long, and g0 has listed everything."""
    for slot in ("g0", "g1"):
        told.starts(slot, f"{slot}.1")
        told.has(f"{slot}.1", "/bot_nav")
    told.now += 60.0
    told.whole("g0", NODES, ["g0.1", "g1.1"], {"bot_nav": MINE, "g1__bot_nav": OTHER})


@pytest.fixture
def story() -> Story:
    """Everybody is there since long, and g0 has listed everything."""
    told = Story()
    told_story(told)
    return told


def test_a_good_history_is_good(story: Story) -> None:
    first = story.write("g1__bot_nav", OTHER)
    story.ask("parameters", "g1__bot_nav", owner=OTHER, note=first)
    story.ask("whole_or_nothing", status=503, code="x-medkit-partial")
    story.ask("detail", "g1__bot_nav", fqn="/bot_nav")
    assert story.ends() == []


def test_harm_excuses_what_follows_from_it(story: Story) -> None:
    story.dies("g1")
    story.ask("apps", ids=NODES["ids"][:1])
    story.ask("owner", "g1__bot_nav", 502, code="x-medkit-peer-unavailable")
    story.ask("faults", partial=True, failed=["g1"], **{"from": ["g0.1"]})
    story.ask("apps", status=0, gateway="g1", error="refused")
    story.starts("g1", "g1.1")
    story.event(LINK, "g0>g1", state="half")
    story.write("g1__bot_nav", OTHER, status=504)
    story.event(LINK, "g0>g1", state="open")
    story.event(FREEZING, "g0")
    story.ask("apps", status=0, took=5.0, error="ReadTimeout")
    story.event(THAWED, "g0")
    assert story.ends() == []


# never another owner


def test_an_id_that_answers_for_another_is_seen(story: Story) -> None:
    story.ask("owner", "g1__bot_nav", owner=MINE)
    assert story.ends() == ["another owner"]


def test_an_id_that_answers_for_the_robot_that_came_after_is_seen(story: Story) -> None:
    story.dies("g1")
    story.has("g1.2", "/bot_nav")
    story.starts("g1", "g1.2")
    story.ask("parameters", "g1__bot_nav", owner="g1.2:/bot_nav", note="x")
    assert "another owner" in story.broken()


def test_a_write_that_reaches_another_is_seen(story: Story) -> None:
    story.event(LINK, "g0>g1", state="slow")
    story.write("g1__bot_nav", MINE, status=504)
    story.event(LINK, "g0>g1", state="open")
    assert story.ends() == ["another owner"]


def test_a_write_that_arrives_twice_is_seen(story: Story) -> None:
    story.write("g1__bot_nav", OTHER, OTHER)
    assert story.ends() == ["another owner"]


def test_a_write_that_arrives_nowhere_and_says_it_did_is_seen(story: Story) -> None:
    story.write("g1__bot_nav")
    assert "another owner" in story.ends()


# always the same id


def test_an_owner_that_gets_another_id_is_seen(story: Story) -> None:
    story.ask("apps", ids=[["bot_nav", "/bot_nav"], ["g1__bot_nav_2", "/bot_nav"]])
    story.ask("owner", "g1__bot_nav_2", owner=OTHER)
    assert "another id" in story.ends()


def test_an_id_that_names_another_node_is_seen(story: Story) -> None:
    story.ask("detail", "g1__bot_nav", fqn="/bot_cam")
    assert story.ends() == ["another id"]


def test_what_is_listed_twice_is_seen(story: Story) -> None:
    story.ask("apps", ids=[*NODES["ids"], NODES["ids"][1]])
    assert story.ends() == ["listed twice"]


# no unmarked gap


@pytest.mark.parametrize("what", ["faults", "fleet_faults", "versions"])
def test_a_gap_that_nobody_speaks_of_is_seen_even_while_the_peer_is_dead(story: Story, what: str) -> None:
    story.dies("g1")
    story.ask(what, **{"from": ["id-g0.1" if what == "versions" else "g0.1"]})
    story.starts("g1", "g1.1")
    assert story.ends() == ["unmarked gap"]


def test_a_gateway_that_just_started_knows_its_nodes(story: Story) -> None:
    story.dies("g1")
    story.starts("g1", "g1.1")
    story.ask("owner", "g1__bot_nav", 404, code="entity-not-found")
    assert story.ends() == ["forgotten"]


@pytest.mark.parametrize("what", ["fleet_faults", "faults"])
def test_a_gateway_that_just_started_has_all_that_hangs_on_its_nodes(story: Story, what: str) -> None:
    story.dies("g1")
    story.starts("g1", "g1.1")
    story.ask(what, **{"from": ["g0.1"]})
    assert story.ends() == ["unmarked gap"]


def test_a_partial_answer_that_does_not_say_who_is_missing_is_seen(story: Story) -> None:
    story.dies("g1")
    story.ask("faults", partial=True, failed=[], **{"from": ["g0.1"]})
    story.starts("g1", "g1.1")
    assert story.ends() == ["unmarked gap"]


def test_that_an_address_leads_elsewhere_excuses_no_gap(story: Story) -> None:
    story.event(LINK, "g0>g1", state="swap")
    story.ask("faults", **{"from": ["g0.1"]})
    story.event(LINK, "g0>g1", state="open")
    assert story.ends() == ["unmarked gap"]


@pytest.mark.parametrize("label", ["g2", "g1/g2", "id-g1.1"])
def test_a_missing_one_that_nobody_is_called_is_seen(story: Story, label: str) -> None:
    story.dies("g1")
    story.ask("faults", partial=True, failed=[label], **{"from": ["g0.1"]})
    story.starts("g1", "g1.1")
    assert story.ends() == ["unmarked gap"]


def test_a_part_for_who_wanted_the_whole_is_seen(story: Story) -> None:
    story.dies("g1")
    story.ask("whole_or_nothing", **{"from": ["g0.1"]})
    story.starts("g1", "g1.1")
    assert story.ends() == ["unmarked gap"]


def test_a_robot_that_was_exchanged_is_no_gap(story: Story) -> None:
    story.dies("g1")
    story.has("g1.2", "/bot_nav")
    story.starts("g1", "g1.2")
    story.ask("faults", **{"from": ["g0.1"]})
    assert "unmarked gap" not in story.broken()


# never back in time


def test_an_origin_that_goes_back_is_seen(story: Story) -> None:
    for seq in (5, 4):
        story.ask("tree", instance="id-g0.1", boot="b", seq=9, origins={"id-g1.1": ["a", seq]})
    assert story.ends() == ["back in time"]


def test_a_later_boot_with_a_lower_number_is_no_going_back(story: Story) -> None:
    for boot, seq in (("a", 5), ("b", 1)):
        story.ask("tree", instance="id-g0.1", boot="b", seq=9, origins={"id-g1.1": [boot, seq]})
    assert story.ends() == []


def test_a_generation_that_falls_is_seen_unless_it_is_another_process(story: Story) -> None:
    story.ask("health", instance="id-g0.1", generation=7)
    story.dies("g0")
    story.starts("g0", "g0.1")
    story.ask("health", instance="id-g0.1", generation=3)
    assert story.ends() == []
    story.ask("health", instance="id-g0.1", generation=2)
    assert story.broken() == ["back in time"]


def test_a_read_that_gives_less_than_was_written_before_is_seen(story: Story) -> None:
    first = story.write("g1__bot_nav", OTHER)
    story.write("g1__bot_nav", OTHER)
    story.ask("parameters", "g1__bot_nav", owner=OTHER, note=first)
    assert story.ends() == ["back in time"]


def test_a_read_at_the_same_time_as_a_write_may_give_either(story: Story) -> None:
    first = story.write("g1__bot_nav", OTHER)
    began = story.now
    story.write("g1__bot_nav", OTHER)
    facts = {"owner": OTHER, "note": first}
    story.history.add(Ask(1, "g0", "parameters", "g1__bot_nav", "/x", began, story.now + 0.1, 200, facts))
    assert story.ends() == []


CAM = {"ids": [*NODES["ids"], ["bot_cam", "/bot_cam"]]}


def test_a_removed_node_that_comes_back_into_the_lists_is_seen(story: Story) -> None:
    story.has("g1.1", "/bot_nav", "/bot_cam")
    story.ask("apps", **CAM)
    story.ask("owner", "bot_cam", owner="g1.1:/bot_cam")
    story.has("g1.1", "/bot_nav")
    story.ask("apps", **CAM)
    story.ask("apps", **NODES)
    assert story.ends() == []
    story.ask("apps", **CAM)
    assert "back in time" in story.broken()


@pytest.mark.parametrize("why", ["it came again", "its robot was away", "another process"])
def test_a_node_that_is_listed_again_for_a_reason_is_no_going_back(story: Story, why: str) -> None:
    story.has("g1.1", "/bot_nav", "/bot_cam")
    story.ask("apps", **CAM)
    story.ask("owner", "bot_cam", owner="g1.1:/bot_cam")
    story.has("g1.1", "/bot_nav")
    if why == "its robot was away":
        story.event(LINK, "g0>g1", state="cut")
    story.ask("apps", ids=NODES["ids"][: 1 if why == "its robot was away" else 2])
    story.event(LINK, "g0>g1", state="open")
    if why == "another process":
        story.dies("g0")
        story.starts("g0", "g0.1")
    if why == "it came again":
        story.event(CHANGING, "g1")
    story.ask("apps", **CAM)
    if why == "it came again":
        story.has("g1.1", "/bot_nav", "/bot_cam")
        story.has("g1.1", "/bot_nav")
    story.now += 30.0
    assert story.ends() == []


# remembered, documented, in time


def test_an_id_that_is_forgotten_while_its_owner_is_away_is_seen(story: Story) -> None:
    story.dies("g1")
    story.now += 20.0
    story.ask("owner", "g1__bot_nav", 404, code="entity-not-found")
    story.starts("g1", "g1.1")
    assert story.ends() == ["forgotten"]


def test_an_id_whose_node_has_left_may_be_unknown(story: Story) -> None:
    story.has("g1.1")
    story.ask("owner", "g1__bot_nav", 404, code="entity-not-found")
    story.has("g1.1", "/bot_nav")
    assert story.ends() == []


def test_an_id_of_a_robot_that_was_exchanged_is_not_unknown(story: Story) -> None:
    story.dies("g1")
    story.has("g1.2", "/bot_nav")
    story.starts("g1", "g1.2")
    story.now += 20.0
    story.ask("owner", "g1__bot_nav", 404, code="entity-not-found")
    assert "forgotten" in story.broken()


@pytest.mark.parametrize(
    ("what", "status"), [("apps", 502), ("faults", 500), ("detail", 500), ("whole_or_nothing", 502)]
)
def test_a_status_that_is_not_documented_is_seen(story: Story, what: str, status: int) -> None:
    story.dies("g1")
    story.ask(what, "g1__bot_nav" if what == "detail" else "", status, code="x")
    story.starts("g1", "g1.1")
    assert story.ends() == ["undocumented"]


def test_a_body_that_is_not_as_documented_is_seen(story: Story) -> None:
    story.ask("versions", bad="KeyError: 'items'")
    assert story.ends() == ["undocumented"]


def test_a_connection_that_breaks_without_cause_is_seen(story: Story) -> None:
    story.ask("apps", status=0, error="ReadError")
    assert story.ends() == ["undocumented"]


def test_a_gateway_that_says_it_is_another_is_seen(story: Story) -> None:
    story.ask("health", instance="id-g1.1", generation=7)
    assert story.ends() == ["undocumented"]


def test_a_gateway_that_nobody_killed_and_that_ended_is_seen(story: Story) -> None:
    story.event(DIED, "g1", said="g1 ended by itself with -11")
    assert story.ends() == ["died"]


def test_an_answer_that_is_late_is_seen_unless_the_machine_stood_still(story: Story) -> None:
    story.ask("apps", took=11.0, **NODES)
    assert story.ends() == ["late"]
    story.history.add(Event(story.now, STALL, facts={"seconds": 1000.0}))
    assert story.broken() == []


# lost, and not back


def test_what_is_lost_without_cause_is_seen(story: Story) -> None:
    story.ask("apps", ids=NODES["ids"][:1])
    story.ask("owner", "g1__bot_nav", 502, code="x-medkit-peer-unavailable")
    assert story.ends() == ["lost"]


def test_a_node_that_has_nothing_to_say_is_seen_unless_it_is_new(story: Story) -> None:
    story.has("g1.1")
    story.has("g1.1", "/bot_nav")
    story.ask("data", "g1__bot_nav", silent=True)
    assert story.ends() == []
    story.now += 30.0
    story.ask("data", "g1__bot_nav", silent=True)
    assert story.broken() == ["lost"]


def test_who_does_not_come_back_is_seen(story: Story) -> None:
    assert story.ends() == []
    story.dies("g1")
    story.starts("g1", "g1.1")
    story.event(QUIET)
    story.whole("g0", {"ids": NODES["ids"][:1]}, ["g0.1"], {"bot_nav": MINE})
    story.whole("g1", {"ids": [["bot_nav", "/bot_nav"]]}, ["g1.1"], {"bot_nav": OTHER})
    assert "not back" in story.broken()


def test_who_cries_wolf_at_the_end_is_seen(story: Story) -> None:
    story.ends()
    story.ask("faults", partial=True, failed=["g1"], **BOTH)
    assert story.broken() == ["not back"]


def test_a_history_in_which_nobody_asked_at_the_end_is_not_right(story: Story) -> None:
    story.event(QUIET)
    assert story.broken() == ["not back"]


# what is kept


def test_a_saved_history_is_judged_as_it_was(story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story.write("g1__bot_nav", MINE, status=504)
    story.ends()
    path = story.history.save(tmp_path / "kept" / "bad.jsonl")
    assert [str(one) for one in judge(History.load(path))] == [str(one) for one in judge(story.history)]
    assert main([str(path)]) == 1
    assert "another owner" in capsys.readouterr().out


def test_what_is_no_history_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.jsonl"
    path.write_text('{"setup":{"topology":"two","seed":1,"links":{}}}\n{"ask":{}}\n')
    assert main([str(path)]) == 2
    assert f"{path}:2: no record of a history" in capsys.readouterr().out
