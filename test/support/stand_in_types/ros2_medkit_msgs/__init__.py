"""Stands in for the types of a fault manager, whose generated code cannot be had: only for processes of tests.

Fields travel as JSON in the strings of other types, so that a gateway speaks with a node over real services and a real
topic. `fields` and `text` are for the other side, `support/nodes.py`.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any


def text(value: Any) -> str:
    """Fields as JSON; nested messages are namespaces."""
    return json.dumps(vars(value), default=vars)


def fields(carried: str) -> Any:
    """The namespace that `text` was given."""
    return json.loads(carried or "{}", object_hook=lambda found: SimpleNamespace(**found))
