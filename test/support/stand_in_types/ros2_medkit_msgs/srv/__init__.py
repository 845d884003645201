"""The services: requests are written into one string field and responses read from another."""

from __future__ import annotations

import json
from typing import Any

from diagnostic_msgs.srv import AddDiagnostics

from .. import fields

_Carrier = AddDiagnostics.Request


class _Request(_Carrier):  # type: ignore[misc]
    """Takes any field."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if name.lstrip("_") in ("load_namespace", "check_fields"):
            super().__setattr__(name, value)
        else:
            self.load_namespace = json.dumps({**json.loads(self.load_namespace or "{}"), name: value})


# rclpy's conversion looks at these two.
_Request.__module__, _Request.__name__ = _Carrier.__module__, _Carrier.__name__


def _field(response: Any, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(fields(response.message), name)


# Responses are made by generated code, which knows the carrier only.
AddDiagnostics.Response.__getattr__ = _field


def _service(name: str) -> Any:
    return type(name, (AddDiagnostics,), {"Request": _Request})


ReportFault = _service("ReportFault")
ListFaults = _service("ListFaults")
GetFault = _service("GetFault")
ClearFault = _service("ClearFault")
