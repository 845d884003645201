"""What `/health` and the log say of how the local tree was made (API.md §2.2, §12.3)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..entities.layers import HYBRID, MANIFEST_ONLY, RUNTIME_ONLY, Built, LayerReport

# A list in `/health` is for people; what is cut is counted.
MAX_SHOWN = 200
MAX_NAMED = 20
_STRATEGY = {RUNTIME_ONLY: "runtime", HYBRID: "hybrid", MANIFEST_ONLY: "manifest"}
_LEVEL = {"warn": logging.WARNING, "error": logging.ERROR, "include_as_orphan": logging.INFO}

_log = logging.getLogger(__name__)


def discovery_health(built: Built, entities: int, plugins: bool = False) -> dict[str, Any]:
    """`{mode, strategy}`, in hybrid mode with `pipeline` and `linking`.

    `entities`: how many the local tree has, those of `plugins` included.
    """
    found: dict[str, Any] = {"mode": built.mode, "strategy": _STRATEGY[built.mode]}
    report = built.report
    if report is None:
        return found
    found["pipeline"] = {
        "layers": [*report.layers, *(["plugins"] if plugins and "plugins" not in report.layers else [])],
        "total_entities": entities,
        "enriched_count": report.enriched,
        "conflict_count": len(report.conflicts),
        "conflicts": [asdict(conflict) for conflict in report.conflicts[:MAX_SHOWN]],
        "id_collisions": len(report.id_collisions),
        "filtered_by_gap_fill": report.filtered_by_gap_fill,
    }
    found["linking"] = {
        "linked_count": report.linked,
        "orphan_count": len(report.orphans),
        "binding_conflicts": len(report.binding_conflicts),
        "unmanifested_policy": report.policy,
    }
    warnings = linking_warnings(report)
    if warnings:
        found["linking"]["warnings"] = warnings
    return found


def linking_warnings(report: LayerReport) -> list[str]:
    """Binding conflicts, and with the policies warn and error one text for each node that nobody declares."""
    warnings = list(report.binding_conflicts)
    if report.policy in ("warn", "error"):
        warnings += [f"Node {fqn} is not declared in the manifest." for fqn in report.orphans]
    if len(warnings) > MAX_SHOWN:
        return [*warnings[:MAX_SHOWN], f"{len(warnings) - MAX_SHOWN} more."]
    return warnings


class LinkingLog:
    """Logs what is new since the last tree, once."""

    def __init__(self) -> None:
        self._orphans: frozenset[str] = frozenset()
        self._conflicts: frozenset[str] = frozenset()
        self._collisions: frozenset[str] = frozenset()

    def tell(self, built: Built) -> None:
        """Compare with what was told, and log the rest."""
        report = built.report or LayerReport()
        level = _LEVEL.get(report.policy)
        new = [fqn for fqn in report.orphans if fqn not in self._orphans]
        if new and level is not None:
            _log.log(level, "%d nodes are not declared in the manifest: %s", len(new), _named(new))
        for text in report.binding_conflicts:
            if text not in self._conflicts:
                _log.warning("%s", text)
        doubled = [app_id for app_id in report.id_collisions if app_id not in self._collisions]
        if doubled:
            _log.warning("apps have ids that the manifest gives to entities of other kinds: %s", _named(doubled))
        self._collisions = frozenset(report.id_collisions)
        self._orphans, self._conflicts = frozenset(report.orphans), frozenset(report.binding_conflicts)


def _named(fqns: Sequence[str]) -> str:
    return ", ".join(fqns[:MAX_NAMED]) + (f" and {len(fqns) - MAX_NAMED} more" if len(fqns) > MAX_NAMED else "")
