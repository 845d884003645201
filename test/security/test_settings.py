"""Secrets, keys and clients from parameters, files and the environment: what is taken, and what is refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.parameters import Finding, check
from medkit_gateway_py.security.authority import Authority, AuthSettings
from medkit_gateway_py.security.clients import ClientError, Clients, parse_client
from medkit_gateway_py.security.revocations import Revocations
from medkit_gateway_py.security.settings import CLIENTS_VARIABLE, SECRET_VARIABLE, read_auth
from medkit_gateway_py.security.startup import issue_token

SECRET = "Sesame-sesame-sesame-sesame-sesame"
CLIENT = "ground:open-sesame-please:operator"


def read(environ: dict[str, str] | None = None, **auth: Any) -> tuple[AuthSettings | None, list[Finding]]:
    """What comes of these parameters of `auth.` and this environment."""
    checked = check({"auth.enabled": True, **{f"auth.{name}": value for name, value in auth.items()}})
    return read_auth(checked.config, environ or {})


def refusal(environ: dict[str, str] | None = None, **auth: Any) -> str:
    """Why it does not start; no secret is in it."""
    settings, findings = read(environ, **auth)
    assert settings is None
    (message,) = [finding.message for finding in findings if finding.fatal]
    assert "sesame" not in str(findings).lower()
    assert message.endswith("The gateway does not start.")
    return message


def secret_file(folder: Path, text: str, name: str = "secret", mode: int = 0o600) -> str:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_off_is_nothing_and_reads_nothing() -> None:
    assert read_auth(check({"auth.jwt_secret_file": "/nowhere"}).config, {}) == (None, [])


def test_each_source_gives_the_same(tmp_path: Path) -> None:
    secret, clients = secret_file(tmp_path, f"{SECRET}\n"), secret_file(tmp_path, f"\n# two\n{CLIENT}\n\n", "clients")
    found = [
        read(jwt_secret=SECRET, clients=[CLIENT]),
        read(jwt_secret_file=secret, clients_file=clients),
        read({SECRET_VARIABLE: SECRET, CLIENTS_VARIABLE: f"{CLIENT}\n"}),
        read({SECRET_VARIABLE: SECRET}, clients_file=clients),
    ]
    for settings, findings in found:
        assert findings == []
        assert settings is not None
        assert settings.keys.signing == SECRET.encode()
        assert settings.clients.authenticate("ground", "open-sesame-please")


def test_two_sources_of_one_secret_are_refused(tmp_path: Path) -> None:
    secret = secret_file(tmp_path, SECRET)
    assert "two sources" in refusal(jwt_secret=SECRET, jwt_secret_file=secret, clients=[CLIENT])
    assert SECRET_VARIABLE in refusal({SECRET_VARIABLE: SECRET}, jwt_secret=SECRET, clients=[CLIENT])
    assert CLIENTS_VARIABLE in refusal({CLIENTS_VARIABLE: CLIENT}, jwt_secret=SECRET, clients=[CLIENT])


@pytest.mark.parametrize("auth", [{}, {"jwt_secret": ""}, {"clients": [CLIENT]}])
def test_without_a_secret_it_does_not_start(auth: dict[str, Any]) -> None:
    assert "there is no secret" in refusal(**auth)


def test_a_short_secret_is_refused_wherever_it_is(tmp_path: Path) -> None:
    assert "shorter than 32" in refusal(jwt_secret=SECRET[:31])
    # Spaces around it do not make it longer.
    assert "shorter than 32" in refusal(jwt_secret_file=secret_file(tmp_path, SECRET[:20] + " " * 20 + "\n"))
    assert "shorter than 32" in refusal({SECRET_VARIABLE: "sesame"})
    settings, _ = read(jwt_secret=SECRET[:32], clients=[CLIENT])
    assert settings is not None


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    assert "No such file" in refusal(jwt_secret_file=str(tmp_path / "none"))
    assert "Is a directory" in refusal(jwt_secret_file=str(tmp_path))
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe" * 40)
    assert "is not text" in refusal(jwt_secret_file=str(binary))
    assert "longer than" in refusal(jwt_secret_file="/dev/zero")
    assert "No such file" in refusal(jwt_secret=SECRET, clients_file=str(tmp_path / "none"))


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o604, True), (0o602, True)])
def test_a_file_that_everybody_can_read_is_warned_about(tmp_path: Path, mode: int, warned: bool) -> None:
    secret, clients = secret_file(tmp_path, SECRET, mode=mode), secret_file(tmp_path, CLIENT, "clients", mode)
    _, findings = read(jwt_secret_file=secret, clients_file=clients)
    assert [finding.parameter for finding in findings] == (["auth.jwt_secret_file", "auth.clients_file"] * warned)
    assert all("chmod 600" in finding.message and finding.level == "WARN" for finding in findings)


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        ("ground", "not of the form id:secret:role"),
        ("ground:sesame", "not of the form id:secret:role"),
        (":sesame:viewer", "needs an id"),
        ("  :sesame:viewer", "needs an id"),
        ("a\tb:sesame:viewer", "needs an id"),
        ("ground::viewer", "empty secret"),
        ("ground:sesame:root", "unknown role"),
        ("ground:sesame:Viewer", "unknown role"),
        ("ground:sesame:", "unknown role"),
        ("ground:sesame:viewer+root", "unknown permission"),
        ("ground:sesame:peer", "unknown role"),
    ],
)
def test_a_client_of_wrong_form_is_refused_without_showing_it(client: str, reason: str) -> None:
    message = refusal(jwt_secret=SECRET, clients=["first:of-them-all-sesame:admin", client])
    assert reason in message
    assert "client 2 of auth.clients" in message.lower()


def test_two_clients_of_one_id_are_refused() -> None:
    assert "another one has" in refusal(jwt_secret=SECRET, clients=[CLIENT, "ground:other-sesame-x:admin"])


def test_without_clients_it_starts_and_says_what_that_means() -> None:
    settings, findings = read(jwt_secret=SECRET)
    assert settings is not None
    assert [finding.level for finding in findings] == ["WARN"]
    assert "nobody can get a token here" in findings[0].message


def test_a_secret_that_can_be_guessed_is_warned_about() -> None:
    _, findings = read(jwt_secret=SECRET, clients=["ground:sesame:admin"])
    assert [finding.level for finding in findings] == ["WARN"]
    assert "'ground'" in findings[0].message
    assert "sesame" not in findings[0].message


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=40), st.sampled_from(["viewer", "admin+peer"]))
def test_a_secret_is_all_that_is_between_the_first_and_the_last_colon(name: str, secret: str, role: str) -> None:
    try:
        client = parse_client(f"{name}:{secret}:{role}", "client 1")
    except ClientError:
        assert not name.strip() or not name.strip().isprintable() or ":" in name
        return
    before, _, after = name.partition(":")
    assert (client.id, client.role) == (before.strip(), role.partition("+")[0])
    whole = f"{after}:{secret}" if ":" in name else secret
    assert Clients({client.id: client}).authenticate(client.id, whole)


def pem(key: Any, password: bytes = b"") -> str:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    text: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return text.decode()


def public_pem(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return text.decode()


def test_keys_for_rs256_are_checked_before_the_start(tmp_path: Path) -> None:
    key, other = rsa.generate_private_key(65537, 2048), rsa.generate_private_key(65537, 2048)
    files = {
        "private": pem(key),
        "public": public_pem(key),
        "other": public_pem(other),
        "locked": pem(key, b"sesame"),
        "curve": pem(ec.generate_private_key(ec.SECP256R1())),
        "short": pem(rsa.generate_private_key(65537, 1024)),
        "text": SECRET,
    }
    paths = {name: secret_file(tmp_path, text, name) for name, text in files.items()}

    def why(private: str, public: str) -> str:
        return refusal(
            jwt_algorithm="RS256",
            jwt_secret_file=paths.get(private, ""),
            jwt_public_key=paths.get(public, ""),
            clients=[CLIENT],
        )

    settings, findings = read(
        jwt_algorithm="RS256", jwt_secret=paths["private"], jwt_public_key=paths["public"], clients=[CLIENT]
    )
    assert (findings, settings is not None) == ([], True)
    assert "is not the public key of" in why("private", "other")
    assert "names no file" in why("private", "")
    assert "there is no secret" in why("", "public")
    assert "without a password" in why("locked", "public")
    assert "of another kind" in why("curve", "public")
    assert "fewer than 2048 bits" in why("short", "public")
    assert "no RSA private key" in why("text", "public")
    assert "no RSA private key" in why("public", "public")
    assert "no RSA public key" in why("private", "private")
    assert "No such file" in refusal(jwt_algorithm="RS256", jwt_secret="/nowhere", jwt_public_key=paths["public"])


def test_a_private_key_is_no_secret_for_hs256(tmp_path: Path) -> None:
    path = secret_file(tmp_path, pem(rsa.generate_private_key(65537, 2048)))
    assert "is a key for RS256" in refusal(jwt_secret_file=path)


# --- tokens without a login --------------------------------------------------------------------------------------


def test_a_token_is_issued_for_a_client_and_is_good_where_it_was_issued() -> None:
    config = check({"auth.enabled": True, "auth.jwt_secret": SECRET, "auth.clients": [f"{CLIENT}+peer"]}).config
    settings, _ = read_auth(config, {})
    assert settings is not None
    token = issue_token(config, "ground", 30, {})
    found = Authority(settings, Revocations(None, "", 0, {}, time.time, 1)).principal(token)
    assert (found.client_id, found.role, found.is_peer) == ("ground", "operator", True)


@pytest.mark.parametrize(
    ("auth", "client", "reason"),
    [
        ({"enabled": False}, "ground", "auth.enabled is false"),
        ({"jwt_secret": "short"}, "ground", "shorter than 32"),
        ({}, "nobody", "no such client: nobody"),
    ],
)
def test_no_token_is_issued_without_a_good_configuration(auth: dict[str, Any], client: str, reason: str) -> None:
    given = {"enabled": True, "jwt_secret": SECRET, "clients": [CLIENT], **auth}
    config = check({f"auth.{name}": value for name, value in given.items()}).config
    with pytest.raises(ValueError, match=reason):
        issue_token(config, client, 30, {})
