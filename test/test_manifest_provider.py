"""The manifest as a provider, and local discovery with it: load, watch, keep the last good one, refuse to start."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from medkit_gateway_py.database import StateError
from medkit_gateway_py.discovery import local, manifest
from medkit_gateway_py.discovery.local import LocalDiscovery, layer_options
from medkit_gateway_py.discovery.manifest import ManifestProvider
from medkit_gateway_py.discovery.provider import Contribution, ProviderContext, StartRefused
from medkit_gateway_py.entities.ids import GivenId, GivenIds
from medkit_gateway_py.entities.model import GraphNode
from medkit_gateway_py.entities.tree import EntityTree
from medkit_gateway_py.parameters import check
from medkit_gateway_py.plugins.api import Entities, PluginApp
from support.waiting import async_eventually

GOOD = 'manifest_version: "1.0"\napps: [{id: camera, ros_binding: {node_name: cam}}]\n'
BAD = GOOD.replace("1.0", "9.9")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "POLL_S", 0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "robot.yaml"
    found.write_text(GOOD)
    return found


def config(path: Path, mode: str = "hybrid", **more: object) -> Any:
    values = {"discovery.mode": mode, "discovery.manifest_path": str(path)}
    return check({**values, **{f"discovery.{name}": value for name, value in more.items()}}).config


def put(path: Path, text: str) -> None:
    """A whole new file at once, as careful editors do."""
    other = path.with_suffix(".new")
    other.write_text(text)
    other.replace(path)


def during(provider: ManifestProvider, body: Callable[[Callable[[], int]], Any]) -> None:
    """Start, run `body` with a function that counts the changes told, stop."""

    async def life() -> None:
        told: list[None] = []
        await provider.start(lambda: told.append(None))
        try:
            await body(lambda: len(told))
        finally:
            await provider.stop()

    asyncio.run(life())


def apps(provider: ManifestProvider) -> list[str]:
    found = provider.contribution().manifest
    return [] if found is None else list(found.apps)


def test_a_changed_file_is_read_again_and_a_wrong_one_changes_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    provider = ManifestProvider(ProviderContext(config(path), None))

    async def body(told: Callable[[], int]) -> None:
        assert (apps(provider), provider.contribution().problem) == (["camera"], "")
        put(path, GOOD.replace("camera", "lidar"))
        await async_eventually(lambda: apps(provider) == ["lidar"], within=5.0)
        put(path, BAD)
        await async_eventually(lambda: provider.contribution().problem, within=5.0)
        assert apps(provider) == ["lidar"]
        assert f"{path}:1: manifest_version: " in provider.contribution().problem
        assert "The last good one stays" in provider.contribution().problem
        os.unlink(path)
        await async_eventually(lambda: "No such file" in provider.contribution().problem, within=5.0)
        assert apps(provider) == ["lidar"]
        put(path, GOOD)
        await async_eventually(lambda: not provider.contribution().problem, within=5.0)
        assert apps(provider) == ["camera"]
        assert told() == 4

    with caplog.at_level(logging.INFO):
        during(provider, body)
    assert "[R001]" in caplog.text
    assert "manifest loaded again: 0 areas, 0 components, 1 apps, 0 functions" in caplog.text


def test_a_fragment_that_comes_later_is_read(path: Path) -> None:
    folder = path.parent / "parts"
    folder.mkdir()
    provider = ManifestProvider(ProviderContext(config(path, **{"manifest.fragments_dir": str(folder)}), None))

    async def body(told: Callable[[], int]) -> None:
        (folder / "x.yaml").write_text("apps: [{id: late}]")
        await async_eventually(lambda: apps(provider) == ["camera", "late"], within=5.0)

    during(provider, body)


def test_without_watching_nothing_is_read_again(path: Path) -> None:
    provider = ManifestProvider(ProviderContext(config(path, **{"manifest.watch": False}), None))

    async def body(told: Callable[[], int]) -> None:
        assert provider._task is None
        assert provider.loads == 1

    during(provider, body)


def test_in_runtime_only_no_file_is_touched(path: Path) -> None:
    provider = ManifestProvider(ProviderContext(config(path, mode="runtime_only"), None))

    async def body(told: Callable[[], int]) -> None:
        assert (provider.loads, provider.contribution()) == (0, Contribution())

    during(provider, body)


def test_manifest_only_refuses_to_start_with_a_wrong_manifest(path: Path) -> None:
    path.write_text(BAD)
    provider = ManifestProvider(ProviderContext(config(path, mode="manifest_only"), None))
    with pytest.raises(StartRefused, match=r"manifest_only, and there is no manifest.*R001"):
        asyncio.run(provider.start(lambda: None))


def test_warnings_reject_only_when_strict(path: Path) -> None:
    path.write_text(GOOD.replace("id: camera", "id: camera, depends_on: [x]"))
    for strict, found in ((True, []), (False, ["camera"])):
        provider = ManifestProvider(ProviderContext(config(path, manifest_strict_validation=strict), None))

        async def body(told: Callable[[], int], provider: ManifestProvider = provider, found: Any = found) -> None:
            assert apps(provider) == found

        during(provider, body)


def test_a_load_that_takes_too_long_does_not_hold_up_hybrid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "FIRST_LOAD_S", 0.0)
    provider = ManifestProvider(ProviderContext(config(path), None))

    async def body(told: Callable[[], int]) -> None:
        assert "not read within" in provider.contribution().problem
        await async_eventually(lambda: apps(provider) == ["camera"], within=5.0)

    during(provider, body)


class Robot:
    """A provider whose nodes a test sets."""

    name = "robot"
    nodes: tuple[GraphNode, ...] = ()
    changed: Callable[[], None]

    def __init__(self, context: ProviderContext) -> None:
        Robot.instance = self

    async def start(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    async def stop(self) -> None:
        """Nothing to release."""

    def contribution(self) -> Contribution:
        return Contribution(nodes=self.nodes)

    instance: Robot


def discovery(
    monkeypatch: pytest.MonkeyPatch,
    config: Any,
    plugins: Plugins | None = None,
    keep_nodes: Callable[[frozenset[str]], None] | None = None,
) -> tuple[LocalDiscovery, list[EntityTree]]:
    """Local discovery with the manifest and a robot, and the trees that it publishes."""
    monkeypatch.setattr(local, "find_plugins", lambda group, built_in: (factories, {}))
    factories = {"manifest": ManifestProvider, "robot": Robot}
    trees: list[EntityTree] = []
    given = GivenIds()

    async def publish(build: Callable[[], tuple[EntityTree, Sequence[GivenId]]]) -> None:
        tree, new = build()
        given.add(new)
        trees.append(tree)

    options = layer_options(config, "self")
    return LocalDiscovery(ProviderContext(config, None), options, given, publish, plugins, keep_nodes), trees


def test_late_nodes_are_linked_and_health_tells_the_state(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(f"config: {{unmanifested_nodes: error}}\n{GOOD}")
    found, trees = discovery(monkeypatch, config(path))

    async def life() -> None:
        await found.start()
        assert not trees[-1].apps["camera"].is_online
        assert found.status()["linking"] == {
            "linked_count": 0, "orphan_count": 0, "binding_conflicts": 0, "unmanifested_policy": "error",
        }  # fmt: skip
        robot = Robot.instance
        robot.nodes = (GraphNode("cam", "/front"), GraphNode("stranger", "/"))
        robot.changed()
        await async_eventually(lambda: trees[-1].apps["camera"].is_online, within=5.0)
        status = found.status()
        assert (status["mode"], status["strategy"]) == ("hybrid", "hybrid")
        assert status["pipeline"] == {
            "layers": ["manifest", "runtime"], "total_entities": 2, "enriched_count": 1, "conflict_count": 0,
            "conflicts": [], "id_collisions": 0, "filtered_by_gap_fill": 0,
        }  # fmt: skip
        assert status["linking"]["warnings"] == ["Node /stranger is not declared in the manifest."]
        assert found.orphans() == ("/stranger",)
        put(path, BAD)
        await async_eventually(lambda: found.health()["state"] == "degraded", within=5.0)
        assert found.manifest_problem.startswith("The manifest is rejected: ")
        assert trees[-1].apps["camera"].is_online
        put(path, GOOD)
        await async_eventually(lambda: found.health() == {"state": "ok"}, within=5.0)
        assert found.orphans() == ()
        await found.stop()

    with caplog.at_level(logging.WARNING):
        asyncio.run(life())
    assert "1 nodes are not declared in the manifest: /stranger" in caplog.text


def test_which_nodes_there_are_is_kept_for_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(GOOD)
    kept: list[frozenset[str]] = []
    fails = True

    def keep(fqns: frozenset[str]) -> None:
        if fails:
            raise StateError("disk full")
        kept.append(fqns)

    found, _ = discovery(monkeypatch, config(path), keep_nodes=keep)

    async def life() -> None:
        nonlocal fails
        await found.start()
        assert "could not be kept: disk full" in caplog.text
        fails = False
        robot = Robot.instance
        # Of those whose names are made anew at each start none is there next time.
        passing = [GraphNode("_ros2cli", "/"), GraphNode("launch_ros_4711", "/"), GraphNode("listener_5e01fa3b", "/")]
        robot.nodes = (GraphNode("cam", "/front"), *passing)
        robot.changed()
        await async_eventually(lambda: kept == [frozenset({"/front/cam"})], within=5.0)
        robot.nodes = (GraphNode("cam", "/front"), GraphNode("launch_ros_4712", "/"))
        robot.changed()
        await async_eventually(lambda: found.nodes == robot.nodes, within=5.0)
        robot.nodes = ()
        robot.changed()
        await async_eventually(lambda: kept[1:] == [frozenset()], within=5.0)
        await found.stop()

    with caplog.at_level(logging.WARNING):
        asyncio.run(life())


class Plugins:
    """Plugins that say that there is a PLC."""

    said: ClassVar = {"plc": Entities(apps=(PluginApp("program"),))}

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Nothing ever changes."""

    def place(self, offers: object, refused: object) -> None:
        """Nothing to keep."""


def test_entities_of_plugins_are_a_layer_of_the_pipeline(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, trees = discovery(monkeypatch, config(path), Plugins())

    async def life() -> None:
        await found.start()
        assert set(trees[-1].apps) == {"camera", "program"}
        pipeline = found.status()["pipeline"]
        assert (pipeline["layers"], pipeline["total_entities"]) == (["manifest", "runtime", "plugins"], 2)
        await found.stop()

    asyncio.run(life())


def test_hybrid_without_a_good_manifest_is_runtime_only_until_there_is_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(BAD)
    found, trees = discovery(monkeypatch, config(path))

    async def life() -> None:
        await found.start()
        assert found.status() == {"mode": "runtime_only", "strategy": "runtime"}
        put(path, GOOD)
        await async_eventually(lambda: found.status()["mode"] == "hybrid", within=5.0)
        assert list(trees[-1].apps) == ["camera"]
        await found.stop()

    asyncio.run(life())


def test_a_refusal_of_the_manifest_is_one_of_the_whole_discovery(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(BAD)
    found, trees = discovery(monkeypatch, config(path, mode="manifest_only"))

    async def life() -> None:
        with pytest.raises(StartRefused):
            await found.start()
        await found.stop()

    asyncio.run(life())
    assert trees == []


def test_the_parameters_reach_the_layers(path: Path) -> None:
    options = layer_options(
        config(
            path,
            **{
                "runtime.enabled": False,
                "merge_pipeline.gap_fill.allow_heuristic_functions": True,
                "merge_pipeline.gap_fill.namespace_whitelist": ["/a"],
                "merge_pipeline.layers.manifest.live_data": "authoritative",
            },
        ),
        "self",
    )
    assert (options.mode, options.use_manifest, options.use_runtime) == ("hybrid", True, False)
    assert (options.allow_heuristic_functions, options.namespace_whitelist) == (True, ("/a",))
    assert options.policies["manifest"]["live_data"] == "authoritative"
