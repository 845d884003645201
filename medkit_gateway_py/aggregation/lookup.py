"""Looking up the names of hosts without that one name keeps others waiting, nor the gateway from stopping.

A name whose server does not answer takes the system ten seconds and more. The event loop has a few threads for all
look-ups, so some peers of such names would cut off all peers that have names. Here each name has a thread of its own,
which nobody waits for: it is shared by all who ask for the name meanwhile, and a daemon.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import Future
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

# Names that are being looked up at one moment. Peers are not many more, and only names that hang stay so long.
MAX_LOOK_UPS = 256

_Key = tuple[str, int]
_Answers = list[tuple[Any, ...]]

_lock = threading.Lock()
_running: dict[_Key, Future[_Answers]] = {}


async def look_up(host: str, family: int = socket.AF_UNSPEC) -> _Answers:
    """What `socket.getaddrinfo` says of TCP at this host. Raises OSError, also when too many names are looked up."""
    key = (host, family)
    with _lock:
        found = _running.get(key)
        if found is None:
            if len(_running) >= MAX_LOOK_UPS:
                raise OSError("too many host names are being looked up")
            found = Future()
            # From here on whoever stops waiting does not end it for the others.
            found.set_running_or_notify_cancel()
            thread = threading.Thread(target=_work, args=(key, found), name="host name", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                raise OSError("no thread is left to look up the host name") from None
            _running[key] = found
    return await asyncio.wrap_future(found)


def _work(key: _Key, future: Future[_Answers]) -> None:
    answers: _Answers = []
    problem: OSError | None = None
    try:
        answers = socket.getaddrinfo(key[0], None, family=key[1], type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except UnicodeError:
        problem = OSError("it is no host name")
    except OSError as error:
        problem = error
    with _lock:
        _running.pop(key, None)
    if problem is not None:
        future.set_exception(problem)
    else:
        future.set_result(answers)


class SystemResolver(AbstractResolver):
    """The system's resolver for aiohttp."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """All addresses of a name. Raises OSError."""
        found = []
        for kind, _, protocol, _, address in await look_up(host, family):
            if kind == socket.AF_INET6 and len(address) == 4 and address[3] and "%" not in address[0]:
                # A link-local address means nothing without its interface.
                address = (f"{address[0]}%{address[3]}", *address[1:])
            if kind in (socket.AF_INET, socket.AF_INET6):
                flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
                found.append(
                    ResolveResult(
                        hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=flags
                    )
                )  # fmt: skip
        return found

    async def close(self) -> None:
        """Nothing is held."""
