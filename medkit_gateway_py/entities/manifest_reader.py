"""From the text of a manifest and its fragments to a draft (API.md §12.1, §12.4, §12.5).

Only the shape is judged here: what must be a list is one, ids look like ids. Rules between entries are in
`manifest_rules.py`. Unknown members are ignored, as the contract has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .ids import RESERVED_IDS, is_valid_id
from .manifest import (
    ADVICE,
    ARGUMENT_TYPES,
    ERROR,
    POLICIES,
    SCRIPT_FORMATS,
    Binding,
    LockSettings,
    ManifestConfig,
    Script,
    ScriptArgument,
    Source,
)
from .manifest_draft import INVENTORY, MANIFEST, Draft, Entry, Place
from .manifest_fields import Fields, identity_of, plain
from .manifest_yaml import Value, YamlProblem, read_yaml
from .model import App, Area, Component, Function

VERSION = "1.0"
_TOP = (
    "manifest_version", "metadata", "config", "discovery", "areas", "components", "assets", "apps", "functions",
    "scripts", "capabilities", "lock_overrides",
)  # fmt: skip
_IN_FRAGMENTS = ("apps", "components", "functions", "manifest_version")
_METADATA = ("name", "description", "version", "created_at")
# What an asset says of itself, and what of its identity; every other scalar is an extra of the identity.
_ASSET_MEMBERS = frozenset(
    {
        "id", "name", "description", "namespace", "area", "variant", "type", "translation_id", "parent_component_id",
        "depends_on", "tags", "external",
    }
)  # fmt: skip


def read_draft(main: Source, fragments: Sequence[Source] = ()) -> Draft:
    """The draft of a manifest with its fragments; what is wrong with them is in its findings."""
    draft = Draft()
    top = _document(draft, main)
    if top is not None:
        _read_main(draft, top)
    for fragment in fragments:
        part = _document(draft, fragment)
        if part is not None:
            _read_fragment(draft, part)
    return draft


def _document(draft: Draft, source: Source) -> Fields | None:
    place = Place(source.file, 1, "")
    try:
        value, problems = read_yaml(source.text)
    except YamlProblem as error:
        where = Place(source.file, error.problem.line, "")
        draft.findings.append(where.finding("M001", ERROR, error.problem.message))
        return None
    for problem in problems:
        where = Place(source.file, problem.line, problem.path)
        draft.findings.append(where.finding("M002", ERROR, problem.message))
    if value is None or value.members is None:
        what = "nothing" if value is None else value.what
        draft.findings.append(place.finding("M003", ERROR, f"a manifest is a mapping; here is {what}"))
        return None
    return Fields(draft.findings, Place(source.file, value.line, "", value.lines), value)


def _read_main(draft: Draft, top: Fields) -> None:
    version = top.text("manifest_version")
    if version != VERSION:
        said = f"it is {version!r}" if version else "it is missing"
        top.report("R001", ERROR, f'manifest_version must be "{VERSION}"; {said}', "manifest_version")
    for name in top.names:
        if name not in _TOP:
            top.report("M010", ADVICE, "unknown here, and ignored", name)
    metadata = top.mapping("metadata")
    if metadata is not None:
        draft.metadata = {name: metadata.text(name) for name in _METADATA if metadata.text(name)}
    draft.config = _config(top)
    _areas(draft, top.mappings("areas"), "")
    for part in top.mappings("components"):
        _component(draft, part)
    for part in top.mappings("assets"):
        _asset(draft, part)
    for part in top.mappings("apps"):
        _app(draft, part)
    for part in top.mappings("functions"):
        _function(draft, part)
    for part in top.mappings("scripts"):
        _script(draft, part)


def _read_fragment(draft: Draft, top: Fields) -> None:
    version = top.text("manifest_version", VERSION)
    if version != VERSION:
        top.report("R001", ERROR, f'manifest_version must be "{VERSION}"; it is {version!r}', "manifest_version")
    for name in top.names:
        if name in _TOP and name not in _IN_FRAGMENTS:
            top.report(
                "M011", ERROR, "belongs into the manifest itself; a fragment has apps, components, functions", name
            )
        elif name not in _TOP:
            top.report("M010", ADVICE, "unknown here, and ignored", name)
    for section, read in (("components", _component), ("apps", _app), ("functions", _function)):
        for part in top.mappings(section):
            read(draft, part)


def _config(top: Fields) -> ManifestConfig:
    """The `config` block; whatever is wrong in it gives the default and a word in the log (R014, R015)."""
    if "discovery" in top.names:
        top.report("M012", ADVICE, "the old name of config; config wins where both are given", "discovery")
    name = "config" if "config" in top.names else "discovery"
    block = top.value(name)
    if block is None or block.is_null:
        return ManifestConfig()
    if block.members is None:
        top.report("R015", ADVICE, f"must be a mapping, is {block.what}; the defaults are used", name)
        return ManifestConfig()
    inner = top.within(name, block)
    policy = inner.value("unmanifested_nodes")
    chosen = "warn"
    if policy is not None and not policy.is_null:
        if policy.text in POLICIES:
            chosen = str(policy.text)
        else:
            said = repr(policy.text) if policy.text is not None else policy.what
            inner.report("R014", ADVICE, f"{said} is none of {', '.join(POLICIES)}; warn is used", "unmanifested_nodes")
    return ManifestConfig(
        chosen,
        inner.lenient_flag("inherit_runtime_resources", True),
        inner.lenient_flag("allow_manifest_override", True),
    )


def _id(part: Fields, noun: str) -> str:
    """The id of an entry; "" and a finding when it has none that can be used."""
    found = part.text("id")
    if not found:
        part.report("M004", ERROR, f"the {noun} has no id")
    elif not is_valid_id(found) or found in RESERVED_IDS:
        part.report("M005", ERROR, f"{found!r} is no id: 1 to 256 of letters, digits, - and _, and not docs", "id")
    else:
        return found
    return ""


def _reference(part: Fields, member: str) -> str:
    found = part.text(member)
    if found and not is_valid_id(found):
        part.report("M005", ERROR, f"{found!r} is no id: 1 to 256 of letters, digits, - and _", member)
        return ""
    return found


def _references(part: Fields, member: str) -> tuple[str, ...]:
    found = part.texts(member)
    for one in found:
        if not is_valid_id(one):
            part.report("M005", ERROR, f"{one!r} is no id: 1 to 256 of letters, digits, - and _", member)
    return tuple(dict.fromkeys(one for one in found if is_valid_id(one)))


def _areas(draft: Draft, parts: Sequence[Fields], parent: str) -> None:
    for part in parts:
        area_id = _id(part, "area")
        if area_id:
            area = Area(
                area_id,
                part.text("name") or area_id,
                part.text("namespace") or f"/{area_id}",
                part.text("description"),
                part.texts("tags"),
                part.text("translation_id"),
                _reference(part, "parent_area") or parent,
            )
            draft.entries.append(Entry(part.place, area))
        # As deep as the reader of YAML allows.
        _areas(draft, part.mappings("subareas"), area_id)


def _component(draft: Draft, part: Fields) -> None:
    component_id = _id(part, "component")
    if not component_id:
        return
    identity = part.mapping("identity")
    component = Component(
        component_id,
        part.text("name") or component_id,
        part.text("type") or "Component",
        part.text("namespace"),
        area=_reference(part, "area"),
        description=part.text("description"),
        variant=part.text("variant"),
        tags=part.texts("tags"),
        translation_id=part.text("translation_id"),
        parent_component_id=_reference(part, "parent_component_id"),
        depends_on=_references(part, "depends_on"),
        identity={} if identity is None else identity_of(identity.scalars(), MANIFEST, identity.mapping("extra")),
        external=part.flag("external"),
        source=MANIFEST,
    )
    draft.entries.append(Entry(part.place, component, lock=_lock(part)))


def _asset(draft: Draft, part: Fields) -> None:
    component_id = _id(part, "asset")
    if not component_id:
        return
    facts = {name: text for name, text in part.scalars().items() if name not in _ASSET_MEMBERS}
    identity = identity_of(facts, INVENTORY)
    component = Component(
        component_id,
        part.text("name") or plain(identity) or component_id,
        part.text("type") or "Component",
        part.text("namespace"),
        area=_reference(part, "area"),
        description=part.text("description"),
        variant=part.text("variant"),
        tags=part.texts("tags"),
        translation_id=part.text("translation_id"),
        parent_component_id=_reference(part, "parent_component_id"),
        depends_on=_references(part, "depends_on"),
        identity=identity,
        external=part.flag("external"),
        source=INVENTORY,
    )
    draft.entries.append(Entry(part.place, component))


def _app(draft: Draft, part: Fields) -> None:
    app_id = _id(part, "app")
    if not app_id:
        return
    bound = part.mapping("ros_binding")
    binding = None
    if bound is not None:
        namespace = bound.text("namespace", "*")
        binding = Binding(bound.text("node_name"), namespace or "/", bound.text("topic_namespace"))
    app = App(
        app_id,
        part.text("name") or app_id,
        part.text("description"),
        part.texts("tags"),
        part.text("translation_id"),
        _reference(part, "is_located_on"),
        _references(part, "depends_on"),
        is_online=False,
        external=part.flag("external"),
        source=MANIFEST,
    )
    draft.entries.append(Entry(part.place, app, binding, _lock(part)))


def _function(draft: Draft, part: Fields) -> None:
    function_id = _id(part, "function")
    if not function_id:
        return
    hosts = "hosted_by" if "hosted_by" in part.names else "hosts"
    function = Function(
        function_id,
        part.text("name") or function_id,
        part.text("description"),
        part.texts("tags"),
        part.text("translation_id"),
        _references(part, hosts),
        _references(part, "depends_on"),
        source=MANIFEST,
    )
    draft.entries.append(Entry(part.place, function))


def _lock(part: Fields) -> LockSettings | None:
    lock = part.mapping("lock")
    if lock is None:
        return None
    return LockSettings(
        lock.texts("required_scopes") if "required_scopes" in lock.names else None,
        lock.flag("breakable") if "breakable" in lock.names else None,
        lock.number("max_expiration", 1) if "max_expiration" in lock.names else None,
    )


def _script(draft: Draft, part: Fields) -> None:
    script_id = _id(part, "script")
    path, form = part.text("path"), part.text("format")
    if not path:
        part.report("M006", ERROR, "the script has no path")
    if form not in SCRIPT_FORMATS:
        said = f"it is {form!r}" if form else "it is missing"
        part.report("M006", ERROR, f"format must be one of {', '.join(SCRIPT_FORMATS)}; {said}", "format")
    env, schema = part.mapping("env"), part.value("parameters_schema")
    script = Script(
        script_id,
        path,
        form,
        part.text("name") or script_id,
        part.text("description"),
        part.number("timeout_sec", 1) or 300,
        part.texts("entity_filter"),
        {} if env is None else env.scalars(),
        tuple(_argument(argument) for argument in part.mappings("args")),
        _free(schema) if schema is not None and schema.members is not None else {},
    )
    if script_id:
        draft.entries.append(Entry(part.place, script))


def _argument(part: Fields) -> ScriptArgument:
    name, kind = part.text("name"), part.text("type", "positional")
    if not name:
        part.report("M006", ERROR, "the argument has no name")
    if kind not in ARGUMENT_TYPES:
        part.report("M006", ERROR, f"type must be one of {', '.join(ARGUMENT_TYPES)}; it is {kind!r}", "type")
    return ScriptArgument(name, kind, part.text("flag"))


def _free(value: Value) -> Any:
    """A free-form part as plain values; its depth is bounded by the reader of YAML."""
    if value.members is not None:
        return {name: _free(inner) for name, inner in value.members.items()}
    if value.items is not None:
        return [_free(inner) for inner in value.items]
    if value.is_null:
        return None
    text = str(value.text)
    if not value.plain:
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for convert in _NUMBERS:
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:  # neither NaN nor infinity: JSON has none
        raise ValueError(text)
    return number


_NUMBERS: tuple[Callable[[str], Any], ...] = (int, _finite)
