"""Clients that hold event streams of all gateways while harm is done, and write down each event as it comes.

They behave as browsers do: a stream that breaks is asked for again, with the `Last-Event-ID` of the last event that had
one. The restless ones leave and come back all the time. Followers of the tree do as peers do: they fetch it, follow
its changes from there, go on where they were when the stream broke, and fetch it again when a change does not fit. All
live in one thread with a loop of its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from .history import Ask, Heard, History
from .traffic import read

Json = dict[str, Any]

FAULTS, LOCAL_FAULTS, TREE = "faults", "local_faults", "tree"
# What is asked for, with which headers, and after which silence it is given up: a peer takes 3 s of it on the tree for
# absence; on the fault stream, 30 s are what a gateway allows itself.
PATHS: Mapping[str, tuple[str, Mapping[str, str], float]] = {
    FAULTS: ("/faults/stream", {}, 45.0),
    LOCAL_FAULTS: ("/faults/stream", {"X-Medkit-No-Fan-Out": "1"}, 45.0),
    TREE: ("/x-medkit/tree/stream", {}, 4.0),
}
# Silence that is worth a line in the history.
NOTED_S = 1.5
STAYS_S = (0.5, 4.0)
RETRY_S = (0.1, 0.5)
CLOSE_S = 10.0


@dataclass
class _Frame:
    """One event as it is read."""

    name: str = ""
    number: str = ""
    data: list[str] = field(default_factory=list)


class Lines:
    """Pieces of a stream in, events out: their names, their own ids ("" where they have none) and their data."""

    def __init__(self) -> None:
        self._rest = b""
        self._frame = _Frame()

    def feed(self, piece: bytes) -> Iterator[tuple[str, str, str]]:
        """The events that this piece completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            name, _, value = line.decode().partition(":")
            value = value.removeprefix(" ")
            if not line:
                frame, self._frame = self._frame, _Frame()
                if frame.data:
                    yield frame.name, frame.number, "\n".join(frame.data)
            elif name == "event":
                self._frame.name = value
            elif name == "id":
                self._frame.number = value
            elif name == "data":
                self._frame.data.append(value)


class Listener:
    """One client with one stream at one gateway, over as many connections as it takes."""

    def __init__(self, number: int, slot: str, url: str, stream: str, restless: bool, history: History, seed: str):
        self.number, self.slot, self.stream = number, slot, stream
        self._url = f"{url}/api/v1"
        self._restless = restless
        self._history = history
        self._random = random.Random(seed)
        self._connections = 0
        self._last = ""
        self._read_at = 0.0
        # of the tree: `boot`, `seq` and `origins`; empty: it is to be fetched
        self._tree: Json = {}
        # life: when it was heard of last
        self.heard: dict[str, float] = {}

    async def run(self) -> None:
        """Listen until cancelled."""
        path, headers, silent_s = PATHS[self.stream]
        timeout = httpx.Timeout(silent_s, connect=2.0)
        async with httpx.AsyncClient(timeout=timeout, trust_env=False) as http:
            while True:
                self._connections += 1
                try:
                    if self.stream == TREE and not self._tree:
                        await self._fetch(http)
                    await self._listen(http, path, dict(headers))
                except httpx.TransportError as error:
                    self._silence()
                    self._note("broken", {"error": f"{type(error).__name__}: {error}"})
                self._read_at = 0.0
                await asyncio.sleep(self._random.uniform(*RETRY_S))

    async def _listen(self, http: httpx.AsyncClient, path: str, headers: dict[str, str]) -> None:
        if self._last:
            headers["Last-Event-ID"] = self._last
        leaves_at = time.monotonic() + (self._random.uniform(*STAYS_S) if self._restless else 3600.0)
        async with http.stream("GET", self._url + path, headers=headers) as answer:
            if answer.status_code != 200:
                self._note("refused", {"status": answer.status_code})
                return
            gateway = answer.headers.get("x-medkit-gateway", "")
            tree = {**self._tree, "origins": dict(self._tree["origins"])} if self._tree else {}
            self._note("opened", {"last": self._last, "instance": gateway.partition("/")[0], **tree})
            lines = Lines()
            async for piece in self._pieces(answer):
                for name, number, data in lines.feed(piece):
                    if not self._take(name, number, data):
                        return
                if time.monotonic() > leaves_at:
                    self._note("left")
                    return
            self._note("ended")

    async def _pieces(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        self._read_at = time.monotonic()
        async for piece in answer.aiter_raw():
            self._silence()
            self._read_at = time.monotonic()
            yield piece

    def _silence(self) -> None:
        """Write down how long nothing was read, where that was long."""
        if self._read_at and time.monotonic() - self._read_at > NOTED_S:
            self._note("silence", {"seconds": round(time.monotonic() - self._read_at, 3)})

    def end(self) -> None:
        """Write down how long nothing was read at last."""
        self._silence()

    async def _fetch(self, http: httpx.AsyncClient) -> None:
        start = time.monotonic()
        answer = await http.get(f"{self._url}/x-medkit/tree")
        facts, end = read("tree", answer), time.monotonic()
        path = "/x-medkit/tree"
        self._history.add(Ask(self.number, self.slot, "tree", "", path, start, end, answer.status_code, facts))
        self._tree = {key: facts[key] for key in ("boot", "seq", "origins")}
        self._last = f"{facts['boot']}-{facts['seq']}"

    def _take(self, name: str, number: str, data: str) -> bool:
        """Write down an event; False when it does not fit what is known of the tree, which is forgotten then."""
        self._last = number or self._last
        try:
            said = json.loads(data)
            facts = _delta(said) if self.stream == TREE else _fault(name, said)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            facts = {"bad": f"{type(error).__name__}: {error}: {data[:300]}"}
        if "life" in facts:
            self.heard[facts["life"]] = time.monotonic()
        self._note(name, facts, number)
        if self.stream == TREE:
            self._tree = applied(self._tree, facts, number)
        return bool(self._tree) or self.stream != TREE

    def _note(self, what: str, facts: Json | None = None, number: str = "") -> None:
        now = time.monotonic()
        self._history.add(Heard(self.number, self.slot, self.stream, self._connections, now, what, number, facts or {}))


def applied(tree: Mapping[str, Any], delta: Mapping[str, Any], number: str) -> Json:
    """The tree (`boot`, `seq`, `origins`) after a change with this id; empty when the change is none of this tree."""
    if number != f"{tree['boot']}-{delta.get('seq')}" or delta.get("base") != tree["seq"]:
        return {}
    origins = {origin: age for origin, age in tree["origins"].items() if origin not in delta["gone"]}
    return {"boot": tree["boot"], "seq": delta["seq"], "origins": {**origins, **delta["set"]}}


def _delta(said: Json) -> Json:
    up = {one["id"]: [one["boot_id"], one["seq"]] for one in said["set"] if one["state"] == "up"}
    away = [one["id"] for one in said["set"] if one["state"] != "up"]
    return {"base": said["base"], "seq": said["seq"], "set": up, "gone": [*said["gone"], *away]}


def _fault(name: str, said: Json) -> Json:
    if name in ("peer_up", "peer_down", "gap"):
        return {key: said[key] for key in ("peer", "reason", "lost") if key in said}
    medkit = said.get("x-medkit", {})
    facts: Json = {"peer": medkit["peer"]} if "peer" in medkit else {}
    # `owner g1.1 17`: the robot's own count of what it reported.
    word = said["fault"]["description"].split(" ")
    return {**facts, "life": word[1], "n": int(word[2])} if word[0] == "owner" else facts


class Listeners:
    """At each gateway: one who stays and one restless on the merged faults, one on its own faults, one on the tree."""

    def __init__(self, urls: Mapping[str, str], history: History, seed: int) -> None:
        kinds = [(FAULTS, False), (FAULTS, True), (LOCAL_FAULTS, False), (TREE, False)]
        wanted = [(slot, url, stream, restless) for slot, url in urls.items() for stream, restless in kinds]
        # Above the numbers of the clients that ask.
        self._all = [
            Listener(100 + number, slot, url, stream, restless, history, f"{seed}/listener/{number}")
            for number, (slot, url, stream, restless) in enumerate(wanted)
        ]
        self._loop = asyncio.new_event_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Listeners:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(CLOSE_S)
        broken = [task.exception() for task in self._tasks if task.done() and not task.cancelled()]
        if error is None and broken and broken[0] is not None:
            raise broken[0]

    def have_heard(self, slot: str, lives: set[str], since: float) -> bool:
        """Whether all who listen to everything at a gateway have heard of all these lives since then."""
        merged = [one for one in self._all if one.slot == slot and one.stream == FAULTS]
        return all(one.heard.get(life, 0.0) >= since for one in merged for life in lives)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._tasks = [self._loop.create_task(one.run()) for one in self._all]
        self._loop.run_forever()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.close()

    def _stop(self) -> None:
        for one, task in zip(self._all, self._tasks, strict=True):
            one.end()
            task.cancel()
        self._loop.stop()
