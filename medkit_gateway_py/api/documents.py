"""The OpenAPI document as one gateway serves it: made once, when it is first asked for."""

from __future__ import annotations

from typing import Any

import anyio

from .answers import Snapshot, to_json
from .context import GatewayContext
from .plugin_routes import PluginRoutes, add_to_document


class Documents:
    """The whole document, made once, off the event loop."""

    def __init__(self, context: GatewayContext, plugins: tuple[PluginRoutes, ...] = ()) -> None:
        self._context = context
        self._plugins = plugins
        self._lock: anyio.Lock | None = None
        self._whole: dict[str, Any] = {}
        self._root: Snapshot | None = None

    async def whole(self) -> tuple[dict[str, Any], Snapshot]:
        """The document, and the answer that carries it."""
        if self._root is None:
            self._lock = self._lock or anyio.Lock()
            async with self._lock:
                if self._root is None:
                    self._whole, body = await anyio.to_thread.run_sync(self._build)
                    self._root = Snapshot(body)
        return self._whole, self._root

    def _build(self) -> tuple[dict[str, Any], bytes]:
        # Imported here: the models take a good part of a start, and most gateways are never asked for the document.
        from .openapi import build

        document = build(self._context)
        add_to_document(document, self._plugins)
        return document, to_json(document)
