"""`ros2 medkit ...`: the same commands below `ros2` (an extension of ros2cli, found by its entry point).

Imported by ros2cli alone.
"""

from __future__ import annotations

import argparse
from typing import Any

from ros2cli.command import CommandExtension


class MedkitCommand(CommandExtension):  # type: ignore[misc]
    """Look at ROS 2 robots through their medkit gateways."""

    def add_arguments(self, parser: argparse.ArgumentParser, cli_name: str) -> None:
        """All arguments are `medkit`'s own."""
        self._parser = parser
        parser.add_argument("arguments", nargs=argparse.REMAINDER, help="as of the command medkit")

    def main(self, *, parser: argparse.ArgumentParser, args: Any) -> int:
        """Run the command; its exit code."""
        from .app import main

        return main(args.arguments)
