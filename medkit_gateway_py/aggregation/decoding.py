"""Decoding what a peer sent, unless it would take far more memory than it has bytes. Pure.

Ten megabytes of `{},` are three million objects, some hundred megabytes before anybody looks at them. Braces and commas
inside of texts count as well, which makes no difference to what gateways say.
"""

from __future__ import annotations

from typing import Any

import orjson

# A tree of 20 000 entities has 20 000 objects and 300 000 members; lists of items are shorter.
MAX_OBJECTS = 500_000
MAX_MEMBERS = 4_000_000


class TooManyValues(ValueError):
    """Nothing that a gateway says holds so many values; the text says how many are read."""


def decode(body: bytes) -> Any:
    """The value of a JSON text. Raises TooManyValues; ValueError when it is no JSON."""
    if has_too_many_objects(body):
        raise TooManyValues(f"more than {MAX_OBJECTS} objects and arrays")
    if body.count(b",") > MAX_MEMBERS:
        raise TooManyValues(f"more than {MAX_MEMBERS} values")
    return orjson.loads(body)


def has_too_many_objects(body: bytes | bytearray) -> bool:
    """Whether more objects and arrays are in it than are ever made of one answer."""
    return body.count(b"{") + body.count(b"[") > MAX_OBJECTS
