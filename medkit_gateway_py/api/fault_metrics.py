"""Faults and their sources on the page for Prometheus, read from the blocks of `/health` (DECISIONS 25)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric


def fault_metrics(blocks: Mapping[str, Any]) -> Iterator[Metric]:
    """The families that there is something to say about; the blocks are `faults` and `fault_sources`."""
    kept, sources = blocks.get("faults"), blocks.get("fault_sources")
    if isinstance(kept, Mapping):
        # A fault manager's counts are not known without asking it.
        statuses = GaugeMetricFamily("medkit_faults", "Faults kept by this gateway, by status", labels=("status",))
        for status, count in kept.get("faults", {}).items():
            if status != "total":
                statuses.add_metric((status,), count)
        yield statuses
        refused = CounterMetricFamily(
            "medkit_faults_refused", "What there was no room for, or what came too late", labels=("reason",)
        )
        for reason, count in kept.get("refused", {}).items():
            refused.add_metric((reason,), count)
        if "reports_dropped" in kept:
            refused.add_metric(("fault_manager_away",), kept["reports_dropped"])
        yield refused
    if isinstance(sources, Mapping):
        yield CounterMetricFamily("medkit_faults_reports", "What the sources have reported", sources["reported"])
        diagnostics, snapshots = sources["diagnostics"], sources["snapshots"]
        messages = CounterMetricFamily(
            "medkit_faults_diagnostics_messages", "Messages of diagnostics that came, by use", labels=("outcome",)
        )
        messages.add_metric(("read",), diagnostics["messages"] - diagnostics["unreadable"])
        messages.add_metric(("skipped",), diagnostics["unreadable"])
        yield messages
        bad = diagnostics["bad"]
        yield GaugeMetricFamily("medkit_faults_diagnostics_bad", "Diagnostic statuses that are not OK now", bad)
        captures = CounterMetricFamily("medkit_faults_captures", "Freeze frames, by outcome", labels=("outcome",))
        captures.add_metric(("taken",), snapshots.get("captures", 0))
        captures.add_metric(("skipped",), snapshots.get("skipped", 0))
        yield captures
