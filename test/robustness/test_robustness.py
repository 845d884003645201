"""Gateways under traffic while they are killed, frozen, exchanged, and their links hurt; judged afterwards.

`MEDKIT_ROBUSTNESS_RUNS` is the number of runs (3: one seed on each of the first three topologies; more: on all of them,
one after the other), `MEDKIT_ROBUSTNESS_SEED` the first seed,
`MEDKIT_ROBUSTNESS_TOPOLOGY` one topology only; `MEDKIT_HISTORIES` a folder where failed histories are kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .history import History, Setup
from .model import judge
from .run import RETAINING, TOPOLOGIES, run

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

RUNS = int(os.environ.get("MEDKIT_ROBUSTNESS_RUNS", "3"))
FIRST = int(os.environ.get("MEDKIT_ROBUSTNESS_SEED", "1"))
NAMES = [name for name in TOPOLOGIES if name == os.environ.get("MEDKIT_ROBUSTNESS_TOPOLOGY", name)]
CASES = [(NAMES[number % len(NAMES)], FIRST + number // len(NAMES)) for number in range(RUNS)]


@pytest.mark.parametrize(("topology", "seed"), CASES)
def test_no_answer_is_ever_wrong(topology: str, seed: int, tmp_path: Path, ros_domains: Callable[[], int]) -> None:
    history = History(Setup(topology, seed, TOPOLOGIES[topology], topology in RETAINING))
    folder = Path(os.environ.get("MEDKIT_HISTORIES", tmp_path))
    path = folder / f"{topology}-{seed}.jsonl"
    try:
        run(tmp_path, history, [ros_domains() for _ in TOPOLOGIES[topology]])
    except BaseException:
        # Whatever it was, what happened before is worth reading.
        print(f"history: {history.save(path)}")
        raise
    found = judge(history)
    if found or "MEDKIT_HISTORIES" in os.environ:
        history.save(path)
    answered = sum(ask.status == 200 for ask in history.asks)
    print(f"{topology} {seed}: {len(history.asks)} requests, {answered} answered, {len(found)} violations")
    assert not found, "\n".join(
        [f"{len(found)} violations; judge again: python -m test.robustness.judge {path}", *map(str, found[:30])]
    )
    # A history of nothing would be right, too.
    assert answered > 50
