"""What every test gets: a ROS domain of its own, a state folder of its own, an end when it hangs.

Each module runs in a domain that is taken under a file lock, so that neither two modules nor two runs on one machine
hear each other. Tests that start gateways in several domains take more with `ros_domains`.
"""

from __future__ import annotations

import fcntl
import gc
import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from hypothesis import HealthCheck, settings

# Ordinary desktops use 0; ports of domains above 101 fall into the range that Linux gives to outgoing connections.
DOMAINS = range(50, 102)

settings.register_profile("default", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, print_blob=True)
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


class DomainPool:
    """Hands out ROS domain ids that no other test run on this machine holds; a lock goes with its process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[int, IO[str]] = {}
        start = random.randrange(len(DOMAINS))
        self._order = itertools.cycle([*DOMAINS[start:], *DOMAINS[:start]])

    def take(self) -> int:
        """A free domain id. Raises RuntimeError when all are held."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for _ in DOMAINS:
            # Onwards, not the lowest free one: nodes that were killed stay in their domain for some 20 s.
            domain = next(self._order)
            if domain in self._held:
                continue
            lock = open(self._folder / f"domain-{domain}.lock", "a")  # noqa: SIM115 (held until the run ends)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                continue
            self._held[domain] = lock
            return domain
        raise RuntimeError(f"every ROS domain of {DOMAINS} is held by another test run")

    def give_back(self, domain: int) -> None:
        """Lets another run have it."""
        self._held.pop(domain).close()


_POOL = DomainPool(Path(tempfile.gettempdir()) / f"medkit-test-domains-{os.getuid()}")


def pytest_configure(config: pytest.Config) -> None:
    """Sets the environment before test modules are imported, and so before rclpy is."""
    os.environ["ROS_DOMAIN_ID"] = str(_POOL.take())
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.pop("ROS_LOCALHOST_ONLY", None)
    # A gateway under test must not leave its identity in the home folder, nor find one there.
    state = tempfile.mkdtemp(prefix="medkit-test-state-")
    os.environ["XDG_STATE_HOME"] = state
    os.environ["ROS_LOG_DIR"] = os.path.join(state, "ros-log")
    config.addinivalue_line("markers", "timeout(seconds): how long this test may run (pytest-timeout)")
    config.add_cleanup(lambda: shutil.rmtree(state, ignore_errors=True))


@pytest.fixture(scope="module", autouse=True)
def ros_domain() -> Iterator[int]:
    """A ROS domain id for this module's processes, in `ROS_DOMAIN_ID` as long as the module runs."""
    domain = _POOL.take()
    before = os.environ["ROS_DOMAIN_ID"]
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    yield domain
    os.environ["ROS_DOMAIN_ID"] = before
    _POOL.give_back(domain)


@pytest.fixture(scope="module", autouse=True)
def short_pauses() -> None:
    """What thousands of collected tests leave in memory is looked through no more.

    It takes the garbage collector a third of a second, more than many a limit that is tested.
    """
    gc.collect()
    gc.freeze()


def _domains() -> Iterator[Callable[[], int]]:
    taken: list[int] = []

    def take() -> int:
        taken.append(_POOL.take())
        return taken[-1]

    yield take
    for domain in taken:
        _POOL.give_back(domain)


@pytest.fixture
def ros_domains() -> Iterator[Callable[[], int]]:
    """A function that gives one more ROS domain id at each call; all go back at the end of the test."""
    yield from _domains()


@pytest.fixture(scope="module")
def module_domains() -> Iterator[Callable[[], int]]:
    """As `ros_domains`; they go back at the end of the module."""
    yield from _domains()


@pytest.fixture
def anyio_backend() -> str:
    """asyncio, as the gateway: an older anyio would also try trio, installed or not."""
    return "asyncio"


@pytest.fixture
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty XDG_STATE_HOME for this test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"
