"""What happened in one run, in order: what was set up, what was done to it, and every request with its answer.

A history is all that the judge (`model.py`) sees, so that a saved one can be judged again. It is kept as JSON lines:
`{"setup": ...}` first, then one `{"ask": ...}`, `{"heard": ...}` or `{"event": ...}` a line. Times are seconds of the
monotonic clock.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# Far more than a run makes; a history that grows beyond it is a mistake of the test.
MAX_RECORDS = 100_000

# What an event may be. Of gateways, `subject` is the slot:
SPAWNED, READY, DYING, DEAD, FREEZING, THAWED = "spawned", "ready", "dying", "dead", "freezing", "thawed"
# and that nobody killed it and it ended, `facts.said` is the end of what it printed;
DIED = "died"
# of links, `subject` is `asker>asked` and `facts.state` what it is now, "open" or how it is hurt;
LINK = "link"
# and one of the states, joined by "+", is that it leads to another;
SWAP = "swap"
# of robots: `facts.nodes` are there from now on (`facts.life` says whose); CHANGED once the graph was told;
CHANGING, CHANGED = "changing", "changed"
# of robots: a write has arrived at `facts.owner` with `facts.value`;
RECEIVED = "received"
# of the machine: nobody ran for `facts.seconds` until now;
STALL = "stall"
# of the run: from now on nothing is hurt any more; all was seen to be there; the end.
QUIET, BACK, END = "quiet", "back", "end"


@dataclass(frozen=True)
class Setup:
    """What the run is: who asks whom (`links`: slot to slots), and what reproduces it."""

    topology: str
    seed: int
    links: Mapping[str, tuple[str, ...]]
    # The first node of each robot is declared, and what is declared stays listed while its gateway is away.
    retain: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        """All gateways by the names of their places."""
        return tuple(self.links)


@dataclass(frozen=True)
class Ask:
    """One request of one client. `status` 0: no answer, `facts.error` says why.

    `entity` is the id that was asked for, "" for collections of the gateway itself; `facts` what the judge needs of
    the answer, see `traffic.py`.
    """

    client: int
    gateway: str
    what: str
    entity: str
    path: str
    start: float
    end: float
    status: int
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Heard:
    """What one listener heard on a stream, in order: an event by its name and id, with what the judge needs of it.

    Or what became of its connection: "opened" (after this event `facts.last`, "" for none), "left" (by the listener),
    "broken", "ended" (by the gateway), "refused" (`facts.status`), and "silence" (nothing for `facts.seconds` until
    now).
    """

    client: int
    gateway: str
    stream: str
    connection: int
    at: float
    what: str
    number: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """Something that was done or seen, see the names above."""

    at: float
    what: str
    subject: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def _record(line: Mapping[str, Any]) -> Ask | Event | Heard:
    if "ask" in line:
        return Ask(**line["ask"])
    return Heard(**line["heard"]) if "heard" in line else Event(**line["event"])


@dataclass
class History:
    """The records of one run; `add` may be called from any thread."""

    setup: Setup
    asks: list[Ask] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, record: Ask | Event | Heard) -> None:
        """Append one. Raises RuntimeError beyond MAX_RECORDS."""
        with self._lock:
            if len(self.asks) + len(self.events) + len(self.heard) >= MAX_RECORDS:
                raise RuntimeError(f"more than {MAX_RECORDS} records")
            if isinstance(record, Ask):
                self.asks.append(record)
            elif isinstance(record, Heard):
                self.heard.append(record)
            else:
                self.events.append(record)

    def save(self, path: Path) -> Path:
        """Write all as JSON lines; folders are made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        setup = {**asdict(self.setup), "links": {name: list(peers) for name, peers in self.setup.links.items()}}
        with self._lock:
            timed = [(event.at, {"event": asdict(event)}) for event in self.events]
            timed += [(heard.at, {"heard": asdict(heard)}) for heard in self.heard]
            timed += [(ask.start, {"ask": asdict(ask)}) for ask in self.asks]
        lines = [{"setup": setup}, *(record for _, record in sorted(timed, key=lambda one: one[0]))]
        path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
        return path

    @classmethod
    def load(cls, path: Path) -> History:
        """Read what `save` wrote. Raises ValueError that names the line which is none."""
        found: History | None = None
        with path.open() as lines:
            for number, line in enumerate(lines, 1):
                try:
                    record = json.loads(line)
                    if "setup" in record:
                        setup = record["setup"]
                        links = {name: tuple(peers) for name, peers in setup["links"].items()}
                        found = cls(Setup(setup["topology"], setup["seed"], links, setup.get("retain", False)))
                    elif found is None:
                        raise ValueError("the setup must come first")
                    else:
                        found.add(_record(record))
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(f"{path}:{number}: no record of a history: {error}") from error
        if found is None:
            raise ValueError(f"{path}: empty")
        return found
