"""A manifest while it is read: entries in the order of declaration, each with the place where it stands.

The rules (`manifest_rules.py`) need places and duplicates; the finished `Manifest` has neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from .manifest import Binding, Finding, LockSettings, Manifest, ManifestConfig, Script
from .model import App, Area, Component, Entity, Function, Kind

MANIFEST, INVENTORY = "manifest", "inventory"


@dataclass(frozen=True)
class Place:
    """Where something stands; `lines` are those of its members."""

    file: str
    line: int
    path: str
    lines: Mapping[str, int] = field(default_factory=dict)

    def finding(self, rule: str, level: str, message: str, member: str = "") -> Finding:
        """A finding at this place, or at a member of it."""
        path = f"{self.path}.{member}" if member and self.path else member or self.path
        return Finding(rule, level, self.file, self.lines.get(member, self.line), path, message)


@dataclass(frozen=True)
class Entry:
    """A declared entity, or a script."""

    place: Place
    what: Entity | Script
    binding: Binding | None = None
    lock: LockSettings | None = None

    @property
    def id(self) -> str:
        return self.what.id

    @property
    def kind(self) -> Kind | None:
        """None for a script."""
        return None if isinstance(self.what, Script) else self.what.kind

    @property
    def noun(self) -> str:
        """`app`, `script`, ..."""
        return self.kind.type if self.kind else "script"


@dataclass
class Draft:
    """What was read so far, and what was found wrong meanwhile."""

    findings: list[Finding] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    config: ManifestConfig = field(default_factory=ManifestConfig)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def of(self, kind: Kind | None) -> Iterator[Entry]:
        """The entries of a kind, in their order; None: the scripts."""
        return (entry for entry in self.entries if entry.kind is kind)

    def finished(self) -> Manifest:
        """The manifest; to be called when the rules found nothing that rejects it."""
        bindings: dict[str, Binding] = {}
        apps: dict[str, App] = {}
        for entry in self.of(Kind.APP):
            app = cast("App", entry.what)
            if entry.binding is not None and entry.binding.is_usable and not app.external:
                bindings[app.id] = entry.binding
                app = replace(app, fqn=entry.binding.fqn)
            apps[app.id] = app
        return Manifest(
            config=self.config,
            metadata=self.metadata,
            areas={entry.id: cast("Area", entry.what) for entry in self.of(Kind.AREA)},
            components={entry.id: cast("Component", entry.what) for entry in self.of(Kind.COMPONENT)},
            apps=apps,
            functions={entry.id: cast("Function", entry.what) for entry in self.of(Kind.FUNCTION)},
            bindings=bindings,
            locks={(entry.kind, entry.id): entry.lock for entry in self.entries if entry.kind and entry.lock},
            scripts=tuple(cast("Script", entry.what) for entry in self.of(None)),
        )
