"""Reading a peer's event stream: bytes in, events out, within bounds. Pure: nothing is sent, nobody waits."""

from __future__ import annotations

from dataclasses import dataclass


class StreamGarbage(ValueError):
    """What came is no event stream, or an event is longer than is read."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event: its type ("" is `message`), the last id that was said, and its data with LF between lines."""

    event: str
    id: str
    data: bytes


class EventReader:
    """Takes the pieces as they come. Lines end with LF or CRLF; comments and unknown fields are passed over."""

    def __init__(self, max_event: int) -> None:
        """`max_event`: bytes of one event, and so of what is held at any time."""
        self._max_event = max_event
        self._rest = bytearray()
        self._searched = 0
        self._event = ""
        self._id = ""
        # The lines of data, each with LF behind it: a list of short ones would take many times their length.
        self._data = bytearray()

    def feed(self, piece: bytes) -> list[StreamEvent]:
        """The events that this piece completes. Raises StreamGarbage when one is too long."""
        found: list[StreamEvent] = []
        rest = self._rest
        rest += piece
        begin = 0
        while True:
            end = rest.find(b"\n", max(begin, self._searched))
            if end < 0:
                break
            line = bytes(rest[begin:end])
            begin = end + 1
            self._searched = begin
            event = self._line(line.removesuffix(b"\r"))
            if event is not None:
                found.append(event)
        del rest[:begin]
        self._searched = len(rest)
        if len(rest) + len(self._data) > self._max_event:
            raise StreamGarbage(f"an event of its stream is longer than {self._max_event} bytes")
        return found

    def _line(self, line: bytes) -> StreamEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data += value
            self._data += b"\n"
            if len(self._data) > self._max_event:
                raise StreamGarbage(f"an event of its stream is longer than {self._max_event} bytes")
        elif name == b"event":
            self._event = value[:200].decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value[:300].decode("latin-1")
        return None

    def _dispatch(self) -> StreamEvent | None:
        data, event = self._data, self._event
        self._data, self._event = bytearray(), ""
        return StreamEvent(event, self._id, bytes(data[:-1])) if data else None
