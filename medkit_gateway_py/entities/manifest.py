"""The manifest: what people say a machine consists of (API.md §12), as frozen values.

`manifest_reader.py` makes them of YAML, `inventory.py` of CSV, `manifest_rules.py` judges them. Files are read by
`discovery/manifest_files.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .model import App, Area, Component, Function, Kind

POLICIES = ("ignore", "warn", "error", "include_as_orphan")
SCRIPT_FORMATS = ("bash", "python", "sh")
ARGUMENT_TYPES = ("positional", "named", "flag")

ERROR, WARNING, ADVICE = "error", "warning", "advice"
# Enough to mend a file by; one mistake in an anchor can be found in every entity.
MAX_FINDINGS = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to say about a manifest. `level`: `error` rejects it, `warning` does when strict, `advice` never."""

    rule: str
    level: str
    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.path + ': ' if self.path else ''}{self.message} [{self.rule}]"


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a file; `file` is how findings call it."""

    file: str
    text: str


@dataclass(frozen=True, slots=True)
class Binding:
    """How the node of an app is found: by name and namespace (`*`: any), or by a topic that it uses."""

    node_name: str = ""
    namespace: str = "*"
    topic_namespace: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether it says anything to find a node by."""
        return bool(self.node_name or self.topic_namespace)

    @property
    def fqn(self) -> str:
        """The node that it names without doubt; "" for wildcards and topics (API.md §3.7)."""
        if not self.node_name or "*" in self.namespace:
            return ""
        return "/".join(("", *(part for part in self.namespace.split("/") if part), self.node_name))


@dataclass(frozen=True, slots=True)
class LockSettings:
    """What `lock` says of an app or a component; None where it says nothing."""

    required_scopes: tuple[str, ...] | None = None
    breakable: bool | None = None
    max_expiration_s: int | None = None


@dataclass(frozen=True, slots=True)
class ScriptArgument:
    """An argument of a script; `type` is one of ARGUMENT_TYPES, `flag` what a flag or a name is called."""

    name: str
    type: str = "positional"
    flag: str = ""


@dataclass(frozen=True)
class Script:
    """A script that the manifest declares. Kept; whether it can be run is another room's."""

    id: str
    path: str
    format: str
    name: str = ""
    description: str = ""
    timeout_s: int = 300
    entity_filter: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    args: tuple[ScriptArgument, ...] = ()
    parameters_schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ManifestConfig:
    """The `config` block: what becomes of nodes that nobody declared, and what declared apps take from their node."""

    unmanifested_nodes: str = "warn"
    inherit_runtime_resources: bool = True
    allow_manifest_override: bool = True


@dataclass(frozen=True)
class Manifest:
    """A valid manifest, inventory included. Mappings are in the order of declaration, by which apps are linked."""

    config: ManifestConfig = field(default_factory=ManifestConfig)
    metadata: Mapping[str, str] = field(default_factory=dict)
    areas: Mapping[str, Area] = field(default_factory=dict)
    components: Mapping[str, Component] = field(default_factory=dict)
    apps: Mapping[str, App] = field(default_factory=dict)
    functions: Mapping[str, Function] = field(default_factory=dict)
    bindings: Mapping[str, Binding] = field(default_factory=dict)
    locks: Mapping[tuple[Kind, str], LockSettings] = field(default_factory=dict)
    scripts: tuple[Script, ...] = ()

    def counts(self) -> dict[str, int]:
        """Number of entities of each kind, keyed by collection."""
        return {kind.value: len(getattr(self, kind.value)) for kind in Kind}


@dataclass(frozen=True)
class Loaded:
    """What came of reading: the manifest, or None and at least one finding that says why."""

    manifest: Manifest | None
    findings: tuple[Finding, ...] = ()

    @property
    def rejecting(self) -> tuple[Finding, ...]:
        """The findings for which there is no manifest; empty when there is one."""
        if self.manifest is not None:
            return ()
        errors = tuple(one for one in self.findings if one.level == ERROR)
        return errors or tuple(one for one in self.findings if one.level == WARNING)
