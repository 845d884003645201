"""Whole gateways with HTTPS and tokens: the handshake, a restart after a kill, and the `secure` topology as shipped."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.certificates import Authority
from support.gateways import Fleet, Gateway, fleet
from support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

FILES = Path(__file__).resolve().parents[2] / "config" / "topologies" / "secure"
SECRET = "the secret of whole gateways, long enough"
CLIENTS = ["dashboard:pass-of-dashboard:viewer", "technician:pass-of-technician:operator", "owner:pass-of-owner:admin"]


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as found:
        yield found


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Authority(folder)


def login(gateway: Gateway, client: str) -> dict[str, Any]:
    """What the gateway grants to a client."""
    body = {"grant_type": "client_credentials", "client_id": client, "client_secret": f"pass-of-{client}"}
    answer = gateway.client.post("/auth/authorize", json=body)
    assert answer.status_code == 200, answer.text
    granted: dict[str, Any] = answer.json()
    return granted


def bearer(granted: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {granted['access_token']}"}


def tls(authority: Authority, **more: Any) -> dict[str, Any]:
    cert, key = authority.certificate()
    given = {"enabled": True, "cert_file": str(cert), "key_file": str(key), **more}
    return {f"server.tls.{name}": value for name, value in given.items()}


def handshake(gateway: Gateway, newest: ssl.TLSVersion) -> str:
    """The version of TLS that a client and the gateway agree on. Raises OSError when they do not."""
    context = ssl.create_default_context(cafile=str(gateway.ca))
    context.maximum_version = newest
    with (
        socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        return wrapped.version() or ""


def test_the_least_version_of_tls_is_kept(one: Fleet, authority: Authority, ros_domains: Callable[[], int]) -> None:
    strict = one.gateway("strict", ros_domains(), ca=authority.ca, parameters=tls(authority, min_version="1.3"))
    assert handshake(strict, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises(OSError):
        handshake(strict, ssl.TLSVersion.TLSv1_2)
    assert strict.get("/").json()["tls"] == {"enabled": True, "min_version": "1.3"}
    assert strict.stop() == 0
    lenient = one.gateway("lenient", ros_domains(), ca=authority.ca, parameters=tls(authority))
    assert handshake(lenient, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", lenient.port), timeout=10) as plain,
        pytest.raises(OSError),
    ):
        old.wrap_socket(plain)


def test_whatever_is_no_tls_ends_quietly_and_hurts_nobody(one: Fleet, authority: Authority, ros_domain: int) -> None:
    gateway = one.gateway("a", ros_domain, ca=authority.ca, parameters=tls(authority))
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{gateway.port}/api/v1/health", timeout=10.0, trust_env=False)
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70_000, b"\x16\x03\x01\x00\x05\x01"):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain:
            plain.sendall(garbage)
    for _ in range(20):
        socket.create_connection(("127.0.0.1", gateway.port), timeout=10).close()
    stranger = ssl.create_default_context()
    with (
        socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        stranger.wrap_socket(plain, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10):  # never says a word
        assert gateway.get("/health").status_code == 200
        assert gateway.stop(timeout_s=6.0) == 0
    assert "Traceback" not in gateway.output
    assert "SSL" not in gateway.output


def test_a_revoked_token_stays_revoked_after_a_kill(one: Fleet, ros_domain: int) -> None:
    given = {"auth.enabled": True, "auth.jwt_secret": SECRET, "auth.clients": CLIENTS}
    gateway = one.gateway("a", ros_domain, parameters=given)
    lost, family, kept = (login(gateway, "owner") for _ in range(3))
    assert gateway.client.post("/auth/revoke", json={"token": lost["access_token"]}).json() == {"status": "revoked"}
    assert gateway.client.post("/auth/revoke", data={"token": family["refresh_token"]}).status_code == 200
    gateway.kill()
    again = one.again(gateway)
    for granted in (lost, family):
        answer = again.client.delete("/nothing", headers=bearer(granted))
        assert (answer.status_code, answer.json()["error_description"]) == (401, "Token has been revoked")
    assert again.client.delete("/nothing", headers=bearer(kept)).status_code == 404
    renew = {"grant_type": "refresh_token"}
    assert again.client.post("/auth/token", json={**renew, "refresh_token": family["refresh_token"]}).status_code == 401
    renewed = again.client.post("/auth/token", json={**renew, "refresh_token": kept["refresh_token"]})
    assert (renewed.status_code, renewed.json()["refresh_token"]) == (200, kept["refresh_token"])
    for secret in (SECRET, "pass-of-owner", kept["access_token"]):
        assert secret not in gateway.output + again.output


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"auth.enabled": True}, "there is no secret"),
        ({"auth.enabled": True, "auth.jwt_secret": "short"}, "shorter than 32"),
        ({"auth.enabled": True, "auth.jwt_secret": SECRET, "auth.clients": ["a:b:root"]}, "unknown role"),
        ({"server.tls.enabled": True, "server.tls.cert_file": "/no", "server.tls.key_file": "/no"}, "cannot be read"),
    ],
)
def test_what_is_not_safe_does_not_start(one: Fleet, ros_domain: int, parameters: dict[str, Any], reason: str) -> None:
    gateway = one.gateway("a", ros_domain, parameters=parameters, start=False)
    gateway.spawn()
    assert gateway.wait(30.0) == 1
    eventually(lambda: "Not started" in gateway.output)
    assert reason in gateway.output
    assert "Traceback" not in gateway.output


def test_a_header_of_a_megabyte_is_refused_and_hurts_nobody(one: Fleet, ros_domain: int) -> None:
    given = {"auth.enabled": True, "auth.jwt_secret": SECRET, "auth.clients": CLIENTS, "auth.require_auth_for": "all"}
    gateway = one.gateway("a", ros_domain, parameters=given)
    answer = gateway.get("/apps", headers={"Authorization": "Bearer " + "x" * 1_000_000})
    assert answer.status_code in (400, 401, 431)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain:
        plain.sendall(b"GET /api/v1/apps HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xc3\xa4\xff\r\n\r\n")
        assert plain.recv(100).startswith(b"HTTP/1.1 401")
    assert gateway.get("/apps", headers=bearer(login(gateway, "dashboard"))).status_code == 200
    assert "Traceback" not in gateway.output


def test_the_secure_topology_asks_for_tokens_on_both_hops(
    one: Fleet, authority: Authority, tmp_path: Path, ros_domains: Callable[[], int]
) -> None:
    cert, key = authority.certificate()
    secret, clients = tmp_path / "jwt_secret", tmp_path / "clients"
    for file, text in ((secret, SECRET), (clients, "\n".join(CLIENTS))):
        file.touch(mode=0o600)
        file.write_text(text)
    # Only what depends on the machine is not as shipped.
    machine = {
        "server.host": "127.0.0.1",
        "server.tls.cert_file": str(cert),
        "server.tls.key_file": str(key),
        "auth.jwt_secret_file": str(secret),
        "auth.clients_file": str(clients),
    }

    def start(name: str, domain: int, **more: Any) -> Gateway:
        arguments = ["--params-file", str(FILES / f"{name}.yaml")]
        return one.gateway(
            name, domain, node=name, ca=authority.ca, arguments=arguments, parameters={**machine, **more}
        )

    domain_b = ros_domains()
    one.robot("a", domain_b)
    b = start("gateway_b", domain_b)
    a = start(
        "gateway_a",
        ros_domains(),
        **{
            "aggregation.peer_urls": [f"https://localhost:{b.port}"],
            "aggregation.tls.ca_file": str(authority.ca),
            "aggregation.announce": False,
            "aggregation.discover": False,
        },
    )
    a.lists("components", "host_a", "host_b", within=30.0)
    a.lists("apps", "calibration", within=30.0)
    call = "/apps/calibration/operations/calibrate/executions"
    eventually(lambda: a.get("/apps/calibration/operations").json()["items"], within=20.0)

    viewer, operator = login(a, "dashboard"), login(a, "technician")
    for gateway in (a, b):
        assert gateway.client.post(call, json={}).status_code == 401
        refused = gateway.client.post(call, json={}, headers=bearer(viewer))
        assert (refused.status_code, refused.json()["error"]) == (403, "insufficient_scope")
    # The token of A is good at B, which asks for it, too.
    answer = a.client.post(call, json={}, headers=bearer(operator), timeout=20.0)
    assert answer.status_code == 200, answer.text
    assert a.client.delete("/apps/calibration/configurations", headers=bearer(operator)).status_code == 403
    for gateway in (a, b):
        assert "Traceback" not in gateway.output
        assert SECRET not in gateway.output
