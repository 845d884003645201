"""The launch files: what can be said of them without launch, and they themselves where launch is installed.

`launch` and `launch_ros` come with a ROS 2 installation only. What the files start is started directly, with the same
parameter files, by the tests of whole gateways.
"""

from __future__ import annotations

import ast
import importlib.util
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from medkit_gateway_py.parameters import SPECIFICATIONS

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = ROOT / "launch"
TOPOLOGIES = ("two_gateways", "star", "chain", "mdns", "mixed", "secure")
EVERY_FILE = sorted(LAUNCH.glob("*.launch.py"))


def constant(path: Path, name: str) -> Any:
    """The value of a module's constant, without running the module."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return ast.literal_eval(node.value)
    raise AssertionError(f"{path.name} has no {name}")


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def parameters_of(path: Path) -> dict[str, Any]:
    """The parameters of a file with one section."""
    (section,) = yaml.safe_load(path.read_text()).values()
    return flat(section["ros__parameters"])


def test_there_is_one_for_a_gateway_and_one_for_each_topology() -> None:
    assert {path.name for path in EVERY_FILE} == {f"{name}.launch.py" for name in ("gateway", *TOPOLOGIES)}
    assert {path.name for path in (ROOT / "config" / "topologies").iterdir()} == set(TOPOLOGIES)


@pytest.mark.parametrize("path", EVERY_FILE, ids=lambda path: path.name)
def test_it_compiles_describes_itself_and_has_the_function_that_launch_calls(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 10))
    compile(tree, str(path), "exec")
    assert f"ros2 launch medkit_gateway_py {path.name}" in (ast.get_docstring(tree) or "")
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert not functions["generate_launch_description"].args.args


@pytest.mark.parametrize("path", EVERY_FILE, ids=lambda path: path.name)
def test_it_imports_only_what_the_manifest_names(path: Path) -> None:
    modules = {
        (node.module or "").partition(".")[0] if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert modules <= {"__future__", "pathlib", "launch", "launch_ros"}


def test_gateway_declares_its_arguments_with_a_default_and_a_description() -> None:
    arguments = constant(LAUNCH / "gateway.launch.py", "ARGUMENTS")
    assert list(arguments) == ["port", "params_file", "node_name", "namespace", "discovery_mode", "manifest_path"]
    for default, text in arguments.values():
        assert isinstance(default, str)
        assert len(text) > 20


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_topology_starts_every_one_of_its_files_once(name: str) -> None:
    gateways = constant(LAUNCH / f"{name}.launch.py", "GATEWAYS")
    files = {path.stem for path in (ROOT / "config" / "topologies" / name).glob("*.yaml")}
    assert sorted(gateway for gateway, _ in gateways) == sorted(files)
    assert f'"topologies" / "{name}"' in (LAUNCH / f"{name}.launch.py").read_text()


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_topology_passes_only_arguments_that_gateway_declares(name: str) -> None:
    declared = set(constant(LAUNCH / "gateway.launch.py", "ARGUMENTS"))
    passed = {
        key.value
        for node in ast.walk(ast.parse((LAUNCH / f"{name}.launch.py").read_text()))
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    # All of them: an included file would otherwise see the values of the one before it.
    assert passed == declared


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_files_of_a_topology_fit_together_on_one_machine(name: str) -> None:
    files = {path.stem: parameters_of(path) for path in (ROOT / "config" / "topologies" / name).glob("*.yaml")}
    unknown = {(file, key) for file, values in files.items() for key in values if key not in SPECIFICATIONS}
    assert unknown == set()
    ports = {file: values["server.port"] for file, values in files.items()}
    assert len(set(ports.values())) == len(ports)
    components = [values["discovery.runtime.default_component.id"] for values in files.values()]
    assert len(set(components)) == len(components)
    for file, values in files.items():
        urls = values.get("aggregation.peer_urls", [])
        assert len(urls) == len(values.get("aggregation.peer_names", []))
        others = {port for other, port in ports.items() if other != file}
        assert {int(url.rpartition(":")[2]) for url in urls} <= others


@pytest.mark.parametrize("path", EVERY_FILE, ids=lambda path: path.name)
def test_launch_takes_it(path: Path) -> None:
    if find_spec("launch_ros") is None or find_spec("launch") is None:
        pytest.skip("launch and launch_ros are not installed: they come with a sourced ROS 2, and are on no registry")
    spec = importlib.util.spec_from_file_location(path.stem.replace(".", "_"), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.generate_launch_description().entities
