"""The process behind a node."""

import os
import subprocess
import sys

import pytest
from medkit_procfs import Process, facts, node_of, pid_of, running

from medkit_gateway_py.plugin import Unavailable


@pytest.mark.parametrize(
    ("arguments", "node"),
    [
        (["lidar", "--ros-args", "-r", "__node:=front", "-r", "__ns:=/robot"], "/robot/front"),
        (["lidar", "--ros-args", "-r", "__node:=front"], "/front"),
        (["lidar", "--ros-args", "-r", "driver:__node:=front", "-r", "__ns:=/"], "/front"),
        (["lidar", "--ros-args", "-r", "/scan:=/front/scan"], ""),
        (["lidar"], ""),
    ],
)
def test_a_command_line_names_its_node(arguments, node):
    assert node_of(arguments) == node


def test_given_words_count_only_for_processes_that_name_no_node():
    processes = [Process(7, "/a", "python robot.py"), Process(9, "", "python robot.py --all"), Process(8, "/b", "x")]
    assert pid_of("/b", processes, {}) == 8
    assert pid_of("/c", processes, {"/c": "robot.py"}) == 9
    assert pid_of("/d", processes, {"/c": "robot.py"}) is None


def test_this_process_and_its_child_are_seen_with_their_figures():
    child = subprocess.Popen([sys.executable, "-c", "input()", "-r", "__node:=sleeper"], stdin=subprocess.PIPE)
    try:
        assert pid_of("/sleeper", list(running()), {}) == child.pid
        found = facts(child.pid)
        assert (found["ppid"], found["threads"] >= 1, found["rss_bytes"] > 0) == (os.getpid(), True, True)
    finally:
        child.communicate(b"\n", timeout=10)
    with pytest.raises(Unavailable):
        facts(child.pid)
