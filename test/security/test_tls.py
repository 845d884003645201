"""The TLS of the server: files that are refused, and the least version (API.md §9.5)."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from medkit_gateway_py.parameters import Finding, check
from medkit_gateway_py.security.tls import server_context
from support.certificates import Authority


def read(cert: object, key: object, **more: Any) -> tuple[ssl.SSLContext | None, list[Finding]]:
    """What comes of these files."""
    given = {"enabled": True, "cert_file": str(cert), "key_file": str(key), **more}
    return server_context(check({f"server.tls.{name}": value for name, value in given.items()}).config)


def refusal(cert: object, key: object) -> str:
    """Why it does not start."""
    context, findings = read(cert, key)
    assert context is None
    (finding,) = [finding for finding in findings if finding.fatal]
    assert finding.message.endswith("The gateway does not start.")
    return finding.message


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize(("version", "least"), [("1.2", ssl.TLSVersion.TLSv1_2), ("1.3", ssl.TLSVersion.TLSv1_3)])
def test_a_good_pair_gives_a_context_with_the_least_version(
    authority: Authority, version: str, least: ssl.TLSVersion
) -> None:
    context, findings = read(*authority.certificate(), min_version=version)
    assert findings == []
    assert context is not None
    assert context.minimum_version is least
    names = [cipher["name"] for cipher in context.get_ciphers()]
    assert all(name.startswith(("TLS_", "ECDHE-")) for name in names)


def test_without_tls_there_is_none() -> None:
    assert server_context(check({"server.tls.cert_file": "/nowhere"}).config) == (None, [])


def test_files_that_are_missing_or_wrong_are_named(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.certificate("good")
    _, other = authority.certificate("other")
    text = tmp_path / "text"
    text.write_text("no certificate")
    assert "server.tls.cert_file /nowhere cannot be read: No such file" in refusal("/nowhere", key)
    assert "server.tls.key_file /nowhere cannot be read: No such file" in refusal(cert, "/nowhere")
    assert "is not the key of the certificate" in refusal(cert, other)
    assert "in PEM form" in refusal(text, key)
    assert "in PEM form" in refusal(cert, text)
    assert "in PEM form" in refusal(key, cert)
    assert "cannot be read" in refusal(tmp_path, key)
    context, findings = read("/nowhere", "/nowhere either")
    assert (context, len(findings)) == (None, 2)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(authority: Authority) -> None:
    assert "needs a password" in refusal(*authority.certificate("locked", password=b"x"))


@pytest.mark.parametrize(
    ("days", "since", "text"),
    [(-1, -10, "has expired on"), (20, 10, "is valid from"), (7, -1, "expires on")],
)
def test_the_dates_of_a_certificate_are_a_warning(authority: Authority, days: int, since: int, text: str) -> None:
    context, findings = read(*authority.certificate("dates", days=days, since=since))
    assert context is not None
    assert [finding.level for finding in findings] == ["WARN"]
    assert text in findings[0].message


def test_a_key_that_everybody_can_read_is_a_warning(authority: Authority) -> None:
    cert, key = authority.certificate("open")
    key.chmod(0o644)
    context, findings = read(cert, key)
    assert context is not None
    assert [finding.parameter for finding in findings] == ["server.tls.key_file"]
    assert "chmod 600" in findings[0].message
