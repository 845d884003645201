"""What would take far more memory than it is long is not decoded, and what gateways say is."""

from __future__ import annotations

import tracemalloc

import orjson
import pytest

from medkit_gateway_py.aggregation.decoding import MAX_MEMBERS, MAX_OBJECTS, TooManyValues, decode
from medkit_gateway_py.aggregation.event_reader import EventReader, StreamGarbage


@pytest.mark.parametrize(
    "body",
    [b"[" + b"{}," * MAX_OBJECTS + b"{}]", b"[" + b"[]," * MAX_OBJECTS + b"[]]", b"[" + b"1," * (MAX_MEMBERS + 1)],
    ids=["objects", "arrays", "numbers"],
)
def test_millions_of_values_are_refused_before_any_is_made(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TooManyValues):
            decode(body)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_the_largest_tree_that_is_allowed_is_read() -> None:
    app = {
        "id": "x" * 100,
        "name": "y" * 100,
        "component_id": "c",
        "fqn": "/z" * 50,
        "tags": ["a", "b"],
        "served_as": "w",
    }
    tree = {"apps": [app] * 100_000}
    assert decode(orjson.dumps(tree)) == tree


def test_text_that_is_no_json_is_no_matter_of_size() -> None:
    with pytest.raises(orjson.JSONDecodeError):
        decode(b"<html>")


def test_short_lines_of_an_event_take_no_more_memory_than_they_are_long() -> None:
    reader = EventReader(1_000_000)
    tracemalloc.start()
    try:
        for _ in range(100):
            reader.feed(b"data: ab\n" * 3000)
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()
    (event,) = reader.feed(b"\n")
    assert event.data == b"\n".join([b"ab"] * 300_000)
    with pytest.raises(StreamGarbage):
        reader.feed(b"data:\n" * 1_000_001)


def test_an_event_with_an_empty_line_of_data_is_one_and_an_event_without_data_is_none() -> None:
    reader = EventReader(100)
    assert [event.data for event in reader.feed(b"data\n\nevent: x\n\ndata: a\ndata:\n\n")] == [b"", b"a\n"]
