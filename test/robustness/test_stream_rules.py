"""The judge sees what is wrong on event streams and nothing else: hand-made histories, each right but for one thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .history import FREEZING, LINK, QUIET, STALL, THAWED, Heard, History
from .judge import main
from .listeners import FAULTS, TREE, Lines
from .test_model import Story, told_story

ORIGINS = {"id-g0.1": ["a", 1], "id-g1.1": ["a", 5]}


class Listening(Story):
    """A story that is listened to at g0, by two listeners of faults and one of the tree."""

    def hears(self, what: str, number: int | str = "", client: int = 100, stream: str = FAULTS, **facts: Any) -> None:
        self.now += 1.0
        self.history.add(Heard(client, "g0", stream, 1, self.now, what, str(number), facts))

    def opens(self, last: int | str = "", client: int = 100) -> None:
        self.hears("opened", client=client, last=str(last), instance="id-g0.1")

    def reports(self, life: str, n: int, number: int, client: int = 100, what: str = "fault_updated") -> None:
        peer = {} if life.startswith("g0") else {"peer": life.partition(".")[0]}
        self.hears(what, number, client, life=life, n=n, **peer)

    def follows(self, seq: int = 5, boot: str = "b") -> None:
        self.hears("opened", client=102, stream=TREE, last=f"{boot}-{seq}", boot=boot, seq=seq, origins=ORIGINS)

    def changes(self, base: int, seq: int, boot: str = "b", gone: Any = (), **ages: int) -> None:
        facts = {"base": base, "seq": seq, "set": {f"id-{life}.1": ["a", age] for life, age in ages.items()}}
        self.hears("delta", f"{boot}-{seq}", 102, TREE, **facts, gone=list(gone))

    def last_look(self) -> None:
        """As of any story; and everybody is heard of."""
        super().last_look()
        self.reports("g0.1", 1000, 1000)
        self.reports("g1.1", 1000, 1001)


@pytest.fixture
def story() -> Listening:
    """Everybody is there since long, g0 has listed everything, and a listener has heard both."""
    told = Listening()
    told_story(told)
    told.opens()
    told.reports("g0.1", 1, 1, what="fault_confirmed")
    told.reports("g1.1", 1, 2, what="fault_confirmed")
    return told


def test_a_good_stream_is_good(story: Listening) -> None:
    story.reports("g1.1", 2, 3)
    story.hears("left")
    story.opens(3)
    story.reports("g1.1", 4, 5)
    story.follows()
    story.changes(5, 6, g1=7)
    story.changes(6, 7, gone=["id-g1.1"])
    assert story.ends() == []


def test_harm_excuses_what_follows_from_it_on_streams(story: Listening) -> None:
    story.reports("g1.1", 2, 1, client=101)
    story.event(LINK, "g0>g1", state="cut")
    story.hears("peer_down", 3, peer="g1", reason="it is offline")
    story.event(LINK, "g0>g1", state="open")
    story.hears("peer_up", 4, peer="g1")
    story.reports("g1.1", 3, 5)
    story.event(FREEZING, "g0")
    story.now += 60.0
    story.hears("silence", seconds=60.0)
    story.event(THAWED, "g0")
    story.dies("g0")
    story.hears("broken", error="ReadError")
    story.starts("g0", "g0.1")
    story.now += 10.0
    # Another process counts anew, and replays what it has.
    story.opens(5)
    story.hears("gap", reason="restarted")
    story.reports("g1.1", 3, 1)
    assert story.ends() == []


# once, in order


def test_an_id_that_falls_is_seen(story: Listening) -> None:
    story.reports("g1.1", 2, 2)
    assert story.ends() == ["back in time"]


def test_an_event_that_comes_twice_is_seen_also_after_coming_back(story: Listening) -> None:
    story.hears("left")
    story.opens(2)
    story.reports("g1.1", 1, 3, what="fault_confirmed")
    assert story.ends() == ["heard twice"]


def test_the_events_of_a_robot_in_another_order_are_seen(story: Listening) -> None:
    story.reports("g1.1", 3, 3)
    story.reports("g1.1", 2, 4)
    assert "out of order" in story.ends()


# nothing lost unsaid


def test_an_event_that_others_heard_and_that_is_missing_is_seen(story: Listening) -> None:
    story.opens(client=101)
    story.reports("g1.1", 1, 2, client=101, what="fault_confirmed")
    story.reports("g1.1", 2, 3, client=101)
    story.reports("g0.1", 1000, 1000, client=101)
    story.reports("g1.1", 3, 4)
    story.reports("g1.1", 3, 4, client=101)
    assert "lost event" in story.broken()


@pytest.mark.parametrize(
    ("what", "facts", "broken"),
    [
        ("gap", {"reason": "more happened", "lost": 1}, False),
        ("gap", {"peer": "g1", "reason": "restarted"}, False),
        ("peer_down", {"peer": "g1", "reason": "offline"}, False),
        ("peer_up", {"peer": "g1"}, True),
    ],
)
def test_what_is_missing_must_be_said(story: Listening, what: str, facts: dict[str, Any], broken: bool) -> None:
    story.reports("g1.1", 2, 3, client=101)
    story.hears(what, 3, **facts)
    story.hears("peer_up", 4, peer="g1")
    story.reports("g1.1", 3, 5)
    assert ("lost event" in story.broken()) == broken


def test_a_word_about_another_is_no_word_about_this_one(story: Listening) -> None:
    story.reports("g0.1", 2, 3, client=101)
    story.hears("peer_down", 3, peer="g1", reason="offline")
    story.hears("peer_up", 4, peer="g1")
    story.reports("g0.1", 3, 5)
    assert "lost event" in story.broken()


def test_a_restart_that_nobody_speaks_of_is_seen(story: Listening) -> None:
    story.dies("g0")
    story.starts("g0", "g0.1")
    story.now += 10.0
    story.opens(5)
    story.reports("g1.1", 3, 1)
    assert story.ends() == ["lost event"]


# as documented


@pytest.mark.parametrize(("stream", "seconds"), [(TREE, 3.5), (FAULTS, 33.0)])
def test_silence_without_a_sign_of_life_is_seen_unless_the_machine_stood_still(
    story: Listening, stream: str, seconds: float
) -> None:
    story.now += seconds
    story.hears("silence", stream=stream, client=103, seconds=seconds - 1.5)
    assert "silent" not in story.broken()
    story.now += seconds
    story.hears("silence", stream=stream, client=103, seconds=seconds)
    assert "silent" in story.broken()
    story.history.add(type(story.history.events[0])(story.now, STALL, facts={"seconds": 1000.0}))
    assert "silent" not in story.broken()


@pytest.mark.parametrize(
    ("what", "facts"),
    [
        ("ended", {}),
        ("broken", {"error": "RemoteProtocolError"}),
        ("refused", {"status": 500}),
        ("fault_updated", {"bad": "KeyError: 'fault'"}),
        ("peer_down", {"peer": "g2", "reason": "offline"}),
        ("peer_down", {"peer": "g1/g0/g1", "reason": "offline"}),
        ("gap", {"peer": "g1/g0", "reason": "offline"}),
        ("fault_updated", {"peer": "g1", "life": "g0.1", "n": 7}),
    ],
)
def test_what_is_not_documented_on_a_stream_is_seen(story: Listening, what: str, facts: dict[str, Any]) -> None:
    story.hears(what, client=101, **facts)
    assert "undocumented" in story.broken()


# the tree


def test_a_followed_tree_that_goes_back_is_seen(story: Listening) -> None:
    story.follows()
    story.changes(5, 6, g1=7)
    story.changes(6, 7, gone=["id-g1.1"])
    story.changes(7, 8, g1=6)
    assert story.ends() == ["back in time"]


def test_a_followed_tree_that_is_not_the_fetched_one_is_seen(story: Listening) -> None:
    story.follows()
    story.changes(5, 6, g1=7)
    story.ask("tree", instance="id-g0.1", boot="b", seq=6, origins={**ORIGINS, "id-g1.1": ["a", 8]})
    assert story.ends() == ["undocumented"]


def test_a_change_of_another_tree_is_seen_and_a_new_place_is_none(story: Listening) -> None:
    story.follows()
    story.changes(9, 9)
    story.follows(9)
    assert story.ends() == []
    story.changes(11, 12, g1=9)
    assert story.broken() == ["undocumented"]


# at the end


def test_a_stream_on_which_somebody_is_silent_at_the_end_is_seen(story: Listening) -> None:
    story.event(QUIET)
    Story.last_look(story)
    story.reports("g0.1", 9, 9)
    assert story.broken() == ["not back"]
    story.reports("g1.1", 9, 10)
    assert story.broken() == []


def test_who_is_said_to_be_away_and_never_to_be_back_is_seen(story: Listening) -> None:
    story.hears("peer_down", peer="g1", reason="it cannot be heard now")
    assert story.ends() == ["not back"]


# what is kept


def test_what_was_heard_is_kept(story: Listening, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story.reports("g1.1", 2, 2)
    story.ends()
    path = story.history.save(tmp_path / "bad.jsonl")
    assert History.load(path).heard == story.history.heard
    assert main([str(path)]) == 1
    assert "back in time" in capsys.readouterr().out


def test_a_stream_is_read_in_whatever_pieces_it_comes() -> None:
    whole = b':keepalive\n\nid: 7\nevent: gap\ndata: {"a":\ndata: 1}\n\nevent: peer_up\ndata: {}\n\n:\n\n'
    expected = [("gap", "7", '{"a":\n1}'), ("peer_up", "", "{}")]
    for size in range(1, len(whole)):
        reader = Lines()
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert [event for piece in pieces for event in reader.feed(piece)] == expected
