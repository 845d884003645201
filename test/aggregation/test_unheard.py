"""Who cannot be heard on fault streams: pure, by what peers and the tree say."""

from __future__ import annotations

from typing import Any

import pytest

from medkit_gateway_py.aggregation.sections import MAX_ORIGINS
from medkit_gateway_py.aggregation.unheard import OUT_OF_REACH, Word, changes, unheard, word_of

FAR = Word("its stream broke", frozenset({"far"}), ("mid",))


def test_everything_that_cannot_be_heard_is_named_once() -> None:
    found = unheard(
        {"mid": Word("it is offline", frozenset({"mid"}))},
        {"other": {"other/far": FAR}},
        {"lost": "other/lost", "far": "other/far", "behind": "mid"},
        {"other": ("other",)},
    )
    assert {label: word.reason for label, word in found.items()} == {
        "mid": "it is offline",
        "other/far": "its stream broke",
        "other/lost": OUT_OF_REACH,
    }
    assert found["mid"].origins == {"mid", "behind"}


def test_what_a_peer_cannot_hear_and_is_heard_over_another_is_not_missing() -> None:
    behind = {"mid": {"mid/far": FAR}}
    assert unheard({}, behind, {}, {"mid": ("mid", "far")}).keys() == {"mid/far"}
    assert unheard({}, behind, {}, {"mid": ("mid",), "far": ("far",)}) == {}


def test_a_peer_that_is_heard_is_not_down_for_who_was_in_its_place_before() -> None:
    assert unheard({}, {}, {"former": "mid"}, {"mid": ("mid",)}) == {}
    down = {"mid": Word("its stream broke", frozenset({"mid"}))}
    assert unheard(down, {}, {"former": "mid"}, {"mid": ("mid",)})["mid"].origins == {"mid", "former"}


def test_a_label_is_said_when_it_comes_and_when_it_goes() -> None:
    assert changes({"a": FAR, "b": FAR}, {"b": Word(), "c": FAR, "d": FAR}) == (["a"], ["c", "d"])


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"x-medkit": 7},
        {"x-medkit": {"origins": ["far"]}},
        {"x-medkit": {"origins": [], "via": ["mid"]}},
        {"x-medkit": {"origins": "far", "via": ["mid"]}},
        {"x-medkit": {"origins": [7], "via": ["mid"]}},
        {"x-medkit": {"origins": ["far"] * (MAX_ORIGINS + 1), "via": ["mid"]}},
        {"x-medkit": {"origins": ["far"], "via": ["mid", "me"]}},
        {"x-medkit": {"origins": ["far", "me"], "via": ["mid"]}},
        {"x-medkit": {"origins": ["far"], "via": ["1", "2", "3", "4"]}},
    ],
)
def test_a_word_without_marks_or_that_was_here_is_none(data: dict[str, Any]) -> None:
    assert word_of(data, "me", 3) is None


def test_a_word_is_passed_on_with_all_whom_it_passed() -> None:
    word = word_of({"x-medkit": {"origins": ["far"], "via": ["mid"]}}, "me", 3)
    assert word is not None
    assert word.marks("me") == {"origins": ["far"], "via": ["mid", "me"]}
