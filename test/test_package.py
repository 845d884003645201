"""The package as others see it: what package.xml, setup.py and the installed metadata say, and that they agree."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from importlib import import_module, metadata, util
from pathlib import Path

import pytest

import medkit_gateway_py
from support.setup_file import setup_arguments

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()


SETUP = setup_arguments()


def requirement_lines(name: str) -> list[str]:
    lines = (ROOT / "scripts" / "requirements" / name).read_text().splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


def test_one_version_everywhere() -> None:
    assert MANIFEST.findtext("version") == SETUP["version"] == medkit_gateway_py.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{SETUP['version']}]" in changelog or "## [Unreleased]" in changelog


def test_package_xml_says_ament_python_and_a_valid_maintainer() -> None:
    # colcon takes an invalid manifest for a plain Python package, silently, and ros2 run then finds nothing.
    assert MANIFEST.findtext("name") == SETUP["name"] == "medkit_gateway_py"
    assert MANIFEST.findtext("export/build_type") == "ament_python"
    maintainer = MANIFEST.find("maintainer")
    assert maintainer is not None
    assert re.fullmatch(r"[^@\s]+@[a-z0-9-]+(\.[a-z0-9-]+)+", maintainer.get("email", ""))


def test_launch_and_ros_packages_are_ros_dependencies_not_pip_ones() -> None:
    declared = {element.text for element in MANIFEST if element.tag.endswith("depend")}
    assert {"rclpy", "launch", "launch_ros"} <= declared
    pip_names = {re.split(r"[<>=\[]", line)[0].lower() for line in SETUP["install_requires"]}
    assert not pip_names & {"launch", "launch-ros", "launch_ros", "rclpy", "ros2cli"}


def test_setup_and_requirements_name_the_same_libraries() -> None:
    assert sorted(SETUP["install_requires"]) == sorted(["setuptools", *requirement_lines("runtime.txt")])


def test_the_page_says_which_libraries_come_from_rosdep_and_which_from_pip() -> None:
    page = (ROOT / "docs" / "attach.md").read_text()
    by_rosdep, by_pip = (
        set(re.findall("`([^` ]+)`", next(line for line in page.splitlines() if where in line).split("|")[1]))
        for where in ("| a Debian package that `rosdep", "| pip |")
    )
    names = {re.split(r"[<>=\[]", line)[0] for line in requirement_lines("runtime.txt")}
    keys = {element.text for element in MANIFEST.iter("exec_depend")}
    key_names = {"PyJWT": "jwt", "PyYAML": "yaml"}
    assert by_rosdep == {name for name in names if f"python3-{key_names.get(name, name)}" in keys}
    assert by_pip == names - by_rosdep


@pytest.mark.parametrize("distro", ["kilted", "jazzy"])
def test_ros_wheels_are_pinned_exactly(distro: str) -> None:
    lines = requirement_lines(f"{distro}.txt")
    assert [line for line in lines if not re.fullmatch(r"ros-[a-z0-9-]+==[0-9.]+", line)] == []
    assert any(line.startswith("ros-rclpy==") for line in lines)


def imports_of(path: Path) -> set[str]:
    """The top-level names of every absolute import in a file, but those of Python itself."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
    return names - set(sys.stdlib_module_names)


def distributions(lines: list[str]) -> set[str]:
    """Import names of requirement lines; those that differ from the distribution's name are the few below."""
    names = {re.split(r"[<>=\[]", line)[0].lower().replace("-", "_") for line in lines}
    differ = {"pyyaml": {"yaml"}, "pyjwt": {"jwt"}, "fastapi": {"starlette"}, "aiohttp": {"yarl"}}
    differ["uvicorn"] = {"uvloop", "httptools"}
    return names.union(*(differ.get(name, set()) for name in names))


# ros2cli is what imports the extension of it; nothing depends on it.
ROS = {element.text or "" for element in MANIFEST if element.tag.endswith("depend")} | {"rosidl_parser", "ros2cli"}


def test_every_library_that_the_code_imports_is_declared() -> None:
    known = {"medkit_gateway_py"} | ROS | distributions(SETUP["install_requires"])
    paths = (ROOT / "medkit_gateway_py").rglob("*.py")
    assert {f"{path.relative_to(ROOT)}: {name}" for path in paths for name in imports_of(path) - known} == set()


def test_every_library_that_tests_and_benchmarks_import_is_declared() -> None:
    ours = {"medkit_gateway_py", "support", "benchmarks"}
    known = ours | ROS | distributions(SETUP["install_requires"]) | distributions(requirement_lines("dev.txt"))
    paths = [*(ROOT / "test").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    assert {f"{path.relative_to(ROOT)}: {name}" for path in paths for name in imports_of(path) - known} == set()


def test_entry_points_lead_to_something() -> None:
    for group, lines in SETUP["entry_points"].items():
        if group == "ros2cli.command" and util.find_spec("ros2cli") is None:
            continue  # it can be imported by ros2cli alone; test/cli has it with a stand-in
        for line in lines:
            module, _, attribute = line.split("=")[1].strip().partition(":")
            assert util.find_spec(module) is not None, f"{group}: {line}"
            assert callable(getattr(import_module(module), attribute)), f"{group}: {line}"


def test_installed_metadata_has_the_entry_points() -> None:
    try:
        installed = metadata.distribution("medkit_gateway_py")
    except metadata.PackageNotFoundError:
        pytest.skip("the package is imported from the checkout, not installed: ./scripts/test installs it")
    found = {f"{point.name} = {point.value}" for point in installed.entry_points}
    assert found == {line for lines in SETUP["entry_points"].values() for line in lines}


def test_data_files_hold_the_manifest_the_marker_and_all_of_launch_and_config() -> None:
    files = {name for _, names in SETUP["data_files"] for name in names}
    assert {"package.xml", "resource/medkit_gateway_py"} <= files
    for folder in ("launch", "config"):
        wanted = {
            str(path.relative_to(ROOT))
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and not path.name.startswith(".") and "__pycache__" not in path.parts
        }
        assert wanted, f"{folder}/ is empty"
        assert wanted <= files


def test_every_folder_with_python_is_a_package() -> None:
    packages = set(SETUP["packages"])
    for path in (ROOT / "medkit_gateway_py").rglob("*.py"):
        assert ".".join(path.parent.relative_to(ROOT).parts) in packages, path


def test_sources_stay_within_python_3_10() -> None:
    for path in [*(ROOT / "medkit_gateway_py").rglob("*.py"), *(ROOT / "test").rglob("*.py"), ROOT / "setup.py"]:
        ast.parse(path.read_text(), filename=str(path), feature_version=(3, 10))


@pytest.mark.parametrize("script", ["env", "test", "demo"])
def test_scripts_can_be_run_and_say_how(script: str) -> None:
    run = subprocess.run(
        [str(ROOT / "scripts" / script), "--help"], capture_output=True, text=True, timeout=30, check=True
    )
    assert run.stdout.startswith(f"usage: ./scripts/{script}")
