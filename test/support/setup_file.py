"""What setup.py hands to setuptools, without installing anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent

_RUN = """
import json, sys, setuptools
setuptools.setup = lambda **arguments: print(json.dumps(arguments))
sys.argv = ["setup.py"]
exec(compile(open("setup.py").read(), "setup.py", "exec"))
"""


def setup_arguments() -> dict[str, Any]:
    """The keyword arguments of the call of `setup`."""
    run = subprocess.run([sys.executable, "-c", _RUN], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, Any] = json.loads(run.stdout)
    return found
