"""One plugin in a thread of its own, so that one that raises, waits for ever or blocks hurts nobody else.

Calls come from the gateway's loop and have a deadline; the plugin's methods run on a loop in the plugin's thread. It
can still hold the interpreter's lock in native code, or end the process: no thread keeps it from that.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any

import anyio

from ..errors import PluginFailed, PluginTimeout
from .api import PluginError

START_S = 5.0
# All of it below the second that the gateway has for its plugins, which stop at once.
STOP_S = 0.5
# Time for what a stopped plugin left behind to take its cancellation.
CANCEL_S = 0.2
# Calls under way in one plugin. More means that it hangs: the next one is refused at once instead of piling up.
MAX_CALLS = 32

_log = logging.getLogger(__name__)

Work = Callable[[Any], Any]


class PluginThread:
    """A plugin, made by `make` in its thread. All methods are called on the gateway's loop.

    `problem` is what went wrong last, "" when the last call went well.
    """

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        self.name = name
        self.problem = ""
        self._make = make
        self._plugin: Any = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"plugin {name}", daemon=True)
        self._calls = 0

    async def start(self) -> None:
        """Make the plugin and start it. Raises PluginFailed or PluginTimeout."""
        self._thread.start()

        async def begin(_none: Any) -> None:
            self._plugin = self._make()
            await self._plugin.start()

        await self.call("start", begin, START_S)

    async def call(self, what: str, work: Work, limit_s: float) -> Any:
        """What `work(plugin)` gives, awaited in the plugin's thread when it can be.

        :raises PluginError: of the plugin's own.
        :raises PluginFailed: it raised something else, or has too many calls under way.
        :raises PluginTimeout: it did not end in time; it is cancelled, which a plugin that blocks does not notice.
        """
        if self._calls >= MAX_CALLS:
            raise self._failed(PluginTimeout(f"Plugin '{self.name}' has {MAX_CALLS} calls under way that do not end"))
        ours = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = ours.create_future()
        task: list[asyncio.Task[Any]] = []
        self._calls += 1

        def begin() -> None:
            task.append(self._loop.create_task(_contained(work, self._plugin)))
            task[0].add_done_callback(ended)

        def ended(done: asyncio.Task[Any]) -> None:
            try:
                ours.call_soon_threadsafe(take, None if done.cancelled() else done.result())
            except RuntimeError:
                _log.debug("the gateway's loop is closed, plugin %s has no taker", self.name)

        def take(outcome: tuple[Any, BaseException | None] | None) -> None:
            self._calls -= 1
            if answer.done():
                return
            if outcome is None:
                answer.cancel()
            elif outcome[1] is not None:
                answer.set_exception(outcome[1])
            else:
                answer.set_result(outcome[0])

        try:
            self._loop.call_soon_threadsafe(begin)
        except RuntimeError:
            self._calls -= 1
            raise self._failed(PluginFailed(f"Plugin '{self.name}' has ended")) from None
        try:
            with anyio.fail_after(limit_s):
                found = await answer
        except TimeoutError:
            raise self._failed(
                PluginTimeout(f"Plugin '{self.name}': {what} did not end within {limit_s:g} s")
            ) from None
        except PluginError:
            self.problem = ""
            raise
        except PluginFailed as error:
            raise self._failed(
                PluginFailed(f"Plugin '{self.name}': {what} failed: {error.message}")
            ) from error.__cause__
        finally:
            if not answer.done() or answer.cancelled():
                self._cancel(task)
        self.problem = ""
        return found

    async def stop(self) -> None:
        """Stop the plugin and its loop; what it left running is cancelled, a thread that does not end is left."""
        if not self._thread.is_alive():
            return
        if self._plugin is not None:
            try:
                await self.call("stop", lambda plugin: plugin.stop(), STOP_S)
            except (PluginError, PluginFailed) as error:
                _log.warning("Plugin '%s' did not stop cleanly: %s", self.name, error)
        self._post(self._end)
        await anyio.to_thread.run_sync(self._thread.join, CANCEL_S + 0.1)
        if self._thread.is_alive():
            _log.warning("Plugin '%s' blocks its thread; it is left behind", self.name)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _end(self) -> None:
        left = asyncio.all_tasks(self._loop)
        if left:
            names = ", ".join(sorted(task.get_name() for task in left)[:5])
            _log.warning("Plugin '%s' left %d tasks running: %s", self.name, len(left), names)
        for task in left:
            task.cancel()

        async def finish() -> None:
            if left:
                await asyncio.wait(left, timeout=CANCEL_S)
            self._loop.stop()

        self._keep = self._loop.create_task(finish())

    def _cancel(self, task: list[asyncio.Task[Any]]) -> None:
        self._post(lambda: [one.cancel() for one in task])

    def _post(self, function: Callable[[], Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            _log.debug("the loop of plugin %s is closed", self.name)

    def _failed(self, error: PluginFailed) -> PluginFailed:
        if error.message != self.problem:
            _log.error("%s", error.message, exc_info=error.__cause__)
        self.problem = error.message
        return error


async def _contained(work: Work, plugin: Any) -> tuple[Any, BaseException | None]:
    """`(result, None)` or `(None, error)`: an error as a value, because SystemExit would end the plugin's loop."""
    try:
        found = work(plugin)
        return (await found if inspect.isawaitable(found) else found), None
    except asyncio.CancelledError:
        raise
    except PluginError as error:
        return None, error
    except BaseException as error:
        failed = PluginFailed(f"{type(error).__name__}: {error}")
        failed.__cause__ = error
        return None, failed
