"""The device's app without a gateway: a plugin is a class, and its device answers from a function here."""

import asyncio
import logging

import httpx
import pytest
from medkit_http_device import HttpDevice

from medkit_gateway_py.plugin import BadValue, NotFound, PluginContext, Unavailable


class Gateway:
    """What a gateway would be told."""

    def __init__(self):
        self.faults, self.changes = [], 0

    def context(self):
        return PluginContext(
            name="http_device",
            parameters={one.name: one.default for one in HttpDevice.parameters},
            log=logging.getLogger("test"),
            changed=self.changed,
            apps=tuple,
            report_fault=lambda app, code, failed, severity, text: self.faults.append((app, code, failed)),
            add_log=lambda *line: None,
        )

    def changed(self):
        self.changes += 1


def run(answer, test):
    """Start the plugin over a device that answers with `answer(request)`, and run `test(plugin, gateway)`."""

    async def main():
        gateway = Gateway()
        plugin = HttpDevice(gateway.context())
        real = httpx.AsyncClient

        def client(**options):
            return real(transport=httpx.MockTransport(answer), base_url=options["base_url"])

        httpx.AsyncClient = client
        try:
            await plugin.start()
        finally:
            httpx.AsyncClient = real
        try:
            await test(plugin, gateway)
        finally:
            await plugin.stop()

    asyncio.run(main())


def test_its_values_are_data_items():
    async def test(plugin, gateway):
        (app,) = plugin.entities().apps
        assert [item.id for item in app.data] == ["level"]
        assert app.is_online
        assert await plugin.read_data(app.id, "level") == 7
        with pytest.raises(NotFound):
            await plugin.read_data(app.id, "pressure")
        assert gateway.faults == [("http_device", "DEVICE_UNREACHABLE", False)]

    run(lambda request: httpx.Response(200, json={"level": 7}), test)


def test_one_that_does_not_answer_is_offline_and_a_fault():
    def refuse(request):
        raise httpx.ConnectError("refused")

    async def test(plugin, gateway):
        assert not plugin.entities().apps[0].is_online
        assert "refused" in plugin.problem()
        assert gateway.faults == [("http_device", "DEVICE_UNREACHABLE", True)]
        with pytest.raises(Unavailable):
            await plugin.read_data("http_device", "level")

    run(refuse, test)


def test_what_it_refuses_is_the_clients_mistake():
    def answer(request):
        if request.method == "GET":
            return httpx.Response(200, json={"level": 7})
        return httpx.Response(400, json={"error": "too high"})

    async def test(plugin, gateway):
        with pytest.raises(BadValue, match="too high"):
            await plugin.write_configuration("http_device", "limit", 1e9)

    run(answer, test)


@pytest.mark.parametrize("url", ["device", "ftp://device", "http://", ""])
def test_a_url_that_is_none_is_refused(url):
    check = next(one.check for one in HttpDevice.parameters if one.name == "url")
    assert check(url)
    assert check("http://device:9000") == ""
