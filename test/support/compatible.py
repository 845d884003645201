"""A gateway that serves no tree, as the C++ one does, made of pages that a test sets (AGGREGATION.md §11)."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from .fake_peer import FaultyServer, head_of, http


class CompatibleGateway(FaultyServer):
    """Answers from a table of paths; everything else is an empty list. Closes after each answer."""

    def __init__(self, **entities: list[Any]) -> None:
        super().__init__(self._answer)
        self.generation: Any = 1
        self.peers: list[Any] = []
        self.pages: dict[str, Any] = {f"/{kind}": {"items": items} for kind, items in entities.items()}
        self.heads: list[bytes] = []
        self.now = self.most = 0

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await head_of(reader)
        self.heads.append(head)
        path = head.split(b" ")[1].decode().removeprefix("/api/v1")
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01)
        self.now -= 1
        if path == "/health":
            cache = {"x-medkit-entity-cache": {"generation": self.generation}}
            writer.write(http(orjson.dumps({"status": "healthy", "peers": self.peers, **cache})))
        elif path == "/x-medkit/tree":
            writer.write(http(b"not json", "404 Not Found"))
        elif isinstance(page := self.pages.get(path, {"items": []}), bytes):
            writer.write(page)
        else:
            writer.write(http(orjson.dumps(page)))

    def asked(self, path: str) -> int:
        """How often this path was asked for."""
        return sum(head.startswith(f"GET /api/v1{path} ".encode()) for head in self.heads)


def app(app_id: Any, component: str = "robot", **medkit: Any) -> dict[str, Any]:
    """An item of its `/apps`."""
    facts = {"source": "heuristic", "is_online": True, "component_id": component, "ros2": {"node": f"/{app_id}"}}
    return {"id": app_id, "name": str(app_id), "type": "app", "x-medkit": {**facts, **medkit}}
