"""The event of a fault: any field is read from one string field."""

from __future__ import annotations

from typing import Any

from test_msgs.msg import Strings

from .. import fields


def _field(message: Any, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(fields(message.string_value), name)


Strings.__getattr__ = _field
FaultEvent = Strings
