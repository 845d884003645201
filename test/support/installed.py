"""Plugins as packages that are installed, in a folder of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def install(target: Path, *packages: Path) -> dict[str, str]:
    """Install packages into `target` as pip does; the environment in which a gateway finds them."""
    for package in packages:
        # A copy, because setuptools builds in the folder of the package.
        copy = target.parent / f"{target.name}-{package.name}"
        shutil.copytree(package, copy, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
        subprocess.run(
            [
                sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
                "--disable-pip-version-check", "--upgrade", "--target", str(target), str(copy),
            ],
            check=True,
            timeout=120,
        )  # fmt: skip
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(target), *sys_path()]))}


def sys_path() -> list[str]:
    """Where this package is found in a checkout that is not installed."""
    return [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
