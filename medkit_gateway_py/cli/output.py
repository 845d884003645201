"""What commands print: tables for a person at a terminal, JSON for whatever reads a pipe.

Texts of robots are shown as they are: nothing in them is taken for markup or for control characters of a terminal.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 240
# C0 and C1 controls but the line break: a node's name or message must not steer somebody's terminal.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")

STYLES = {
    "online": "green", "offline": "red", "CONFIRMED": "red", "PREFAILED": "yellow", "HEALED": "green",
    "CRITICAL": "bold red", "ERROR": "red", "WARN": "yellow", "INFO": "cyan", "ok": "green", "warning": "yellow",
    "problem": "bold red", "unknown": "dim",
}  # fmt: skip


def clean(value: object) -> str:
    """Text without control characters; "" for None."""
    return "" if value is None else _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value))


def styled(value: object) -> Text:
    """A cell, coloured where its word has a colour."""
    text = clean(value)
    return Text(text, style=STYLES.get(text, ""))


class Output:
    """Where a command prints. `as_json` None: JSON unless standard output is a terminal."""

    def __init__(self, as_json: bool | None = None) -> None:
        self.as_json = not sys.stdout.isatty() if as_json is None else as_json
        # Tables in a file or a pipe are for people too, and need not fit into the 80 columns that are assumed there.
        width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else WIDE
        self.console = Console(highlight=False, soft_wrap=True, width=width)
        self._errors = Console(stderr=True, highlight=False, soft_wrap=True)

    def json(self, value: object) -> None:
        """One JSON document, indented."""
        print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)

    def json_line(self, value: object) -> None:
        """One JSON document on one line, for streams."""
        print(json.dumps(value, separators=(",", ":"), ensure_ascii=False), flush=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
        """A table for people; `empty` instead when there is no row."""
        if not rows:
            self.console.print(Text(empty))
            return
        table = Table(title=title, title_justify="left", header_style="bold", expand=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(styled(cell) for cell in row))
        self.console.print(table)

    def line(self, text: str, style: str = "") -> None:
        """A line for people."""
        self.console.print(Text(clean(text), style=style))

    def warn(self, text: str) -> None:
        """A remark on standard error, so that it never gets into a pipe."""
        self._errors.print(Text(f"medkit: {clean(text)}", style="yellow"))

    def error(self, text: str) -> None:
        """Why a command failed, on standard error."""
        self._errors.print(Text(f"medkit: {clean(text)}", style="red"))


def partial_note(medkit: object) -> str:
    """What is missing in an answer, "" when it is whole (AGGREGATION.md §8)."""
    if not isinstance(medkit, Mapping) or not medkit.get("partial"):
        return ""
    failed = medkit.get("failed_peers")
    names = ", ".join(str(one) for one in failed) if isinstance(failed, Sequence) else "unknown"
    return f"incomplete: {names} did not answer"


def medkit_of(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `x-medkit` object of an item, empty when there is none."""
    found = item.get("x-medkit")
    return found if isinstance(found, Mapping) else {}
