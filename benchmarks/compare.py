"""Two runs side by side. Ratios to the yardstick are compared, so that runs on other days and machines can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .processes import Failed

# Rounds of one run differ by this much on a quiet machine: a smaller change says nothing.
NOISE = 0.10


def compare(old_path: Path, new_path: Path) -> str:
    """A table of the cases that both have. Raises Failed for a file that is no run."""
    old, new = _read(old_path), _read(new_path)
    known = {case["name"]: case for case in old["cases"]}
    lines = [f"{'case':44} {'CPU to yardstick':>20} {'change':>8}   {'requests to yardstick':>22} {'change':>8}"]
    for case in new["cases"]:
        before = known.get(case["name"])
        if before is None:
            lines.append(f"{case['title']:44} only in the new run")
            continue
        cells = [f"{case['title']:44}"]
        for key, digits, width in (("cpu_ratio", 1, 20), ("rps_ratio", 2, 22)):
            pair = f"{before[key]:.{digits}f} -> {case[key]:.{digits}f}"
            cells.append(f"{pair:>{width}} {_change(before, case, key):>8}")
        lines.append("   ".join(cells))
    if (old["settings"]["connections"], old["settings"]["generator"]) != (
        new["settings"]["connections"],
        new["settings"]["generator"],
    ):
        lines.append("The runs differ in connections or load generator: compare CPU only.")
    lines.append("A change marked * is more than 10 % and beyond every round of the other run.")
    return "\n".join(lines)


def _change(before: dict[str, Any], after: dict[str, Any], key: str) -> str:
    if not before[key]:
        return "?"
    change = after[key] / before[key] - 1
    rounds, others = before[f"{key}s"], after[f"{key}s"]
    apart = min(others) > max(rounds) or max(others) < min(rounds)
    return f"{change * 100:+.0f} %{'*' if apart and abs(change) > NOISE else ' '}"


def _read(path: Path) -> dict[str, Any]:
    try:
        run = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Failed(f"{path}: {error}") from error
    if not isinstance(run, dict) or not {"cases", "settings"} <= run.keys():
        raise Failed(f"{path}: not the JSON of a run")
    return run
