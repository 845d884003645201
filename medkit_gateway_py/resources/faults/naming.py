"""From the names that sources of faults use to fault codes, and to the nodes that they speak of.

Pure: no ROS, no clock. Codes are made of letters, digits and `_`, so that they can stand in a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from ...entities.model import GraphNode

MAX_CODE = 256  # API.md §7.5
MAX_NAME = 512  # of a status or a logger: longer ones are told apart by a hash of their whole
MAX_SOURCE = 256  # the longest entity id, and longer than any node name that the middleware takes
MAX_DESCRIPTION = 1024  # descriptions are in every list and every event
MAX_VALUES = 16  # key/value pairs of one description

_NOT_CODE = re.compile(r"[^A-Z0-9]+")
_NODE = re.compile(r"[A-Za-z0-9_/]+")


@dataclass(frozen=True)
class Subject:
    """Who a report is about, in the words of its source.

    `kind`: `status` (name of a diagnostic status), `logger` (dotted name), `node` (a source id as it is).
    `topic`: where a status came from. `otherwise`: the source id when no node fits.
    """

    kind: str
    name: str
    topic: str = ""
    otherwise: str = ""


def fault_code(*parts: str) -> str:
    """One code of names: upper case, everything but letters and digits as one `_`; 1 to 256 characters.

    Names without any letter or digit of ASCII, and names too long, end in a hash of the whole: equal names give equal
    codes, and codes of different such names differ. Other names can share a code (`a b`, `a-b`).
    """
    text = "_".join(parts)
    code = _NOT_CODE.sub("_", text[: 4 * MAX_CODE].upper()).strip("_")
    if not _NOT_CODE.sub("", parts[-1][: 4 * MAX_CODE].upper()):
        code = f"{code}_{_hash(text)}" if code else f"FAULT_{_hash(text)}"
    if len(code) > MAX_CODE or len(text) > 4 * MAX_CODE:
        code = f"{code[: MAX_CODE - 9]}_{_hash(text)}"
    return code


def bounded_name(name: str) -> str:
    """A name as a key that takes little room, whatever somebody published."""
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}#{_hash(name)}"


def description(text: str, values: Iterable[tuple[str, str]] = (), otherwise: str = "") -> str:
    """`text (key=value, ...)`, at most MAX_DESCRIPTION characters; `otherwise` stands for an empty text."""
    found = (text or otherwise)[:MAX_DESCRIPTION]
    pairs: list[str] = []
    for number, (key, value) in enumerate(values):
        if number == MAX_VALUES:
            pairs.append("...")
            break
        pairs.append(f"{key[:100]}={value[:100]}")
    if pairs:
        found = f"{found} ({', '.join(pairs)})" if found else ", ".join(pairs)
    return found if len(found) <= MAX_DESCRIPTION else f"{found[: MAX_DESCRIPTION - 3]}..."


class NodeIndex:
    """The nodes of one moment, to be found by what statuses and loggers call them."""

    def __init__(self, nodes: Sequence[GraphNode] = ()) -> None:
        self.nodes = nodes
        self.by_fqn = {node.fqn: node for node in nodes}
        self._by_name: dict[str, list[GraphNode]] = {}
        self._publishers: dict[str, list[str]] = {}
        for node in nodes:
            self._by_name.setdefault(node.name, []).append(node)
            for use in node.topics:
                if use.direction != "subscribe":
                    self._publishers.setdefault(use.name, []).append(node.fqn)

    def find(self, subject: Subject) -> str | None:
        """The FQN of the node that is meant, None when it is not known (yet)."""
        if subject.kind == "status":
            return self._of_status(subject.name, subject.topic)
        if subject.kind == "logger":
            return self._of_logger(subject.name)
        return subject.name

    def _of_status(self, name: str, topic: str) -> str | None:
        """The node with whose name (or FQN) the status begins; else the only publisher of the topic."""
        publishers = self._publishers.get(topic, [])
        match = _NODE.match(name[:MAX_NAME].strip())
        segments = match.group().strip("/").split("/") if match else []
        if match and "/" in match.group():
            for count in range(len(segments), 0, -1):
                fqn = "/" + "/".join(segments[:count])
                if fqn in self.by_fqn:
                    return fqn
        named = [node.fqn for node in self._by_name.get(segments[0], ())] if segments else []
        if len(named) > 1:
            # Of several nodes of one name those are meant that publish here at all.
            named = [fqn for fqn in named if fqn in publishers]
        if len(named) == 1:
            return named[0]
        return publishers[0] if len(publishers) == 1 else None

    def _of_logger(self, name: str) -> str | None:
        """`a.b.node`, or a logger below it, `a.b.node.part`."""
        segments = name[:MAX_NAME].split(".")
        for count in range(len(segments), 0, -1):
            fqn = "/" + "/".join(segments[:count])
            if fqn in self.by_fqn:
                return fqn
        return None


def subject_of_status(name: str, hardware_id: str, topic: str) -> Subject:
    """The subject of a diagnostic status; without a node its hardware id stands for it, or its bare name."""
    otherwise = hardware_id.strip() or name.partition(":")[0].strip() or "diagnostics"
    return Subject("status", bounded_name(name), topic, _printable(otherwise[:MAX_SOURCE]))


def subject_of_logger(name: str) -> Subject:
    """The subject of a log line: without a node the logger's name as if it were one."""
    path = "/".join(part for part in name[:MAX_SOURCE].split(".") if part)
    return Subject("logger", bounded_name(name), otherwise=_printable(f"/{path}"[:MAX_SOURCE]))


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(one if one.isprintable() else "_" for one in text)


def _hash(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest().upper()
