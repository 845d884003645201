"""TLS towards a peer: the context that its settings ask for, and pins of its certificate (AGGREGATION.md §9).

Reads the PEM files when a context is made; what a peer is asked is none of its business.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import ssl

import aiohttp

from .access import Access

# One for each set of files in use; reading the system's store takes 10 ms.
MAX_CONTEXTS = 64


class TlsProblem(ValueError):
    """A file of the TLS settings cannot be used; the text names it."""


def context_of(access: Access) -> ssl.SSLContext:
    """The context for these settings; the same one for the same settings. Raises TlsProblem."""
    pinned_only = bool(access.fingerprints) and not access.ca_file
    return _context(access.ca_file, access.client_cert, access.client_key, pinned_only, access.stamp)


@functools.lru_cache(maxsize=MAX_CONTEXTS)
def _context(ca_file: str, client_cert: str, client_key: str, pinned_only: bool, stamp: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ValueError) as error:
        raise TlsProblem(f"ca_file {ca_file} cannot be used: {_reason(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if client_cert:
        try:
            # An encrypted key must fail here, instead of asking for its password on a terminal.
            context.load_cert_chain(client_cert, client_key or None, password=lambda: b"")
        except (OSError, ValueError) as error:
            named = f"{client_cert} with client_key {client_key}" if client_key else client_cert
            raise TlsProblem(f"client_cert {named} cannot be used: {_reason(error)}") from None
    if pinned_only:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no valid PEM").replace("_", " ").lower()
    return (getattr(error, "strerror", None) or "no valid PEM").lower()


class Pins(aiohttp.Fingerprint):
    """Several pins for aiohttp, which checks them right after the handshake, before anything is sent.

    `shown`: the one of them that the newest connection showed, "" before there is one.
    """

    def __init__(self, fingerprints: tuple[str, ...]) -> None:
        self.shown = ""
        self._digests = frozenset(bytes.fromhex(text) for text in fingerprints)
        super().__init__(bytes.fromhex(fingerprints[0]))

    def check(self, transport: asyncio.Transport) -> None:
        """Raise aiohttp.ServerFingerprintMismatch for every other certificate."""
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        got = hashlib.sha256(certificate or b"").digest()
        if certificate is None or got not in self._digests:
            host, port, *_ = transport.get_extra_info("peername") or ("", 0)
            raise aiohttp.ServerFingerprintMismatch(self.fingerprint, got, host, port)
        self.shown = got.hex()
