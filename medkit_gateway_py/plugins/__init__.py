"""Plugins: finding them by entry point, as ros2cli does it (ARCHITECTURE.md, Plugins).

A plugin that cannot be imported is logged with its name and skipped; it never stops the gateway.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import entry_points
from typing import Any

_log = logging.getLogger(__name__)


def find_plugins(
    group: str, built_in: Mapping[str, str], wanted: Collection[str] = ()
) -> tuple[dict[str, Callable[..., Any]], dict[str, str]]:
    """`(factories by name, reasons of those that failed)` of an entry-point group.

    `built_in` maps names to `module:attribute` and stands in where the package's own metadata is not installed (a
    source checkout on PYTHONPATH); an installed entry point of the same name replaces it. Others are loaded, and
    thereby imported, only when they are `wanted`.
    """
    targets: dict[str, Any] = dict(built_in)
    for point in entry_points(group=group):
        if point.name in built_in or point.name in wanted:
            targets[point.name] = point
    found: dict[str, Callable[..., Any]] = {}
    failed: dict[str, str] = {}
    for name, target in sorted(targets.items()):
        try:
            found[name] = _load(target) if isinstance(target, str) else target.load()
        except Exception as error:  # whatever a plugin's module raises at import
            failed[name] = f"{type(error).__name__}: {error}"
            _log.error("plugin %s of %s cannot be loaded: %s", name, group, failed[name])
    return found, failed


def _load(target: str) -> Callable[..., Any]:
    module, _, attribute = target.partition(":")
    loaded: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return loaded
