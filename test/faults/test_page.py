"""What docs/faults.md says of bounds and of `/health` is so."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

from medkit_gateway_py.parameters import SPECIFICATIONS
from medkit_gateway_py.resources.faults import embedded, engine, intake
from medkit_gateway_py.resources.faults.embedded import EmbeddedFaults
from medkit_gateway_py.resources.faults.model import STATUSES
from medkit_gateway_py.resources.faults.scope import FILTERS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "faults.md").read_text()


def test_the_table_of_statuses_is_that_of_the_filters() -> None:
    rows = dict(re.findall(r"^\| `([A-Z]+)` \| .* \| (.*) \|$", PAGE, re.M))
    assert set(rows) == set(STATUSES)
    for status, filters in rows.items():
        named = set(re.findall(r"`(\w+)`", filters))
        assert named == {name for name, statuses in FILTERS.items() if status in statuses} - {"all"}


def test_the_bounds_are_those_of_the_code() -> None:
    kib = 1024
    default = {name.removeprefix("faults."): spec.default for name, spec in SPECIFICATIONS.items()}
    for text in (
        f"| `faults.max_faults` | {default['max_faults']} codes |",
        f"| sources of one fault | {engine.MAX_SOURCES} |",
        f"| {default['snapshots.max_per_fault']}, {int(default['snapshots.max_bytes_per_fault']) // kib} KiB |",  # type: ignore[arg-type]
        f"| {int(default['snapshots.max_bytes']) // kib // kib} MiB |",  # type: ignore[arg-type]
        f"| codes that wait to be judged | {intake.MAX_UNKNOWN} |",
        f"| {engine.MAX_CODE}, {engine.MAX_SOURCE}, {engine.MAX_DESCRIPTION} characters |",
        f"more than {intake.MAX_FLIPS} times",
        f"at most every {embedded.UPDATE_S:g} s",
    ):
        assert text in PAGE.replace("\n", " ") or text in PAGE, text


def test_the_block_of_health_has_these_members() -> None:
    (shown,) = [one for one in re.findall(r"```json\n(.*?)```", PAGE, re.S) if '"capacity"' in one]
    block = json.loads(shown)["x-medkit"]["faults"]

    async def real() -> dict[str, object]:
        faults = EmbeddedFaults()
        await faults.start()
        try:
            return dict(faults.health())
        finally:
            await faults.stop()

    found = asyncio.run(real())
    assert set(block) - {"refused"} == set(found) - {"reason"}
    assert block["capacity"] == found["capacity"]
