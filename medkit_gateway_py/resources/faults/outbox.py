"""Reports on their way to the backend: here the source of each becomes the name of a real node where there is one.

A node that has just started speaks before the next scan of the graph sees it, and a fault with a wrong source would
be listed under no entity for ever. So a report whose node is not known waits for it, SETTLE_S at most, and the reports
after it about the same subject wait behind it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence

from ...entities.model import GraphNode
from .diagnostics import Observation
from .model import Report
from .naming import NodeIndex, Subject

SETTLE_S = 3.0  # a scan follows a change of the graph within 1 s, and finds nodes some 2 s after they began
MAX_WAITING = 1000  # beyond that the oldest goes without its node: a report is worth more than its source
MAX_STRANGERS = 4096  # subjects known to be no nodes


class Outbox:
    """Turns observations into reports; all of it in one thread.

    :param report: takes a report without waiting.
    :param nodes: the nodes of the graph now; the same tuple as long as nothing changes.
    :param wall: seconds since the epoch.
    """

    def __init__(
        self,
        report: Callable[[Report], None],
        nodes: Callable[[], Sequence[GraphNode]],
        wall: Callable[[], float],
    ) -> None:
        self._report, self._nodes, self._wall = report, nodes, wall
        self._index = NodeIndex()
        self._waiting: deque[tuple[float, float, Observation]] = deque()
        self._held: Counter[Subject] = Counter()
        self._strangers: set[Subject] = set()
        self.reported = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def index(self) -> NodeIndex:
        """The nodes as they are now."""
        nodes = self._nodes()
        if nodes is not self._index.nodes:
            self._index = NodeIndex(nodes)
        return self._index

    def put(self, observation: Observation, now: float) -> None:
        """Report, now or when the node is known; `now` as for the trackers."""
        subject = observation.subject
        source = self.index.find(subject) if not self._held[subject] else None
        if source is None and not self._held[subject] and subject in self._strangers:
            source = subject.otherwise
        if source is not None:
            self._send(observation, source, self._wall())
            return
        self._waiting.append((now, self._wall(), observation))
        self._held[subject] += 1
        if len(self._waiting) > MAX_WAITING:
            self._release()

    def flush(self, now: float) -> None:
        """Send what has waited long enough, or whose node is known by now; to be called every second or so."""
        if not self._waiting:
            return
        index = self.index
        for _ in range(len(self._waiting)):
            since, stamp, observation = self._waiting.popleft()
            source = index.find(observation.subject)
            if source is None and (now - since >= SETTLE_S or observation.subject in self._strangers):
                source = self._stranger(observation.subject)
            if source is None:
                self._waiting.append((since, stamp, observation))
            else:
                self._let_go(observation.subject)
                self._send(observation, source, stamp)

    def drain(self) -> None:
        """Send everything, known or not: the end is near."""
        while self._waiting:
            self._release()

    def _release(self) -> None:
        _, stamp, observation = self._waiting.popleft()
        self._let_go(observation.subject)
        self._send(observation, self.index.find(observation.subject) or observation.subject.otherwise, stamp)

    def _let_go(self, subject: Subject) -> None:
        self._held[subject] -= 1
        if self._held[subject] <= 0:
            del self._held[subject]

    def _stranger(self, subject: Subject) -> str:
        if len(self._strangers) >= MAX_STRANGERS:
            self._strangers.clear()
        self._strangers.add(subject)
        return subject.otherwise

    def _send(self, observation: Observation, source: str, stamp: float) -> None:
        self.reported += 1
        self._report(
            Report(
                source, observation.fault_code, observation.failed, observation.severity, observation.description, stamp
            )
        )
