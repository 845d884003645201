"""docs/plugins.md, done as it says: its files, its commands, its requests."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.gateways import Fleet, fleet
from support.installed import install
from support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "plugins.md").read_text()


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path / "fleet") as found:
        yield found


def test_the_page_leads_from_an_empty_folder_to_a_plugin_that_runs(
    made: Fleet, tmp_path: Path, ros_domain: int
) -> None:
    for name, text in re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', PAGE, re.MULTILINE | re.DOTALL):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    run, ask = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    pip, gateway_node = (shlex.split(line) for line in run.strip().splitlines())
    assert pip[:2] == ["pip", "install"]
    environment = install(tmp_path / "site", tmp_path / pip[2])
    assert gateway_node[:2] == ["gateway_node", "--ros-args"]
    gateway = made.gateway("a", ros_domain, start=False, arguments=gateway_node[2:])
    gateway._environment.update(environment)
    gateway.start()
    gateway.lists("apps", "kettle")

    answers: list[Any] = []
    for line in ask.strip().splitlines():
        words = shlex.split(line)
        method = words[words.index("-X") + 1] if "-X" in words else "GET"
        path = next(word for word in words if word.startswith("localhost:8080/api/v1")).partition("/api/v1")[2]
        body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
        if path.endswith("/logs"):
            eventually(lambda path=path: gateway.get(path).json()["items"], within=10.0)  # type: ignore[misc]
        answer = gateway.client.request(method, path, json=body)
        assert answer.status_code == 200, answer.text
        answers.append(answer.json())
    assert answers[0]["data"] == {"celsius": 23.5}
    assert answers[1] == {"parameters": {"boiling": True}}
    assert answers[2]["data"] == 40
    assert answers[3]["items"][0]["message"] == "the water boils"
    assert gateway.client.put("/apps/kettle/configurations/target", json={"data": 400}).status_code == 400
    assert gateway.client.put("/apps/kettle/data/light", json={"data": "on"}).status_code == 400
