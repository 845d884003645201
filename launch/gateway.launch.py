"""One gateway.

    ros2 launch medkit_gateway_py gateway.launch.py port:=8081 node_name:=gateway_b namespace:=/subsystem_b

Every argument may be left out: what it would say then comes from the parameter file, and the rest from the defaults
that docs/configuration.md lists.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

ARGUMENTS = {
    "port": ("", "TCP port of the REST API; empty: server.port of the parameter file, else 8080"),
    "params_file": ("", "ROS parameter file; empty: the defaults"),
    "node_name": ("medkit_gateway_py", "name of the gateway's node, and of the gateway"),
    "namespace": ("", "namespace of the gateway's node"),
    "discovery_mode": ("", "runtime_only, hybrid or manifest_only; empty: discovery.mode of the parameter file"),
    "manifest_path": ("", "the manifest, may begin with $(find-pkg-share PACKAGE); empty: that of the parameter file"),
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, with only those settings that were given: an empty argument must not hide the parameter file."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    port, params_file = given["port"], given["params_file"]
    parameters: list[object] = [params_file] if params_file else []
    if port:
        parameters.append({"server.port": int(port)})
    for argument, parameter in (("discovery_mode", "discovery.mode"), ("manifest_path", "discovery.manifest_path")):
        if given[argument]:
            parameters.append({parameter: given[argument]})
    return [
        Node(
            package="medkit_gateway_py",
            executable="gateway_node",
            name=given["node_name"],
            namespace=given["namespace"],
            parameters=parameters,
            output="screen",
            emulate_tty=True,
            # The gateway stops within 5 s of SIGINT; launch must not be quicker with SIGTERM.
            sigterm_timeout="8",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """What ros2 launch asks for."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
