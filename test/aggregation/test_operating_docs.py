"""What docs/operating.md shows and promises, against the code."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

from medkit_gateway_py.aggregation.operate import _TYPES, MAX_ADDED
from medkit_gateway_py.aggregation.peers_file import _PEER_KEYS, parse_peers_file
from medkit_gateway_py.api import fault_metrics, metrics
from medkit_gateway_py.api.route_table import ROWS
from medkit_gateway_py.parameters.aggregation import Aggregation
from support.api import gateway

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operating.md").read_text()


def test_the_peers_file_of_the_page_is_a_good_one() -> None:
    (text,) = re.findall(r"```text\n(peers:.*?)```", PAGE, re.DOTALL)
    found = parse_peers_file(text, "peers.yaml", Aggregation(require_tls=True), lambda file: "token", str)
    assert [peer.name for peer in found.peers] == ["arm", "base"]
    assert found.warnings == ()
    assert found.allow_discovered is not None


def test_every_setting_of_the_file_is_explained() -> None:
    section = PAGE.partition("## The peers file")[2].partition("\n## ")[0]
    rows = "".join(line.split("|")[1] for line in section.splitlines() if line.startswith("|"))
    assert [name for name in (*_PEER_KEYS, "allow_discovered") if f"`{name}`" not in rows] == []


def test_the_commands_of_the_page_are_routes_and_bodies_of_this_gateway() -> None:
    commands = re.findall(r"curl -s -X (\w+) \$API(/\S+)", PAGE)
    assert len(commands) == 4
    for method, path in commands:
        pattern = re.sub(r"/peers/\w+", "/peers/{name}", path)
        assert (method, pattern) in {(row.method, row.template) for row in ROWS}
    for body in re.findall(r"-d '({.*?})'", PAGE):
        assert set(json.loads(body)) <= set(_TYPES)
    assert f"At most {MAX_ADDED} peers" in PAGE.replace("\n  ", " ")


def test_every_metric_is_named_and_no_other() -> None:
    context = gateway(enabled=True, health_blocks=lambda: {"x": {"state": "ok"}})
    source = inspect.getsource(metrics)
    # Those of faults are told only where there is a store.
    faults = re.findall(r'"(medkit_faults\w*)"', inspect.getsource(fault_metrics))
    names = {family.name for family in metrics.Metrics(context).collect()}
    names |= set(faults)
    names |= {f"medkit_aggregation_{name}" for name in re.findall(r'gauge\("(\w+)"', source)}
    named = {name.removesuffix("_total").removesuffix("_info") for name in re.findall(r"`(medkit_\w+)`", PAGE)}
    assert named == names
