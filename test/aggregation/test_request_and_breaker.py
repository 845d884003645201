"""Reading what a request says of the gateways before us, and the circuit breaker: both without a socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.aggregation.breaker import MAX_BACKOFF_S, Breaker
from medkit_gateway_py.aggregation.request import MAX_VIA, RequestInfo


def info(*headers: tuple[str, str], query: bytes = b"") -> RequestInfo:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return RequestInfo.from_scope({"method": "GET", "headers": raw, "query_string": query}, now=100.0)


def test_a_clients_request_asks_for_everything() -> None:
    one = info(("Accept", "a"), ("Cookie", "c"), ("Authorization", "Bearer x"), ("X-Client-Id", "me"))
    assert (one.via, one.deadline_ms, one.origins, one.no_fan_out) == ((), None, None, False)
    own = {b"traceparent", b"x-request-id"}
    assert [pair for pair in one.headers if pair[0] not in own] == [(b"accept", b"a"), (b"x-client-id", b"me")]
    assert one.authorization == b"Bearer x"
    assert one.asks_local("me")
    assert not one.is_local_only("me")
    assert one.bounded(2.0) == 2.0


def test_a_peers_request_says_its_way_its_end_and_whom_it_asks_for() -> None:
    one = info(
        ("X-Medkit-Via", "a, b"), ("X-Medkit-Via", "c"), ("X-Medkit-Deadline-Ms", "1500"), ("X-Medkit-Origins", "o")
    )
    assert one.via == ("a", "b", "c")
    assert one.loops("b")
    assert one.is_local_only("c")
    assert one.remaining_s(now=100.5) == pytest.approx(1.0)
    assert (one.asks_local("o"), one.asks_local("me")) == (True, False)
    assert info(("X-Medkit-No-Fan-Out", "")).is_local_only("me")
    assert info(("X-Medkit-Origins", "")).origins == frozenset()


@pytest.mark.parametrize("text", ["", "-5", "1e3", "soon", "9" * 11, "1.5"])
def test_a_wrong_deadline_is_none(text: str) -> None:
    assert info(("X-Medkit-Deadline-Ms", text)).deadline_ms is None


def test_what_a_request_has_waited_for_counts_when_it_is_looked_at_again() -> None:
    scope = {"method": "GET", "headers": [(b"x-medkit-deadline-ms", b"1000")], "query_string": b""}
    first = RequestInfo.from_scope(scope)
    again = RequestInfo.from_scope({**scope, "path": "/elsewhere"})
    assert again.received_at == first.received_at
    assert RequestInfo.from_scope({**scope, "medkit.arrived": first.received_at - 0.6}).bounded(2.0) <= 0.4


def test_our_id_is_found_at_the_end_of_an_endless_way() -> None:
    one = info(("X-Medkit-Via", ",".join(f"g{n}" for n in range(1000)) + ",me"))
    assert len(one.via) == MAX_VIA
    assert one.loops("me")


def test_partial_is_our_word_and_does_not_go_on() -> None:
    one = info(query=b"severity=warn%20ing&partial=fail&x")
    assert one.wants_partial_fail
    assert one.fan_out_query() == b"severity=warn%20ing&x"
    assert not info(query=b"partial=ok").wants_partial_fail


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20))), st.binary(max_size=40))
def test_no_header_is_too_strange(headers: list[tuple[bytes, bytes]], query: bytes) -> None:
    names = [b"x-medkit-via", b"x-medkit-deadline-ms", b"x-medkit-origins"]
    raw = [*headers, *((name, value) for name, (_, value) in zip(names, headers, strict=False))]
    RequestInfo.from_scope({"method": "GET", "headers": raw, "query_string": query})


def test_one_failure_does_not_open_two_do() -> None:
    breaker = Breaker(jitter=lambda: 1.0)
    assert not breaker.failed(0.0)
    assert breaker.allows_calls()
    breaker.succeeded()
    assert not breaker.failed(1.0)
    assert breaker.failed(2.0)
    assert not breaker.allows_calls()
    assert not breaker.allows_probe(2.4)
    assert breaker.allows_probe(2.5)
    assert (breaker.state, breaker.allows_calls()) == ("half_open", False)
    assert not breaker.failed(2.5)
    assert breaker.delay(2.5) == pytest.approx(1.0)
    assert breaker.allows_probe(3.5)
    assert breaker.succeeded()
    assert breaker.allows_calls()


@given(st.lists(st.booleans(), max_size=60), st.floats(0, 1))
def test_a_peer_is_always_tried_again_within_seconds(outcomes: list[bool], jitter: float) -> None:
    breaker, now = Breaker(jitter=lambda: jitter), 0.0
    for is_good in outcomes:
        assert breaker.delay(now) <= MAX_BACKOFF_S
        now += breaker.delay(now)
        assert breaker.allows_probe(now)
        if is_good:
            breaker.succeeded()
        else:
            breaker.failed(now)


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def passed_on(**headers: str) -> dict[str, str]:
    """What of these headers, and in addition to them, goes on to a peer."""
    scope = {"headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    first, again = RequestInfo.from_scope(scope), RequestInfo.from_scope(scope)
    assert first.headers == again.headers, "one request is one trace"
    assert set(first.fan_out_headers()) <= set(first.headers)
    return {name.decode(): value.decode() for name, value in first.headers}


def test_a_trace_goes_on_as_it_came() -> None:
    came = {"traceparent": TRACE, "tracestate": "vendor=1", "x-request-id": "7"}
    assert passed_on(**came) == came
    assert passed_on(traceparent=TRACE)["x-request-id"] == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    "given", ["", "x", TRACE.upper(), TRACE[:-1], "ff" + TRACE[2:], TRACE.replace("b7ad6b7169203331", "0" * 16)]
)
def test_a_trace_is_begun_where_there_is_none(given: str) -> None:
    headers = passed_on(traceparent=given, tracestate="vendor=1") if given else passed_on()
    version, trace, parent, flags = headers["traceparent"].split("-")
    assert (version, len(trace), len(parent), flags) == ("00", 32, 16, "00")
    assert headers["x-request-id"] == trace
    assert "tracestate" not in headers
    assert headers["traceparent"] != passed_on()["traceparent"]
