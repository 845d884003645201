"""The pages on manifests: each example is loaded, each rule and column is the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medkit_gateway_py.entities.manifest import POLICIES, Source
from medkit_gateway_py.entities.manifest_fields import NAMEPLATE
from medkit_gateway_py.entities.manifest_rules import RULES, load_manifest
from medkit_gateway_py.entities.policies import DEFAULTS

DOCS = Path(__file__).resolve().parent.parent / "docs"
TEXT = (DOCS / "manifest.md").read_text()


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


MANIFESTS = [
    (page, number, block)
    for page in ("manifest.md", "migration.md")
    for number, block in enumerate(blocks(page, "yaml"), 1)
    if "ros__parameters" not in block
]


@pytest.mark.parametrize(
    ("page", "number", "block"), MANIFESTS, ids=[f"{page}-{number}" for page, number, _ in MANIFESTS]
)
def test_every_manifest_that_a_page_shows_is_good(page: str, number: int, block: str) -> None:
    # A fragment is shown without a manifest to belong to.
    main, fragments = (block, []) if "manifest_version" in block else ('manifest_version: "1.0"', [Source("f", block)])
    loaded = load_manifest(Source(page, main), fragments)
    assert [str(one) for one in loaded.findings] == []
    assert loaded.manifest is not None
    assert sum(loaded.manifest.counts().values()) > 0


def test_there_are_examples_on_both_pages() -> None:
    assert {page for page, _, _ in MANIFESTS} == {"manifest.md", "migration.md"}


def test_the_inventory_that_the_page_shows_fits_its_example() -> None:
    (table,) = blocks("manifest.md", "csv")
    manifest = 'manifest_version: "1.0"\nareas: [{id: cell}]\ncomponents: [{id: arm-left}]'
    loaded = load_manifest(Source("m", manifest), inventory=Source("i", table))
    assert loaded.findings == ()
    assert loaded.manifest is not None
    assert loaded.manifest.components["plc-1"].identity["extra"] == {"rack": "K2"}
    assert loaded.manifest.components["arm-left"].identity["serialNumber"] == "4711"


def test_every_rule_is_on_the_page_in_the_words_of_the_code() -> None:
    shown = dict(re.findall(r"^\| ([RM]\d{3}) \| (.+) \|$", TEXT, re.MULTILINE))
    assert shown == RULES


def test_every_policy_group_and_column_is_on_the_page() -> None:
    for name in (*POLICIES, *DEFAULTS["manifest"], *NAMEPLATE):
        assert f"`{name}`" in TEXT, name
    for group, policy in DEFAULTS["manifest"].items():
        assert re.search(rf"^\| `{group}` \| .+ \| {policy} \| {DEFAULTS['runtime'][group]} \|$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("path", re.findall(r"`(\w+\.yaml)`", TEXT.partition("## The three modes")[0]))
def test_every_example_that_the_page_names_is_there(path: str) -> None:
    assert (DOCS.parent / "config" / "examples" / path).is_file()
