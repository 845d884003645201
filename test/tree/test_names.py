"""The first id of a remote app (AGGREGATION.md §4, "Prefix")."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from medkit_gateway_py.aggregation.names import choose_app_id
from medkit_gateway_py.entities.ids import is_valid_id

OWNER = ("instance-b", "/nav")


def chosen(base: str, *taken: str, always: bool = False, owner: tuple[str, str] = OWNER) -> str:
    return choose_app_id(base, "arm", owner, always, lambda candidate: candidate not in taken)


def test_an_app_keeps_its_id_unless_that_is_taken_or_all_are_prefixed() -> None:
    assert chosen("nav") == "nav"
    assert chosen("nav", "nav") == "arm__nav"
    assert chosen("nav", always=True) == "arm__nav"


def test_a_prefixed_id_that_is_taken_gets_eight_hex_digits_of_origin_and_id() -> None:
    found = chosen("nav", "nav", "arm__nav")
    assert re.fullmatch(r"arm__nav_[0-9a-f]{8}", found)
    assert found == chosen("nav", "nav", "arm__nav"), "the same again"
    assert found != chosen("nav", "nav", "arm__nav", owner=("instance-c", "/nav"))
    again = chosen("nav", "nav", "arm__nav", found)
    assert re.fullmatch(r"arm__nav_[0-9a-f]{8}", again)
    assert again != found


def test_a_prefixed_id_that_is_too_long_is_cut_and_told_apart_by_digits() -> None:
    long, other = "n" * 255 + "1", "n" * 255 + "2"
    found = chosen(long, long)
    assert re.fullmatch(r"arm__n{242}_[0-9a-f]{8}", found)
    assert found != chosen(other, other, owner=("instance-b", "/other"))
    assert len(chosen(long, long, found)) == 256


@settings(max_examples=200)
@given(
    st.text("ab_", min_size=1, max_size=256), st.text("ab", min_size=1, max_size=64), st.integers(0, 4), st.booleans()
)
def test_whatever_is_taken_an_id_is_found_that_is_valid_and_free(
    base: str, prefix: str, rounds: int, always: bool
) -> None:
    taken: set[str] = set()
    for _ in range(rounds + 1):
        found = choose_app_id(base, prefix, OWNER, always, lambda candidate: candidate not in taken)
        assert is_valid_id(found)
        assert found not in taken
        taken.add(found)
