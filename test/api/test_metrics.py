"""The page for Prometheus: what it counts, that its series are bounded, and that scraping it is legal text."""

from __future__ import annotations

import asyncio
import dataclasses

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from medkit_gateway_py.api.metrics import OTHER, route_of
from medkit_gateway_py.api.route_table import ROWS
from support.api import Api, gateway
from support.fake_peer import TestGateway, running, tree_of
from support.waiting import async_eventually


def page(api: Api) -> dict[tuple[str, ...], float]:
    """Every sample: its name and then its labels, sorted by their names."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(api.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            return await client.get("/metrics")

    answer = asyncio.run(ask())
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return samples(answer.text)


def samples(text: str) -> dict[tuple[str, ...], float]:
    """As `page`, of a text."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_requests_are_counted_by_method_route_and_status_whoever_answers_them() -> None:
    api = Api(gateway())
    for path in ("/apps", "/apps/temp_sensor", "/apps/ghost", "/apps/ghost2/data/x/y", "/nothing/here", "/health"):
        api.get(path)
    api.request("PURGE", "/apps")
    found = page(api)
    requests = {key[1:]: value for key, value in found.items() if key[0] == "medkit_http_requests_total"}
    assert requests == {
        ("GET", "/apps", "200"): 1,
        ("GET", "/apps/{id}", "200"): 1,
        ("GET", "/apps/{id}", "404"): 1,
        ("GET", "/apps/{id}/data/{item}", "404"): 1,
        ("GET", OTHER, "404"): 1,
        ("GET", "/health", "200"): 1,
        (OTHER, "/apps", "404"): 1,
    }
    assert found[("medkit_http_request_duration_seconds_count", "/apps/{id}")] == 2
    assert found[("medkit_http_request_duration_seconds_bucket", "+Inf", "/apps/{id}")] == 2
    assert found[("medkit_http_response_bytes_total", "/apps")] > 100
    assert found[("medkit_http_requests_in_progress",)] == 1
    assert found[("medkit_http_streams_open", "client")] == found[("medkit_http_streams_open", "peer")] == 0
    assert found[("medkit_tree_entities", "apps", "all")] == 4
    assert [value for key, value in found.items() if key[0] == "medkit_gateway_info"] == [1]
    assert not [key for key in found if key[0].startswith("medkit_aggregation")]
    assert page(api)[("medkit_http_requests_total", "GET", "/metrics", "200")] == 1


def test_the_states_of_subsystems_are_one_of_five() -> None:
    api = Api(gateway(health_blocks=lambda: {"sync": {"state": "degraded"}, "odd": {"state": "x"}, "x": 3}))
    found = {key[1:]: value for key, value in page(api).items() if key[0] == "medkit_subsystem_state"}
    assert {key for key, value in found.items() if value} == {("degraded", "sync")}
    assert len(found) == 5


def test_faults_and_their_sources_are_counted() -> None:
    blocks = {
        "faults": {"state": "ok", "faults": {"total": 3, "confirmed": 2, "healed": 1}, "refused": {"queue_full": 4}},
        "fault_sources": {
            "state": "ok",
            "reported": 9,
            "diagnostics": {"messages": 7, "unreadable": 2, "bad": 1},
            "snapshots": {"state": "off"},
        },
    }
    found = page(Api(gateway(health_blocks=lambda: blocks)))
    assert {key: value for key, value in found.items() if key[0].startswith("medkit_faults")} == {
        ("medkit_faults", "confirmed"): 2,
        ("medkit_faults", "healed"): 1,
        ("medkit_faults_refused_total", "queue_full"): 4,
        ("medkit_faults_reports_total",): 9,
        ("medkit_faults_diagnostics_messages_total", "read"): 5,
        ("medkit_faults_diagnostics_messages_total", "skipped"): 2,
        ("medkit_faults_diagnostics_bad",): 1,
        ("medkit_faults_captures_total", "taken"): 0,
        ("medkit_faults_captures_total", "skipped"): 0,
    }


SEGMENT = st.sampled_from(["apps", "data", "x", "", "..", "operations", "peers", "x-medkit"])
PATH = st.lists(SEGMENT, max_size=8).map(lambda parts: "/api/v1/" + "/".join(parts))


@given(st.text(max_size=60) | PATH)
@example("/api/v1/apps/x/nothing")
@example("/api/v1/apps/x/nothing/more")
@example("/api/v1/nothing/x")
def test_whatever_is_asked_for_there_are_no_more_routes_than_the_table_has(path: str) -> None:
    fixed = {row.template or "/" for row in ROWS if "{" not in row.template}
    kinds = {"areas", "components", "apps", "functions"}
    collections = {row.template.split("/")[3] for row in ROWS if row.kind is not None and row.template.count("/") > 2}
    bounded = {OTHER, "/metrics", *fixed, *(f"{one}/{{item}}" for one in fixed), *(f"/{kind}/{{id}}" for kind in kinds)}
    bounded |= {f"/{kind}/{{id}}/{one}{end}" for kind in kinds for one in collections for end in ("", "/{item}")}
    assert route_of(path) in bounded
    assert len(bounded) < 500


@pytest.mark.anyio
async def test_calls_to_peers_are_counted_and_timed_by_peer() -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["nav"]))
        a = TestGateway("a", {"b": b.url, "dead": "http://127.0.0.1:1"})
        async with running(a), httpx.AsyncClient() as client:
            await async_eventually(lambda: "nav" in a.federation.tree.apps)
            for _ in range(3):
                await client.put(f"{a.url}/api/v1/apps/nav/data/x", content=b"12345")
            context = dataclasses.replace(gateway(), config=a.config, federation=a.federation, identity=a.identity)
            transport = httpx.ASGITransport(Api(context).app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as own:
                found = samples((await own.get("/metrics")).text)
    assert found[("medkit_aggregation_calls_total", "answered", "b")] == 3
    assert found[("medkit_aggregation_call_duration_seconds_count", "b")] == 3
    assert found[("medkit_aggregation_sent_bytes_total", "b")] == 15
    assert found[("medkit_aggregation_received_bytes_total", "b")] > 100
    assert found[("medkit_aggregation_peer_online", "b")] == 1
    assert found[("medkit_aggregation_peer_online", "dead")] == 0
    assert found[("medkit_aggregation_peer_entities", "apps", "b")] == 1
    assert found[("medkit_aggregation_peer_round_trip_seconds", "b", "0.95")] > 0
