"""Who may import whom: import-linter holds the contracts of pyproject.toml, and ROS stays in its rooms."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "medkit_gateway_py"
ROS_ROOMS = ("ros/", "demo/", "gateway_node.py")


def imported(path: Path) -> set[str]:
    """The top-level names of every absolute import in a file, also of those within functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
    return names


def test_the_contracts_are_kept() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_ros_room_imports_ros(path: Path) -> None:
    if path.relative_to(PACKAGE).as_posix().startswith(ROS_ROOMS):
        return
    ros = {name for name in imported(path) if name in ("rclpy", "rpyutils") or name.startswith(("rosidl", "rcl_"))}
    assert ros == set()


def test_every_module_at_the_top_has_its_layer() -> None:
    contracts = (ROOT / "pyproject.toml").read_text()
    for path in PACKAGE.iterdir():
        if path.name.startswith(("_", ".")) or path.name == "py.typed":
            continue
        module = f"medkit_gateway_py.{path.stem}"
        assert re.search(rf"{re.escape(module)}[)\" ]", contracts), f"{module} is in no layer of pyproject.toml"
