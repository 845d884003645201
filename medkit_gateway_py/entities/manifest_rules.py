"""The rules that a manifest must keep (API.md §12.2), and reading one whole: texts in, a manifest or reasons out.

loaded = load_manifest(Source("robot.yaml", text))
loaded.manifest       # None when something rejects it: a wrong manifest never yields half a tree
loaded.findings       # each with rule, file, line and path
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from .inventory import add_inventory
from .manifest import ERROR, MAX_FINDINGS, WARNING, Finding, Loaded, Source
from .manifest_draft import Draft, Entry
from .manifest_reader import read_draft
from .model import App, Area, Component, Function, Kind

# Every rule and what it wants. R...: the contract's; M...: what a file must be before those can be asked.
RULES: Mapping[str, str] = {
    "R001": 'error: `manifest_version` is "1.0".',
    "R002": "error: an area's id is not that of another area.",
    "R003": "error: a component's id is not that of another component or asset.",
    "R004": "error: an app's id is not that of another app.",
    "R005": "error: a function's id is not that of another function.",
    "R006": "error: `parent_area`, `area` and `parent_component_id` name something that is declared.",
    "R007": "error: `is_located_on` names a component or an asset.",
    "R008": "warning: `depends_on` names entities of the same kind.",
    "R009": "warning: `hosted_by` names apps or components.",
    "R010": "error: two apps are not bound to the same node or topic namespace, wildcards aside.",
    "R011": "error: apps, and functions, do not depend on each other in a circle. Components may.",
    "R012": "error: an id is used by one kind only; scripts count as well.",
    "R013": "warning: an external app has no `ros_binding`; it would be ignored.",
    "R014": "advice: `unmanifested_nodes` is one of the four policies, in lower case; otherwise `warn` is used.",
    "R015": "advice: `config` is a mapping and its switches are booleans; otherwise the defaults are used.",
    "M001": "error: the file can be read, is valid YAML, and is not too large or too deep.",
    "M002": "error: no key stands twice in a mapping.",
    "M003": "error: the file is a mapping.",
    "M004": "error: every entry has an id.",
    "M005": "error: ids and references are 1 to 256 letters, digits, `-` and `_`; `docs` is taken.",
    "M006": "error: a script has an id, a path and a known format; its arguments have a name and a known type.",
    "M007": "error: a member has the shape that it must have: text, list, boolean, number, mapping.",
    "M008": "error: areas, and components, are not inside themselves.",
    "M010": "advice: top-level keys are known ones.",
    "M011": "error: a fragment has apps, components and functions only.",
    "M012": "advice: `config` is called so, not `discovery`.",
    "M020": "error: the inventory is a CSV table with a column `id`, of at most 1 MiB.",
    "M021": "advice: rows of the inventory are usable; those that are not are skipped.",
    "M022": "advice: the inventory file is there.",
}
_DUPLICATE = {Kind.AREA: "R002", Kind.COMPONENT: "R003", Kind.APP: "R004", Kind.FUNCTION: "R005", None: "R012"}


def load_manifest(
    main: Source,
    fragments: Sequence[Source] = (),
    inventory: Source | None = None,
    *,
    strict: bool = True,
    found: Sequence[Finding] = (),
) -> Loaded:
    """Read and judge everything together. Never raises for what the texts say.

    `strict`: warnings reject, too. `found`: what is known to be wrong already, such as a file that is not there.
    """
    draft = read_draft(main, fragments)
    if inventory is not None:
        add_inventory(draft, inventory)
    findings = [*found, *draft.findings, *judge(draft)]
    findings.sort(key=lambda one: (one.level != ERROR, one.level != WARNING))
    is_rejected = any(one.level == ERROR or (strict and one.level == WARNING) for one in findings)
    return Loaded(None if is_rejected else draft.finished(), tuple(findings[:MAX_FINDINGS]))


def judge(draft: Draft) -> list[Finding]:
    """What the rules between entries find in a draft."""
    return [finding for rule in _RULES for finding in rule(draft)]


def _one_id_space(draft: Draft) -> Iterator[Finding]:
    first: dict[str, Entry] = {}
    for entry in draft.entries:
        before = first.setdefault(entry.id, entry)
        if before is entry:
            continue
        rule = _DUPLICATE[entry.kind] if before.kind is entry.kind else "R012"
        where = f"{before.place.file}:{before.place.line}"
        yield entry.place.finding(rule, ERROR, f"'{entry.id}' is the id of the {before.noun} at {where} already", "id")


def _parents_exist(draft: Draft) -> Iterator[Finding]:
    areas, components = _ids(draft, Kind.AREA), _ids(draft, Kind.COMPONENT)
    for entry in draft.entries:
        what = entry.what
        if isinstance(what, Area):
            yield from _known(entry, "R006", "parent_area", what.parent_area_id, areas, "area")
        elif isinstance(what, Component):
            yield from _known(entry, "R006", "area", what.area, areas, "area")
            yield from _known(entry, "R006", "parent_component_id", what.parent_component_id, components, "component")
        elif isinstance(what, App):
            yield from _known(entry, "R007", "is_located_on", what.component_id, components, "component")


def _known(entry: Entry, rule: str, member: str, named: str, ids: set[str], noun: str) -> Iterator[Finding]:
    if named and named not in ids:
        yield entry.place.finding(rule, ERROR, f"'{named}' is no {noun} of this manifest", member)


def _dependencies_exist(draft: Draft) -> Iterator[Finding]:
    for kind in (Kind.COMPONENT, Kind.APP, Kind.FUNCTION):
        ids = _ids(draft, kind)
        for entry in draft.of(kind):
            for other in _depends_on(entry):
                if other not in ids:
                    text = f"'{other}' is no {kind.type} of this manifest"
                    yield entry.place.finding("R008", WARNING, text, "depends_on")


def _hosts_exist(draft: Draft) -> Iterator[Finding]:
    ids = _ids(draft, Kind.APP) | _ids(draft, Kind.COMPONENT)
    for entry in draft.of(Kind.FUNCTION):
        member = "hosted_by" if "hosted_by" in entry.place.lines else "hosts"
        hosts = entry.what.hosts if isinstance(entry.what, Function) else ()
        for host in hosts:
            if host not in ids:
                yield entry.place.finding("R009", WARNING, f"'{host}' is no app of this manifest", member)


def _bindings_differ(draft: Draft) -> Iterator[Finding]:
    first: dict[str, Entry] = {}
    for entry in draft.of(Kind.APP):
        binding = entry.binding
        if binding is None or not binding.is_usable or (isinstance(entry.what, App) and entry.what.external):
            continue
        if binding.node_name:
            key = "" if "*" in binding.namespace else f"node {binding.fqn}"
        else:
            key = "" if "*" in binding.topic_namespace else f"topic namespace {binding.topic_namespace.rstrip('/')}"
        if not key:
            continue
        before = first.setdefault(key, entry)
        if before is not entry:
            yield entry.place.finding("R010", ERROR, f"'{before.id}' is bound to the {key} already", "ros_binding")


def _no_circles(draft: Draft) -> Iterator[Finding]:
    for kind in (Kind.APP, Kind.FUNCTION):
        entries = {entry.id: entry for entry in draft.of(kind)}
        for circle in circles({one.id: _depends_on(one) for one in entries.values()}):
            text = f"{kind.type}s depend on each other in a circle: {_chain(circle)}"
            yield entries[circle[0]].place.finding("R011", ERROR, text, "depends_on")


def _no_inner_selves(draft: Draft) -> Iterator[Finding]:
    for kind, member in ((Kind.AREA, "parent_area"), (Kind.COMPONENT, "parent_component_id")):
        entries = {entry.id: entry for entry in draft.of(kind)}
        for circle in circles({one.id: _parent(one) for one in entries.values()}):
            text = f"{kind.type}s are inside themselves: {_chain(circle)}"
            yield entries[circle[0]].place.finding("M008", ERROR, text, member)


def _external_is_unbound(draft: Draft) -> Iterator[Finding]:
    for entry in draft.of(Kind.APP):
        if entry.binding is not None and isinstance(entry.what, App) and entry.what.external:
            yield entry.place.finding("R013", WARNING, "an external app is no node; this is ignored", "ros_binding")


_RULES: tuple[Callable[[Draft], Iterable[Finding]], ...] = (
    _one_id_space,
    _parents_exist,
    _dependencies_exist,
    _hosts_exist,
    _bindings_differ,
    _no_circles,
    _no_inner_selves,
    _external_is_unbound,
)


def circles(edges: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """Circles in a graph, every node in one of them at most, found without recursion. A circle begins anywhere."""
    found: list[tuple[str, ...]] = []
    done: set[str] = set()
    for start in edges:
        if start in done:
            continue
        way: list[str] = [start]
        position = {start: 0}
        left = [iter(edges[start])]
        while left:
            step = next(left[-1], None)
            if step is None:
                left.pop()
                gone = way.pop()
                del position[gone]
                done.add(gone)
            elif step in position:
                found.append(tuple(way[position[step] :]))
            elif step in edges and step not in done:
                position[step] = len(way)
                way.append(step)
                left.append(iter(edges[step]))
    return found


def _chain(circle: Sequence[str]) -> str:
    shown = [*circle, circle[0]] if len(circle) <= 12 else [*circle[:10], "...", circle[0]]
    return " -> ".join(shown)


def _ids(draft: Draft, kind: Kind) -> set[str]:
    return {entry.id for entry in draft.of(kind)}


def _depends_on(entry: Entry) -> tuple[str, ...]:
    return entry.what.depends_on if isinstance(entry.what, (Component, App, Function)) else ()


def _parent(entry: Entry) -> tuple[str, ...]:
    what = entry.what
    if isinstance(what, Area):
        return (what.parent_area_id,) if what.parent_area_id else ()
    return (what.parent_component_id,) if isinstance(what, Component) and what.parent_component_id else ()
