"""A token goes only to a server with a valid certificate, and no answer sends it elsewhere."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.request import Request, path
from syncd.cloudflare.transport import Transport
from syncd.core.errors import Retry, SyncdError
from tests.unit.cloudflare.harness import ACCOUNT, TOKEN

ASKED = Request("GET", path("x"))


class Listening:
    """An HTTP server on loopback that records its requests. answer: status and further headers."""

    def __init__(self, answer: tuple[int, dict[str, str]], context: ssl.SSLContext | None = None) -> None:
        seen: list[tuple[str, str | None]] = []

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                seen.append((f"{self.command} {self.path}", self.headers.get("authorization")))
                self.send_response(answer[0])
                for name, value in answer[1].items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            do_GET = do_CONNECT = _any  # noqa: N815 - what the library calls

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                del format, args

        self.seen = seen
        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = int(self.server.server_address[1])
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def servers() -> Iterator[list[Listening]]:
    made: list[Listening] = []
    yield made
    for each in made:
        each.close()


async def error_of(base_url: str) -> SyncdError:
    transport = Transport(base_url, ACCOUNT, Credentials.bearer(TOKEN), Gate(0, 1), timeout=5, retry_for=0)
    async with transport:
        with pytest.raises(Retry) as caught:
            await transport.request(ASKED)
    return caught.value


@pytest.fixture
def stranger(tmp_path: Path) -> ssl.SSLContext:
    """Return a TLS context with a certificate that no authority has signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    key, cert = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "1"]
    named = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*made, *named], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


async def test_a_certificate_that_nobody_vouches_for_gets_no_request(
    servers: list[Listening], stranger: ssl.SSLContext
) -> None:
    servers.append(server := Listening((200, {}), stranger))
    error = await error_of(f"https://127.0.0.1:{server.port}")
    assert "is not accepted: self-signed certificate" in str(error)
    assert server.seen == []


async def test_a_certificate_in_the_ca_file_of_the_environment_is_trusted(
    servers: list[Listening], stranger: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    servers.append(server := Listening((200, {}), stranger))
    error = await error_of(f"https://127.0.0.1:{server.port}")
    assert "in place of an answer of the API" in str(error)
    assert server.seen == [("GET /x", f"Bearer {TOKEN}")]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_the_token_stays_here(servers: list[Listening], status: int) -> None:
    servers.append(other := Listening((200, {})))
    servers.append(first := Listening((status, {"location": f"http://127.0.0.1:{other.port}/x"})))
    error = await error_of(f"http://127.0.0.1:{first.port}")
    assert "redirected" in str(error)
    assert first.seen[0] == ("GET /x", f"Bearer {TOKEN}")
    assert other.seen == []


async def test_a_proxy_for_https_sees_the_name_of_the_host_and_no_token(
    servers: list[Listening], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers.append(proxy := Listening((403, {})))
    for name in ("no_proxy", "NO_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    await error_of("https://api.cloudflare.com/client/v4")
    assert proxy.seen == [("CONNECT api.cloudflare.com:443", None)]


async def test_a_proxy_is_not_asked_for_loopback(servers: list[Listening], monkeypatch: pytest.MonkeyPatch) -> None:
    servers.append(proxy := Listening((403, {})))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        await error_of(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert proxy.seen == []
