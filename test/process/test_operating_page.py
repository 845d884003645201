"""docs/operating.md on two gateways: every shell block in its order, and what it prints against what the page says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.gateways import fleet
from support.pages import ROOT, Shell, blocks
from support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

PAGE = (ROOT / "docs" / "operating.md").read_text()


def test_every_command_of_the_page_does_what_the_page_says(tmp_path: Path, ros_domains: Callable[[], int]) -> None:
    with fleet(tmp_path) as one:
        arm = one.gateway("arm", ros_domains(), node="gateway_arm")
        settings = {
            "aggregation.enabled": True,
            "aggregation.peer_names": ["arm"],
            "aggregation.peer_urls": [arm.url],
            "auth.enabled": True,
            "auth.jwt_secret": "a secret of the tests, long enough",
            "auth.clients": ["owner:the-one-who-may-do-all:admin"],
        }
        head = one.gateway("head", ros_domains(), node="gateway_head", parameters=settings)
        head.lists("apps", "gateway_arm")
        # The page's address might be somebody's; this one is nobody's (RFC 5737).
        shell = Shell(tmp_path, {"localhost:8080": f"127.0.0.1:{head.port}", "10.0.0.9": "192.0.2.9"})
        for block in blocks(PAGE):
            assert block.output is not None, block.commands
            shell.check(block)
        assert "Traceback" not in head.output
        eventually(lambda: {peer["name"] for peer in head.get("/health").json()["peers"]} == {"arm"})
