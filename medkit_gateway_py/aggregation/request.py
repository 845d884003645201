"""What a request says about the gateways it came over, and what of it goes on to a peer (AGGREGATION.md §5-§8).

Reads headers only; asks nobody and sends nothing.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

VIA = "x-medkit-via"
DEADLINE = "x-medkit-deadline-ms"
ORIGINS = "x-medkit-origins"
NO_FAN_OUT = "x-medkit-no-fan-out"
GATEWAY = "x-medkit-gateway"

# Each hop keeps this much for itself: for the way back, and for giving its own answer about a peer that is late.
HOP_MARGIN_S = 0.150
# No honest chain is longer; a longer header is cut at its old end, so that our own id is still seen.
MAX_VIA = 64
MAX_ORIGINS = 1024
MAX_DEADLINE_MS = 3_600_000

# Everything else stays here: cookies, `Origin` (a peer would take us for a web page) and hop-by-hop headers.
PASSED_ON = frozenset(
    {
        b"x-client-id",
        b"accept",
        b"accept-language",
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"range",
        b"if-range",
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
        b"last-event-id",
        b"traceparent",
        b"tracestate",
        b"x-request-id",
    }
)
# Version, trace, parent, flags; a version to come may append more.
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.{0,256})?")
# One id, as programs and proxies make them: UUIDs, base64, ULIDs. It stands in log lines, so nothing else may.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:@/+=~-]{1,128}")
_TRACE_KEY = "medkit.traceparent"
_REQUEST_ID_KEY = "medkit.request_id"
_ARRIVED_KEY = "medkit.arrived"
# Of a fan-out call we ask in our own words: JSON, whole, unconditionally.
_PASSED_ON_FAN_OUT = frozenset({b"x-client-id", b"accept-language", b"traceparent", b"tracestate", b"x-request-id"})


@dataclass(frozen=True)
class RequestInfo:
    """One request as aggregation sees it.

    `via` are the instance ids of gateways it passed; `deadline_ms` what the sender would still wait when it arrived at
    `received_at` (monotonic seconds), None for a client; `origins` whose entities are asked for, None: everybody's;
    `request_id` what logs call it.
    """

    method: str = "GET"
    via: tuple[str, ...] = ()
    deadline_ms: int | None = None
    received_at: float = field(default_factory=time.monotonic)
    origins: frozenset[str] | None = None
    no_fan_out: bool = False
    headers: tuple[tuple[bytes, bytes], ...] = ()
    authorization: bytes | None = None
    query: bytes = b""
    wants_partial_fail: bool = False
    request_id: str = ""

    @classmethod
    def from_scope(cls, scope: Mapping[str, Any], now: float | None = None) -> RequestInfo:
        """Read an ASGI scope; wrong values of our own headers are taken as absent."""
        found: dict[bytes, list[bytes]] = {}
        for name, value in scope.get("headers", ()):
            found.setdefault(bytes(name).lower(), []).append(bytes(value))
        trace = _trace(scope, found)
        query = bytes(scope.get("query_string", b""))
        authorization = found.get(b"authorization")
        return cls(
            method=str(scope.get("method", "GET")),
            via=_list(found.get(VIA.encode()))[-MAX_VIA:],
            deadline_ms=_deadline(found.get(DEADLINE.encode())),
            received_at=_arrived(scope) if now is None else now,
            origins=origins_of(scope),
            no_fan_out=NO_FAN_OUT.encode() in found,
            headers=(
                *((name, value) for name, values in found.items() if name in PASSED_ON for value in values),
                *trace,
            ),
            authorization=authorization[0] if authorization else None,
            query=query,
            wants_partial_fail=_wants_partial_fail(query),
            request_id=request_id(scope),
        )

    def loops(self, own_id: str) -> bool:
        """Whether the request has passed the gateway with this instance id before."""
        return own_id in self.via

    def asks_local(self, own_id: str) -> bool:
        """Whether the answer shall hold what is in our own graph; False when other origins only are asked for."""
        return self.origins is None or own_id in self.origins

    def is_local_only(self, own_id: str) -> bool:
        """Whether no peer may be asked for this request."""
        return self.no_fan_out or self.loops(own_id)

    def remaining_s(self, now: float | None = None) -> float | None:
        """Seconds until the sender stops waiting, None when it named no end."""
        if self.deadline_ms is None:
            return None
        return self.deadline_ms / 1000 - ((time.monotonic() if now is None else now) - self.received_at)

    def bounded(self, wanted_s: float) -> float:
        """`wanted_s`, or what the sender still waits, whichever is less; never below zero."""
        remaining = self.remaining_s()
        return wanted_s if remaining is None else max(0.0, min(wanted_s, remaining))

    def fan_out_query(self) -> bytes:
        """The query for peers: all but `partial`, because it is our answer that is partial or not."""
        parts = [part for part in self.query.split(b"&") if part and part.split(b"=", 1)[0] != b"partial"]
        return b"&".join(parts)

    def fan_out_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The headers that go on to each peer of a fan-out."""
        return tuple((name, value) for name, value in self.headers if name in _PASSED_ON_FAN_OUT)


def origins_of(scope: Mapping[str, Any]) -> frozenset[str] | None:
    """The origins that an ASGI request is meant for, None when it does not say."""
    name = ORIGINS.encode()
    values = [bytes(value) for key, value in scope.get("headers", ()) if bytes(key).lower() == name]
    return frozenset(_list(values)[:MAX_ORIGINS]) if values else None


def origins_header(origins: Iterable[str]) -> tuple[bytes, bytes]:
    """The header that names the origins a request is meant for."""
    return ORIGINS.encode(), ",".join(origins).encode("latin-1", "replace")


def _trace(scope: Mapping[str, Any], found: dict[bytes, list[bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    """The headers that make this request and what it causes at peers one trace, where the client sent none.

    Made once for each request. A `traceparent` that is none is replaced, and its `tracestate` is void then (W3C Trace
    Context). The request is marked as not recorded, because nobody records it here.
    """
    trace, is_good = _traceparent(scope, found.get(b"traceparent", []))
    named = _id_of(scope, found.pop(b"x-request-id", []), trace).encode()
    if is_good:
        return ((b"x-request-id", named),)
    found.pop(b"traceparent", None)
    found.pop(b"tracestate", None)
    return ((b"traceparent", trace.encode()), (b"x-request-id", named))


def request_id(scope: Mapping[str, Any]) -> str:
    """What this request is called in logs, in its answer and at peers: the client's `X-Request-Id`, or one made here.

    One that is longer than 128 characters, holds others than ids do, or comes twice, is replaced.
    """
    known = scope.get(_REQUEST_ID_KEY)
    if known is None:
        headers = scope.get("headers", ())
        ids = [bytes(value) for name, value in headers if name == b"x-request-id"]
        traces = [bytes(value) for name, value in headers if name == b"traceparent"]
        known = _id_of(scope, ids, _traceparent(scope, traces)[0])
    return str(known)


def _id_of(scope: Mapping[str, Any], given: Sequence[bytes], trace: str) -> str:
    known = scope.get(_REQUEST_ID_KEY)
    if known is None:
        is_good = len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) is not None
        known = given[0].decode() if is_good else trace.split("-")[1]
        if isinstance(scope, MutableMapping):
            scope[_REQUEST_ID_KEY] = known
    return str(known)


def _traceparent(scope: Mapping[str, Any], given: Sequence[bytes]) -> tuple[str, bool]:
    """The trace of a request, and whether it came with it; made once where it did not."""
    if len(given) == 1 and _TRACEPARENT.fullmatch(given[0]):
        return given[0].decode("latin-1"), True
    made = scope.get(_TRACE_KEY)
    if made is None:
        made = _new_trace()
        if isinstance(scope, MutableMapping):
            scope[_TRACE_KEY] = made
    return str(made), False


def _arrived(scope: Mapping[str, Any]) -> float:
    """When the request was first looked at: what it has waited for since counts, whoever looks at it again."""
    if isinstance(scope, MutableMapping):
        return float(scope.setdefault(_ARRIVED_KEY, time.monotonic()))
    return time.monotonic()


def _new_trace() -> str:
    return f"00-{random.getrandbits(128) or 1:032x}-{random.getrandbits(64) or 1:016x}-00"


def _list(values: list[bytes] | None) -> tuple[str, ...]:
    if not values:
        return ()
    parts = (part.strip() for value in values for part in value.decode("latin-1").split(","))
    return tuple(part for part in parts if part)


def _deadline(values: list[bytes] | None) -> int | None:
    if not values or not values[0].strip().isdigit() or len(values[0]) > 10:
        return None
    return min(int(values[0]), MAX_DEADLINE_MS)


def _wants_partial_fail(query: bytes) -> bool:
    return b"partial" in query and ("partial", "fail") in parse_qsl(query.decode("latin-1"))
