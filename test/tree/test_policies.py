"""Two layers become one entity: the policies, as a table (API.md §12.3)."""

from __future__ import annotations

from dataclasses import fields

import pytest

from medkit_gateway_py.entities.model import App, Area, Component, Function
from medkit_gateway_py.entities.policies import (
    DEFAULTS,
    GROUP_OF,
    MANIFEST,
    RUNTIME,
    Conflict,
    combine,
    effective_policies,
)

A, E, F = "authoritative", "enrichment", "fallback"
LAYERS = (MANIFEST, RUNTIME)


def combined(group: str, own: str, other: str, first: App, second: App) -> tuple[App, tuple[Conflict, ...]]:
    given = {MANIFEST: {**DEFAULTS[MANIFEST], group: own}, RUNTIME: {**DEFAULTS[RUNTIME], group: other}}
    return combine(first, second, LAYERS, given)


# Policy of the manifest, of the runtime; a text, an empty text and a list that come of "m" and "r".
TABLE = [
    (A, A, "m", "r", ("m",)),
    (A, E, "m", "r", ("m",)),
    (A, F, "m", "r", ("m",)),
    (E, A, "r", "r", ("r",)),
    (E, E, "m", "r", ("m", "r")),
    (E, F, "m", "r", ("m",)),
    (F, A, "r", "r", ("r",)),
    (F, E, "r", "r", ("r",)),
    (F, F, "m", "r", ("m", "r")),
]


@pytest.mark.parametrize(("own", "other", "text", "filled", "united"), TABLE)
def test_the_higher_policy_wins_and_equals_unite(
    own: str, other: str, text: str, filled: str, united: tuple[str, ...]
) -> None:
    first = App("x", "m", tags=("m",), source="manifest")
    second = App("x", "r", "r", tags=("r",))
    found, conflicts = combined("identity", own, other, first, second)
    assert (found.name, found.description, found.tags) == (text, filled, united)
    assert (found.id, found.source) == ("x", "manifest")
    assert bool(conflicts) is (own == other == A)
    # The text that only the manifest has is kept as well.
    back, _ = combined("identity", own, other, App("x", "m", "m"), App("x", "r"))
    assert back.description == "m"


@pytest.mark.parametrize(("own", "other", "online"), [(F, A, True), (A, F, False), (F, F, True), (A, E, False)])
def test_a_boolean_is_the_winners_or_either(own: str, other: str, online: bool) -> None:
    found, _ = combined("status", own, other, App("x", is_online=False), App("x", is_online=True))
    assert found.is_online is online


def test_a_conflict_names_the_group_once() -> None:
    first, second = App("x", "m", "m", tags=("m",)), App("x", "r", "r", tags=("r",))
    _, conflicts = combined("identity", A, A, first, second)
    assert conflicts == (Conflict("x", "identity", "manifest", "runtime"),)
    _, conflicts = combined("identity", A, A, first, first)
    assert conflicts == ()


def test_every_field_has_a_group_or_a_reason_to_have_none() -> None:
    never = {"id", "source", "contributors", "available", "plugin"}
    for kind in (Area, Component, App, Function):
        assert {one.name for one in fields(kind)} <= set(GROUP_OF) | never


def test_the_defaults_take_texts_from_people_and_life_from_the_graph() -> None:
    found = effective_policies({}, allow_manifest_override=True)
    assert found == DEFAULTS
    assert found[MANIFEST]["identity"] == A
    assert found[RUNTIME]["live_data"] == A


def test_without_override_the_manifest_only_fills_up_but_parameters_win() -> None:
    found = effective_policies({MANIFEST: {"status": A, "identity": ""}}, allow_manifest_override=False)
    assert found[MANIFEST] == {"identity": F, "hierarchy": F, "live_data": F, "status": A, "metadata": F}
    assert found[RUNTIME] == DEFAULTS[RUNTIME]
