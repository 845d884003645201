"""The configuration in a person's words: what `gateway_node --check` and `--print-config` write.

Pure text; the configuration itself is judged in `parameters.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import SPECIFICATIONS
from .files import DEFAULT_NODE_NAME
from .rules import Finding

_ORDER = {"ERROR": 0, "WARN": 1, "INFO": 2}


def print_config(effective: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    """The values as a parameter file, each with a comment that says where it comes from.

    `sources`: parameter name -> words; what is missing there is a default. The text can be given to `--params-file`
    again and leads to the same values. Secrets are left out, as comments.
    """
    tree: dict[str, Any] = {}
    for name, value in effective.items():
        *sections, last = name.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[last] = (name, value)
    lines = [f"{DEFAULT_NODE_NAME}:", "  ros__parameters:", *_branch(tree, 4, sources)]
    return "\n".join(lines) + "\n"


def check_report(findings: Sequence[Finding]) -> tuple[str, int]:
    """The findings as text, the worst first, and the exit code: 1 when there is an ERROR, else 0."""
    refused = sum(finding.fatal for finding in findings)
    errors = sum(finding.level == "ERROR" for finding in findings)
    warnings = sum(finding.level == "WARN" for finding in findings)
    lines = [f"{finding.level:<5}  {finding.message}" for finding in _worst_first(findings)]
    if refused:
        verdict = f"The gateway would not start: {_count(refused, 'error')} must be put right first."
    elif errors or warnings:
        parts = [_count(number, word) for number, word in ((errors, "error"), (warnings, "warning")) if number]
        verdict = f"The gateway would start, with {' and '.join(parts)}."
    else:
        verdict = "The configuration is good: the gateway would start."
    return "\n".join([*lines, verdict]), 1 if errors else 0


def yaml_value(value: object) -> str:
    """A parameter value as YAML that ROS reads back with the same type."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
        text = repr(value)
        return text if any(mark in text for mark in ".e") else f"{text}.0"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(yaml_value(item) for item in value) + "]"
    return json.dumps(str(value))  # JSON texts are YAML texts


def _branch(tree: Mapping[str, Any], indent: int, sources: Mapping[str, str]) -> Iterable[str]:
    for key, entry in tree.items():
        if isinstance(entry, dict):
            yield f"{' ' * indent}{key}:"
            yield from _branch(entry, indent + 2, sources)
            continue
        name, value = entry
        source = sources.get(name, "default")
        spec = SPECIFICATIONS.get(name)
        if spec is not None and spec.secret and (source != "default" or value not in ("", [""])):
            yield f"{' ' * indent}# {key}: (a secret, not shown)  # {source}"
        else:
            yield f"{' ' * indent}{key}: {yaml_value(value)}  # {source}"


def _worst_first(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: (not finding.fatal, _ORDER.get(finding.level, len(_ORDER))))


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
