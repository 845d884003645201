"""The end in bounded time, held against a process in which no Python code can run."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# PyDLL keeps the GIL during the call, as the hanging destruction of a node does.
HANG = "import ctypes; ctypes.PyDLL(None).sleep(30)"
BEGIN = "from medkit_gateway_py.ros.last_resort import leave_within; call_off = leave_within({seconds}, {code}); "


def run(program: str) -> tuple[int, float]:
    began = time.monotonic()
    finished = subprocess.run([sys.executable, "-c", program], timeout=20, check=False, cwd=ROOT)
    return finished.returncode, time.monotonic() - began


@pytest.mark.parametrize("code", [0, 3])
def test_a_process_that_hangs_with_the_gil_held_ends_in_time_with_the_code_it_was_given(code: int) -> None:
    returned, took_s = run(BEGIN.format(seconds=0.5, code=code) + HANG)
    assert returned == code
    assert 0.5 <= took_s < 5.0


def test_a_process_that_ends_earlier_is_left_alone() -> None:
    returned, took_s = run(BEGIN.format(seconds=10, code=0) + "raise SystemExit(4)")
    assert returned == 4
    assert took_s < 5.0


def test_it_can_be_called_off() -> None:
    program = BEGIN.format(seconds=0.3, code=5) + "call_off(); import threading; threading.Event().wait(1.0)"
    assert run(program)[0] == 0
