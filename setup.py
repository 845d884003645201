"""Packaging for ament_python and colcon. Dependencies of the launch files (launch_ros) live in package.xml only."""

from __future__ import annotations

import os

from setuptools import find_packages, setup

NAME = "medkit_gateway_py"


def below(folder: str) -> list[tuple[str, list[str]]]:
    """The files of `folder`, by the folder under `share/<package>` they go to.

    Hidden files, caches, and links that colcon's build folder still has to files that are gone, are left out.
    """
    found = []
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__pycache__")
        paths = [os.path.join(root, name) for name in sorted(names) if not name.startswith(".")]
        files = [path for path in paths if os.path.exists(path)]
        if files:
            found.append((os.path.join("share", NAME, root), files))
    return found


def requirements() -> list[str]:
    """What the gateway itself imports; `scripts/requirements/runtime.txt` says the same, and a test compares them."""
    return [
        "aiohttp>=3.11",
        "anyio>=4.3",
        "cryptography>=41",
        "fastapi>=0.115",
        "fastapi-offline>=1.7",
        "httpx>=0.27,<1",
        "httpx-aiohttp>=0.1.8",
        "ifaddr>=0.1.7",
        "orjson>=3.9",
        "prometheus-client>=0.20",
        "pydantic>=2.7",
        "PyJWT[crypto]>=2.8",
        "PyYAML>=6.0",
        "rich>=13",
        "typer>=0.16",
        "uvicorn[standard]>=0.30",
        "zeroconf>=0.130",
    ]


setup(
    name=NAME,
    version="0.1.0",
    description="A gateway from the ROS 2 graph to a SOVD-style REST tree, which makes several gateways look like one",
    maintainer="The medkit_gateway_py maintainers",
    maintainer_email="maintainers@example.org",
    license="Apache-2.0",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *below("launch"),
        *below("config"),
    ],
    python_requires=">=3.10",
    install_requires=["setuptools", *requirements()],
    extras_require={"test": ["pytest", "hypothesis"]},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            f"gateway_node = {NAME}.gateway_node:main",
            f"demo_robot = {NAME}.demo.robot:main",
            f"medkit = {NAME}.cli.app:main",
        ],
        # `ros2 medkit ...`: read by ros2cli alone, so it costs nothing where that is not installed.
        "ros2cli.command": [f"medkit = {NAME}.cli.ros2:MedkitCommand"],
        f"{NAME}.entity_provider": [
            f"ros_graph = {NAME}.discovery.ros_graph:RosGraphProvider",
            f"host = {NAME}.discovery.host:HostProvider",
            f"manifest = {NAME}.discovery.manifest:ManifestProvider",
        ],
        f"{NAME}.peer_discovery": [
            f"static = {NAME}.aggregation.peer_discovery.static:StaticPeers",
            f"mdns = {NAME}.aggregation.peer_discovery.mdns:MdnsPeers",
        ],
    },
)
