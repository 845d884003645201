"""What ERROR and FATAL lines of `/rosout` say about faults. Pure: lines and times go in, observations come out.

A log line never passes, so there is one fault for each logger and severity, `LOG_ERROR_<NODE>`, whose description is
the latest line. It has passed when its logger was silent about such things for some time; that silence is evidence
enough, so it is told as often as it takes to heal.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import model
from .diagnostics import Observation
from .naming import Subject, description, fault_code, subject_of_logger

ERROR_LEVEL, FATAL_LEVEL = 40, 50
PREFIXES = ("LOG_ERROR_", "LOG_FATAL_")
# One report a second tells that it goes on; a node in a loop of errors writes thousands of lines.
TELL_S = 1.0
# A large robot has some hundred nodes with a logger or three; a node that makes up loggers must not fill the memory.
MAX_LOGGERS = 1024
PASSES_AT_ONCE = 100  # `faults.healing_threshold` may be a million, and the ros thread has others to serve


@dataclass
class _Loud:
    """A logger that has complained lately."""

    subject: Subject
    severity: int
    heard_at: float
    told_at: float
    untold: str | None = None
    passes: int = 0  # told since it is silent


class LogFaults:
    """The loggers that complain, by fault code.

    :param own_logger: logger of the gateway itself, which must not feed on its own lines.
    :param heal_after_s: seconds of silence after which a fault has passed; `passed_times`: reports that heal it.
    """

    def __init__(
        self, own_logger: str, min_level: int = ERROR_LEVEL, heal_after_s: float = 300.0, passed_times: int = 1
    ) -> None:
        self._own, self._min_level = own_logger, min_level
        self._heal_after_s, self._passed_times = heal_after_s, passed_times
        self._loud: dict[str, _Loud] = {}
        self.refused = 0  # lines of loggers for which there was no room

    def __len__(self) -> int:
        return len(self._loud)

    def take(self, level: int, logger: str, message: str, now: float) -> Observation | None:
        """A line; None when there is nothing to tell now."""
        if level < self._min_level or logger == self._own or logger.startswith(f"{self._own}."):
            return None
        fatal = level >= FATAL_LEVEL
        code = fault_code("LOG_FATAL" if fatal else "LOG_ERROR", logger)
        text = description(message, (), f"an empty line of {logger}")
        loud = self._loud.get(code)
        if loud is None:
            if len(self._loud) >= MAX_LOGGERS:
                self.refused += 1
                return None
            severity = model.CRITICAL if fatal else model.ERROR
            loud = self._loud[code] = _Loud(subject_of_logger(logger), severity, now, now)
        elif now - loud.told_at < TELL_S:
            loud.heard_at, loud.untold, loud.passes = now, text, 0
            return None
        loud.heard_at = loud.told_at = now
        loud.untold, loud.passes = None, 0
        return Observation(code, True, loud.subject, loud.severity, text)

    def expect(self, code: str, source: str, severity: int, now: float) -> None:
        """A fault of an earlier run that has not passed yet: its silence counts from now."""
        if code.startswith(PREFIXES) and code not in self._loud and len(self._loud) < MAX_LOGGERS:
            self._loud[code] = _Loud(Subject("node", source), severity, now, now)

    def tick(self, now: float) -> list[Observation]:
        """Latest lines that were held back, and what has passed; to be called every second or so."""
        found: list[Observation] = []
        for code, loud in list(self._loud.items()):
            if loud.untold is not None and now - loud.told_at >= TELL_S:
                found.append(Observation(code, True, loud.subject, loud.severity, loud.untold))
                loud.untold, loud.told_at = None, now
            elif now - loud.heard_at >= self._heal_after_s:
                text = f"no such line for {self._heal_after_s:g} s"
                passes = min(PASSES_AT_ONCE, self._passed_times - loud.passes)
                found += [Observation(code, False, loud.subject, model.INFO, text)] * passes
                loud.passes += passes
                if loud.passes >= self._passed_times:
                    del self._loud[code]
        return found
