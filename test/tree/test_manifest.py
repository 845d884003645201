"""What a manifest says, member by member, and what a file that is none does (API.md §12.1)."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.entities import manifest_yaml
from medkit_gateway_py.entities.manifest import MAX_FINDINGS, Binding, LockSettings, ScriptArgument
from medkit_gateway_py.entities.manifest_yaml import YamlProblem, read_yaml
from medkit_gateway_py.entities.model import Area, Kind

from .manifests import GOOD, load, manifest


def test_areas_nest_and_name_their_parent() -> None:
    areas = manifest(
        "areas:\n"
        "  - {id: a, name: A, description: d, tags: [t], translation_id: tr, namespace: /x,"
        " subareas: [{id: b, subareas: [{id: c}]}]}\n"
        "  - {id: d, parent_area: b}\n"
    ).areas
    assert areas["a"] == Area("a", "A", "/x", "d", ("t",), "tr", "", "manifest")
    assert [(one.id, one.name, one.namespace, one.parent_area_id) for one in areas.values()][1:] == [
        ("b", "b", "/b", "a"),
        ("c", "c", "/c", "b"),
        ("d", "d", "/d", "b"),
    ]


def test_a_component_has_its_members_and_a_nameplate_with_provenance() -> None:
    (one,) = manifest(
        "components:\n"
        "  - id: ecu\n    name: ECU\n    namespace: /e\n    type: controller\n    description: d\n    variant: v\n"
        "    tags: [t]\n    translation_id: tr\n    external: yes\n    depends_on: [ecu, ecu]\n"
        "    identity: {manufacturer: M, model: 5, order_code: o, serial_number: 007, hardware_revision: h,\n"
        "      firmware_version: f, software_version: s, network_endpoint: n, role: r, colour: red, extra: {a: b}}\n"
        "    lock: {required_scopes: [data], breakable: false, max_expiration: 60}\n"
    ).components.values()
    assert (one.name, one.namespace, one.type, one.variant, one.external) == ("ECU", "/e", "controller", "v", True)
    assert (one.source, one.tags, one.translation_id, one.depends_on) == ("manifest", ("t",), "tr", ("ecu",))
    identity = dict(one.identity)
    assert set(identity.pop("_provenance").values()) == {"manifest"}
    assert identity == {
        "manufacturer": "M", "model": "5", "orderCode": "o", "serialNumber": "007", "hardwareRevision": "h",
        "firmwareVersion": "f", "softwareVersion": "s", "networkEndpoint": "n", "role": "r",
        "extra": {"a": "b", "colour": "red"},
    }  # fmt: skip


def test_an_asset_is_a_component_named_by_its_nameplate() -> None:
    (one,) = manifest(
        "assets: [{id: plc, manufacturer: Example, model: X1, serial: '7', hw_rev: B, fw: '2', order_number: o,"
        " endpoint: e, cabinet: K2, type: controller}]"
    ).components.values()
    assert (one.source, one.name, one.type) == ("inventory", "Example X1", "controller")
    assert one.identity["serialNumber"] == "7"
    assert one.identity["extra"] == {"cabinet": "K2"}
    assert one.identity["_provenance"]["cabinet"] == "inventory"


def test_bindings_default_to_any_namespace_and_name_a_node_where_they_can() -> None:
    found = manifest(
        "apps:\n"
        "  - {id: a, ros_binding: {node_name: n}}\n"
        "  - {id: b, ros_binding: {node_name: n, namespace: /x/y/}}\n"
        "  - {id: c, ros_binding: {node_name: n, namespace: ''}}\n"
        "  - {id: d, ros_binding: {topic_namespace: /scan}}\n"
        "  - {id: e, ros_binding: {namespace: /x}}\n"
        "  - {id: f}\n"
    )
    assert found.bindings["a"] == Binding("n", "*")
    assert set(found.bindings) == {"a", "b", "c", "d"}
    assert {app.id: app.fqn for app in found.apps.values()} == {
        "a": "", "b": "/x/y/n", "c": "/n", "d": "", "e": "", "f": "",
    }  # fmt: skip
    assert {app.is_online for app in found.apps.values()} == {False}


def test_hosts_is_another_word_for_hosted_by() -> None:
    functions = manifest("apps: [{id: a}]\nfunctions: [{id: f, hosts: [a]}, {id: g, hosted_by: [a]}]").functions
    assert functions["f"].hosts == functions["g"].hosts == ("a",)


def test_scripts_and_locks_are_read_and_kept() -> None:
    found = manifest(
        "apps: [{id: a, lock: {breakable: true}}]\n"
        "scripts:\n"
        "  - {id: s, path: p.py, format: python, name: n, description: d, timeout_sec: 5, entity_filter: [apps/*],"
        " env: {A: 1}, args: [{name: x, type: flag, flag: --x}, {name: y}],"
        " parameters_schema: {type: object, n: 1, f: 1.5, b: true, l: [null, 'true', .inf]}}\n"
    )
    (script,) = found.scripts
    assert (script.path, script.format, script.timeout_s, script.env) == ("p.py", "python", 5, {"A": "1"})
    assert script.args == (ScriptArgument("x", "flag", "--x"), ScriptArgument("y"))
    assert script.parameters_schema == {
        "type": "object", "n": 1, "f": 1.5, "b": True, "l": [None, "true", ".inf"],
    }  # fmt: skip
    assert found.locks == {(Kind.APP, "a"): LockSettings(breakable=True)}


def test_config_wins_over_its_old_name() -> None:
    text = "discovery: {unmanifested_nodes: error}\n"
    assert manifest(text).config.unmanifested_nodes == "error"
    assert manifest(f"config: {{inherit_runtime_resources: no}}\n{text}").config.unmanifested_nodes == "warn"
    assert manifest("config: {inherit_runtime_resources: no}\n").config.inherit_runtime_resources is False


def test_sections_may_be_empty_and_unknown_members_are_ignored() -> None:
    found = manifest("areas:\ncomponents: []\napps: [{id: a, category: x, fqn: /x}]\nmetadata: {name: n, other: o}")
    assert found.counts() == {"areas": 0, "components": 0, "apps": 1, "functions": 0}
    assert found.metadata == {"name": "n"}


def test_merge_keys_fill_what_a_mapping_does_not_say() -> None:
    found = manifest("components:\n  - &a {id: a, type: arm, tags: [t]}\n  - {<<: *a, id: b}\n").components
    assert (found["b"].type, found["b"].tags) == ("arm", ("t",))


EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "config" / "examples").glob("*.yaml"))


@pytest.mark.parametrize("loader", [manifest_yaml._LOADER, yaml.SafeLoader])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid_without_a_word(path: Path, loader: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_yaml, "_LOADER", loader)
    loaded = load(path.read_text())
    assert [str(one) for one in loaded.findings] == []
    assert loaded.manifest is not None


# Texts that are no manifests


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (finding,) = load("\n".join(lines)).rejecting
    assert "aliases counted as often as they are used" in finding.message


def test_nesting_is_bounded_however_it_is_made() -> None:
    assert "nested deeper" in load("a: " + "[" * 100_000).rejecting[0].message
    chain = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 40))
    assert "nested deeper" in load(chain).rejecting[0].message


def test_the_length_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_yaml, "MAX_BYTES", 100)
    assert "longer than 100 bytes" in load(GOOD).rejecting[0].message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: *b", 1, "*b is not defined before"),
        ("a: &b [*b]", 1, "*b is not defined before"),
        ("a: 1\n---\nb: 2", 2, "a second document"),
        ("a: 1\n? [b]\n: c", 2, "a list cannot be a key"),
        ("a: 1\n<<: 5", 2, "<< needs a mapping"),
        ("a: 'b", 1, "not valid YAML"),
        ("a: \x00", 1, "not valid YAML"),
        ("a: \ud800", 1, "not valid YAML"),
    ],
)
def test_what_is_no_yaml_is_said_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(YamlProblem) as caught:
        read_yaml(text)
    assert words in caught.value.problem.message
    assert caught.value.problem.line == line


@pytest.mark.parametrize("loader", [manifest_yaml._LOADER, yaml.SafeLoader])
def test_a_lone_surrogate_by_escape_is_refused_or_is_no_yaml(loader: object, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where PyYAML is built without libyaml, its own parser lets it pass; no JSON could be made of it.
    monkeypatch.setattr(manifest_yaml, "_LOADER", loader)
    assert load(GOOD.replace("name: Motor", 'name: "\\uD800"')).manifest is None


def test_findings_are_bounded() -> None:
    apps = "".join(f"  - {{id: a{number}, is_located_on: nowhere}}\n" for number in range(1000))
    assert len(load(f'manifest_version: "1.0"\napps:\n{apps}').findings) == MAX_FINDINGS


YAMLISH = st.text(alphabet=st.sampled_from(list("ab:-[]{}&*!|>'\"#%@`,? \n\t<10.~\\x")), max_size=80)


@given(YAMLISH)
def test_any_text_gives_findings_and_never_a_traceback(text: str) -> None:
    for loaded in (load(text), load(GOOD, fragments=(text,)), load(GOOD + text)):
        assert (loaded.manifest is None) == bool(loaded.rejecting)


@given(st.text(max_size=60), st.integers(0, len(GOOD)), st.integers(0, 30))
def test_a_good_manifest_with_anything_in_it_gives_findings_or_a_manifest(text: str, at: int, cut: int) -> None:
    loaded = load(GOOD[:at] + text + GOOD[at + cut :], strict=False)
    assert (loaded.manifest is None) == bool(loaded.rejecting)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "name", "tags", "lock"]), inner),
    max_leaves=8,
)
SECTIONS = st.sampled_from(
    ["areas", "components", "assets", "apps", "functions", "scripts", "config", "metadata", "discovery"]
)


@given(st.dictionaries(SECTIONS, VALUES | st.lists(VALUES, max_size=3), max_size=4))
def test_any_values_in_the_sections_give_findings_or_a_manifest(sections: dict[str, object]) -> None:
    loaded = load(yaml.safe_dump({"manifest_version": "1.0", **sections}))
    assert (loaded.manifest is None) == bool(loaded.rejecting)
