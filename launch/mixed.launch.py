"""A gateway with one fixed peer, which also takes in peers that it finds by mDNS.

    ros2 launch medkit_gateway_py mixed.launch.py

All on this machine and in one ROS domain, with the parameter files of config/topologies/mixed/.
On machines of their own, give each its file: ros2 launch medkit_gateway_py gateway.launch.py params_file:=...
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

# Name of the node and of its parameter file, and the namespace; those that are aggregated come first.
GATEWAYS = [
    ("base_platform", ""),
    ("gateway", ""),
]

SHARE = Path(__file__).absolute().parent.parent
FILES = SHARE / "config" / "topologies" / "mixed"


def generate_launch_description() -> LaunchDescription:
    """What ros2 launch asks for."""
    source = PythonLaunchDescriptionSource(str(SHARE / "launch" / "gateway.launch.py"))
    return LaunchDescription(
        [
            IncludeLaunchDescription(
                source,
                launch_arguments={
                    "node_name": name,
                    "namespace": namespace,
                    "params_file": str(FILES / f"{name}.yaml"),
                    "port": "",
                    "discovery_mode": "",
                    "manifest_path": "",
                }.items(),
            )
            for name, namespace in GATEWAYS
        ]
    )
