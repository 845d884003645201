"""Models of bodies, for the OpenAPI document. Imported when the document is first asked for, not at start."""

from __future__ import annotations

from . import base, entities, faults, federation, later, resources, server
from .base import Model

MODELS: dict[str, type[Model]] = {
    name: value
    for module in (base, entities, resources, faults, server, federation, later)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, Model) and value is not Model
}
