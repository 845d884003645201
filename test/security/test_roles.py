"""Who may use which route: every row of the route table against a table written by hand from API.md §9.4."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.routing import Match, Route

from medkit_gateway_py.api.context import PREFIX
from medkit_gateway_py.api.route_rows import Row
from medkit_gateway_py.api.route_table import ROWS
from medkit_gateway_py.security.principal import ROLES, Principal
from medkit_gateway_py.security.roles import allowed, required_role

# Method and the template behind the entity (or the whole one), in which the kinds are those of the second member.
A, C, F, R = "apps", "components", "functions", "areas"
EVERY, BUSY, WATCHED = {A, C, F, R}, {A, C}, {A, C, F}
WRITES: dict[str, dict[tuple[str, str], set[str]]] = {
    "operator": {
        ("POST", "/operations/{operation_id}/executions"): EVERY,
        ("PUT", "/operations/{operation_id}/executions/{execution_id}"): EVERY,
        ("DELETE", "/operations/{operation_id}/executions/{execution_id}"): EVERY,
        ("DELETE", "/faults"): EVERY,
        ("DELETE", "/faults/{fault_code}"): EVERY,
        ("PUT", "/data/{data_id}"): EVERY,
        ("POST", "/cyclic-subscriptions"): WATCHED,
        ("PUT", "/cyclic-subscriptions/{subscription_id}"): WATCHED,
        ("DELETE", "/cyclic-subscriptions/{subscription_id}"): WATCHED,
        ("POST", "/triggers"): EVERY,
        ("PUT", "/triggers/{trigger_id}"): EVERY,
        ("DELETE", "/triggers/{trigger_id}"): EVERY,
        ("POST", "/locks"): BUSY,
        ("PUT", "/locks/{lock_id}"): BUSY,
        ("DELETE", "/locks/{lock_id}"): BUSY,
        ("POST", "/bulk-data/{category_id}"): BUSY,
        ("DELETE", "/bulk-data/{category_id}/{file_id}"): BUSY,
        ("POST", "/scripts/{script_id}/executions"): BUSY,
        ("PUT", "/scripts/{script_id}/executions/{execution_id}"): BUSY,
        ("DELETE", "/scripts/{script_id}/executions/{execution_id}"): BUSY,
        ("PUT", "/status/start"): BUSY,
        ("PUT", "/status/restart"): BUSY,
        ("PUT", "/status/force-restart"): BUSY,
    },
    "configurator": {
        ("PUT", "/configurations/{config_id}"): EVERY,
        ("DELETE", "/configurations/{config_id}"): EVERY,
        ("DELETE", "/configurations"): EVERY,
        ("PUT", "/logs/configuration"): EVERY,
        ("POST", "/scripts"): BUSY,
        ("DELETE", "/scripts/{script_id}"): BUSY,
        ("PUT", "/status/shutdown"): BUSY,
        ("PUT", "/status/force-shutdown"): BUSY,
    },
}
WRITES_OF_THE_GATEWAY = {
    ("DELETE", "/faults"): "operator",
    ("POST", "/updates"): "configurator",
    ("PUT", "/updates/{update_id}/prepare"): "configurator",
    ("PUT", "/updates/{update_id}/execute"): "configurator",
    ("PUT", "/updates/{update_id}/automated"): "configurator",
    ("DELETE", "/updates/{update_id}"): "configurator",
}
ENTITY = re.compile(r"/(areas|components|apps|functions)/\{\w+\}")


def wanted(row: Row) -> str:
    """The least role of a row, by the tables above: readers are viewers, other writers admins."""
    if row.method == "GET":
        return "viewer"
    entity = ENTITY.match(row.template)
    if entity is None:
        return WRITES_OF_THE_GATEWAY.get((row.method, row.template), "admin")
    key = (row.method, row.template[entity.end() :])
    found = [role for role, rows in WRITES.items() if entity[1] in rows.get(key, set())]
    return found[0] if found else "admin"


def path_of(row: Row, greedy: str = "a/b") -> str:
    """A path of this row, with several segments where it takes them."""
    path = re.sub(r"\{(data_id|config_id|operation_id|path)(:path)?\}", greedy, row.template)
    return PREFIX + re.sub(r"\{\w+\}", "x", path)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.template}")
def test_each_route_takes_the_role_that_the_contract_says(row: Row) -> None:
    for greedy in ("a", "a/b", "/a/b/c"):
        path = path_of(row, greedy)
        assert required_role(row.method, path) == wanted(row), path
        for role in ROLES:
            may = ROLES.index(role) >= ROLES.index(wanted(row))
            assert allowed(Principal("x", role), row.method, path) is may, (role, path)


def test_the_tables_name_only_routes_that_exist() -> None:
    real = {(row.method, row.template) for row in ROWS}
    for rows in WRITES.values():
        for (method, rest), kinds in rows.items():
            for kind in kinds:
                assert (method, f"/{kind}/{{{kind[:-1]}_id}}{rest}") in real, (method, rest, kind)
    assert set(WRITES_OF_THE_GATEWAY) <= real


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/x-medkit/topology/any/depth", "viewer"),
        ("POST", "/x-medkit/peers", "admin"),
        ("DELETE", "/x-medkit/peers/b", "admin"),
        ("GET", "/apps/x/data/docs", "viewer"),
        ("GET", "/nothing", "admin"),
        ("POST", "/nothing", "admin"),
        ("POST", "/apps/x/operations/a", "admin"),
        ("PUT", "/apps/x/data/", "admin"),
        ("PUT", "/apps//data/x", "admin"),
        ("PUT", "//apps/x/data/y", "admin"),
        ("PATCH", "/apps/x/data/y", None),
        ("put", "/apps/x/data/y", None),
        ("TRACE", "/apps", None),
    ],
)
def test_paths_that_are_in_no_table(method: str, path: str, role: str | None) -> None:
    assert required_role(method, PREFIX + path) == role


def test_outside_of_the_api_there_is_only_the_page_of_numbers() -> None:
    assert required_role("GET", "/metrics") == "viewer"
    for path in ("/", "/metrics/x", "/api/v2/apps", "/api/v1x", "/docs"):
        assert required_role("GET", path) is None


@pytest.mark.parametrize("climb", ["..", "."])
def test_paths_that_climb_take_an_admin(climb: str) -> None:
    # A proxy before another gateway would read this as a shutdown.
    assert required_role("PUT", f"{PREFIX}/apps/x/data/{climb}/status/shutdown") == "admin"
    assert required_role("GET", f"{PREFIX}/x-medkit/{climb}/y") == "admin"
    assert not allowed(Principal("b", "viewer", frozenset({"peer"})), "GET", f"{PREFIX}/x-medkit/{climb}/y")
    assert required_role("GET", f"{PREFIX}/apps/x/data/.hidden/..y") == "viewer"


def test_a_peer_reads_our_own_pages_and_writes_none() -> None:
    peer = Principal("b", "viewer", frozenset({"peer"}))
    assert allowed(peer, "GET", f"{PREFIX}/x-medkit/tree")
    assert not allowed(peer, "POST", f"{PREFIX}/x-medkit/peers")


# --- no spelling of a path gives more than the route that serves it -------------------------------------------


async def _nobody() -> None:
    """Never called: only its route is asked."""


ROUTES = [(row, Route(f"{PREFIX}{row.path}", _nobody, methods=[row.method])) for row in ROWS]
WORDS = sorted({part for row in ROWS for part in row.template.split("/") if part and "{" not in part})
PARTS = st.one_of(
    st.sampled_from([*WORDS, "x", "", ".", "..", "docs", "executions", "configuration", "x\n", "a b", "ä", "%2F", "*"]),
    st.text(max_size=4),
)
PATHS = st.lists(PARTS, max_size=8).map(lambda parts: PREFIX + "".join(f"/{part}" for part in parts))
TEMPLATES = st.builds(
    lambda row, fill: PREFIX + re.sub(r"\{[^}]*\}", lambda _: fill, row.template),
    st.sampled_from(ROWS),
    st.one_of(st.sampled_from(["x", "a/b", "", "..", "executions", "executions/x", "docs"]), st.text(max_size=6)),
)


def serving(method: str, path: str) -> Row | None:
    """The row whose route the router would take."""
    scope = {"type": "http", "method": method, "path": path, "headers": []}
    return next((row for row, route in ROUTES if route.matches(scope)[0] is Match.FULL), None)


@settings(max_examples=300)
@given(st.one_of(PATHS, TEMPLATES), st.sampled_from(["GET", "POST", "PUT", "DELETE"]))
def test_no_spelling_of_a_path_gives_more_rights_than_the_route_that_serves_it(path: str, method: str) -> None:
    row = serving(method, path)
    found = required_role(method, path)
    if row is not None and found is not None:
        assert ROLES.index(found) >= ROLES.index(wanted(row)), (method, path, row.template)


@given(st.one_of(PATHS, TEMPLATES))
def test_encoding_a_path_changes_nothing(path: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert required_role(method, unquote(quote(path, safe=""))) == required_role(method, path)
