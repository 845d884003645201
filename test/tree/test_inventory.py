"""The inventory: a CSV table whose rows become components or fill nameplates (API.md §12.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.entities.manifest import ADVICE, Loaded
from medkit_gateway_py.entities.model import Component

from .manifests import GOOD, load


def rows(table: str, text: str = GOOD) -> Loaded:
    return load(text, inventory=table)


def component(loaded: Loaded, component_id: str) -> Component:
    assert loaded.manifest is not None, [str(one) for one in loaded.findings]
    return loaded.manifest.components[component_id]


def test_a_row_is_a_component_with_a_nameplate() -> None:
    loaded = rows("\ufeffID, Manufacturer ,model,HW_Rev,endpoint,area,rack\r\nlidar,Acme,L1,B,10.0.0.7,motor,4\r\n")
    found = component(loaded, "lidar")
    assert (found.name, found.source, found.area) == ("Acme L1", "inventory", "motor")
    identity = dict(found.identity)
    assert identity.pop("_provenance")["rack"] == "inventory"
    assert identity == {
        "manufacturer": "Acme", "model": "L1", "hardwareRevision": "B", "networkEndpoint": "10.0.0.7",
        "extra": {"rack": "4"},
    }  # fmt: skip
    assert loaded.findings == ()


def test_quoted_cells_may_hold_commas_quotes_and_lines() -> None:
    found = component(rows('id,model\nlidar,"L,1 ""x""\nsecond"\n'), "lidar")
    assert found.identity["model"] == 'L,1 "x"\nsecond'


def test_a_declared_component_gets_what_its_nameplate_does_not_say() -> None:
    text = GOOD.replace("type: controller", "identity: {manufacturer: Mine, extra: {a: b}}")
    found = component(rows("id,manufacturer,serial,a,c\necu,Theirs,42,x,d\n", text), "ecu")
    assert (found.source, found.name) == ("manifest", "ecu")
    identity = dict(found.identity)
    assert identity.pop("_provenance") == {
        "manufacturer": "manifest", "a": "manifest", "serialNumber": "inventory", "c": "inventory",
    }  # fmt: skip
    assert identity == {"manufacturer": "Mine", "serialNumber": "42", "extra": {"a": "b", "c": "d"}}


def test_an_app_may_be_located_on_a_row() -> None:
    assert load(GOOD.replace("located_on: plc", "located_on: lidar"), inventory="id\nlidar\n").manifest is not None


@pytest.mark.parametrize(
    ("table", "line", "words"),
    [
        ("id\nlidar\nlidar\n", 3, "stands in a row before"),
        ("id\ndriver\n", 2, "driver is the id of an app"),
        ("id\nbad id\n", 2, "'bad id' is no id"),
        ("id,model\n,X\n", 2, "'' is no id"),
        ("id,area\nlidar,moon\n", 2, "'moon' of lidar is not known"),
        ("id\nlidar,more\n", 2, "2 cells for 1 columns"),
        ("id,model,model\nlidar,a,b\n", 1, "columns stand twice"),
        ('id,model\nplc2,"a\nb"\nbad id,c\n', 4, "'bad id' is no id"),
    ],
)
def test_rows_that_cannot_be_used_are_skipped_with_a_word(table: str, line: int, words: str) -> None:
    loaded = rows(table)
    assert loaded.manifest is not None
    (finding,) = loaded.findings
    assert words in finding.message
    assert (finding.rule, finding.level, finding.file, finding.line) == ("M021", ADVICE, "assets.csv", line)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("", "no column id"),
        ("name\nx\n", "no column id"),
        ('id\n"open', "not a valid CSV"),
        ("id\n" + "x" * 2**20, "longer"),
    ],
)
def test_what_is_no_table_rejects_all(table: str, words: str) -> None:
    (finding,) = rows(table).rejecting
    assert (finding.rule, finding.file) == ("M020", "assets.csv")
    assert words in finding.message


@given(st.text(max_size=60))
def test_any_text_gives_findings_or_rows(text: str) -> None:
    for table in (text, f"id,model\n{text}"):
        loaded = rows(table)
        assert (loaded.manifest is None) == bool(loaded.rejecting)
