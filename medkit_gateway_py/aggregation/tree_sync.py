"""Following the tree of one peer by its stream of changes (AGGREGATION.md §6). When to do so is decided in `peer.py`.

The whole tree was fetched before. A change that does not follow what we have ends the stream, and the whole is fetched
again; so does everything that is wrong with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
import httpx
import orjson

from ..errors import NotResponding, PeerUnavailable
from .client import DECODE_ON_LOOP, MAX_TREE, BadAnswer, PeerClient
from .event_reader import EventReader, StreamEvent, StreamGarbage
from .sections import TreeDocument, TreeDocumentError, apply_delta
from .transport import STREAMS

TREE_STREAM = b"/api/v1/x-medkit/tree/stream"
# The peer says something every second; three are missed by a process that stands still or a cable that is out (§6).
SILENCE_S = 3.0
# A peer that has no stream, or no place in it, is polled meanwhile.
NO_STREAM_RETRY_S = 60.0
FULL_RETRY_S = 10.0


class StreamRefused(Exception):
    """The peer lives and gives no stream now; it may be asked again after `retry_s`."""

    def __init__(self, text: str, retry_s: float) -> None:
        super().__init__(text)
        self.retry_s = retry_s


async def follow_tree(
    client: PeerClient,
    document: TreeDocument,
    max_entities: int,
    first_byte_s: float,
    on_alive: Callable[[], bool],
    on_document: Callable[[TreeDocument], None],
) -> None:
    """Apply the peer's changes to `document` and hand each new one out; returns when the whole must be fetched.

    `on_alive` is called with everything that comes, and ends it by False. Raises StreamRefused, NotResponding after
    `SILENCE_S` without a byte, PeerUnavailable when the connection breaks, BadAnswer and TreeDocumentError for
    something that is no stream of trees.
    """
    place = f"{document.gateway.boot_id}-{document.seq}".encode("latin-1", "replace")
    headers = [(b"accept", b"text/event-stream"), (b"accept-encoding", b"identity"), (b"last-event-id", place)]
    heard = False
    try:
        async with client.open(
            "GET", TREE_STREAM, headers=headers, lane=STREAMS, first_byte_s=first_byte_s, idle_s=2 * SILENCE_S
        ) as response:
            check_stream(response, "its tree stream")
            reader = EventReader(MAX_TREE)
            stream = response.aiter_raw().__aiter__()
            while (piece := await next_piece(client.name, stream, SILENCE_S)) is not None and on_alive():
                heard = True
                for event in _events(reader, piece):
                    if event.event != "delta":
                        continue
                    following = await _apply(document, event.id, event.data, max_entities)
                    if following is None:
                        return
                    if following.seq != document.seq:
                        document = following
                        on_document(document)
    except NotResponding:
        if heard:
            raise
        # It answers polls, so it lives: something in between holds the stream back, as buffering proxies do.
        raise StreamRefused("does not begin its stream", NO_STREAM_RETRY_S) from None


def check_stream(response: httpx.Response, what: str) -> None:
    """Raises StreamRefused or BadAnswer when the answer is not an event stream."""
    status = response.status_code
    if status in (404, 405, 501):
        raise StreamRefused(f"has no stream of this kind ({status})", NO_STREAM_RETRY_S)
    if status in (429, 503):
        raise StreamRefused(f"takes no more streams ({status})", FULL_RETRY_S)
    if status != 200:
        raise BadAnswer(f"answered {status} when asked for {what}")
    if response.headers.get("content-type", "").split(";")[0].strip().lower() != "text/event-stream":
        raise BadAnswer(f"answered with no event stream when asked for {what}")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadAnswer("answered in an encoding that was not asked for")


async def next_piece(name: str, stream: AsyncIterator[bytes], silence_s: float) -> bytes | None:
    """What comes next on the stream of the peer `name`, None at its end.

    Raises NotResponding after `silence_s` of nothing, PeerUnavailable when the connection breaks.
    """
    try:
        with anyio.fail_after(silence_s):
            return await stream.__anext__()
    except StopAsyncIteration:
        return None
    except (TimeoutError, httpx.TimeoutException):
        raise NotResponding(f"Peer '{name}' said nothing for {silence_s:g} s", peer=name) from None
    except httpx.HTTPError:
        raise PeerUnavailable(f"Peer '{name}': its stream broke", peer=name) from None


def _events(reader: EventReader, piece: bytes) -> list[StreamEvent]:
    try:
        return reader.feed(piece)
    except StreamGarbage as error:
        raise BadAnswer(str(error)) from None


async def _apply(document: TreeDocument, place: str, data: bytes, max_entities: int) -> TreeDocument | None:
    boot, _, _ = place.rpartition("-")
    if boot != document.gateway.boot_id:
        return None

    def work() -> TreeDocument | None:
        try:
            return apply_delta(document, orjson.loads(data), max_entities)
        except orjson.JSONDecodeError:
            raise TreeDocumentError("its change of a tree is no JSON") from None

    if len(data) > DECODE_ON_LOOP:
        return await anyio.to_thread.run_sync(work)
    return work()
