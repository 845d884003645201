"""The ratios of one run as a bar chart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

# No display is needed, nor looked for.
matplotlib.use("Agg")

from matplotlib import pyplot

THROUGHPUT = "#00796b"
COST = "#ef6c00"


def draw(run: dict[str, Any], path: Path) -> None:
    """Two panels, requests a second and CPU a request, each relative to the yardstick of the same run, as PNG."""
    cases = run["cases"]
    names = [case["title"] for case in cases]
    figure, panels = pyplot.subplots(1, 2, figsize=(12, 0.5 * len(cases) + 1.8), sharey=True)
    try:
        for panel, key, title, colour, digits in (
            (panels[0], "rps_ratio", "requests a second (more is better)", THROUGHPUT, 2),
            (panels[1], "cpu_ratio", "server CPU a request (less is better)", COST, 1),
        ):
            middle = [case[key] for case in cases]
            low = [value - min(case[f"{key}s"]) for value, case in zip(middle, cases, strict=True)]
            high = [max(case[f"{key}s"]) - value for value, case in zip(middle, cases, strict=True)]
            bars = panel.barh(names, middle, xerr=[low, high], color=colour, ecolor="#444444", capsize=3)
            panel.bar_label(bars, labels=[f"{value:.{digits}f}" for value in middle], padding=6)
            panel.axvline(1.0, color="#444444", linestyle="--", linewidth=1)
            panel.set_title(f"{title}, yardstick = 1", fontsize=10)
            panel.margins(x=0.15)
            panel.spines[["top", "right"]].set_visible(False)
        panels[0].invert_yaxis()
        machine, settings = run["machine"], run["settings"]
        figure.suptitle(
            f"medkit_gateway_py, {run['date']}: {machine['cpus']} CPUs, {machine['python']},"
            f" {settings['connections']} connections, {settings['rounds']} x {settings['seconds']:g} s",
            fontsize=11,
        )
        figure.tight_layout()
        figure.savefig(path, dpi=110)
    finally:
        pyplot.close(figure)
