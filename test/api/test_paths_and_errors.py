"""Paths, methods and the one form of errors (API.md §1.1-1.7)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from medkit_gateway_py.api.middleware.paths import PathNormaliser
from medkit_gateway_py.entities.ids import is_valid_id
from support.api import Api, Topics, gateway

NOT_FOUND = {"error_code": "resource-not-found", "message": "Resource not found", "parameters": {"status": 404}}

api = Api(gateway(topics=Topics({"/powertrain/engine/temperature": {"data": 85.5}})))


@pytest.mark.parametrize(
    "path", ["/nothing", "/apps/temp_sensor/nothing", "/apps/temp_sensor/data//", "/apps/a/b/c", "/x-medkit", "/docs/x"]
)
def test_an_unknown_path_is_404_with_the_generic_body(path: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.json()) == (404, NOT_FOUND)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/apps"),
        ("DELETE", "/health"),
        ("PATCH", "/apps/temp_sensor"),
        ("POST", "/apps/temp_sensor/data/x"),
        ("PUT", "/apps/temp_sensor/status/dance"),
        ("OPTIONS", "/apps"),
    ],
)
def test_a_wrong_method_is_an_unknown_path_and_never_405(method: str, path: str) -> None:
    answer = api.request(method, path)
    assert (answer.status_code, answer.json()) == (404, NOT_FOUND)


@pytest.mark.parametrize(
    "path", ["", "/health", "/apps", "/apps/temp_sensor", "/areas/engine/contains", "/apps/temp_sensor/data", "/faults"]
)
def test_one_trailing_slash_makes_no_difference_and_redirects_nobody(path: str) -> None:
    with_slash, without = api.get(f"{path}/"), api.get(path)
    assert with_slash.status_code == without.status_code == 200
    assert with_slash.json().keys() == without.json().keys()


@pytest.mark.parametrize("path", ["/health", "/apps", "/apps/temp_sensor", "/docs", "/nothing"])
def test_head_is_get_without_the_body(path: str) -> None:
    head, get = api.request("HEAD", path), api.get(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    assert head.headers["content-length"] == str(len(get.content))
    assert head.headers["content-type"] == get.headers["content-type"]


def test_head_sends_no_byte_of_the_body_and_ends_what_streams() -> None:
    sent: list[Message] = []
    seen: list[str] = []

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        seen.append((await receive())["type"])
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    asyncio.run(PathNormaliser(stream)({"type": "http", "method": "HEAD", "path": "/x"}, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[1].get("body") == b""
    assert seen == ["http.disconnect"]


@pytest.mark.parametrize(
    "topic",
    [
        "powertrain/engine/temperature",
        "powertrain%2Fengine%2Ftemperature",
        "%2Fpowertrain%2Fengine%2Ftemperature",
        "%2Fpowertrain/engine%2ftemperature/",
    ],
)
def test_all_forms_of_a_topic_name_the_same_item(topic: str) -> None:
    answer = api.get(f"/apps/temp_sensor/data/{topic}").json()
    assert (answer["id"], answer["data"]) == ("/powertrain/engine/temperature", {"data": 85.5})


STANDARD = [
    "/{kind}/{id}",
    "/{kind}/{id}/data",
    "/{kind}/{id}/data/x",
    "/{kind}/{id}/faults",
    "/{kind}/{id}/operations",
    "/{kind}/{id}/configurations",
    "/{kind}/{id}/logs",
    "/{kind}/{id}/bulk-data",
    "/{kind}/{id}/triggers",
]
BAD_IDS = ["a.b", "a b", "ä", "a:b", "x" * 257, "a%00b", "'", "..."]


@pytest.mark.parametrize("bad", BAD_IDS)
@pytest.mark.parametrize("template", STANDARD)
def test_an_id_of_wrong_form_is_400_before_anything_is_looked_up(template: str, bad: str) -> None:
    answer = api.get(template.format(kind="apps", id=bad))
    body = answer.json()
    assert answer.status_code == 400
    assert (body["error_code"], body["message"]) == ("invalid-parameter", "Invalid entity ID")
    assert set(body["parameters"]) == {"details", "entity_id"}


@pytest.mark.parametrize("kind", ["areas", "components", "apps", "functions"])
@pytest.mark.parametrize("template", STANDARD)
def test_an_unknown_id_is_404_entity_not_found(template: str, kind: str) -> None:
    answer = api.get(template.format(kind=kind, id="ghost"))
    assert answer.status_code == 404
    assert answer.json() == {
        "error_code": "entity-not-found",
        "message": "Entity not found",
        "parameters": {"entity_id": "ghost"},
    }


@pytest.mark.parametrize(
    ("kind", "other", "expected", "actual"),
    [
        ("components", "temp_sensor", "Component", "App"),
        ("apps", "ecu", "App", "Component"),
        ("functions", "engine", "Function", "Area"),
        ("areas", "driving", "Area", "Function"),
    ],
)
@pytest.mark.parametrize("template", STANDARD)
def test_an_id_of_another_kind_is_400_that_names_both_kinds(
    template: str, kind: str, other: str, expected: str, actual: str
) -> None:
    answer = api.get(template.format(kind=kind, id=other))
    assert answer.status_code == 400
    assert answer.json() == {
        "error_code": "invalid-parameter",
        "message": f"Invalid entity type for route: expected {expected}, got {actual}",
        "parameters": {"entity_id": other, "expected_type": expected, "actual_type": actual},
    }


RELATIONS = {
    "areas": ("area", ["components", "subareas", "contains"], "temp_sensor"),
    "components": ("component", ["subcomponents", "hosts", "depends-on"], "temp_sensor"),
    "functions": ("function", ["hosts"], "temp_sensor"),
    "apps": ("entity", ["is-located-on", "belongs-to", "depends-on"], "ecu"),
}
RELATION_CASES = [(kind, relation) for kind, (_, names, _) in RELATIONS.items() for relation in names]


@pytest.mark.parametrize(("kind", "relation"), RELATION_CASES)
def test_relations_word_their_errors_by_kind_and_know_no_other_kinds(kind: str, relation: str) -> None:
    noun, _, of_another_kind = RELATIONS[kind]
    for unknown in ("ghost", of_another_kind):
        answer = api.get(f"/{kind}/{unknown}/{relation}")
        assert answer.status_code == 404
        assert answer.json() == {
            "error_code": "entity-not-found",
            "message": f"{noun.capitalize()} not found",
            "parameters": {f"{noun}_id": unknown},
        }
    answer = api.get(f"/{kind}/a.b/{relation}")
    assert (answer.status_code, answer.json()["message"]) == (400, f"Invalid {noun} ID")
    assert answer.json()["parameters"][f"{noun}_id"] == "a.b"


@given(st.text(min_size=1, max_size=40).filter(lambda text: "/" not in text and text not in (".", "..")))
def test_any_text_as_an_id_is_answered_with_a_clean_error(text: str) -> None:
    answer = api.get(f"/apps/{quote(text, safe='', errors='replace')}")
    assert answer.status_code in (400, 404)
    if is_valid_id(text):
        assert answer.json()["error_code"] == "entity-not-found"
    else:
        assert answer.json()["error_code"] in ("invalid-parameter", "resource-not-found")


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("PUT", "/apps/temp_sensor/status/restart", "Lifecycle control not available for this entity"),
        ("GET", "/apps/ghost/locks", "Locking is not enabled on this gateway"),
        ("POST", "/components/ghost/locks", "Locking is not enabled on this gateway"),
        ("GET", "/apps/ghost/scripts", "Scripts backend not configured"),
        ("GET", "/updates", "Software updates not available"),
        ("PUT", "/updates/x/prepare", "Software updates not available"),
        ("GET", "/apps/temp_sensor/triggers", "Not implemented in this version of the gateway"),
        ("GET", "/functions/driving/x-medkit-graph", "Not implemented in this version of the gateway"),
        ("GET", "/areas/ghost/data-categories", "Data categories are not implemented for ROS 2"),
        ("GET", "/apps/temp_sensor/data-groups", "Data groups are not implemented for ROS 2"),
    ],
)
def test_routes_of_later_work_exist_and_say_501(method: str, path: str, message: str) -> None:
    answer = api.request(method, path)
    assert answer.status_code == 501
    assert (answer.json()["error_code"], answer.json()["message"]) == ("not-implemented", message)


@pytest.mark.parametrize("kind", ["areas", "functions"])
@pytest.mark.parametrize(("method", "rest", "word"), [("POST", "cat", "upload"), ("DELETE", "cat/file", "deletion")])
def test_files_of_areas_and_functions_are_405_whatever_the_id(kind: str, method: str, rest: str, word: str) -> None:
    answer = api.request(method, f"/{kind}/None/bulk-data/{rest}")
    assert answer.status_code == 405
    assert answer.json() == {
        "error_code": "invalid-request",
        "message": f"Bulk data {word} is only supported for components and apps",
    }


def test_without_authentication_its_routes_are_404_in_oauth_form() -> None:
    answer = api.request("POST", "/auth/authorize", json={})
    assert (answer.status_code, answer.json()["error"]) == (404, "resource-not-found")


def test_fault_snapshots_do_not_exist() -> None:
    assert api.get("/apps/temp_sensor/faults/X/snapshots").json() == NOT_FOUND
    assert not [one for one in api.get("").json()["endpoints"] if "snapshots" in one]


def test_a_bug_is_500_without_a_word_of_it_and_with_a_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    broken = Api(gateway(topics=Topics(broken=True)))
    with caplog.at_level(logging.ERROR):
        answer = broken.get("/apps/temp_sensor/data/x")
    assert answer.status_code == 500
    assert answer.json() == {
        "error_code": "internal-error",
        "message": "Internal server error",
        "parameters": {"details": "An internal error occurred"},
    }
    assert "a secret of the inside" in caplog.text


BODIES: list[tuple[dict[str, Any], int]] = [
    ({"content": b"x" * 2048}, 413),
    ({"content": b"{" + b" " * 1022 + b"}"}, 400),
]


@pytest.mark.parametrize(("options", "status"), BODIES)
def test_a_body_longer_than_the_limit_is_413_with_the_generic_body(options: dict[str, Any], status: int) -> None:
    small = Api(gateway(parameters={"server.max_body_bytes": 1024}))
    answer = small.put("/apps/temp_sensor/data/x", **options)
    assert answer.status_code == status
    if status == 413:
        assert answer.json() == {**NOT_FOUND, "parameters": {"status": 413}}


def test_a_body_without_a_length_is_counted_while_it_is_read() -> None:
    small = Api(gateway(parameters={"server.max_body_bytes": 1024}))

    async def pieces() -> Any:
        for _ in range(64):
            yield b"x" * 64

    answer = small.put("/apps/temp_sensor/data/x", content=pieces())
    assert (answer.status_code, answer.json()["parameters"]) == (413, {"status": 413})
