"""Names the broken part of a connection to the API, and how to fix it."""

import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

_NOT_YET_VALID, _EXPIRED, _WRONG_HOST = 9, 10, (62, 64)
"""Verification errors of OpenSSL (X509_V_ERR_*)."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The broken part of the way to the API, and how to fix it."""

    message: str
    remedy: str


def connection_fault(error: BaseException, subject: str) -> Fault:
    """Return the fault that an error of a connection means. subject: the host and port of the other side."""
    chain: list[BaseException] = []
    while error not in chain:
        chain.append(error)
        several = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = several or error.__cause__ or error.__context__ or error
    for each in chain:
        if isinstance(each, ssl.SSLCertVerificationError):
            return _certificate_fault(each, subject)
        if isinstance(each, socket.gaierror):
            return Fault(f"DNS: {subject}: {each.strerror}", "check the network and /etc/resolv.conf")
        if isinstance(each, httpx.ProxyError):
            return Fault(
                f"proxy: it refuses the connection: {each}", "correct HTTPS_PROXY or ALL_PROXY, with its password"
            )
        if isinstance(each, ssl.SSLError):
            why = getattr(each, "reason", None) or "the handshake failed"
            return Fault(
                f"TLS: {subject}: {why}", "check base_url, and whether a proxy or firewall answers in its place"
            )
        if isinstance(each, ConnectionRefusedError):
            return Fault(f"{subject} refuses the connection", "check base_url, and whether a firewall blocks it")
    for each in chain:
        if isinstance(each, (TimeoutError, httpx.TimeoutException)):
            return Fault(f"{subject} does not answer", "check the network, and whether a firewall drops the packets")
    last = next((each for each in reversed(chain) if str(each)), chain[-1])
    return Fault(f"{subject}: {str(last) or type(last).__name__}", "check the network")


def _certificate_fault(error: ssl.SSLCertVerificationError, subject: str) -> Fault:
    today = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
        when = "is not valid yet" if error.verify_code == _NOT_YET_VALID else "has expired"
        return Fault(
            f"TLS: the certificate of {subject} {when}, by the clock of this machine: {today}",
            "set the clock (timedatectl set-ntp true) if this is not the time",
        )
    remedy = "if a proxy inspects TLS, name the file of its CA in SSL_CERT_FILE"
    if error.verify_code in _WRONG_HOST:
        remedy = "check base_url, and whether a proxy or firewall answers in its place"
    return Fault(f"TLS: the certificate of {subject} is not accepted: {error.verify_message}", remedy)
