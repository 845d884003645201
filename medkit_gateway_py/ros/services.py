"""Calling services: a pool of clients, bounded everywhere, with one deadline for all that a call waits for.

A client loses replies without a word when more than about ten requests are outstanding, so at most 8 are; the others
wait for their turn. A server that was discovered just now may run a request whose reply is lost, so calls wait until
their server has been known for some seconds (MEASURED.md §4). Nothing is sent twice.

Nothing here knows entities or HTTP; actions, which are three services and two topics, are in `actions.py`.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from rclpy.exceptions import InvalidServiceNameException
from rclpy.validate_full_topic_name import validate_full_topic_name

from ..errors import GatewayShutdown, ServiceCallFailed, ServiceUnavailable
from . import messages
from .bridge import RosBridge

MAX_CLIENTS = 64  # used ones are spared, so a burst of calls may go beyond it for a while
MAX_OUTSTANDING = 8
MAX_WAITING = 256  # for one service
SETTLE_S = 3.0
ROS_LIMIT_S = 2.0
POLL_S = (0.01, 0.1)  # how often a server that is not there is looked for: at first, in the end
ACTION_INFIX = "/_action/"


class NoServer(Exception):
    """Nobody serves this service, or nobody did in time."""


class NoAnswer(Exception):
    """The request was sent, and no response came in time."""


class NotSent(Exception):
    """The request was not sent: ROS refuses it, or too many others wait."""


class ServiceCaller:
    """Calls services from the asyncio loop; keeps the `max_clients` last used clients.

    :param settle_s: how long a server must have been known before it is called, in seconds; at most half of what a
        call may take is spent on it.
    """

    def __init__(self, bridge: RosBridge, max_clients: int = MAX_CLIENTS, settle_s: float = SETTLE_S) -> None:
        self._bridge, self._max_clients, self._settle_s = bridge, max_clients, settle_s
        self._clients: OrderedDict[tuple[str, str], _Client] = OrderedDict()  # least recently used first
        self._known_since: dict[str, float] = {}
        self._stopped = False

    @property
    def clients(self) -> int:
        """How many clients are kept."""
        return len(self._clients)

    @property
    def outstanding(self) -> int:
        """Requests that were sent and are not answered."""
        return sum(client.outstanding for client in self._clients.values())

    def servers_seen(self, names: Iterable[str]) -> None:
        """All services and actions that are in the graph now: how long each has been known is counted from here."""
        now = time.monotonic()
        self._known_since = {name: self._known_since.get(name, now) for name in names}

    async def call(self, service: str, type_name: str, payload: object, timeout_s: float) -> dict[str, Any]:
        """Call `service`, a full name, of type `pkg/srv/Type`; the response as JSON.

        `timeout_s` counts for everything: the turn, the server's appearance, its answer.

        :raises ServiceCallFailed: whatever the reason; `details` has it.
        :raises GatewayShutdown: stopping.
        """
        try:
            service_class = _service_class(type_name)
            request = messages.from_json(service_class.Request, payload)
        except (messages.UnknownType, messages.FieldError) as error:
            raise ServiceCallFailed("Service call failed", details=str(error)) from error
        try:
            return messages.to_json(await self.request(service, type_name, service_class, request, timeout_s))
        except (NoServer, NoAnswer, NotSent) as error:
            raise ServiceCallFailed("Service call failed", details=str(error)) from error

    async def request(
        self,
        service: str,
        type_name: str,
        service_class: Any,
        message: Any,
        timeout_s: float,
        *,
        server_within_s: float | None = None,
    ) -> Any:
        """Send one request message and return the response message; `type_name` only tells classes apart.

        :param server_within_s: how long the server is waited for, when that is shorter than `timeout_s`.
        :raises NoServer, NoAnswer, NotSent: see there.
        :raises GatewayShutdown: stopping.
        """
        if self._stopped:
            raise GatewayShutdown("The gateway is shutting down")
        _check_name(service)
        started = time.monotonic()
        deadline = started + timeout_s
        client = self._client(service, type_name, service_class)
        client.users += 1
        try:
            await client.take_turn(deadline)
            try:
                server_deadline = deadline if server_within_s is None else min(deadline, started + server_within_s)
                await self._server(client, server_deadline)
                await self._settle(service, deadline, timeout_s / 2)
                return await self._send(client, message, deadline)
            finally:
                client.turns.release()
        finally:
            client.users -= 1
            self._make_room()

    async def stop(self) -> None:
        """Take no more calls; the clients go with the node, and what is outstanding ends with the bridge."""
        self._stopped = True
        for client in self._clients.values():
            self._bridge.post(functools.partial(client.close, self._bridge.node))
        self._clients.clear()

    def _client(self, service: str, type_name: str, service_class: Any) -> _Client:
        key = (service, type_name)
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = _Client(service, service_class)
        self._clients.move_to_end(key)
        return client

    def _make_room(self) -> None:
        excess = len(self._clients) - self._max_clients
        for key, client in list(self._clients.items()):
            if excess <= 0:
                return
            if not client.users:
                del self._clients[key]
                self._bridge.post(functools.partial(client.close, self._bridge.node))
                excess -= 1

    async def _server(self, client: _Client, deadline: float) -> None:
        """Wait until somebody serves the service."""
        pause_s, longest_s = POLL_S
        while True:
            try:
                if await self._bridge.call(functools.partial(client.is_ready, self._bridge.node), ROS_LIMIT_S):
                    return
            except (GatewayShutdown, NotSent):
                raise
            except Exception as error:  # rclpy raises RCLError, InvalidHandle, errors of broken type supports, ...
                raise NotSent(f"{type(error).__name__}: {error}") from error
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise NoServer(f"the service {client.service} is not available")
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, longest_s)

    async def _settle(self, service: str, deadline: float, at_most_s: float) -> None:
        """Wait until the server has been known for `settle_s`: a service that no scan has seen is new."""
        name = service.partition(ACTION_INFIX)[0]
        now = time.monotonic()
        since = self._known_since.setdefault(name, now)
        wait_s = min(since + self._settle_s - now, at_most_s, (deadline - now) / 2)
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    async def _send(self, client: _Client, message: Any, deadline: float) -> Any:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise NoServer(f"the service {client.service} was not ready in time")
        client.outstanding += 1
        try:
            return await self._bridge.call(lambda: client.handle.call_async(message), left_s)
        except TimeoutError as error:
            raise NoAnswer(f"the service {client.service} did not answer in time") from error
        except GatewayShutdown:
            raise
        except ServiceUnavailable as error:
            raise NotSent(error.message) from error
        except Exception as error:  # as above
            raise NotSent(f"{type(error).__name__}: {error}") from error
        finally:
            client.outstanding -= 1


class _Client:
    """A service client and the turns of those who call it."""

    def __init__(self, service: str, service_class: Any) -> None:
        self.service = service
        self.handle: Any = None
        self.users = 0
        self.outstanding = 0
        self.turns = asyncio.Semaphore(MAX_OUTSTANDING)
        self._class = service_class
        self._waiting = 0

    def is_ready(self, node: Any) -> bool:
        """In the ros thread: whether somebody serves it; makes the client at the first time."""
        if self.handle is None:
            self.handle = node.create_client(self._class, self.service)
        return bool(self.handle.service_is_ready())

    def close(self, node: Any) -> None:
        """In the ros thread: destroy the client."""
        if self.handle is not None:
            handle, self.handle = self.handle, None
            node.destroy_client(handle)

    async def take_turn(self, deadline: float) -> None:
        """Wait until fewer than MAX_OUTSTANDING calls of others are under way."""
        if self._waiting >= MAX_WAITING:
            raise NotSent(f"too many calls of {self.service} are waiting")
        self._waiting += 1
        try:
            await asyncio.wait_for(self.turns.acquire(), max(0.0, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            raise NoAnswer(f"the service {self.service} did not answer earlier calls in time") from None
        finally:
            self._waiting -= 1


@functools.lru_cache(maxsize=1024)
def operation_info(type_name: str) -> dict[str, Any] | None:
    """JSON schemas by part: `{request, response}` or `{goal, result, feedback}`; None for a type not installed.

    Shared, do not change it (API.md §5.1).
    """
    try:
        found = messages.load(type_name)
        names = ("Request", "Response") if hasattr(found, "Request") else ("Goal", "Result", "Feedback")
        return {name.lower(): messages.schema(getattr(found, name)) for name in names}
    except (messages.UnknownType, AttributeError):  # AttributeError: the class of a message
        return None


def _service_class(type_name: str) -> Any:
    found = messages.load(type_name)
    if type_name.split("/")[1] != "srv" or not hasattr(found, "Request"):
        raise messages.UnknownType(type_name, "not of the form package/srv/Type")
    return found


def _check_name(service: str) -> None:
    try:
        validate_full_topic_name(service, is_service=True)
    except (InvalidServiceNameException, ValueError) as error:
        raise NotSent(" ".join(str(error).split())) from error
