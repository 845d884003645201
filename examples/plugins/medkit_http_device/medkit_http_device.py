"""A device with a small HTTP interface as an app of the gateway: its values, one command, its settings, its absence.

The device answers `GET /state` with an object of values, tells its settings with `GET /settings`, takes one with
`PUT /settings/<name>` and `{"value": ...}`, and puts its counters to zero at `POST /reset`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from medkit_gateway_py.plugin import (
    BadValue,
    ConfigurationItem,
    DataItem,
    Entities,
    EntityPlugin,
    NotFound,
    OperationItem,
    PluginApp,
    PluginParameter,
    Unavailable,
)

UNREACHABLE = "DEVICE_UNREACHABLE"


class HttpDevice(EntityPlugin):
    """One app, whose data items are the members of what `/state` says."""

    parameters = (
        PluginParameter("url", "http://127.0.0.1:9000", "Address of the device.", lambda url: _url_problem(url)),
        PluginParameter("app_id", "http_device", "Id of the app that stands for it."),
        PluginParameter("poll_s", 1.0, "Seconds between two looks.", lambda s: "" if s >= 0.1 else "at least 0.1"),
    )

    async def start(self) -> None:
        """Look once, and then again and again; a device that is away is a fault, no reason not to start."""
        given = self.context.parameters
        self._id: str = given["app_id"]
        self._device = httpx.AsyncClient(base_url=given["url"], timeout=1.0, trust_env=False)
        self._state: dict[str, Any] = {}
        self._problem = "not asked yet"
        await self._look()
        self._task = asyncio.create_task(self._poll(given["poll_s"]), name="poll the device")

    async def stop(self) -> None:
        """Nothing may be left: a task that runs on is named in the gateway's log."""
        self._task.cancel()
        await self._device.aclose()

    def problem(self) -> str:
        """Told in `/health`."""
        return self._problem

    def entities(self) -> Entities:
        """The app with one data item a value; offline while the device does not answer."""
        app = PluginApp(
            self._id,
            name="HTTP device",
            description=f"The device at {self.context.parameters['url']}",
            tags=("http",),
            is_online=not self._problem,
            data=tuple(DataItem(name) for name in sorted(self._state)),
            operations=(OperationItem("reset", "Reset counters", {"type": "object"}, {"type": "object"}),),
            configurable=True,
        )
        return Entities(apps=(app,))

    async def read_data(self, app_id: str, item_id: str) -> Any:
        """A value as the device has it now."""
        state = await self._ask("GET", "/state")
        if item_id not in state:
            raise NotFound(f"the device has no {item_id}")
        return state[item_id]

    async def run_operation(self, app_id: str, operation_id: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """The one command."""
        return await self._ask("POST", "/reset", dict(parameters))

    async def read_configurations(self, app_id: str) -> Sequence[ConfigurationItem]:
        """The device's settings."""
        return [ConfigurationItem(name, value) for name, value in (await self._ask("GET", "/settings")).items()]

    async def write_configuration(self, app_id: str, name: str, value: Any) -> None:
        """Change one; the device says what it does not take."""
        await self._ask("PUT", f"/settings/{name}", {"value": value})

    async def _poll(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._look()

    async def _look(self) -> None:
        before = (self._problem, sorted(self._state))
        try:
            self._state = await self._ask("GET", "/state")
            self._problem = ""
        except (Unavailable, BadValue, NotFound) as error:
            self._problem = str(error)
        changed = before != (self._problem, sorted(self._state))
        if not self._problem:
            # At every look: a fault heals when it has passed some times in a row.
            self.context.report_fault(self._id, UNREACHABLE, False, "ERROR", "it answers")
        elif changed:
            self.context.report_fault(self._id, UNREACHABLE, True, "ERROR", self._problem)
        if changed:
            severity = "error" if self._problem else "info"
            self.context.add_log(self._id, severity, self._problem or "the device answers")
            self.context.changed()

    async def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            answer = await self._device.request(method, path, json=body)
            document = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"the device does not answer: {error or type(error).__name__}") from None
        if answer.status_code == 404:
            raise NotFound(f"the device has no {path.rsplit('/', 1)[-1]}")
        if answer.is_client_error:
            raise BadValue(str(document.get("error", "the device refuses it")) if isinstance(document, dict) else "no")
        if not answer.is_success or not isinstance(document, dict):
            raise Unavailable(f"the device answered {answer.status_code}")
        return document


def _url_problem(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        return str(error)
    return "" if parsed.scheme in ("http", "https") and parsed.host else "it is no http:// or https:// URL"
