"""The parts of `medkit` that need no gateway: events, findings, manifests, what a terminal is shown."""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.cli import app as cli
from medkit_gateway_py.cli.doctor import Finding, _clock, _settings, as_json
from medkit_gateway_py.cli.export import manifest_of, to_yaml
from medkit_gateway_py.cli.gateway import DENIED, FAILED, UNREACHABLE, USAGE, _events
from medkit_gateway_py.cli.output import clean, partial_note
from support.gateways import free_port

ids = st.sampled_from(["a", "b", "a-area", "a-app", "root"])
# Of one kind, so each id once.
items = st.lists(ids, max_size=4, unique=True).map(
    lambda found: [{"id": one, "name": one, "x-medkit": {"ros2": {"node": f"/ns/{one}"}}} for one in found]
)
Items = list[dict[str, Any]]


class Answers(ThreadingHTTPServer):
    """A server that gives one answer to everything."""

    def __init__(self, status: int, body: bytes) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def answering(status: int, body: Any) -> Iterator[str]:
    server = Answers(status, body if isinstance(body, bytes) else json.dumps(body).encode())
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server.url
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.mark.parametrize(
    ("status", "body", "code", "said"),
    [
        (401, {"error": "invalid_token", "error_description": "Missing Authorization header"}, DENIED, "MEDKIT_TOKEN"),
        (403, {"error": "insufficient_scope", "error_description": "Insufficient permissions"}, DENIED, "Insufficient"),
        (404, {"error_code": "resource-not-found", "message": "No such thing"}, FAILED, "No such thing"),
        (200, b"<html>hello</html>", FAILED, "is it a gateway"),
        (200, b"[1, 2]", FAILED, "is it a gateway"),
        (502, b"", FAILED, "Bad Gateway"),
    ],
)
def test_what_a_gateway_refuses_is_said_with_an_exit_code(
    status: int, body: Any, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for url in answering(status, body):
        assert cli.main(["tree", "--url", url]) == code
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""


def test_no_gateway_and_wrong_usage_have_their_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["peers", "--url", f"http://127.0.0.1:{free_port()}"]) == UNREACHABLE
    assert "No gateway answers" in capsys.readouterr().err
    for arguments in (
        ["tree", "--url", "robot1:8080"],
        ["tree", "--url", "ftp://robot1"],
        ["tree", "--ca-file", "/nowhere.pem", "--url", "https://127.0.0.1:1"],
        ["nonsense"],
        ["faults", "lidar"],
        ["faults", "apps/lidar", "--follow"],
        ["serve", "--peer", "http://robot1:8080"],
    ):
        assert cli.main(arguments) == USAGE, arguments
        assert "Traceback" not in capsys.readouterr().err


def test_a_node_that_names_itself_in_escape_sequences_does_not_steer_the_terminal() -> None:
    assert "\x1b" not in clean("\x1b[2Jgone\x9b31m\r")
    assert clean("two\nlines") == "two\nlines"


@given(st.text())
def test_no_control_character_is_ever_shown(text: str) -> None:
    assert not [one for one in clean(text) if (ord(one) < 32 and one != "\n") or 127 <= ord(one) < 160]


def test_events_are_read_as_the_standard_says() -> None:
    lines = [
        ": hello", "", "id: 7", "event: fault_confirmed", 'data: {"fault":', 'data: {"status": "CONFIRMED"}}', "",
        "data: no json", "", "data:[1]", "", 'data:{"a": 1}', "", 'data: {"unfinished": 1}',
    ]  # fmt: skip
    assert list(_events(iter(lines))) == [
        ("7", "fault_confirmed", {"fault": {"status": "CONFIRMED"}}),
        ("7", "message", {"a": 1}),
    ]


def test_an_event_without_an_end_is_refused() -> None:
    with pytest.raises(cli.CommandFailed, match="too long"):
        list(_events(iter(["data: " + "x" * 100_000] * 20)))


@pytest.mark.parametrize(
    ("theirs", "level"), [(1000.0, "ok"), (1004.9, "ok"), (1011.5, "problem"), (990.0, "problem"), (1006.0, "ok")]
)
def test_the_clock_of_a_gateway_is_judged_by_when_it_can_have_answered(theirs: float, level: str) -> None:
    assert _clock({"timestamp": int(theirs * 1e9)}, 1000.0, 1002.0).level == level


def test_another_domain_is_a_problem_and_another_range_a_warning() -> None:
    theirs = {"domain_id": 3, "rmw": "rmw_a", "discovery_range": "LOCALHOST"}
    found = _settings(theirs, {"domain_id": "4", "rmw": "rmw_a", "discovery_range": "SUBNET"})
    assert [one.level for one in found] == ["problem", "ok", "warning"]
    assert as_json([*found, Finding("problem", "x", "y")])["problems"] == 2


@given(items, items, items, items)
def test_a_written_manifest_has_one_space_of_ids_and_is_yaml(
    areas: Items, components: Items, apps: Items, functions: Items
) -> None:
    text = to_yaml(manifest_of(areas, components, apps, functions, {"a": ["b"]}))
    document = yaml.safe_load(text)
    found = [entry["id"] for name in cli.COLLECTIONS for entry in document.get(name, [])]
    assert len(found) == len(set(found)) == sum(map(len, (areas, components, apps, functions)))


def test_what_is_missing_in_a_list_is_said() -> None:
    assert partial_note({"partial": True, "failed_peers": ["b", "c"]}) == "incomplete: b, c did not answer"
    assert partial_note({}) == partial_note(None) == ""


def test_the_extension_of_ros2_runs_the_same_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # ros2cli is on no registry: this is its interface, not the real one.
    import argparse

    fake = types.ModuleType("ros2cli.command")
    fake.CommandExtension = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ros2cli", types.ModuleType("ros2cli"))
    monkeypatch.setitem(sys.modules, "ros2cli.command", fake)
    from medkit_gateway_py.cli.ros2 import MedkitCommand

    command = MedkitCommand()
    parser = argparse.ArgumentParser()
    command.add_arguments(parser, "ros2")
    url = f"http://127.0.0.1:{free_port()}"
    assert command.main(parser=parser, args=parser.parse_args(["tree", "--url", url])) == UNREACHABLE
    assert url in capsys.readouterr().err


def test_every_command_of_the_page_exists(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text()
    block = page.partition("```bash\n")[2].partition("```")[0]
    shown = {tuple(re.findall(r"^medkit ([a-z]+)(?: (export|check))?", line)[0]) for line in block.splitlines()}
    assert len(shown) >= 6
    for names in shown:
        assert cli.main([*filter(None, names), "--help"]) == 0, names
        options = set(re.findall(r" (--[a-z-]+)", "\n".join(line for line in block.splitlines() if names[0] in line)))
        help_text = capsys.readouterr().out
        assert [one for one in options if one not in help_text] == [], names


def test_a_manifest_is_judged_with_line_and_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text('manifest_version: "1.0"\napps:\n  - id: lidar\n')
    bad.write_text('manifest_version: "1.0"\napps:\n  - id: lidar\n  - id: lidar\n')
    assert cli.main(["manifest", "check", str(good), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entities"]["apps"] == 1
    assert cli.main(["manifest", "check", str(bad), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["usable"], found["findings"][0]["line"]) == (False, 4)
    assert cli.main(["manifest", "check", str(bad), "--text"]) == 1
    assert "would not use" in capsys.readouterr().out
    assert cli.main(["manifest", "check", str(tmp_path / "none.yaml")]) == 1


@pytest.mark.parametrize("name", ["demo_nodes_manifest", "flat_robot_manifest", "multi_robot_cell", "turtlebot3_like"])
def test_the_manifests_of_the_package_are_good(name: str) -> None:
    file = Path(__file__).resolve().parents[2] / "config" / "examples" / f"{name}.yaml"
    assert cli.main(["manifest", "check", str(file)]) == 0
