"""Tokens: what they say, and every way in which a wrong one is refused (API.md §9.2)."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.security.authority import Authority
from medkit_gateway_py.security.refusals import Refused, TokenRefused
from medkit_gateway_py.security.tokens import CLOCK_LEEWAY_S
from support.auth import SECRET, authority, claims_of, forged, token

ONE = authority()
ACCESS = token(ONE)


def refused(text: str, one: Authority = ONE) -> str:
    """Why a token is refused."""
    with pytest.raises(TokenRefused) as caught:
        one.principal(text)
    return str(caught.value)


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_an_access_token_says_what_the_contract_says() -> None:
    grant = ONE.authorize("operator", "pass-of-operator-x", "127.0.0.1")
    access, refresh = claims_of(grant.access_token), claims_of(grant.refresh_token)
    assert set(access) == {"iss", "sub", "iat", "exp", "jti", "role", "refresh_token_id"}
    assert (access["iss"], access["sub"], access["role"]) == ("ros2_medkit_gateway", "operator", "operator")
    assert access["exp"] - access["iat"] == grant.expires_in == 3600
    assert access["refresh_token_id"] == refresh["jti"]
    assert set(refresh) == {"iss", "sub", "iat", "exp", "jti", "role"}
    assert refresh["exp"] - refresh["iat"] == 86400
    headers = [jwt.get_unverified_header(one) for one in (grant.access_token, grant.refresh_token)]
    assert headers == [{"alg": "HS256", "typ": "access"}, {"alg": "HS256", "typ": "refresh"}]


def test_a_token_is_of_its_client() -> None:
    found = ONE.principal(ACCESS)
    assert (found.client_id, found.role, found.is_admin, found.is_peer) == ("admin", "admin", True, False)
    peer = ONE.principal(ONE.authorize("robot_b", "pass-of-robot-b", "x").access_token)
    assert (peer.role, peer.is_peer) == ("viewer", True)


def test_a_refresh_token_gives_another_access_token_and_stays_the_same() -> None:
    first = ONE.authorize("viewer", "pass-of-viewer-x", "x")
    second = ONE.refresh(first.refresh_token)
    assert second.refresh_token == first.refresh_token
    assert second.access_token != first.access_token
    assert ONE.principal(second.access_token).role == "viewer"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": int(time.time()) - 1}, "Token has expired"),
        ({"iat": int(time.time()) + 1000}, "Token is not valid yet"),
        ({"nbf": int(time.time()) + 1000}, "Token is not valid yet"),
        ({"iss": "another"}, "Token has another issuer"),
        ({"iss": None}, "Token lacks the claim iss"),
        ({"exp": None}, "Token lacks the claim exp"),
        ({"jti": None}, "Token lacks the claim jti"),
        ({"sub": None}, "Token lacks the claim sub"),
        ({"iat": None}, "Token lacks the claim iat"),
        ({"role": None}, "Malformed token"),
        ({"role": "root"}, "Token has an unknown role"),
        ({"role": ["admin"]}, "Malformed token"),
        ({"exp": "9999999999"}, "Malformed token"),
        ({"exp": True}, "Malformed token"),
        ({"exp": 10**400}, "Malformed token"),
        ({"jti": 5}, "Malformed token"),
        ({"refresh_token_id": 5}, "Malformed token"),
        ({"permissions": "peer"}, "Malformed token"),
        ({"permissions": ["x"] * 33}, "Malformed token"),
        ({"aud": "somebody else"}, "Malformed token"),
    ],
)
def test_a_well_signed_token_with_wrong_claims_is_refused(changes: dict[str, Any], reason: str) -> None:
    assert refused(forged(changes, of=ACCESS)) == reason


def test_a_token_is_expired_on_the_second_and_a_clock_may_be_a_little_ahead() -> None:
    now = time.time()
    one = authority(clock=lambda: now)
    assert refused(forged({"exp": int(now)}, of=ACCESS), one) == "Token has expired"
    assert one.principal(forged({"iat": int(now) + CLOCK_LEEWAY_S - 2}, of=ACCESS))


def test_a_token_signed_with_another_secret_is_refused() -> None:
    assert refused(forged({}, of=ACCESS, key="x" * 40)) == "Invalid token signature"


def test_a_role_written_into_a_token_breaks_its_signature() -> None:
    head, _, signature = token(ONE, "viewer").split(".")
    claims = claims_of(token(ONE, "viewer"))
    assert refused(f"{head}.{part({**claims, 'role': 'admin'})}.{signature}") == "Invalid token signature"


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
def test_a_token_without_a_signature_is_refused(name: str) -> None:
    body = ACCESS.split(".")[1]
    head = part({"alg": name, "typ": "access"})
    assert refused(f"{head}.{body}.") in ("Token has another algorithm", "Malformed token")
    assert refused(f"{head}.{body}.{ACCESS.split('.')[2]}") in ("Token has another algorithm", "Malformed token")


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_no_other_algorithm_with_the_same_secret(algorithm: str) -> None:
    assert refused(forged({}, of=ACCESS, key=SECRET * 3, algorithm=algorithm)) == "Token has another algorithm"


def test_headers_that_name_a_key_are_not_followed() -> None:
    own = rsa.generate_private_key(65537, 2048)
    key = {"kty": "oct", "k": "eA"}
    extra = {"typ": "access", "jku": "http://127.0.0.1:1/keys", "kid": "../../dev/null", "jwk": key}
    assert refused(jwt.encode(claims_of(ACCESS), own, "RS256", headers=extra)) == "Token has another algorithm"
    assert refused(jwt.encode(claims_of(ACCESS), "x" * 40, "HS256", headers=extra)) == "Invalid token signature"


def test_critical_headers_are_not_passed_over() -> None:
    text = jwt.encode(claims_of(ACCESS), SECRET, "HS256", headers={"typ": "access", "crit": ["exp"]})
    assert refused(text) == "Malformed token"


def test_a_refresh_token_is_no_access_token_and_the_other_way_round() -> None:
    grant = ONE.authorize("admin", "pass-of-admin-x", "x")
    assert refused(grant.refresh_token) == "Not an access token"
    with pytest.raises(Refused, match="Not a refresh token"):
        ONE.refresh(grant.access_token)
    assert refused(jwt.encode(claims_of(ACCESS), SECRET, "HS256")) == "Not an access token"


NO_TOKENS = ["", "a", "a.b", "a.b.c", "a.b.c.d", "ä.b.c", "a b.c.d", "x" * 10**6, "." * 5000, "a.b.c\n"]


@pytest.mark.parametrize("text", NO_TOKENS)
def test_what_is_no_token_is_malformed(text: str) -> None:
    assert refused(text) == "Malformed token"


@given(st.text(max_size=60))
def test_no_text_is_taken_for_a_token(text: str) -> None:
    refused(text)


@given(st.integers(0, len(ACCESS) - 1), st.sampled_from("ABCxyz019-_.=+/ \x00é"))
def test_no_token_with_a_changed_letter_gains_anything(place: int, letter: str) -> None:
    changed = ACCESS[:place] + letter + ACCESS[place + 1 :]
    try:
        # The last letter of a signature has bits that mean nothing.
        assert ONE.principal(changed) == ONE.principal(ACCESS)
        assert changed.rpartition(".")[0] == ACCESS.rpartition(".")[0]
    except TokenRefused:
        pass


@pytest.fixture(scope="module")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("keys")
    key = rsa.generate_private_key(65537, 2048)
    private, public = folder / "private.pem", folder / "public.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_rs256_signs_with_one_key_and_checks_with_the_other(key_files: tuple[Path, Path]) -> None:
    private, public = key_files
    one = authority(jwt_algorithm="RS256", jwt_secret=str(private), jwt_public_key=str(public))
    text = token(one, "operator")
    assert jwt.get_unverified_header(text) == {"alg": "RS256", "typ": "access"}
    assert one.principal(text).role == "operator"
    assert jwt.decode(text, public.read_text(), algorithms=["RS256"], issuer="ros2_medkit_gateway")["sub"] == "operator"


def test_the_public_key_is_no_secret_to_sign_with(key_files: tuple[Path, Path]) -> None:
    import hashlib
    import hmac

    private, public = key_files
    one = authority(jwt_algorithm="RS256", jwt_secret=str(private), jwt_public_key=str(public))
    for secret in (public.read_bytes(), public.read_bytes().strip(), str(public).encode(), str(private).encode()):
        # By hand: the library refuses to do it.
        signed = f"{part({'alg': 'HS256', 'typ': 'access'})}.{part({**claims_of(token(one)), 'role': 'admin'})}"
        digest = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        text = f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
        assert refused(text, one) == "Token has another algorithm"
    assert refused(ACCESS, one) == "Token has another algorithm"


# --- revoking ----------------------------------------------------------------------------------------------------


def test_a_revoked_access_token_is_refused_and_no_other(tmp_path: Path) -> None:
    one = authority(tmp_path)
    first, second = token(one), token(one)
    one.revoke(first)
    assert refused(first, one) == "Token has been revoked"
    assert one.principal(second)


def test_revoking_a_refresh_token_takes_all_that_came_of_it(tmp_path: Path) -> None:
    one = authority(tmp_path)
    grant = one.authorize("admin", "pass-of-admin-x", "x")
    later = one.refresh(grant.refresh_token).access_token
    one.revoke(grant.refresh_token)
    for text in (grant.access_token, later):
        assert refused(text, one) == "Token has been revoked"
    with pytest.raises(Refused, match="has been revoked"):
        one.refresh(grant.refresh_token)


def test_a_revoked_token_stays_revoked_over_a_restart(tmp_path: Path) -> None:
    one = authority(tmp_path)
    grant = one.authorize("admin", "pass-of-admin-x", "x")
    kept = token(one)
    one.revoke(grant.refresh_token)
    again = authority(tmp_path)  # the first one was never closed, as after a kill
    assert refused(grant.access_token, again) == "Token has been revoked"
    assert again.principal(kept).is_admin


def test_a_revocation_is_kept_as_long_as_the_last_token_that_came_of_it(tmp_path: Path) -> None:
    day = 86_400
    now = [float(10**9)]
    lives = {"token_expiry_seconds": 10 * day, "refresh_token_expiry_seconds": 10 * day}
    one = authority(tmp_path, clock=lambda: now[0], **lives)
    grant = one.authorize("admin", "pass-of-admin-x", "x")
    now[0] += 9 * day
    renewed = one.refresh(grant.refresh_token).access_token
    one.revoke(grant.refresh_token)
    now[0] += 5 * day  # the refresh token has expired, and what it gave has not
    one.revoke(one.authorize("viewer", "pass-of-viewer-x", "x").access_token)
    assert refused(renewed, one) == "Token has been revoked"


def test_a_client_that_was_taken_away_gets_no_new_token_and_one_that_was_lowered_gets_a_lower_one() -> None:
    grants = {role: ONE.authorize(role, f"pass-of-{role}-x", "x") for role in ("operator", "admin")}
    later = authority(clients=["admin:pass-of-admin-x:viewer"])
    with pytest.raises(Refused, match="does not exist any more"):
        later.refresh(grants["operator"].refresh_token)
    assert later.refresh(grants["admin"].refresh_token).role == "viewer"


def test_wrong_secrets_from_one_address_stop_it_for_a_while_and_no_other() -> None:
    now = [1000.0]
    one = authority(monotonic=lambda: now[0])
    for _ in range(20):
        with pytest.raises(Refused, match="Unknown client or wrong secret"):
            one.authorize("admin", "guess", "10.0.0.1")
    with pytest.raises(Refused) as caught:
        one.authorize("admin", "pass-of-admin-x", "10.0.0.1")
    assert (caught.value.error, caught.value.retry_after) == ("slow_down", 3)
    assert one.authorize("admin", "pass-of-admin-x", "10.0.0.2")
    now[0] += 4.0
    assert one.authorize("admin", "pass-of-admin-x", "10.0.0.1")


def test_good_logins_are_not_counted_and_the_addresses_of_one_ipv6_network_are_one() -> None:
    now = [1000.0]
    one = authority(monotonic=lambda: now[0])
    for _ in range(50):
        one.authorize("admin", "pass-of-admin-x", "::1")
    for host in range(21):
        with pytest.raises(Refused) as caught:
            one.authorize("admin", "guess", f"2001:db8::{host:x}")
    assert caught.value.error == "slow_down"


@pytest.mark.parametrize("secret", ["", "pass-of-admin-", "pass-of-admin-xx", "PASS-OF-ADMIN-X", "\ud800", "é" * 9000])
def test_only_the_whole_secret_is_right(secret: str) -> None:
    with pytest.raises(Refused, match="Unknown client or wrong secret"):
        authority().authorize("admin", secret, "x")


def test_a_secret_may_hold_colons() -> None:
    one = authority(clients=["ground:station:of the:robot:operator"])
    assert one.authorize("ground", "station:of the:robot", "x").role == "operator"
