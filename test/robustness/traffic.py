"""Clients that ask several gateways all the time, and write down each request with what its answer says.

Each client is a thread with a connection pool of its own. What it asks is drawn from its own random numbers, so that a
seed gives the same requests as far as the ids that are known meanwhile are the same. Bounded in number and in rate.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from .history import Ask, History

Json = dict[str, Any]

# Nodes of our robots; everything else in the lists (the gateways themselves) is not asked.
MARK = "bot_"
# A request that is not answered in this is given up; longer than any documented limit with these settings.
GIVE_UP_S = 15.0
WRITES = "write"
# How often each thing is asked, in relation to the others.
WEIGHTS = {
    "apps": 5,
    "detail": 3,
    "owner": 4,
    "parameters": 5,
    "data": 2,
    WRITES: 4,
    "faults": 3,
    "fleet_faults": 2,
    "versions": 2,
    "whole_or_nothing": 1,
    "tree": 2,
    "health": 1,
    "alias": 3,
    "filtered": 3,
}
PATHS = {
    "apps": "/apps",
    "faults": "/faults",
    "fleet_faults": "/components/fleet/faults",
    "versions": "/version-info",
    "whole_or_nothing": "/faults?partial=fail",
    "tree": "/x-medkit/tree",
    "health": "/health",
    "detail": "/apps/{id}",
    "owner": "/apps/{id}/configurations/owner",
    "parameters": "/apps/{id}/configurations",
    "data": "/apps/{id}/data/{topic}",
    WRITES: "/apps/{id}/configurations/note",
    "alias": "/apps/{id}/configurations/owner",
    "filtered": "/apps",
}
# What no gateway has.
NOBODY = "bot_nobody"


class Known:
    """The ids that were ever listed at each gateway, with their nodes; a gateway that is another robot starts empty."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: dict[str, dict[str, str]] = {}

    def add(self, slot: str, ids: Mapping[str, str]) -> None:
        with self._lock:
            self._ids.setdefault(slot, {}).update(ids)

    def forget(self, slot: str) -> None:
        with self._lock:
            self._ids.pop(slot, None)

    def all(self, slot: str) -> list[str]:
        """All ids that were ever listed at a gateway."""
        with self._lock:
            return sorted(self._ids.get(slot, {}))

    def pick(self, slot: str, random_: random.Random) -> tuple[str, str] | None:
        """An id and the full name of its node; None when there is none."""
        with self._lock:
            found = sorted(self._ids.get(slot, {}).items())
        return random_.choice(found) if found else None


class Client:
    """One client: asks, reads, writes down."""

    def __init__(self, number: int, urls: Mapping[str, str], history: History, known: Known, seed: str) -> None:
        self.number = number
        self._links = history.setup.links
        self._urls = dict(urls)
        self._history = history
        self._known = known
        self._random = random.Random(seed)
        self._sent = 0
        self._http = httpx.Client(timeout=httpx.Timeout(GIVE_UP_S, connect=2.0), trust_env=False)

    def close(self) -> None:
        self._http.close()

    def ask_something(self) -> Ask | None:
        """One request of any kind to any gateway; None when there is nothing to ask for yet."""
        slot = self._random.choice(sorted(self._urls))
        what = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if what == "alias":
            return self._ask_alias(slot)
        if what == "filtered":
            return self._ask_filtered(slot)
        if "{id}" not in PATHS[what]:
            return self.ask(slot, what)
        entity, fqn = self._known.pick(slot, self._random) or ("", "")
        return self.ask(slot, what, entity, fqn) if entity else None

    def _ask_alias(self, slot: str) -> Ask | None:
        """For what a peer has, by the name of the peer and the id that it has there."""
        if not self._links[slot]:
            return None
        peer = self._random.choice(self._links[slot])
        picked = self._known.pick(peer, self._random)
        entity = picked[0] if picked is not None and self._random.random() < 0.8 else NOBODY
        return self.ask(slot, "alias", f"{peer}__{entity}", alias=[peer, entity])

    def ask_all_names(self, slot: str) -> None:
        """All filters, and aliases of all that is known of the peers of a gateway."""
        for name, value in self._filters(slot):
            self.ask(slot, "filtered", query=f"?{name}={value}", filter=[name, value])
        for peer in self._links[slot]:
            for entity in (*self._known.all(peer), NOBODY):
                self.ask(slot, "alias", f"{peer}__{entity}", alias=[peer, entity])

    def _filters(self, slot: str) -> list[tuple[str, str]]:
        filters = [("peer", one) for one in ("local", *self._links[slot])]
        filters += [("origin", one) for one in self._links]
        return filters + [("available", one) for one in ("true", "false")]

    def _ask_filtered(self, slot: str) -> Ask:
        """For a part of the apps."""
        name, value = self._random.choice(self._filters(slot))
        return self.ask(slot, "filtered", query=f"?{name}={value}", filter=[name, value])

    def ask(self, slot: str, what: str, entity: str = "", fqn: str = "", query: str = "", **facts: Any) -> Ask:
        """One request, written down with these facts about it."""
        topic = quote(f"{fqn}/whoami", safe="")
        path = PATHS[what].replace("{id}", entity).replace("{topic}", topic) + query
        url = f"{self._urls[slot]}/api/v1{path}"
        body = None
        if what == WRITES:
            self._sent += 1
            facts["sent"] = f"c{self.number}-{self._sent}"
            body = {"data": facts["sent"]}
        start = time.monotonic()
        status = 0
        try:
            answer = self._http.request("PUT" if body else "GET", url, json=body)
            end, status = time.monotonic(), answer.status_code
            facts.update(read(what, answer))
        except httpx.TransportError as error:
            end = time.monotonic()
            facts["error"] = f"{type(error).__name__}: {error}"
        if what == "alias":
            # An alias is no id: what it leads to may change with the peer.
            entity = ""
        if what == "apps" and status == 200:
            self._known.add(slot, {pair[0]: pair[1] for pair in facts.get("ids", ())})
        ask = Ask(self.number, slot, what, entity, path, start, end, status, facts)
        self._history.add(ask)
        return ask


def read(what: str, answer: httpx.Response) -> Json:
    """What the judge needs of an answer; `bad` where it is not what is documented."""
    try:
        body = answer.json()
        if answer.status_code >= 400:
            return {"code": body.get("vendor_code") or body["error_code"]}
        return READERS[what](body)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        return {"bad": f"{type(error).__name__}: {error}: {answer.text[:300]}"}


def _apps(body: Json) -> Json:
    found = [(item["id"], item["x-medkit"]["ros2"]["node"]) for item in body["items"] if MARK in item["id"]]
    away = [item["id"] for item in body["items"] if MARK in item["id"] and item["x-medkit"].get("available") is False]
    return {"ids": found, "unavailable": away} if away else {"ids": found}


def _parameters(body: Json) -> Json:
    values = {item["name"]: item["value"] for item in body["x-medkit"]["parameters"]}
    return {"owner": values["owner"], "note": values["note"]}


def _data(body: Json) -> Json:
    # Nobody publishes (any more): the topic is described, and there is no value.
    if body["x-medkit"]["status"] == "metadata_only":
        return {"silent": True}
    return {"owner": body["data"]["data"]}


def _gathered(body: Json, who: Callable[[Json], list[str]]) -> Json:
    medkit = body.get("x-medkit", {})
    found = sorted(one for item in body["items"] for one in who(item))
    facts: Json = {"from": found}
    if "partial" in medkit or "failed_peers" in medkit:
        facts.update(partial=medkit.get("partial", False), failed=medkit.get("failed_peers", []))
    return facts


def _faults(body: Json) -> Json:
    # Gateways report faults of their own, of peers that do not answer: those say nothing of who contributed.
    return _gathered(body, lambda item: [word[1] for word in [item["description"].split(" ")] if word[0] == "owner"])


def _tree(body: Json) -> Json:
    gateway = body["gateway"]
    origins = {one["id"]: [one["boot_id"], one["seq"]] for one in body["origins"] if one["state"] == "up"}
    return {"instance": gateway["id"], "boot": gateway["boot_id"], "seq": body["seq"], "origins": origins}


READERS: Mapping[str, Callable[[Json], Json]] = {
    "apps": _apps,
    "detail": lambda body: {"fqn": body["x-medkit"]["ros2"]["node"]},
    "owner": lambda body: {"owner": body["data"]},
    "parameters": _parameters,
    "data": _data,
    WRITES: lambda body: {"note": body["data"]},
    "alias": lambda body: {"reached": body["data"]},
    "filtered": _apps,
    "faults": _faults,
    "fleet_faults": _faults,
    "whole_or_nothing": _faults,
    "versions": lambda body: _gathered(body, lambda item: [item["vendor_info"]["instance_id"]]),
    "tree": _tree,
    "health": lambda body: {
        "instance": body["x-medkit"]["instance_id"],
        "generation": body["x-medkit-entity-cache"]["generation"],
    },
}


class Traffic:
    """So many clients, each at most so many requests a second, until the block is left."""

    def __init__(
        self,
        urls: Mapping[str, str],
        history: History,
        known: Known,
        seed: int,
        clients: int = 4,
        per_second: float = 10.0,
    ) -> None:
        self._clients = [Client(number, urls, history, known, f"{seed}/client/{number}") for number in range(clients)]
        # Asks on behalf of the run itself, from its thread.
        self.own = Client(clients, urls, history, known, f"{seed}/own")
        self._pause = 1.0 / per_second
        self._ended = threading.Event()
        self._broken: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(one,), daemon=True) for one in self._clients]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(GIVE_UP_S + 5.0)
        for client in (*self._clients, self.own):
            client.close()
        if self._broken and error is None:
            raise self._broken[0]

    def _run(self, client: Client) -> None:
        try:
            while not self._ended.is_set():
                began = time.monotonic()
                client.ask_something()
                self._ended.wait(max(0.01, self._pause - (time.monotonic() - began)))
        except BaseException as error:
            self._broken.append(error)
