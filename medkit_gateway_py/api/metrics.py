"""Prometheus text at `/metrics` (AGGREGATION.md §10, DECISIONS 25): what is counted, and how a page of it is made.

Names are `medkit_<subsystem>_*`. Everything else than the counts of requests is read when the page is asked for. The
number of series is bounded: routes are those of the table, never paths as they came.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from ..aggregation.call_stats import BUCKETS_S, CallStats
from ..entities.model import Kind
from .context import PREFIX, GatewayContext
from .fault_metrics import fault_metrics
from .route_table import ROWS

OTHER = "other"
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "OPTIONS"})
_KINDS = frozenset(kind.value for kind in Kind)
_FIXED = frozenset(row.template or "/" for row in ROWS if "{" not in row.template)
_COLLECTIONS = frozenset(
    parts[3] for parts in (row.template.split("/") for row in ROWS if row.kind is not None) if len(parts) > 3
)
_STATES = ("off", "starting", "ok", "degraded", "down")


def route_of(path: str) -> str:
    """The route that a path belongs to, as a label: ids become `{id}` and `{item}`, what nobody serves is `other`."""
    if not path.startswith(PREFIX):
        return path if path == "/metrics" else OTHER
    rest = path[len(PREFIX) :] or "/"
    if rest in _FIXED:
        return rest
    parts = rest.split("/", 5)
    if parts[1] in _KINDS and len(parts) > 2:
        if len(parts) == 3:
            return f"/{parts[1]}/{{id}}"
        if parts[3] not in _COLLECTIONS:
            return OTHER
        return f"/{parts[1]}/{{id}}/{parts[3]}" + ("/{item}" if len(parts) > 4 else "")
    for length in (3, 2):
        above = "/".join(parts[:length])
        if len(parts) > length and above in _FIXED:
            return f"{above}/{{item}}"
    return OTHER


class Metrics(Collector):
    """Counts of this application's requests, and the page. Used on the event loop only."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        self._requests: dict[tuple[str, str, str], int] = {}
        self._durations: dict[str, list[float]] = {}
        self._bytes: dict[str, int] = {}
        self.in_progress = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def answered(self, method: str, path: str, status: str, took_s: float, sent_bytes: int) -> None:
        """A request is over; `status` is "none" when the client left before there was one."""
        route = route_of(path)
        key = (method if method in _METHODS else OTHER, route, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        self._bytes[route] = self._bytes.get(route, 0) + sent_bytes
        classes = self._durations.get(route)
        if classes is None:
            # One class more than bounds, and the sum at the end.
            classes = self._durations[route] = [0.0] * (len(BUCKETS_S) + 2)
        classes[bisect_left(BUCKETS_S, took_s)] += 1
        classes[-1] += took_s

    def page(self) -> tuple[bytes, str]:
        """The text and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Metric]:
        """Called by the registry for each page."""
        identity = self._context.identity
        yield InfoMetricFamily(
            "medkit_gateway",
            "This gateway",
            {"name": identity.name, "version": identity.version, "instance_id": identity.id},
        )
        yield from self._http()
        yield from self._tree()
        blocks = self._context.health_blocks()
        yield from _subsystems(blocks)
        yield from fault_metrics(blocks)
        if self._context.federation.enabled:
            yield from self._peers()

    def _http(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "medkit_http_requests", "Requests by route and status", labels=("method", "route", "status")
        )
        for labels, count in self._requests.items():
            requests.add_metric(labels, count)
        yield requests
        durations = HistogramMetricFamily(
            "medkit_http_request_duration_seconds", "From the request to the end of its answer", labels=("route",)
        )
        for route, classes in self._durations.items():
            durations.add_metric((route,), _buckets(classes[:-1]), classes[-1])
        yield durations
        sent = CounterMetricFamily("medkit_http_response_bytes", "Bytes of answers' bodies", labels=("route",))
        for route, count in self._bytes.items():
            sent.add_metric((route,), count)
        yield sent
        yield GaugeMetricFamily("medkit_http_requests_in_progress", "Requests not yet answered", self.in_progress)
        streams = GaugeMetricFamily("medkit_http_streams_open", "Event streams, by who holds them", labels=("holder",))
        for holder, count in self._context.streams.counts.items():
            streams.add_metric((holder,), count)
        yield streams

    def _tree(self) -> Iterator[Metric]:
        tree = self._context.federation.tree
        entities = GaugeMetricFamily(
            "medkit_tree_entities", "Entities in the merged tree, and of them our own", labels=("kind", "scope")
        )
        for kind in Kind:
            entities.add_metric((kind.value, "all"), len(tree.of(kind)))
            entities.add_metric((kind.value, "local"), len(tree.local.of(kind)))
        yield entities
        yield CounterMetricFamily("medkit_tree_changes", "Changes of the tree since the start", tree.version)

    def _peers(self) -> Iterator[Metric]:
        federation = self._context.federation
        known = [(status, federation.peer(status.name)) for status in federation.peers]
        gauges: dict[str, GaugeMetricFamily] = {}

        def gauge(name: str, text: str, labels: tuple[str, ...], values: tuple[str, ...], value: float) -> None:
            family = gauges.setdefault(name, GaugeMetricFamily(f"medkit_aggregation_{name}", text, labels=labels))
            family.add_metric(values, value)

        for status, _ in known:
            peer = (status.name,)
            gauge("peer_online", "Whether a peer answers", ("peer",), peer, float(status.status == "online"))
            gauge("peer_paused", "Whether it is paused", ("peer",), peer, float(status.state == "paused"))
            gauge("peer_dropped_items", "Items that could not be used", ("peer",), peer, status.dropped_count)
            if status.last_seen_s is not None:
                gauge("peer_last_seen_seconds", "Since it answered", ("peer",), peer, status.last_seen_s)
            for kind, count in (status.counts or {}).items():
                gauge("peer_entities", "Entities that it tells", ("peer", "kind"), (status.name, kind), count)
            for part, value in (status.rtt_percentiles_ms or {}).items():
                quantile = (status.name, f"0.{part.removeprefix('p')}")
                text = "Time to an answer to a poll"
                gauge("peer_round_trip_seconds", text, ("peer", "quantile"), quantile, value / 1000)
        yield from gauges.values()
        yield from _calls([(status.name, peer.client.stats) for status, peer in known if peer is not None])


def _subsystems(blocks: Mapping[str, Any]) -> Iterator[Metric]:
    states = GaugeMetricFamily(
        "medkit_subsystem_state", "1 for the state that a part of the gateway is in", labels=("subsystem", "state")
    )
    for name, block in blocks.items():
        state = block.get("state") if isinstance(block, Mapping) else None
        if state in _STATES:
            for one in _STATES:
                states.add_metric((name, one), float(one == state))
    yield states


def _calls(stats: list[tuple[str, CallStats]]) -> Iterator[Metric]:
    calls = CounterMetricFamily(
        "medkit_aggregation_calls", "Clients' requests to peers, by how they ended", labels=("peer", "outcome")
    )
    durations = HistogramMetricFamily(
        "medkit_aggregation_call_duration_seconds", "From a request to a peer to its first byte", labels=("peer",)
    )
    received = CounterMetricFamily("medkit_aggregation_received_bytes", "Bytes of peers' bodies", labels=("peer",))
    sent = CounterMetricFamily("medkit_aggregation_sent_bytes", "Bytes of bodies to peers", labels=("peer",))
    for name, one in stats:
        for outcome, count in one.calls.items():
            calls.add_metric((name, outcome), count)
        durations.add_metric((name,), _buckets(one.classes), one.seconds)
        received.add_metric((name,), one.bytes_received)
        sent.add_metric((name,), one.bytes_sent)
    yield from (calls, durations, received, sent)


def _buckets(classes: Iterable[float]) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, as Prometheus wants them."""
    total = 0.0
    found: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), classes, strict=True):
        total += count
        found.append((bound, total))
    return found


def page_of(metrics: Metrics) -> Callable[[Request], Awaitable[Response]]:
    """The handler of `/metrics`."""

    async def handle(request: Request) -> Response:
        body, kind = metrics.page()
        return Response(body, headers={"content-type": kind, "cache-control": "no-store"})

    return handle
