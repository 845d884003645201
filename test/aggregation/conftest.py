"""Tests here run on asyncio, with real sockets on 127.0.0.1 and without ROS."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """asyncio, as the gateway."""
    return "asyncio"
