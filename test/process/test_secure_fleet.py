"""Two gateways over HTTPS with tokens and a peers file, and an admin who changes peers: all of it as in the field."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from support.certificates import Authority
from support.gateways import Fleet, Gateway, fleet
from support.waiting import eventually

pytestmark = pytest.mark.process
SECRET = "a secret of more than thirty-two characters"
CLIENTS = ["root:toor:admin", "head:secret-of-head:viewer+peer", "eye:secret-of-eye:viewer"]


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as found:
        yield found


def token(gateway: Gateway, client: str, secret: str) -> str:
    """An access token of this gateway."""
    form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
    answer = gateway.client.post("/auth/authorize", json=form)
    assert answer.status_code == 200, answer.text
    found = answer.json()["access_token"]
    assert isinstance(found, str)
    return found


def bearer(found: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {found}"}


def test_a_peer_behind_https_and_tokens_is_reached_by_its_pin_and_our_token_for_it(
    one: Fleet, ros_domains: Callable[[], int], tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.certificate("leaf")
    authentication = {
        "auth.enabled": True, "auth.jwt_secret": SECRET, "auth.clients": CLIENTS, "auth.require_auth_for": "all",
    }  # fmt: skip
    tls = {"server.tls.enabled": True, "server.tls.cert_file": str(cert), "server.tls.key_file": str(key)}
    leaf = one.gateway("leaf", ros_domains(), node="leaf", parameters={**authentication, **tls}, ca=authority.ca)
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(cert.read_text())).hexdigest()

    secret = tmp_path / "leaf.token"
    secret.write_text("not-yet")
    secret.chmod(0o600)
    peers = tmp_path / "peers.yaml"
    peers.write_text(f"peers: [{{name: arm, url: '{leaf.url}', token_file: leaf.token, fingerprint: '{pin}'}}]")
    peers.chmod(0o600)
    head = one.gateway(
        "head", ros_domains(), node="head",
        parameters={"aggregation.enabled": True, "aggregation.peers_file": str(peers), **authentication},
    )  # fmt: skip
    admin, viewer = (bearer(token(head, *pair)) for pair in (("root", "toor"), ("eye", "secret-of-eye")))

    def ids() -> set[str]:
        return {item["id"] for item in head.get("/apps", headers=viewer).json()["items"]}

    def peer() -> dict[str, object]:
        found = head.get("/x-medkit/peers/arm", headers=viewer).json()
        assert isinstance(found, dict)
        return found

    # A token that the peer does not know gives nothing; the right one is taken from its file without a restart.
    eventually(lambda: "401" in str(peer().get("last_error", "")), within=15, message=lambda: head.output)
    secret.write_text(token(leaf, "head", "secret-of-head"))
    eventually(lambda: {"head", "leaf"} <= ids(), within=20, message=lambda: head.output)
    assert head.get("/apps/leaf", headers=viewer).status_code == 200
    assert head.get("/apps/leaf").status_code == 401
    # The token for the peer is one of a viewer: a command is the peer's to refuse.
    assert (
        head.client.put("/apps/leaf/data/x", json={"type": "std_msgs/msg/Bool", "data": {}}, headers=admin).status_code
        == 403
    )

    assert head.client.put("/x-medkit/peers/arm/pause", headers=viewer).status_code == 403
    assert head.client.put("/x-medkit/peers/arm/pause", headers=admin).json()["state"] == "paused"
    eventually(lambda: "leaf" not in ids(), within=15, message=lambda: head.output)
    assert head.get("/apps/leaf", headers=viewer).status_code == 502
    assert head.client.put("/x-medkit/peers/arm/resume", headers=admin).status_code == 200
    eventually(lambda: "leaf" in ids(), within=15, message=lambda: head.output)

    metrics = head.url + "/metrics"
    assert httpx.get(metrics, trust_env=False).status_code == 401
    assert 'medkit_aggregation_peer_online{peer="arm"} 1.0' in httpx.get(metrics, headers=viewer, trust_env=False).text

    wrong = {"name": "other", "url": leaf.url, "fingerprint": "00" * 32}
    assert head.client.post("/x-medkit/peers", json=wrong, headers=admin).status_code == 400

    # Another certificate behind the same address: nothing is sent to it, the token least of all.
    peers.write_text(peers.read_text().replace(pin, "00" * 32))
    eventually(
        lambda: "not the pinned one" in str(peer().get("last_error", "")), within=15, message=lambda: head.output
    )
    eventually(lambda: "leaf" not in ids(), within=15, message=lambda: head.output)
    for text in (SECRET, "secret-of", secret.read_text()):
        assert text not in head.output + leaf.output


def test_an_authority_is_replaced_while_entities_stay_listed_and_served(
    one: Fleet, ros_domains: Callable[[], int], tmp_path: Path
) -> None:
    authority, stranger = Authority(tmp_path, "ours"), Authority(tmp_path, "stranger")
    cert, key = authority.certificate("leaf")
    tls = {"server.tls.enabled": True, "server.tls.cert_file": str(cert), "server.tls.key_file": str(key)}
    leaf = one.gateway("leaf", ros_domains(), node="leaf", parameters=tls, ca=authority.ca)
    trusted, peers = tmp_path / "trusted.pem", tmp_path / "peers.yaml"

    def trust(*authorities: Authority) -> None:
        trusted.write_bytes(b"".join(one.ca.read_bytes() for one in authorities))

    def configure(more: str = "") -> None:
        peers.write_text(f"peers: [{{name: arm, url: '{leaf.url}', ca_file: trusted.pem{more}}}]")

    trust(authority)
    configure()
    given = {"aggregation.enabled": True, "aggregation.peers_file": str(peers)}
    head = one.gateway("head", ros_domains(), node="head", parameters=given)
    head.lists("apps", "leaf")

    def new_settings() -> int:
        """How often they were used so far; nothing may be missing meanwhile."""
        assert "leaf" in head.ids("apps")
        assert head.get("/apps/leaf").status_code == 200
        return head.output.count("has new settings")

    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(cert.read_text())).hexdigest()
    steps: list[Callable[[], object]] = [
        lambda: trust(authority, stranger),
        lambda: configure(", allow: {methods: [GET]}"),
        lambda: configure(f", fingerprint: '{pin}'"),
        lambda: configure(),
    ]
    for number, step in enumerate(steps):
        step()
        eventually(lambda wanted=number + 1: new_settings() >= wanted, within=15, message=lambda: head.output)
    trusted.write_text("half of a certificate")
    eventually(lambda: new_settings() and "peers_file_invalid" in head.get("/health").text, within=15)
    trust(stranger, authority)
    eventually(lambda: new_settings() > len(steps), within=15, message=lambda: head.output)
    began = head.get("/x-medkit/peers/arm").json()["since"]
    eventually(lambda: head.get("/x-medkit/peers/arm").json()["last_seen_s"] < 1, within=10)
    assert head.get("/x-medkit/peers/arm").json()["since"] == began
    # An authority that did not sign the peer's certificate does take it away, and only then.
    trust(stranger)
    head.lists_no("apps", "leaf")
    assert "not accepted" in head.get("/x-medkit/peers/arm").json()["last_error"]
    trust(authority)
    head.lists("apps", "leaf")
    assert head.output.count("is offline") == 1
