"""The rules of a manifest: each broken by one change of a good one (API.md §12.2, §12.4, §12.5)."""

from __future__ import annotations

import re

import pytest

from medkit_gateway_py.entities.manifest import ADVICE, ERROR, WARNING, Finding
from medkit_gateway_py.entities.manifest_rules import RULES, circles

from .manifests import GOOD, load

# Rule, level, what is replaced in the good manifest by what, path of the finding, words in its message.
BROKEN = [
    ("R001", ERROR, '"1.0"', '"2.0"', "manifest_version", "it is '2.0'"),
    ("R001", ERROR, 'manifest_version: "1.0"\n', "", "manifest_version", "it is missing"),
    ("R002", ERROR, "{id: door,", "{id: body,", "areas[0].subareas[0].id", "the area at robot.yaml:3"),
    ("R003", ERROR, "{id: pump,", "{id: ecu,", "components[1].id", "'ecu' is the id of the component"),
    ("R003", ERROR, "{id: plc,", "{id: ecu,", "assets[0].id", "'ecu' is the id of the component"),
    ("R004", ERROR, "{id: planner,", "{id: driver,", "apps[1].id", "'driver' is the id of the app"),
    ("R005", ERROR, "{id: plan,", "{id: drive,", "functions[1].id", "'drive' is the id of the function"),
    ("R006", ERROR, "parent_area: body", "parent_area: cellar", "areas[1].parent_area", "'cellar' is no area"),
    ("R006", ERROR, "area: motor, type", "area: moon, type", "components[0].area", "'moon' is no area"),
    ("R006", ERROR, "component_id: ecu", "component_id: x", "components[1].parent_component_id", "'x' is no component"),
    ("R007", ERROR, "located_on: plc", "located_on: x", "apps[1].is_located_on", "'x' is no component"),
    ("R008", WARNING, "depends_on: [driver]", "depends_on: [x]", "apps[1].depends_on", "'x' is no app"),
    ("R008", WARNING, "depends_on: [pump]", "depends_on: [x]", "components[0].depends_on", "'x' is no component"),
    ("R008", WARNING, "depends_on: [plan]", "depends_on: [x]", "functions[0].depends_on", "'x' is no function"),
    ("R009", WARNING, "[driver, planner]", "[driver, x]", "functions[0].hosted_by", "'x' is no app"),
    ("R009", WARNING, "hosts: [planner]", "hosts: [x]", "functions[1].hosts", "'x' is no app"),
    (
        *("R010", ERROR, "{node_name: planner_node}", "{node_name: driver_node, namespace: motor/}"),
        *("apps[1].ros_binding", "'driver' is bound to the node /motor/driver_node"),
    ),
    (
        *("R011", ERROR, "{id: driver, ", "{id: driver, depends_on: [planner], "),
        *("apps[0].depends_on", "driver -> planner -> driver"),
    ),
    ("R011", ERROR, "hosts: [planner]", "depends_on: [plan]", "functions[1].depends_on", "plan -> plan"),
    ("R012", ERROR, "{id: drive,", "{id: driver,", "functions[0].id", "'driver' is the id of the app"),
    ("R012", ERROR, "{id: check,", "{id: body,", "scripts[0].id", "'body' is the id of the area"),
    (
        *("R013", WARNING, "external: true", "external: true, ros_binding: {node_name: x}"),
        *("apps[2].ros_binding", "this is ignored"),
    ),
    (
        *("R014", ADVICE, "areas:", "config: {unmanifested_nodes: WARN}\nareas:"),
        *("config.unmanifested_nodes", "'WARN' is none of ignore, warn, error, include_as_orphan"),
    ),
    ("R015", ADVICE, "areas:", "config: [warn]\nareas:", "config", "must be a mapping, is a list"),
    (
        *("R015", ADVICE, "areas:", "config: {allow_manifest_override: perhaps}\nareas:"),
        *("config.allow_manifest_override", "'perhaps' is neither true nor false"),
    ),
    ("M001", ERROR, "areas:", "areas: [", "", "not valid YAML"),
    ("M002", ERROR, "{id: door,", "{id: door, id: gate,", "areas[0].subareas[0]", "id stands twice, first in line 5"),
    ("M003", ERROR, GOOD, "- just a list", "", "a manifest is a mapping; here is a list"),
    ("M003", ERROR, GOOD, "", "", "here is nothing"),
    ("M004", ERROR, "{id: pump, ", "{", "components[1]", "the component has no id"),
    ("M005", ERROR, "{id: door,", "{id: the door,", "areas[0].subareas[0].id", "'the door' is no id"),
    ("M005", ERROR, "{id: door,", "{id: docs,", "areas[0].subareas[0].id", "'docs' is no id"),
    ("M005", ERROR, "located_on: plc", "located_on: a b", "apps[1].is_located_on", "'a b' is no id"),
    ("M005", ERROR, "hosts: [planner]", "hosts: [a/b]", "functions[1].hosts", "'a/b' is no id"),
    ("M006", ERROR, "path: check.sh, ", "", "scripts[0]", "has no path"),
    ("M006", ERROR, "format: sh", "format: exe", "scripts[0].format", "it is 'exe'"),
    ("M006", ERROR, "format: sh", "format: sh, args: [{type: flag}]", "scripts[0].args[0]", "has no name"),
    ("M006", ERROR, "format: sh", "format: sh, args: [{name: a, type: b}]", "scripts[0].args[0].type", "it is 'b'"),
    ("M007", ERROR, "type: controller", "type: [a]", "components[0].type", "must be a text, is a list"),
    ("M007", ERROR, "type: controller", "tags: a", "components[0].tags", "must be a list of texts, is 'a'"),
    ("M007", ERROR, "type: controller", "external: perhaps", "components[0].external", "must be true or false"),
    ("M007", ERROR, "type: controller", "identity: 5", "components[0].identity", "must be a mapping, is '5'"),
    (
        *("M007", ERROR, "type: controller", "lock: {max_expiration: 0}"),
        *("components[0].lock.max_expiration", "must be a whole number from 1"),
    ),
    ("M007", ERROR, "  - {id: cloud, external: true}", "  - cloud", "apps[2]", "must be a mapping, is a single value"),
    ("M007", ERROR, "type: controller", f"type: {'x' * 4097}", "components[0].type", "longer than 4096"),
    (
        *("M008", ERROR, "  - id: body", "  - id: body\n    parent_area: motor"),
        *("areas[0].parent_area", "body -> motor -> body"),
    ),
    (
        *("M008", ERROR, "type: controller", "parent_component_id: pump"),
        *("components[0].parent_component_id", "ecu -> pump -> ecu"),
    ),
    ("M010", ADVICE, "areas:", "colour: red\nareas:", "colour", "unknown here"),
    ("M012", ADVICE, "areas:", "discovery: {unmanifested_nodes: error}\nareas:", "discovery", "old name of config"),
]  # fmt: skip


def of_rule(findings: tuple[Finding, ...], rule: str) -> list[Finding]:
    return [one for one in findings if one.rule == rule]


def test_the_good_manifest_is_good() -> None:
    loaded = load(GOOD)
    assert loaded.findings == ()
    assert loaded.manifest is not None
    assert loaded.manifest.counts() == {"areas": 3, "components": 3, "apps": 3, "functions": 2}


@pytest.mark.parametrize(("rule", "level", "old", "new", "path", "words"), BROKEN)
def test_a_broken_rule_is_found_where_it_is_broken(
    rule: str, level: str, old: str, new: str, path: str, words: str
) -> None:
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    loaded = load(text)
    (finding, *more) = of_rule(loaded.findings, rule)
    assert (finding.level, finding.file, finding.path, more) == (level, "robot.yaml", path, [])
    assert words in finding.message
    # The line is the one that was changed, give or take where a mapping begins.
    number = next(
        (n for n, (a, b) in enumerate(zip(text.splitlines(), GOOD.splitlines(), strict=False), 1) if a != b), 1
    )
    assert abs(finding.line - number) <= 1 or rule in ("R001", "M001", "M003")


@pytest.mark.parametrize(("rule", "level", "old", "new", "path", "words"), BROKEN)
def test_errors_reject_always_warnings_when_strict_and_advice_never(
    rule: str, level: str, old: str, new: str, path: str, words: str
) -> None:
    text = GOOD.replace(old, new, 1)
    assert (load(text, strict=True).manifest is None) is (level in (ERROR, WARNING))
    assert (load(text, strict=False).manifest is None) is (level == ERROR)


def test_every_rule_is_broken_by_some_test() -> None:
    elsewhere = {"M011", "M020", "M021", "M022"}
    assert {rule for rule, *_ in BROKEN} | elsewhere == set(RULES)
    assert all(re.match(r"(error|warning|advice): .+\.$", text) for text in RULES.values())


def test_what_rejects_names_only_what_rejects() -> None:
    loaded = load(GOOD.replace("[driver, planner]", "[x]").replace("areas:", "colour: red\nareas:", 1))
    assert [one.rule for one in loaded.rejecting] == ["R009"]
    loaded = load(GOOD.replace("[driver, planner]", "[x]").replace('"1.0"', '"3"'))
    assert [one.rule for one in loaded.rejecting] == ["R001"]
    assert str(loaded.rejecting[0]).startswith("robot.yaml:1: manifest_version: ")
    assert load(GOOD).rejecting == ()


def test_a_lenient_manifest_ignores_the_binding_of_an_external_app() -> None:
    loaded = load(GOOD.replace("external: true", "external: true, ros_binding: {node_name: x}"), strict=False)
    assert loaded.manifest is not None
    assert "cloud" not in loaded.manifest.bindings


def test_dependency_circles_of_components_are_legal() -> None:
    # The good manifest has one: ecu and pump.
    assert load(GOOD).manifest is not None


@pytest.mark.parametrize("namespace", ["", ", namespace: '*'", ", namespace: /robots/*"])
def test_two_apps_may_be_bound_to_one_name_by_a_wildcard(namespace: str) -> None:
    apps = "".join(f"  - {{id: {name}, ros_binding: {{node_name: cam{namespace}}}}}\n" for name in "ab")
    assert load(f'manifest_version: "1.0"\napps:\n{apps}').findings == ()


def test_two_apps_may_not_share_a_topic_namespace() -> None:
    apps = "".join(f"  - {{id: {name}, ros_binding: {{topic_namespace: /scan}}}}\n" for name in "ab")
    assert [one.rule for one in load(f'manifest_version: "1.0"\napps:\n{apps}').findings] == ["R010"]


def test_fragments_add_to_the_manifest_and_are_judged_with_it() -> None:
    fragment = "components: [{id: lamp, area: body}]\napps: [{id: dimmer, is_located_on: lamp}]\n"
    loaded = load(GOOD, fragments=(fragment, 'manifest_version: "1.0"\nfunctions: [{id: shine, hosts: [dimmer]}]'))
    assert loaded.manifest is not None
    assert {"lamp", "ecu"} < set(loaded.manifest.components)
    assert "shine" in loaded.manifest.functions
    (finding,) = load(GOOD, fragments=(fragment, "apps: [{id: dimmer}]")).rejecting
    assert (finding.rule, finding.file) == ("R004", "1.yaml")


@pytest.mark.parametrize(
    "section", ["areas", "metadata", "scripts", "capabilities", "lock_overrides", "config", "discovery"]
)
def test_a_fragment_with_more_than_entities_is_refused(section: str) -> None:
    (finding,) = load(GOOD, fragments=(f"apps: []\n{section}: []",)).rejecting
    assert (finding.rule, finding.file, finding.line, finding.path) == ("M011", "0.yaml", 2, section)


def test_a_fragment_of_another_version_is_refused() -> None:
    assert [one.rule for one in load(GOOD, fragments=("manifest_version: 2",)).rejecting] == ["R001"]


def test_a_broken_fragment_rejects_all() -> None:
    assert load(GOOD, fragments=("apps: [",)).manifest is None


def test_circles_are_found_without_recursion() -> None:
    count = 50_000
    edges = {str(number): (str((number + 1) % count),) for number in range(count)}
    (circle,) = circles(edges)
    assert len(circle) == count
    assert circles({"a": ("b", "c"), "b": ("d",), "c": ("d",), "d": ("unknown",)}) == []
    assert circles({"a": ("b",), "b": ("a",), "c": ("a",)}) == [("a", "b")]
