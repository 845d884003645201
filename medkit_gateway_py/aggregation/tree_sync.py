"""Following the tree of one peer by its stream of changes (AGGREGATION.md §6); what comes of it is for `peer.py`.

The whole tree was fetched before. A change that does not follow what we have ends the stream, and the whole is fetched
again; so does everything that is wrong with it.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import AsyncIterator, Callable

import anyio
import httpx
import orjson

from ..errors import GatewayError, NotResponding, PeerUnavailable
from .client import DECODE_ON_LOOP, MAX_TREE, BadAnswer, PeerClient
from .decoding import TooManyValues, decode
from .event_reader import EventReader, StreamEvent, StreamGarbage
from .section_reader import apply_delta
from .sections import TreeDocument, TreeDocumentError
from .transport import STREAMS

TREE_STREAM = b"/api/v1/x-medkit/tree/stream"
# The peer says something every second; three are missed by a process that stands still or a cable that is out (§6).
SILENCE_S = 3.0
# A peer that has no stream, or no place in it, is polled meanwhile.
NO_STREAM_RETRY_S = 60.0
FULL_RETRY_S = 10.0
# A stream that keeps ending this soon is no gain over polling.
SHORT_STREAM_S = 2.0
SHORT_STREAMS_TO_POLL = 4
RECONNECT_S = 0.2

_log = logging.getLogger(__name__)


class StreamRefused(Exception):
    """The peer lives and gives no stream now; it may be asked again after `retry_s`."""

    def __init__(self, text: str, retry_s: float) -> None:
        super().__init__(text)
        self.retry_s = retry_s


class TreeStream:
    """The stream of one peer over all its attempts: when to ask for it, and when to leave it and be polled."""

    def __init__(self, client: PeerClient, max_entities: int) -> None:
        self._client = client
        self._max_entities = max_entities
        self._not_before = 0.0
        self._short_streams = 0

    async def follow(
        self, document: TreeDocument, on_alive: Callable[[], bool], on_document: Callable[[TreeDocument], None]
    ) -> bool:
        """Follow for as long as that goes; False when there is no stream now and polls must do.

        Raises NotResponding when a stream that spoke fell silent; everything else that is wrong ends in a poll.
        """
        started = time.monotonic()
        if started < self._not_before:
            return False
        client = self._client
        try:
            await follow_tree(client, document, self._max_entities, client.timeout_s, on_alive, on_document)
        except StreamRefused as error:
            return self._poll_instead(str(error), error.retry_s)
        except (BadAnswer, TreeDocumentError) as error:
            return self._poll_instead(f"sends a stream that cannot be used: {error}", FULL_RETRY_S)
        except NotResponding:
            raise
        except GatewayError as error:
            # The poll that comes next decides whether the peer is gone or only its stream.
            _log.debug("%s", error.message)
        except Exception:
            # A fault of ours with one peer must not end its task.
            _log.exception("Following peer '%s' failed", client.name)
        self._short_streams = self._short_streams + 1 if time.monotonic() - started < SHORT_STREAM_S else 0
        if self._short_streams >= SHORT_STREAMS_TO_POLL:
            self._short_streams = 0
            return self._poll_instead("ends its streams at once", FULL_RETRY_S)
        # Not all who lost one gateway's stream shall come back at one moment.
        await anyio.sleep(RECONNECT_S * random.random())
        return True

    def _poll_instead(self, why: str, retry_s: float) -> bool:
        _log.info("Peer '%s' %s; it is polled instead", self._client.name, why)
        self._not_before = time.monotonic() + retry_s * (0.8 + 0.4 * random.random())
        return False


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
            return apply_delta(document, decode(data), max_entities)
        except TooManyValues as error:
            raise TreeDocumentError(f"its change of a tree holds {error}") from None
        except orjson.JSONDecodeError:
            raise TreeDocumentError("its change of a tree is no JSON") from None

    if len(data) > DECODE_ON_LOOP:
        return await anyio.to_thread.run_sync(work)
    return work()
