"""The host as a component: its id, its name, its description (API.md §3.7, DECISIONS 20)."""

from __future__ import annotations

import asyncio
import platform
import re
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.discovery import host
from medkit_gateway_py.discovery.host import HostProvider, host_component, host_id, pretty_name
from medkit_gateway_py.discovery.provider import ProviderContext

OS_RELEASE = 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'


@pytest.mark.parametrize(
    ("hostname", "wanted"),
    [
        ("robot", "robot"),
        ("Robot-1", "robot-1"),
        ("robot.lab.example.org", "robot_lab_example_org"),
        ("My Robot", "my_robot"),
        ("röbot/7:x", "rbot7x"),
        ("under_score", "under_score"),
        ("", "unknown_host"),
        ("ЯЖ", "unknown_host"),
        ("a" * 300, "a" * 256),
    ],
)
def test_an_id_is_made_of_the_host_name(hostname: str, wanted: str) -> None:
    assert host_id(hostname) == wanted


@given(st.text())
def test_any_host_name_gives_a_valid_id(hostname: str) -> None:
    assert re.fullmatch(r"[a-z0-9_-]{1,256}", host_id(hostname))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (OS_RELEASE, "Debian GNU/Linux 12 (bookworm)"),
        ("PRETTY_NAME=Plain\n", "Plain"),
        ("PRETTY_NAME='Single quoted'\n", "Single quoted"),
        ('  PRETTY_NAME="Indented"\n', "Indented"),
        ('PRETTY_NAME="With \\"quotes\\""\n', 'With "quotes"'),
        ('PRETTY_NAME="Unclosed\n', "Unclosed"),
        ("PRETTY_NAME=\n", "Linux"),
        ('PRETTY_NAME=""\n', "Linux"),
        ("NAME=x\n", "Linux"),
        ("", "Linux"),
    ],
)
def test_the_system_is_named_as_os_release_does(text: str, wanted: str) -> None:
    assert pretty_name(text) == wanted


@given(st.text())
def test_any_os_release_gives_a_name(text: str) -> None:
    assert pretty_name(text)
    assert pretty_name(f"PRETTY_NAME={text}")


def test_the_component_keeps_the_raw_name_and_describes_the_system() -> None:
    component = host_component("Robot.Lab", "x86_64", OS_RELEASE)
    assert (component.id, component.name) == ("robot_lab", "Robot.Lab")
    assert component.description == "Debian GNU/Linux 12 (bookworm) on x86_64"
    assert (component.type, component.source) == ("Component", "runtime")


def test_a_configured_id_wins() -> None:
    assert host_component("robot", "x86_64", OS_RELEASE, "subsystem_b").id == "subsystem_b"


def provider(enabled: bool = True, component_id: str = "") -> HostProvider:
    default: Any = SimpleNamespace(enabled=enabled, id=component_id)
    runtime = SimpleNamespace(default_component=default)
    return HostProvider(ProviderContext(SimpleNamespace(discovery=SimpleNamespace(runtime=runtime)), None))


def test_the_provider_contributes_this_machine() -> None:
    async def life() -> None:
        made = provider()
        await made.start(lambda: pytest.fail("a host does not change"))
        (component,) = made.contribution().components
        assert component.name == socket.gethostname()
        assert component.description.endswith(f" on {platform.machine()}")
        assert made.contribution().nodes == ()
        await made.stop()

    asyncio.run(life())


def test_the_provider_can_be_switched_off_and_given_an_id() -> None:
    assert provider(enabled=False).contribution().components == ()
    assert provider(component_id="head").contribution().components[0].id == "head"


def test_a_system_without_os_release_is_described_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(host, "OS_RELEASE", tmp_path / "missing")
    assert provider().contribution().components[0].description.startswith("Linux on ")
