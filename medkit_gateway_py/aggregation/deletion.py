"""Deleting at several gateways at once what an entity of theirs and ours has (AGGREGATION.md §4, §8).

Each peer is asked for those origins only whose best way leads through it, so nothing is deleted twice. Which peers
have something to delete is the caller's to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from ..errors import GatewayError
from .peer import COMPATIBLE
from .request import NO_FAN_OUT, ORIGINS, RequestInfo
from .transport import FRESH

if TYPE_CHECKING:
    from .federation import Federation


@dataclass(frozen=True)
class Deletion:
    """`DELETE path` at a peer, for these origins; `path` is percent-encoded and begins with `/api/v1`."""

    peer: str
    path: str
    origins: tuple[str, ...]


async def delete_at(federation: Federation, request: RequestInfo, deletions: Sequence[Deletion]) -> dict[str, str]:
    """Ask all of them at once; gives why it did not happen, by peer. Something that is not there counts as deleted."""
    failed: dict[str, str] = {}

    async def one(deletion: Deletion) -> None:
        reason = await _delete(federation, request, deletion)
        if reason:
            failed[deletion.peer] = reason

    async with anyio.create_task_group() as group:
        for deletion in deletions:
            group.start_soon(one, deletion)
    return failed


async def _delete(federation: Federation, request: RequestInfo, deletion: Deletion) -> str:
    peer = federation.peer(deletion.peer)
    if peer is None:
        return "is no peer any more"
    headers = list(request.fan_out_headers())
    if peer.kind == COMPATIBLE:
        headers.append((NO_FAN_OUT.encode(), b"1"))
    else:
        origins = federation.origins_at(deletion.peer, deletion.origins)
        headers.append((ORIGINS.encode(), ",".join(origins).encode("latin-1", "replace")))
    budget = request.bounded(federation.config.aggregation.timeout_ms / 1000)
    client = peer.client
    try:
        peer.check_callable()
        async with client.open(
            "DELETE", deletion.path.encode("ascii"), request=request, headers=headers, lane=FRESH,
            first_byte_s=budget, idle_s=budget,
        ) as response:  # fmt: skip
            peer.answered()
            if not (200 <= response.status_code < 300 or response.status_code == 404):
                return f"answered {response.status_code}"
    except GatewayError as error:
        peer.call_failed(error, client)
        return error.message
    return ""
