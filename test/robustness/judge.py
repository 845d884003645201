"""`python -m test.robustness.judge FILE...`: judge saved histories again. Exit code 1 when any of them was wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .history import History
from .model import judge


def main(paths: Sequence[str]) -> int:
    """Print what was wrong in each history; 0 when nothing was, 1 when something was, 2 when one cannot be read."""
    if not paths:
        print(__doc__)
        return 2
    worst = 0
    for path in paths:
        try:
            history = History.load(Path(path))
        except (OSError, ValueError) as error:
            print(error)
            return 2
        found = judge(history)
        worst = max(worst, int(bool(found)))
        setup = history.setup
        print(f"{path}: {setup.topology}, seed {setup.seed}, {len(history.asks)} requests, {len(found)} violations")
        for violation in found:
            print(f"  {violation}")
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
