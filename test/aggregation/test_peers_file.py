"""The file of peers: what it may say, how it is told where it is wrong, and what happens when it changes."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.aggregation.access import Access
from medkit_gateway_py.aggregation.client import PeerClient
from medkit_gateway_py.aggregation.peer_discovery import ADDED, REMOVED, PeerEvent, PeerSpec
from medkit_gateway_py.aggregation.peers_file import PeersFile, PeersFileError, parse_peers_file
from medkit_gateway_py.aggregation.peers_read import peers_findings
from medkit_gateway_py.aggregation.sections import GatewayIdentity
from medkit_gateway_py.parameters import GatewayConfig
from medkit_gateway_py.parameters.aggregation import Aggregation, PeerTls
from support.certificates import Authority
from support.fake_peer import TestGateway, running, tree_of
from support.waiting import async_eventually

PIN = "ab" * 32
NO_FILE = "No such file or directory"
OWN = GatewayIdentity("me", "1", "me", "1.0.0")


def parse(text: str, **aggregation: object) -> PeersFile:
    """The file with this text, whose token files hold `token of <path>`."""

    def read(file: str) -> str:
        if "missing" in file:
            raise FileNotFoundError(2, "No such file or directory")
        return {"/d/two.token": "two words\n"}.get(file, f"token-of-{file}\n")

    return parse_peers_file(text, "peers.yaml", Aggregation(**aggregation), read, lambda name: f"/d/{name}")


def test_every_setting_arrives() -> None:
    found = parse(f"""
peers:
  - name: arm
    url: https://Arm.local:443/base/
    token_file: arm.token
    ca_file: ca.pem
    client_cert: me.pem
    client_key: me.key
    fingerprint: sha256:{PIN}
    forward_auth: true
    paused: yes
    allow:
      methods: [get, PUT]
      collections: [data, bulk-data]
  - {{name: base, url: "http://10.0.0.2:8080"}}
allow_discovered:
  names: [lift]
  cidrs: [10.0.0.1/24, "fd00::/8"]
""")
    assert found.peers[0] == PeerSpec(
        "arm",
        "https://arm.local/base",
        "static",
        Access(
            "token-of-/d/arm.token", "/d/ca.pem", "/d/me.pem", "/d/me.key", (PIN,), "", True,
            frozenset({"GET", "PUT"}), frozenset({"data", "bulk-data"}),
        ),
        paused=True,
    )  # fmt: skip
    assert (found.peers[1].url, found.peers[1].access) == ("http://10.0.0.2:8080", Access())
    assert found.files == ("/d/arm.token", "/d/ca.pem", "/d/me.pem", "/d/me.key")
    assert found.warnings == ("peers.yaml:15: peers[1].url: peer 'base' is reached by cleartext HTTP",)
    assert "token-of" not in repr(found)


@pytest.mark.parametrize("text", ["", "{}", "peers:", "peers: []", "# nothing\n"])
def test_a_file_may_say_nothing(text: str) -> None:
    assert parse(text) == PeersFile()


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("[1]", "peers.yaml:1: the file: must be a mapping"),
        ("peers:\n  - name: a\n    url: http://h\n   x", "peers.yaml:4: no YAML"),
        ("peers: &a []\nmore: *a", "aliases"),
        ("peer: []", "peers.yaml:1: the file: has no member 'peer'; there are peers, allow_discovered"),
        ("peers: x", "peers.yaml:1: peers: must be a list"),
        ("peers:\n- 3", "peers.yaml:2: peers[0]: must be a mapping"),
        ("peers:\n- {url: 'http://h'}", "peers.yaml:2: peers[0].name: is missing"),
        ("peers:\n- {name: a__b, url: 'http://h'}", "peers[0].name: must be 1 to 64"),
        ("peers:\n- {name: a}", "peers[0].url: is missing, and aggregation.peer_names has no 'a'"),
        ("peers:\n- {name: a, url: 'ftp://h'}", "peers[0].url: must begin with http"),
        ("peers:\n- {name: a, url: 'http://u:geheim@h'}", "peers[0].url: must not hold a user name or password"),
        ("peers:\n- {name: a, url: [1]}", "peers[0].url: must be a string"),
        ("peers:\n- {name: a, url: 'http://h'}\n- {name: a, url: 'http://i'}", "peers.yaml:3: peers[1].name: another"),
        ("peers:\n- {name: a, url: 'http://h', url: 'http://i'}", "peers[0].url: is given twice"),
        ("peers:\n- {name: a, url: 'http://h', tokn: x}", "peers[0]: has no member 'tokn'"),
        ("peers:\n- {name: a, url: 'https://h', token: 'geheim wort'}", "peers[0].token: must be printable"),
        ("peers:\n- {name: a, url: 'https://h', token: x, token_file: y}", "exclude each other"),
        ("peers:\n- {name: a, url: 'https://h', token_file: missing}", "/d/missing cannot be read: No such file"),
        ("peers:\n- {name: a, url: 'https://h', token_file: two.token}", "/d/two.token must hold one token"),
        ("peers:\n- {name: a, url: 'https://h', fingerprint: abc}", "peers[0].fingerprint: must be the SHA-256"),
        ("peers:\n- {name: a, url: 'https://h', fingerprint: []}", "peers[0].fingerprint: must not be empty"),
        (f"peers:\n- {{name: a, url: 'http://h', fingerprint: '{PIN}'}}", "has no meaning with an http:// URL"),
        ("peers:\n- {name: a, url: 'https://h', client_key: k}", "peers[0].client_key: needs a client_cert"),
        ("peers:\n- {name: a, url: 'https://h', forward_auth: 1}", "peers[0].forward_auth: must be true or false"),
        ("peers:\n- {name: a, url: 'https://h', allow: {methods: [FETCH]}}", "peers[0].allow.methods: must hold"),
        ("peers:\n- {name: a, url: 'https://h', allow: {collections: [../x]}}", "peers[0].allow.collections: must"),
        ("allow_discovered: {cidrs: [10.0.0.0/99]}", "allow_discovered.cidrs: must hold networks"),
        ("allow_discovered: {fingerprints: []}", "allow_discovered.fingerprints: must not be empty"),
        ("[" * 3000, "peers.yaml"),
        ("#" * (1024 * 1024 + 1), "peers.yaml: longer than 1048576 bytes"),
    ],
)  # fmt: skip
def test_a_finding_names_file_line_and_place_and_no_secret(text: str, finding: str) -> None:
    with pytest.raises(PeersFileError) as caught:
        parse(text)
    assert finding in str(caught.value)
    assert len(caught.value.findings) == 1
    assert "geheim" not in str(caught.value)


def test_cleartext_is_refused_with_require_tls_and_a_token_over_it_is_warned_of() -> None:
    text = "peers:\n- {name: a, url: 'http://h', token: geheim}"
    assert [line for line in parse(text).warnings if "peers[0].token: goes over cleartext" in line]
    forwarding = parse("peers:\n- {name: a, url: 'http://h', forward_auth: true}").warnings
    assert [line for line in forwarding if "peers[0].forward_auth: is true: the Authorization headers" in line]
    with pytest.raises(PeersFileError, match="require_tls is true"):
        parse(text, require_tls=True)


def test_a_peer_of_the_parameters_may_get_settings_without_its_url() -> None:
    found = parse("peers:\n- {name: arm, paused: true}", peer_names=("arm",), peer_urls=("http://arm",))
    assert (found.peers[0].url, found.peers[0].paused) == ("http://arm", True)


@given(st.recursive(st.text(max_size=8) | st.booleans() | st.integers() | st.none(), lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["peers", "name", "url", "allow", "token", "allow_discovered", "cidrs"]), inner)
)))  # fmt: skip
def test_whatever_the_file_holds_is_a_value_or_a_finding(document: object) -> None:
    with contextlib.suppress(PeersFileError):
        assert isinstance(parse(yaml.safe_dump(document)), PeersFile)


@pytest.mark.parametrize(
    ("url", "name", "refused"),
    [
        ("http://10.0.0.7:8080", "lift", ""),
        ("http://[fd00::7%25eth0]:8080", "lift", ""),
        ("http://10.0.1.7:8080", "lift", "cidrs"),
        ("http://lift.local:8080", "lift", "cidrs"),
        ("http://10.0.0.7:8080", "rogue", "names"),
    ],
)
def test_of_discovered_peers_only_the_allowed_ones_are_admitted(url: str, name: str, refused: str) -> None:
    allow = parse("allow_discovered: {names: [lift], cidrs: [10.0.0.0/24, 'fd00::/8']}").allow_discovered
    assert allow is not None
    spec = PeerSpec(name, url, "mdns")
    admitted = allow.admit(spec)
    assert admitted == spec if not refused else refused in str(admitted)


def test_an_empty_allow_list_admits_nobody_and_pins_bind_the_connection() -> None:
    nobody = parse("allow_discovered: {}").allow_discovered
    assert nobody is not None and isinstance(nobody.admit(PeerSpec("a", "https://h", "mdns")), str)
    pinned = parse(f"allow_discovered: {{fingerprints: ['{PIN}']}}").allow_discovered
    assert pinned is not None
    admitted = pinned.admit(PeerSpec("a", "https://h", "mdns", Access(server_name="h.local")))
    assert isinstance(admitted, PeerSpec) and admitted.access == Access(server_name="h.local", fingerprints=(PIN,))
    assert "http://" in str(pinned.admit(PeerSpec("a", "http://h", "mdns")))


# Before the start


def findings(**aggregation: object) -> list[str]:
    """What `gateway_node --check` says of the peers."""
    config = replace(GatewayConfig(), aggregation=Aggregation(**{"enabled": True, **aggregation}))
    return [f"{one.level} {one.message}" for one in peers_findings(config)]


def test_a_check_says_what_the_start_would_say(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "peers.yaml"
    assert findings() == []
    (missing,) = findings(peers_file=str(file))
    assert missing == f"ERROR aggregation.peers_file {file} is not used, the peers stay as they were: {NO_FILE}"
    write(file, "peers: [{name: b, url: 'https://b', token_file: b.token}]")
    (unreadable,) = findings(peers_file=str(file))
    assert unreadable.endswith(f"peers.yaml:1: peers[0].token_file: {tmp_path}/b.token cannot be read: {NO_FILE}")
    write(tmp_path / "b.token", "geheim")
    os.chmod(tmp_path / "b.token", 0o644)
    os.chmod(file, 0o600)
    (readable,) = findings(peers_file=str(file))
    assert readable == f"WARN {tmp_path}/b.token may be read by everybody on this machine (chmod 600 b.token)"
    assert findings(peers_file=str(file), enabled=False) == []
    write(file, "peers: [{name: b, url: 'https://b', ca_file: ca.pem}, {name: c, url: 'https://c'}]")
    (no_ca,) = findings(peers_file=str(file))
    said = f"ca_file {tmp_path}/ca.pem cannot be used: {NO_FILE.lower()}"
    assert no_ca == f"ERROR Peer 'b' is not asked: its TLS settings cannot be used: {said}"
    PeerClient("b", "https://b", OWN, 1.0, access=Access(ca_file=str(tmp_path / "ca.pem")))
    assert f"ERROR {caplog.records[-1].getMessage()}" == no_ca
    # What the parameters say holds for all that have nothing of their own.
    write(tmp_path / "ca.pem", "no certificate")
    for_all = findings(peer_names=("d",), peer_urls=("https://d",), tls=PeerTls(ca_file=str(tmp_path / "ca.pem")))
    assert len(for_all) == 1 and "Peer 'd' is not asked" in for_all[0]


# Reloading


def write(file: Path, text: str) -> None:
    """Put a text in a file."""
    file.write_text(text)


@asynccontextmanager
async def watched(file: Path, **aggregation: object) -> AsyncIterator[tuple[TestGateway, TestGateway]]:
    """A gateway with this peers file, and another one to be named in it."""
    peer = TestGateway("b", {})
    async with running(peer):
        await peer.serve_tree(tree_of(["nav"]))
        write(file, f"peers: [{{name: b, url: '{peer.url}', token: first}}]")
        gateway = TestGateway("a", {}, peers_file=str(file), **aggregation)
        async with running(gateway):
            yield gateway, peer


def tokens(peer: TestGateway) -> set[str]:
    """The tokens that a peer was shown."""
    return {headers.get("authorization", "") for _, _, headers in peer.requests}


@pytest.mark.anyio
async def test_a_change_of_the_file_is_followed_and_an_error_keeps_the_peers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "peers.yaml"
    async with watched(file) as (gateway, peer):
        await async_eventually(lambda: "nav" in gateway.federation.tree.apps)
        assert tokens(peer) == {"Bearer first"}
        with caplog.at_level(logging.INFO):
            write(file, f"peers: [{{name: b, url: '{peer.url}', token: geh eim}}]")
            await async_eventually(lambda: gateway.federation.warnings(), within=5)
            (warning,) = gateway.federation.warnings()
            assert warning.code == "peers_file_invalid"
            assert "peers.yaml:1: peers[0].token: must be printable" in warning.message
            assert "nav" in gateway.federation.tree.apps
            write(file, f"peers: [{{name: b, url: '{peer.url}', token: second}}, {{name: c, url: 'http://c'}}]")
            await async_eventually(lambda: "Bearer second" in tokens(peer), within=5)
            assert gateway.federation.warnings() == ()
            assert gateway.federation.peer_names() == ("b", "c")
            write(file, "peers: []")
            await async_eventually(lambda: not gateway.federation.peers, within=5)
            await async_eventually(lambda: not gateway.federation.tree.apps, within=5)
        assert not [record for record in caplog.records if "geh" in record.getMessage()]
        assert len([record for record in caplog.records if "peers_file" in record.getMessage()]) == 1


@pytest.mark.anyio
async def test_a_new_token_in_its_file_is_used_and_a_lost_one_keeps_the_old(tmp_path: Path) -> None:
    file, secret = tmp_path / "peers.yaml", tmp_path / "b.token"
    write(secret, "first\n")
    os.chmod(secret, 0o600)
    async with watched(file) as (gateway, peer):
        write(file, f"peers: [{{name: b, url: '{peer.url}', token_file: b.token}}]")
        await async_eventually(lambda: "nav" in gateway.federation.tree.apps)
        new = tmp_path / "new"
        write(new, "second\n")
        os.replace(new, secret)
        await async_eventually(lambda: "Bearer second" in tokens(peer), within=5)
        os.remove(secret)
        await async_eventually(lambda: gateway.federation.warnings(), within=5)
        assert gateway.federation.peer_names() == ("b",)


@pytest.mark.anyio
async def test_a_fault_may_be_put_right_in_a_file_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "peers.yaml"
    async with watched(file) as (gateway, peer):
        await async_eventually(lambda: "nav" in gateway.federation.tree.apps)
        write(file, f"peers: [{{name: b, url: '{peer.url}', token_file: b.token}}]")
        await async_eventually(lambda: gateway.federation.warnings(), within=5)
        write(tmp_path / "b.token", "second\n")
        await async_eventually(lambda: "Bearer second" in tokens(peer), within=5)
        assert gateway.federation.warnings() == ()


@pytest.mark.anyio
async def test_an_authority_that_cannot_be_used_is_an_error_of_the_file_once_there_is_a_better_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, ca = tmp_path / "peers.yaml", tmp_path / "ca.pem"
    async with watched(file) as (gateway, peer):
        await async_eventually(lambda: "nav" in gateway.federation.tree.apps)
        secure = "{name: s, url: 'https://127.0.0.1:1', ca_file: ca.pem}"
        write(file, f"peers: [{{name: b, url: '{peer.url}', token: second}}, {secure}]")
        await async_eventually(lambda: gateway.federation.warnings(), within=5)
        assert "Peer 's' is not asked: its TLS settings cannot be used" in gateway.federation.warnings()[0].message
        assert gateway.federation.peer_names() == ("b",)
        assert tokens(peer) == {"Bearer first"}
        ca.write_bytes(Authority(tmp_path, "new").ca.read_bytes())
        await async_eventually(lambda: gateway.federation.peer_names() == ("b", "s"), within=5)
        assert gateway.federation.warnings() == ()
        await gateway.federation.stop()
        os.remove(ca)
        # At start there is nothing to keep, and one bad peer takes nothing from the others.
        again = TestGateway("c", {}, peers_file=str(file))
        async with running(again):
            await async_eventually(lambda: "nav" in again.federation.tree.apps)
            assert again.federation.peer_names() == ("b", "s")


@pytest.mark.anyio
async def test_a_file_that_comes_later_is_read_when_it_is_there(tmp_path: Path) -> None:
    file = tmp_path / "peers.yaml"
    gateway = TestGateway("a", {}, peers_file=str(file))
    async with running(gateway):
        assert "No such file" in gateway.federation.warnings()[0].message
        write(file, "peers: [{name: b, url: 'http://127.0.0.1:1'}]")
        await async_eventually(lambda: gateway.federation.peer_names() == ("b",), within=5)


@pytest.mark.anyio
async def test_the_file_decides_on_discovered_peers_and_a_configured_one_takes_their_name(tmp_path: Path) -> None:
    file = tmp_path / "peers.yaml"
    async with watched(file) as (gateway, peer):
        federation = gateway.federation
        found = PeerSpec("lift", "http://10.9.9.9:1", "mdns")
        federation.change(PeerEvent(ADDED, found))
        federation.change(PeerEvent(ADDED, PeerSpec("b", "http://10.9.9.9:1", "mdns")))
        assert [(one.name, one.source) for one in federation.peers] == [("b", "static"), ("lift", "mdns")]
        write(file, f"peers: [{{name: b, url: '{peer.url}'}}]\nallow_discovered: {{names: [other]}}")
        await async_eventually(lambda: federation.peer_names() == ("b",), within=5)
        write(file, f"peers: [{{name: b, url: '{peer.url}'}}]")
        await async_eventually(lambda: set(federation.peer_names()) == {"b", "lift"}, within=5)
        write(file, f"peers: [{{name: b, url: '{peer.url}'}}, {{name: lift, url: '{peer.url}/x'}}]")
        await async_eventually(lambda: {one.source for one in federation.peers} == {"static"}, within=5)
        federation.change(PeerEvent(REMOVED, found))
        assert set(federation.peer_names()) == {"b", "lift"}


@pytest.mark.anyio
async def test_a_peer_that_the_file_pauses_is_not_asked(tmp_path: Path) -> None:
    file = tmp_path / "peers.yaml"
    async with watched(file) as (gateway, peer):
        await async_eventually(lambda: "nav" in gateway.federation.tree.apps)
        write(file, f"peers: [{{name: b, url: '{peer.url}', paused: true}}]")
        await async_eventually(lambda: gateway.federation.peers[0].state == "paused", within=5)
        await async_eventually(lambda: not gateway.federation.tree.apps, within=5)
        asked = len(peer.requests)
        write(file, f"peers: [{{name: b, url: '{peer.url}'}}]")
        await async_eventually(lambda: "nav" in gateway.federation.tree.apps, within=5)
        assert len(peer.requests) > asked
