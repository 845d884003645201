"""Asking an address whether a gateway answers there, before anything else of it is believed."""

from __future__ import annotations

from typing import Any

from ...errors import GatewayError
from ..client import BadAnswer, PeerClient
from ..resolver import JudgedResolver
from ..transport import CONTROL
from . import DiscoveryContext, PeerSpec
from .candidate import Answer

TARGET = b"/api/v1/health"
# A gateway's answer is a few KiB; with hundreds of warnings some hundred.
MAX_BYTES = 1024 * 1024
MAX_ID = 200


class HealthProbe:
    """Asks `/health` once, over a connection of its own."""

    def __init__(self, context: DiscoveryContext) -> None:
        self._context = context
        self._timeout_s = context.config.aggregation.timeout_ms / 1000

    async def __call__(self, spec: PeerSpec) -> Answer | None:
        """What the gateway at `spec.url` says of itself; None when none answers in time."""
        context = self._context
        resolver = JudgedResolver(context.config.aggregation.allow_loopback_discovery)
        client = PeerClient(
            spec.name, spec.url, context.identity, self._timeout_s, access=context.access(spec), resolver=resolver
        )  # fmt: skip
        try:
            answer = await client.get(TARGET, lane=CONTROL, max_bytes=MAX_BYTES)
            return read_health(await answer.json()) if answer.status == 200 else None
        except (GatewayError, BadAnswer):
            return None
        finally:
            await client.aclose()


def read_health(body: Any) -> Answer | None:
    """The identity in an answer of `/health` (API.md §2.2); None when no gateway answers so."""
    if not isinstance(body, dict) or body.get("status") != "healthy" or not isinstance(body.get("timestamp"), int):
        return None
    medkit = body.get("x-medkit")
    if not isinstance(medkit, dict):
        return Answer()
    instance_id, boot_id = medkit.get("instance_id", ""), medkit.get("boot_id", "")
    if not isinstance(instance_id, str) or not isinstance(boot_id, str) or len(instance_id) + len(boot_id) > MAX_ID:
        return None
    return Answer(instance_id, boot_id)
