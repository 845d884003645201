"""Parameters of nodes: listed, read and set over their parameter services (API.md §6).

Every round trip has a deadline, a node has few requests under way (a client of a service loses replies above
ten), and a node whose service is there and silent is not asked again for a while. The gateway's own parameters
are read without a service: its thread would wait for itself.

What is remembered of values, and what HTTP says, is not known here. All methods run on the asyncio loop.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import ParameterValue, SetParametersResult
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.parameter import Parameter as RclpyParameter

from ..errors import GatewayError, GatewayShutdown
from .bridge import RosBridge
from .parameter_values import (
    NOT_SET,
    TYPES,
    NodeFailed,
    NodeUnavailable,
    Parameter,
    ParameterError,
    UnknownParameter,
    Value,
)

MAX_NODES = 128  # nodes whose clients are kept
MAX_REQUESTS = 4  # under way at one node, each sent twice at most
MAX_PARAMETERS = 10_000  # of one node; more is a broken node
READY_POLL_S = 0.02
ROS_LIMIT_S = 2.0  # a look at the graph takes 1 ms

_SERVICES = {
    "list_parameters": ListParameters,
    "get_parameters": GetParameters,
    "describe_parameters": DescribeParameters,
    "set_parameters": SetParameters,
}
_FIELDS = {
    "bool": "bool_value",
    "int": "integer_value",
    "double": "double_value",
    "string": "string_value",
    **{f"{name}_array": f"{name}_array_value" for name in ("byte", "bool", "double", "string")},
    "int_array": "integer_array_value",
}


class NodeParameters:
    """Asks nodes, by their fully qualified names.

    :param timeout_s: `parameter_service_timeout_sec`, of one round trip.
    :param negative_cache_s: `parameter_service_negative_cache_sec`, 0: silent nodes are asked every time.
    """

    def __init__(
        self, bridge: RosBridge, timeout_s: float, negative_cache_s: float, *, max_nodes: int = MAX_NODES
    ) -> None:
        self._bridge, self._timeout_s, self._negative_cache_s = bridge, timeout_s, negative_cache_s
        self._max_nodes = max_nodes
        self._own_fqn = str(bridge.node.get_fully_qualified_name())
        self._own = _Own(bridge)
        self._remotes: OrderedDict[str, _Remote] = OrderedDict()  # least recently asked first
        self._silent: dict[str, float] = {}  # until when a silent node is left alone (monotonic)
        self._stopped = False

    async def read_all(self, fqn: str, within_s: float | None = None) -> list[Parameter]:
        """All parameters of a node with values and descriptions, sorted by name.

        :param within_s: a shorter time for one round trip, for whom waits less long.
        :raises ParameterError: NodeUnavailable, or NodeFailed for an answer that cannot be used.
        """
        async with self._node(fqn, within_s) as node:
            names = await node.names([])
            if len(names) > MAX_PARAMETERS:
                raise NodeFailed(f"has {len(names)} parameters, more than {MAX_PARAMETERS}")
            return await _parameters(node, sorted(names)) if names else []

    async def read(self, fqn: str, name: str) -> Parameter:
        """One parameter. Raises UnknownParameter beside the errors of `read_all`."""
        async with self._node(fqn) as node:
            found = (await _parameters(node, [name]))[0]
            if found.value.type == NOT_SET and name not in await node.names([name]):
                # A node answers alike for a parameter that it has not and for one without a value.
                raise UnknownParameter(f"{fqn} has no parameter {name}")
            return found

    async def write(self, fqn: str, values: Sequence[tuple[str, Value]]) -> list[str]:
        """Set parameters, each on its own; for each the reason why the node refused it, "" when it took it.

        Sent once only: a request whose answer got lost may have been carried out.
        """
        async with self._node(fqn) as node:
            request = SetParameters.Request(
                parameters=[ParameterMsg(name=name, value=_message(value)) for name, value in values]
            )
            results = (await node.ask("set_parameters", request)).results
            if len(results) != len(values):
                raise NodeFailed(f"{fqn} answered for {len(results)} of {len(values)} parameters")
            return ["" if one.successful else one.reason or "refused without a reason" for one in results]

    async def stop(self) -> None:
        """Refuse further calls and destroy the clients."""
        self._stopped = True
        while self._remotes:
            self._remotes.popitem()[1].close()

    def _node(self, fqn: str, within_s: float | None = None) -> _Visit:
        if self._stopped:
            raise GatewayShutdown("The gateway is shutting down")
        if fqn == self._own_fqn:
            return _Visit(self, fqn, self._own)
        remote = self._remotes.get(fqn)
        if remote is None:
            remote = self._remotes[fqn] = _Remote(self._bridge, fqn)
        self._remotes.move_to_end(fqn)
        limit_s = self._timeout_s if within_s is None else min(self._timeout_s, within_s)
        return _Visit(self, fqn, remote, limit_s)

    async def check_silence(self, fqn: str) -> None:
        """Raises NodeUnavailable while the node is left alone. A node that has left meanwhile is forgotten."""
        until = self._silent.get(fqn)
        if until is None:
            return
        if time.monotonic() >= until:
            del self._silent[fqn]
            return
        if await _has_service(self._bridge, fqn, "list_parameters"):
            raise NodeUnavailable(f"{fqn} did not answer (cached)")
        self._silent.pop(fqn, None)

    def mark_silent(self, fqn: str, waited_s: float) -> None:
        """The node has not answered; not held against it when it hardly had the time."""
        if self._negative_cache_s > 0 and waited_s >= min(self._timeout_s, 1.0) * 0.9:
            self._silent[fqn] = time.monotonic() + self._negative_cache_s
            while len(self._silent) > 4 * MAX_NODES:
                del self._silent[next(iter(self._silent))]

    def make_room(self) -> None:
        """Destroy the clients of nodes that have not been asked for longest and are not being asked now."""
        for fqn, remote in list(self._remotes.items()):
            if len(self._remotes) <= self._max_nodes:
                return
            if not remote.visitors:
                del self._remotes[fqn]
                remote.close()


class _Visit:
    """The time during which one caller asks one node."""

    def __init__(self, owner: NodeParameters, fqn: str, node: _Own | _Remote, limit_s: float = 0.0) -> None:
        self._owner, self._fqn, self._node, self._limit_s = owner, fqn, node, limit_s

    async def __aenter__(self) -> _Asker:
        if isinstance(self._node, _Own):
            return _Asker(self._node.ask)
        self._node.visitors += 1
        try:
            await self._owner.check_silence(self._fqn)
        except BaseException:
            await self.__aexit__()
            raise
        return _Asker(self._ask)

    async def __aexit__(self, *_: object) -> None:
        if isinstance(self._node, _Remote):
            self._node.visitors -= 1
            self._owner.make_room()

    async def _ask(self, service: str, request: Any) -> Any:
        assert isinstance(self._node, _Remote)
        started = time.monotonic()
        try:
            await asyncio.wait_for(self._node.slots.acquire(), self._limit_s)
        except (asyncio.TimeoutError, TimeoutError):
            raise NodeUnavailable(f"{self._fqn} is busy with other requests") from None
        try:
            await self._owner.check_silence(self._fqn)  # it may have shown itself silent to who was first
            sent = time.monotonic()
            try:
                return await self._node.ask(service, request, started + self._limit_s)
            except TimeoutError:
                if not await _has_service(self._owner._bridge, self._fqn, service):
                    raise NodeUnavailable(f"{self._fqn} has left") from None
                self._owner.mark_silent(self._fqn, time.monotonic() - sent)
                raise NodeUnavailable(f"{self._fqn} did not answer within {self._limit_s:.1f} s") from None
        finally:
            self._node.slots.release()


class _Asker:
    """The questions to a node, over `ask(service, request)`."""

    def __init__(self, ask: Callable[[str, Any], Any]) -> None:
        self.ask = ask

    async def names(self, prefixes: list[str]) -> set[str]:
        """All names, or those at and below `prefixes`."""
        request = ListParameters.Request(prefixes=prefixes, depth=ListParameters.Request.DEPTH_RECURSIVE)
        return set((await self.ask("list_parameters", request)).result.names)

    async def values(self, names: list[str]) -> list[Value]:
        """The values of `names`, in that order; `not_set` for those without one."""
        found = (await self.ask("get_parameters", GetParameters.Request(names=names))).values
        if len(found) == len(names):
            return [_value(one) for one in found]
        if len(names) == 1:
            return [Value(NOT_SET, None)]
        # One without a value makes a node answer with nothing at all: it is found by halves.
        middle = len(names) // 2
        first = await self.values(names[:middle])
        return [*first, *await self.values(names[middle:])]

    async def descriptors(self, names: list[str]) -> list[Any]:
        """The descriptors of `names`, None for those that the node did not describe."""
        found = (await self.ask("describe_parameters", DescribeParameters.Request(names=names))).descriptors
        return list(found) if len(found) == len(names) else [None] * len(names)


async def _parameters(node: _Asker, names: list[str]) -> list[Parameter]:
    asked = [asyncio.ensure_future(node.values(names)), asyncio.ensure_future(node.descriptors(names))]
    try:
        values, descriptors = await asyncio.gather(*asked)
    finally:
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    return [
        Parameter(
            name,
            value,
            descriptor.description or None if descriptor is not None else None,
            bool(descriptor.read_only) if descriptor is not None else None,
        )
        for name, value, descriptor in zip(names, values, descriptors, strict=True)
    ]


class _Remote:
    """The clients of one node, made when they are first needed."""

    def __init__(self, bridge: RosBridge, fqn: str) -> None:
        self.visitors = 0
        self.slots = asyncio.Semaphore(MAX_REQUESTS)
        self._bridge, self._fqn = bridge, fqn
        self._clients: dict[str, Any] = {}  # touched in the ros thread only

    async def ask(self, service: str, request: Any, deadline: float) -> Any:
        """One round trip; TimeoutError at `deadline` (monotonic)."""
        try:
            while not await self._call(functools.partial(self._is_ready, service), deadline):  # noqa: ASYNC110
                await asyncio.sleep(min(READY_POLL_S, max(0.0, deadline - time.monotonic())))
            return await self._send(service, request, deadline)
        except (TimeoutError, GatewayError, ParameterError):
            raise
        except Exception as error:  # rclpy raises RCLError, InvalidServiceNameException, InvalidHandle, ...
            raise NodeFailed(f"{self._fqn}: {type(error).__name__}: {error}") from error

    async def _send(self, service: str, request: Any, deadline: float) -> Any:
        """Send; a question once more at half time, because the first reply to a new client can get lost."""
        calls = [asyncio.ensure_future(self._call(lambda: self._clients[service].call_async(request), deadline))]
        try:
            if service != "set_parameters":
                await asyncio.wait(calls, timeout=max(0.0, (deadline - time.monotonic()) / 2))
                if not calls[0].done():
                    again = self._call(lambda: self._clients[service].call_async(request), deadline)
                    calls.append(asyncio.ensure_future(again))
            done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    async def _call(self, function: Callable[[], Any], deadline: float) -> Any:
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError  # a call takes no time at all, so that it would not notice
        return await self._bridge.call(function, remaining_s)

    def _is_ready(self, service: str) -> bool:
        """In the ros thread. Raises NodeUnavailable at once for a node that is not in the graph."""
        node, name = self._bridge.node, f"{self._fqn}/{service}"
        if not node.count_services(name):
            raise NodeUnavailable(f"{self._fqn} has no parameter service")
        if service not in self._clients:
            self._clients[service] = node.create_client(_SERVICES[service], name)
        return bool(self._clients[service].service_is_ready())

    def close(self) -> None:
        """Destroy the clients, some time soon."""

        def destroy() -> None:
            while self._clients:
                self._bridge.node.destroy_client(self._clients.popitem()[1])

        self._bridge.post(destroy)


class _Own:
    """The gateway's own node, asked in the ros thread without a service."""

    def __init__(self, bridge: RosBridge) -> None:
        self._bridge = bridge

    async def ask(self, service: str, request: Any) -> Any:
        """As `_Remote.ask`, with the same answers."""
        answer: Callable[[Any, Any], Any] = getattr(self, f"_{service}")
        try:
            return await self._bridge.call(lambda: answer(self._bridge.node, request), ROS_LIMIT_S)
        except TimeoutError:
            raise NodeUnavailable("the ROS thread of the gateway does not answer") from None

    @staticmethod
    def _list_parameters(node: Any, request: Any) -> Any:
        return ListParameters.Response(result=node.list_parameters(request.prefixes, request.depth))

    @staticmethod
    def _get_parameters(node: Any, request: Any) -> Any:
        known = all(node.has_parameter(name) for name in request.names)
        found = node.get_parameters(request.names) if known else []
        return GetParameters.Response(values=[one.get_parameter_value() for one in found])

    @staticmethod
    def _describe_parameters(node: Any, request: Any) -> Any:
        known = all(node.has_parameter(name) for name in request.names)
        return DescribeParameters.Response(descriptors=node.describe_parameters(request.names) if known else [])

    @staticmethod
    def _set_parameters(node: Any, request: Any) -> Any:
        response = SetParameters.Response()
        for one in request.parameters:
            try:
                response.results.append(node.set_parameters_atomically([RclpyParameter.from_parameter_msg(one)]))
            except ParameterNotDeclaredException as error:
                response.results.append(SetParametersResult(successful=False, reason=str(error)))
        return response


async def _has_service(bridge: RosBridge, fqn: str, service: str) -> bool:
    return bool(await bridge.call(lambda: bridge.node.count_services(f"{fqn}/{service}"), ROS_LIMIT_S))


def _value(message: Any) -> Value:
    kind = TYPES[message.type] if 0 <= message.type < len(TYPES) else NOT_SET
    if kind == NOT_SET:
        return Value(NOT_SET, None)
    found = getattr(message, _FIELDS[kind])
    if kind == "byte_array":
        return Value(kind, [one[0] if isinstance(one, bytes) else int(one) for one in found])
    return Value(kind, list(found) if kind.endswith("_array") else found)


def _message(value: Value) -> Any:
    message = ParameterValue(type=TYPES.index(value.type))
    content = [bytes([one]) for one in value.value] if value.type == "byte_array" else value.value
    setattr(message, _FIELDS[value.type], content)
    return message
