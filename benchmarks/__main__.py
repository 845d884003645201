"""Makes the checkout importable from any working directory, then runs `cli.py`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    # `python benchmarks` puts this folder first instead, where its modules would shadow others.
    sys.path[0] = str(ROOT)

from benchmarks.cli import main  # noqa: E402

sys.exit(main())
