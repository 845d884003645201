"""Parameters of real nodes: read, set, refused in the node's own words; silent nodes and nodes that leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from medkit_gateway_py.errors import GatewayShutdown
from medkit_gateway_py.ros.bridge import RosBridge
from medkit_gateway_py.ros.node_parameters import NodeParameters
from medkit_gateway_py.ros.parameter_values import NodeUnavailable, Parameter, UnknownParameter, Value
from support.ros import Nodes, run
from support.waiting import eventually

pytestmark = pytest.mark.ros

Result = TypeVar("Result")
VALUES: dict[str, Any] = {
    "a_bool": True,
    "a_double": 1.5,
    "a_string": "text",
    "an_int": 7,
    "bools": [True, False],
    "doubles": [1.5, 2.5],
    "ints": [1, -2],
    "strings": ["a", "b"],
}
TYPES = ["bool", "double", "string", "int", "bool_array", "double_array", "int_array", "string_array"]


@pytest.fixture(scope="module")
def target(nodes: Nodes) -> str:
    fqn = nodes.add_node("target", "/ns")
    for name, value in VALUES.items():
        nodes.declare(fqn, name, value)
    nodes.declare(fqn, "fixed", 3, description="Never another.", read_only=True)
    nodes.declare(fqn, "some/slash.dotted", 1)
    return fqn


@pytest.fixture(scope="module")
def shared_bridge(ros_domain: int, nodes: Nodes, target: str) -> Iterator[RosBridge]:
    made = RosBridge("gateway")
    made.node.declare_parameter("own", 5)
    made.start()
    yield made
    assert made.stop(5.0)


@pytest.fixture
def bridge(shared_bridge: RosBridge, target: str) -> RosBridge:
    sees(shared_bridge, target)
    return shared_bridge


def sees(bridge: RosBridge, fqn: str, service: str = "list_parameters") -> None:
    eventually(lambda: bridge.call_blocking(lambda: bridge.node.count_services(f"{fqn}/{service}"), 2.0), within=10.0)


def asking(bridge: RosBridge, *, timeout_s: float = 5.0, cache_s: float = 60.0, **more: Any) -> NodeParameters:
    return NodeParameters(bridge, timeout_s, cache_s, **more)


async def stopped(parameters: NodeParameters, what: Coroutine[Any, Any, Result]) -> Result:
    try:
        return await what
    finally:
        await parameters.stop()


def test_all_parameters_are_read_with_types_values_and_descriptions(bridge: RosBridge, target: str) -> None:
    async def body() -> list[Parameter]:
        parameters = asking(bridge)
        return await stopped(parameters, parameters.read_all(target))

    found = {one.name: one for one in run(body())}
    assert {name: found[name].value for name in VALUES} == {
        name: Value(type_name, value) for (name, value), type_name in zip(VALUES.items(), TYPES, strict=True)
    }
    assert found["fixed"] == Parameter("fixed", Value("int", 3), "Never another.", True)
    assert found["a_bool"].read_only is False
    assert list(found) == sorted(found)


def test_every_type_is_set_and_read_back(bridge: RosBridge, target: str) -> None:
    given = [False, 2.5, "other", -8, [False], [0.5], [9], ["z", ""]]

    async def body() -> None:
        parameters = asking(bridge)
        new = [(name, Value(kind, value)) for name, kind, value in zip(VALUES, TYPES, given, strict=True)]
        assert await parameters.write(target, new) == [""] * len(new)
        for name, value in new:
            assert (await parameters.read(target, name)).value == value
        old = [(name, Value(kind, VALUES[name])) for name, kind in zip(VALUES, TYPES, strict=True)]
        assert await stopped(parameters, parameters.write(target, old)) == [""] * len(old)

    run(body())


def test_a_refusal_has_the_nodes_own_reason(bridge: RosBridge, target: str) -> None:
    async def body() -> list[str]:
        parameters = asking(bridge)
        wanted = [
            ("fixed", Value("int", 4)),
            ("an_int", Value("string", "x")),
            ("nobody", Value("int", 1)),
            ("an_int", Value("int", 7)),
        ]
        return await stopped(parameters, parameters.write(target, wanted))

    read_only, wrong_type, undeclared, good = run(body())
    assert "read-only" in read_only
    assert "type" in wrong_type
    assert "undeclared" in undeclared
    assert good == ""


def test_a_name_that_the_node_has_not_is_told_and_odd_names_are_found(bridge: RosBridge, target: str) -> None:
    async def body() -> None:
        parameters = asking(bridge)
        for name in ("nobody", "ns", "", "a_bool.x"):
            with pytest.raises(UnknownParameter):
                await parameters.read(target, name)
        assert (await parameters.read(target, "some/slash.dotted")).value.value == 1
        await parameters.stop()

    run(body())


def test_a_parameter_without_a_value_hides_no_other(bridge: RosBridge, nodes: Nodes) -> None:
    fqn = nodes.add_node("partly")
    for number in range(9):
        nodes.declare(fqn, f"p{number}", number)
    nodes.declare_empty(fqn, "p5_empty", "string")
    sees(bridge, fqn)

    async def body() -> dict[str, Any]:
        parameters = asking(bridge)
        empty = await parameters.read(fqn, "p5_empty")
        assert empty.value == Value("not_set", None)
        return {one.name: one.value.value for one in await stopped(parameters, parameters.read_all(fqn))}

    found = run(body())
    assert found["p5_empty"] is None
    assert [found[f"p{number}"] for number in range(9)] == list(range(9))
    nodes.remove_node(fqn)


def test_the_gateways_own_parameters_need_no_service(bridge: RosBridge) -> None:
    async def body() -> None:
        parameters = asking(bridge)
        own = "/gateway"
        assert "own" in {one.name for one in await parameters.read_all(own)}
        assert (await parameters.read(own, "own")).value == Value("int", 5)
        assert await parameters.write(own, [("own", Value("int", 6)), ("other", Value("int", 6))]) != ["", ""]
        assert (await parameters.read(own, "own")).value == Value("int", 6)
        with pytest.raises(UnknownParameter):
            await parameters.read(own, "nobody")
        assert parameters._remotes == {}
        await parameters.stop()

    run(body())


def test_a_node_that_is_not_there_is_told_at_once_and_not_held_against_it(bridge: RosBridge) -> None:
    async def body() -> None:
        parameters = asking(bridge)
        started = time.monotonic()
        for _ in range(2):
            with pytest.raises(NodeUnavailable, match="has no parameter service"):
                await parameters.read_all("/nobody")
        assert time.monotonic() - started < 1.0
        await parameters.stop()

    run(body())


def test_a_service_that_never_becomes_ready_ends_at_the_deadline(
    bridge: RosBridge, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        parameters = asking(bridge, timeout_s=0.3)
        assert await parameters.read(target, "an_int")
        for client in parameters._remotes[target]._clients.values():
            monkeypatch.setattr(client, "service_is_ready", lambda: False)
        with pytest.raises(NodeUnavailable, match="did not answer"):
            await parameters.read(target, "an_int")
        await parameters.stop()

    run(body(), within=10.0)


def test_a_silent_node_costs_one_timeout_and_is_then_left_alone(bridge: RosBridge, nodes: Nodes, target: str) -> None:
    with Nodes() as others:
        silent = others.add_node("silent")
        others.declare(silent, "rate", 1)
        sees(bridge, silent)
        others.freeze()

        async def body() -> None:
            parameters = asking(bridge, timeout_s=1.0)
            started = time.monotonic()
            answers = await asyncio.gather(*(parameters.read_all(silent) for _ in range(20)), return_exceptions=True)
            assert {type(one) for one in answers} == {NodeUnavailable}
            assert 0.9 < time.monotonic() - started < 3.0
            started = time.monotonic()
            with pytest.raises(NodeUnavailable, match=r"\(cached\)"):
                await parameters.read(silent, "rate")
            assert await parameters.read_all(target)
            assert time.monotonic() - started < 0.9
            await parameters.stop()

        try:
            run(body())
        finally:
            others.thaw()


def test_without_a_negative_cache_a_node_that_recovered_answers(bridge: RosBridge, target: str) -> None:
    with Nodes() as others:
        sleepy = others.add_node("sleepy")
        others.declare(sleepy, "rate", 1)
        sees(bridge, sleepy)

        async def body() -> None:
            parameters = asking(bridge, timeout_s=1.0, cache_s=0.0)
            others.freeze()
            with pytest.raises(NodeUnavailable, match="did not answer"):
                await parameters.read_all(sleepy)
            others.thaw()
            assert (await parameters.read(sleepy, "rate")).value.value == 1
            await parameters.stop()

        run(body())


def test_a_node_that_leaves_between_two_questions_is_unavailable(bridge: RosBridge, nodes: Nodes) -> None:
    fqn = nodes.add_node("leaver")
    nodes.declare(fqn, "rate", 1)
    sees(bridge, fqn)

    async def body() -> None:
        parameters = asking(bridge)
        assert await parameters.read_all(fqn)
        await asyncio.to_thread(nodes.remove_node, fqn)
        started = time.monotonic()
        with pytest.raises(NodeUnavailable):
            await parameters.read(fqn, "rate")
        assert time.monotonic() - started < 6.0
        await parameters.stop()

    run(body())


def test_many_callers_at_once_all_get_their_answer(bridge: RosBridge, target: str) -> None:
    async def body() -> list[Any]:
        parameters = asking(bridge)
        return await stopped(parameters, _many(parameters, target))

    assert len(run(body())) == 100


async def _many(parameters: NodeParameters, fqn: str) -> list[Any]:
    return list(await asyncio.gather(*(parameters.read_all(fqn) for _ in range(100))))


def test_the_clients_of_the_longest_unasked_node_make_room(bridge: RosBridge, nodes: Nodes) -> None:
    fqns = [nodes.add_node(f"one_of_many_{number}") for number in range(3)]
    for fqn in fqns:
        sees(bridge, fqn)

    async def body() -> None:
        parameters = asking(bridge, max_nodes=2)
        before = await bridge.call(lambda: len(list(bridge.node.clients)), 2.0)
        for fqn in fqns:
            await parameters.read_all(fqn)
        assert list(parameters._remotes) == fqns[1:]
        await parameters.stop()
        assert await bridge.call(lambda: len(list(bridge.node.clients)), 2.0) == before
        with pytest.raises(GatewayShutdown):
            await parameters.read_all(fqns[0])

    run(body())
    for fqn in fqns:
        nodes.remove_node(fqn)
