"""The state of lifecycle nodes, asked over their `get_state` service (API.md §10.8)."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from ..errors import GatewayError
from . import messages
from .bridge import RosBridge

GET_STATE = "lifecycle_msgs/srv/GetState"
MAX_CALLS = 8  # at once; a node may be slow
READY_POLL_S = 0.02

_LOG = logging.getLogger(__name__)


class LifecycleStates:
    """Asks nodes, each with a client that is made for the question. All methods run on the asyncio loop.

    :param timeout_s: for one question, the wait for its turn included.
    """

    def __init__(self, bridge: RosBridge, timeout_s: float) -> None:
        self._bridge, self._timeout_s = bridge, timeout_s
        self._turns = asyncio.Semaphore(MAX_CALLS)

    async def state(self, fqn: str) -> str:
        """`active`, `inactive`, ...; "" when the node does not tell in time. Never raises for what a node does."""
        deadline = time.monotonic() + self._timeout_s
        try:
            await asyncio.wait_for(self._turns.acquire(), self._timeout_s)
        except (TimeoutError, asyncio.TimeoutError):
            return ""
        made: list[Any] = []
        try:
            return await self._ask(fqn, made, deadline)
        except (TimeoutError, GatewayError, messages.UnknownType) as error:
            _LOG.debug("%s does not tell its state: %s", fqn, error)
            return ""
        except Exception as error:  # rclpy raises RCLError, InvalidHandle, ...
            _LOG.warning("%s cannot be asked for its state: %s: %s", fqn, type(error).__name__, error)
            return ""
        finally:
            self._turns.release()
            self._bridge.post(lambda: [self._bridge.node.destroy_client(client) for client in made])

    async def _ask(self, fqn: str, made: list[Any], deadline: float) -> str:
        service = messages.load(GET_STATE)

        def is_ready() -> bool:
            if not made:
                made.append(self._bridge.node.create_client(service, f"{fqn}/get_state"))
            return bool(made[0].service_is_ready())

        while not await self._bridge.call(is_ready, max(0.001, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                raise TimeoutError("no such service")
            await asyncio.sleep(READY_POLL_S)
        answer = await self._bridge.call(
            lambda: made[0].call_async(service.Request()), max(0.001, deadline - time.monotonic())
        )
        return str(answer.current_state.label)
