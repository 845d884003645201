"""Status of apps and components (API.md §10.8)."""

from __future__ import annotations

import pytest

from medkit_gateway_py.entities.model import App, Component, ServiceUse
from medkit_gateway_py.entities.tree import EntityTree
from support.api import Api, gateway, merged

STATES = {"/active": "active", "/inactive": "inactive"}


def services(fqn: str, *names: str) -> tuple[ServiceUse, ...]:
    return tuple(ServiceUse(f"{fqn}/{name}", "lifecycle_msgs/srv/X") for name in names)


def managed(name: str) -> App:
    return App(name, fqn=f"/{name}", services=services(f"/{name}", "get_state", "change_state"))


def robot() -> Api:
    tree = EntityTree(
        components={
            "host": Component("host"),
            "ecu": Component("ecu", source="manifest"),
            "dead": Component("dead", source="manifest"),
            "bare": Component("bare", source="manifest"),
        },
        apps={
            "plain": App("plain", fqn="/plain", component_id="ecu"),
            "gone": App("gone", fqn="/gone", component_id="ecu", is_online=False),
            "gone2": App("gone2", fqn="/gone2", component_id="dead", is_online=False),
            "gone3": App("gone3", fqn="/gone3", component_id="host", is_online=False),
            "half": App("half", fqn="/half", services=services("/half", "get_state")),
            **{name: managed(name) for name in ("active", "inactive", "silent")},
        },
    )

    async def state(fqn: str) -> str:
        return STATES.get(fqn, "")

    return Api(gateway(merged(tree), states=state))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/apps/plain", "ready"),
        ("/apps/gone", "notReady"),
        ("/apps/half", "ready"),
        ("/apps/active", "ready"),
        ("/apps/inactive", "notReady"),
        ("/apps/silent", "notReady"),
        ("/components/host", "ready"),
        ("/components/ecu", "ready"),
        ("/components/dead", "notReady"),
        ("/components/bare", "ready"),
    ],
)
def test_the_status_follows_from_what_is_online_and_active(path: str, status: str) -> None:
    answer = robot().get(f"{path}/status")
    assert (answer.status_code, answer.json()) == (200, {"status": status})


def test_the_status_of_nothing_is_404_and_its_actions_are_501() -> None:
    assert robot().get("/apps/nobody/status").status_code == 404
    answer = robot().put("/apps/plain/status/start", content=b"{")
    assert (answer.status_code, answer.json()["message"]) == (501, "Lifecycle control not available for this entity")
