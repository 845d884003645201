"""Programs of `test/process/test_mdns.py` that run in a network of their own: `unshare --net python -m ... NAME`.

Others on the machine need port 5353 and have addresses of their own; here nobody else is. Each prints what it found,
and fails when something did not happen.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import socket
import subprocess
import sys
from pathlib import Path

from zeroconf.asyncio import AsyncZeroconf

from medkit_gateway_py.aggregation.peer_discovery import mdns
from support.fake_peer import TestGateway, running, tree_of
from support.gateways import Gateway, fleet
from support.mdns import announce, mdns_settings, private_service
from support.waiting import async_eventually, eventually

SOON_S = 20.0


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=10)


def network_card(name: str) -> None:
    """An interface without addresses, with nobody at the other end."""
    ip("link", "add", name, "type", "veth", "peer", "name", f"{name}-end")
    for end in (name, f"{name}-end"):
        ip("link", "set", end, "addrgenmode", "none")
        ip("link", "set", end, "up")


def state(gateway: TestGateway) -> str:
    return str(gateway.federation.discovery_health()["mdns"]["state"])


async def blocked() -> None:
    """Somebody holds port 5353 and does not share it; after a while it is free."""
    mdns.REOPEN_S = 0.2
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    holder.bind(("", 5353))
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["lidar"]))
        a = TestGateway("a", {"fixed": b.url}, **mdns_settings(private_service()))
        async with running(a):
            await async_eventually(lambda: set(a.federation.tree.apps) == {"lidar"}, SOON_S)
            await async_eventually(lambda: state(a) == "down", SOON_S)
            print("STATE", a.federation.discovery_health()["mdns"])
            # Several tries fail meanwhile.
            await asyncio.sleep(5 * mdns.REOPEN_S)
            holder.close()
            await async_eventually(lambda: state(a) == "ok", SOON_S)
            print("STATE", a.federation.discovery_health()["mdns"])


async def moving() -> None:
    """A network comes up after the gateway that announces itself, and after one that shall look there only."""
    mdns.ADDRESSES_S = mdns.REOPEN_S = 0.2
    a = TestGateway("a", {}, announce=True, mdns_name="a")
    a.config = dataclasses.replace(a.config, server=dataclasses.replace(a.config.server, host="0.0.0.0"))
    b = TestGateway("b", {}, discover=True)
    c = TestGateway("c", {}, discover=True, mdns_interfaces=("10.9.9.1",))
    async with running(a, b, c):
        (discovery,) = [one for one in a.federation._discoveries if isinstance(one, mdns.MdnsPeers)]

        def announced() -> list[str]:
            return discovery._info.parsed_addresses() if discovery._info is not None else []

        await async_eventually(lambda: state(a) == "ok", SOON_S)
        await async_eventually(lambda: state(c) == "down", SOON_S)
        assert announced() == ["127.0.0.1"]
        assert not b.federation.peers, "it has no address that may be used"
        network_card("wlan0")
        ip("address", "add", "10.9.9.1/24", "dev", "wlan0")
        await async_eventually(lambda: announced() == ["10.9.9.1"], SOON_S)
        await async_eventually(lambda: state(c) == "ok", SOON_S)
        # Who looks hears of it, and asks there.
        loop = asyncio.get_running_loop()
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("10.9.9.1", a.port))
            listener.listen()
            listener.setblocking(False)
            client, _ = await asyncio.wait_for(loop.sock_accept(listener), SOON_S)
            with client:
                request = await asyncio.wait_for(loop.sock_recv(client, 1000), SOON_S)
        print("ASKED", *request.decode().split()[:2])


async def ipv6() -> None:
    """Gateways that have only addresses of IPv6."""
    network_card("eth0")
    for address in ("fd00:77::1/64", "fe80::77/64"):
        ip("address", "add", address, "dev", "eth0", "nodad")

    async def healthy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"status":"healthy","timestamp":1}'
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    service = private_service()
    a = TestGateway("a", {}, discover=True, mdns_service=service, mdns_interfaces=("fe80::77%eth0",))
    async with running(a), await asyncio.start_server(healthy, "::", 8080):
        someone = AsyncZeroconf(interfaces=["fe80::77"])
        try:
            await announce(someone, service, "global", 8080, {}, "fd00:77::1")
            await announce(someone, service, "link", 8080, {}, "fe80::77")
            await async_eventually(lambda: len(a.federation.peers) == 2, SOON_S)
        finally:
            await someone.async_close()
        for peer in a.federation.peers:
            print("PEER", peer.name, peer.url)


def topology(folder: str, *domains: str) -> None:
    """The two gateways of config/topologies/mdns on one host."""
    files = Path(__file__).resolve().parents[2] / "config" / "topologies" / "mdns"
    with fleet(Path(folder)) as one:
        gateways = []
        for name, domain, port in zip(("gateway_a", "gateway_b"), domains, (8080, 8081), strict=True):
            given = ["--params-file", str(files / f"{name}.yaml"), "-r", f"__node:={name}"]
            given += ["-p", f"state_dir:={folder}/{name}"]
            gateway = Gateway(Path(folder), int(domain), port=port, own_parameters=False, arguments=given)
            one.processes.append(gateway)
            gateway.spawn()
            gateways.append(gateway)
        for gateway in gateways:
            eventually(gateway._answers, 30, lambda gateway=gateway: gateway.output)
            gateway.lists("apps", "gateway_a", "gateway_b", within=30)
            gateway.lists("components", "host_a", "host_b")
            print("PEERS", gateway.get("/health").json()["peers"])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")
    ip("link", "set", "lo", "multicast", "on", "up")
    program, arguments = sys.argv[1], sys.argv[2:]
    if program == "topology":
        topology(*arguments)
    else:
        asyncio.run({"blocked": blocked, "moving": moving, "ipv6": ipv6}[program]())
