"""A plugin that misbehaves in its thread costs an error, never the gateway's loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from medkit_gateway_py.errors import PluginFailed, PluginTimeout
from medkit_gateway_py.plugin import BadValue
from medkit_gateway_py.plugins.thread import MAX_CALLS, PluginThread
from support.waiting import async_eventually


class Plugin:
    """Starts, stops, and does what a test says."""

    def __init__(self, start: Callable[[], Any] = lambda: None, stop: Callable[[], Any] = lambda: None) -> None:
        self.thread = threading.current_thread().name
        self._start, self._stop = start, stop

    async def start(self) -> None:
        await self._do(self._start)

    async def stop(self) -> None:
        await self._do(self._stop)

    async def _do(self, work: Callable[[], Any]) -> None:
        found = work()
        if found is not None:
            await found


def run(test: Callable[[PluginThread], Any], make: Callable[[], Plugin] = Plugin) -> None:
    """Run a test on a loop with a plugin that has been started."""

    async def main() -> None:
        thread = PluginThread("x", make)
        try:
            await thread.start()
            await test(thread)
        finally:
            with anyio.fail_after(4):
                await thread.stop()

    asyncio.run(main())


def raising(error: BaseException) -> Callable[..., Any]:
    def work(*_: Any) -> Any:
        raise error

    return work


def test_calls_run_in_the_thread_of_the_plugin_one_beside_the_other() -> None:
    async def test(thread: PluginThread) -> None:
        assert await thread.call("x", lambda plugin: plugin.thread, 1.0) == "plugin x"
        met = [asyncio.Event(), asyncio.Event()]

        async def meet(number: int) -> int:
            met[number].set()
            await met[1 - number].wait()
            return number

        both = asyncio.gather(*(thread.call("meet", lambda _, n=n: meet(n), 2.0) for n in range(2)))
        assert await both == [0, 1]

    run(test)


@pytest.mark.parametrize("error", [ValueError("oops"), SystemExit(3), KeyboardInterrupt(), RecursionError("deep")])
def test_what_a_plugin_raises_is_an_error_of_the_call_and_the_next_call_works(error: BaseException) -> None:
    async def test(thread: PluginThread) -> None:
        with pytest.raises(PluginFailed, match=type(error).__name__):
            await thread.call("read", raising(error), 1.0)
        assert "Plugin 'x': read failed" in thread.problem
        assert await thread.call("read", lambda _: 7, 1.0) == 7
        assert thread.problem == ""

    run(test)


def test_an_error_for_the_client_is_no_problem_of_the_plugin() -> None:
    async def test(thread: PluginThread) -> None:
        with pytest.raises(BadValue, match="too hot"):
            await thread.call("write", raising(BadValue("too hot")), 1.0)
        assert thread.problem == ""

    run(test)


def test_a_call_that_waits_for_ever_ends_at_its_deadline_and_is_cancelled() -> None:
    cancelled = threading.Event()

    async def wait(_: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def test(thread: PluginThread) -> None:
        with pytest.raises(PluginTimeout, match="read did not end within"):
            await thread.call("read", wait, 0.1)
        await async_eventually(cancelled.is_set)
        assert await thread.call("read", lambda _: 1, 1.0) == 1

    run(test)


def test_a_plugin_that_blocks_leaves_the_gateway_alone_and_calls_do_not_pile_up() -> None:
    release = threading.Event()

    async def test(thread: PluginThread) -> None:
        before = time.monotonic()
        blocked = asyncio.create_task(thread.call("read", lambda _: release.wait(20), 0.2))
        ticks = 0
        while not blocked.done():
            ticks += 1
            await asyncio.sleep(0.01)
        assert ticks > 5
        with pytest.raises(PluginTimeout):
            await blocked
        waiting = [thread.call("read", lambda _: 1, 0.05) for _ in range(MAX_CALLS + 5)]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(one, PluginTimeout) for one in results)
        assert sum("calls under way" in str(one) for one in results) == 6
        assert time.monotonic() - before < 10
        release.set()
        await async_eventually(lambda: thread._calls == 0)
        assert await thread.call("read", lambda _: 1, 1.0) == 1

    run(test)


def test_one_that_cannot_be_made_or_started_says_why() -> None:
    async def test(_: PluginThread) -> None:
        raise AssertionError("it must not start")

    with pytest.raises(PluginFailed, match="start failed: ValueError: no device"):
        run(test, raising(ValueError("no device")))
    with pytest.raises(PluginFailed, match="start failed: OSError: gone"):
        run(test, lambda: Plugin(start=raising(OSError("gone"))))


def test_what_is_left_running_at_stop_is_cancelled_and_named(caplog: pytest.LogCaptureFixture) -> None:
    tasks: list[asyncio.Task[Any]] = []

    def leak() -> None:
        tasks.append(asyncio.get_running_loop().create_task(asyncio.Event().wait(), name="poll device"))

    async def test(thread: PluginThread) -> None:
        pass

    run(test, lambda: Plugin(start=leak))
    assert tasks[0].cancelled()
    assert "left 1 tasks running: poll device" in caplog.text


def test_a_stop_that_hangs_or_blocks_ends_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    async def test(thread: PluginThread) -> None:
        pass

    try:
        run(test, lambda: Plugin(stop=lambda: release.wait(20)))
    finally:
        release.set()
    assert "did not stop cleanly" in caplog.text
    assert "blocks its thread" in caplog.text


def test_a_plugin_that_has_ended_says_so() -> None:
    async def main() -> None:
        thread = PluginThread("x", Plugin)
        await thread.start()
        await thread.stop()
        with pytest.raises(PluginFailed, match="has ended"):
            await thread.call("read", lambda _: 1, 1.0)

    asyncio.run(main())
