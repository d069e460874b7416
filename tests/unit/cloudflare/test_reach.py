"""The message about a broken connection names the fault: name lookup, connection, proxy, TLS, clock."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from syncd.cloudflare.connection import (
    CONTACT_S,
    STEP_S,
    clock_fault,
    connection_fault,
    find_fault,
    in_daemon_thread,
    unanswered_fault,
)
from syncd.core.errors import Unreachable


def fault_of(base_url: str, limit_s: float = STEP_S) -> tuple[str, str]:
    fault = asyncio.run(find_fault(base_url, limit_s=limit_s))
    assert fault is not None
    return fault.message, fault.remedy


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_port_that_takes_a_connection_is_no_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert asyncio.run(find_fault(f"http://127.0.0.1:{server.getsockname()[1]}/client/v4")) is None


def test_a_refused_connection_is_named(closed_port: int) -> None:
    message, remedy = fault_of(f"http://127.0.0.1:{closed_port}")
    assert message == f"127.0.0.1:{closed_port} refuses the connection"
    assert "base_url" in remedy


def test_a_proxy_is_blamed_for_its_own_connection(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port}")
    message, remedy = fault_of("https://api.example.org/client/v4")
    assert message == f"the proxy 127.0.0.1:{closed_port} refuses the connection"
    assert "HTTPS_PROXY" in remedy


def test_a_name_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    message, remedy = fault_of("https://api.example.org")
    assert message == "DNS: api.example.org: Name or service not known"
    assert "/etc/resolv.conf" in remedy


def test_a_name_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(60))
    began = time.monotonic()
    message, _ = fault_of("https://api.example.org", limit_s=0.05)
    assert message.startswith("DNS: no answer for api.example.org within")
    assert time.monotonic() - began < 5
    answered.set()


def test_a_server_that_accepts_and_says_nothing_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx, "create_ssl_context", ssl.create_default_context)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert fault_of(f"https://127.0.0.1:{port}", limit_s=0.1)[0] == f"127.0.0.1:{port} does not answer"


def test_the_stages_together_take_less_than_ten_seconds() -> None:
    assert 2 * STEP_S < CONTACT_S < 10


def test_without_a_handshake_a_server_that_says_nothing_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert asyncio.run(find_fault(f"https://127.0.0.1:{server.getsockname()[1]}", handshake=False)) is None


def test_a_caller_that_is_cancelled_before_the_thread_runs_causes_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def start_later(thread: threading.Thread) -> None:
        threads.append(thread)

    monkeypatch.setattr(threading.Thread, "start", start_later)

    async def cancelled() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await in_daemon_thread(lambda: None)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    [thread] = threads
    thread.run()


def test_the_first_of_several_addresses_is_named() -> None:
    outer = httpx.ConnectError("All connection attempts failed")
    outer.__cause__ = ExceptionGroup("multiple errors", [ConnectionRefusedError(), OSError("no route")])
    assert connection_fault(outer, "localhost:1").message == "localhost:1 refuses the connection"


def certificate(code: int, message: str) -> Callable[[], Exception]:
    def error() -> Exception:
        found = ssl.SSLCertVerificationError(1, message)
        found.verify_code, found.verify_message = code, message
        return found

    return error


@pytest.mark.parametrize(
    ("error", "message", "remedy"),
    [
        (certificate(9, "not yet valid"), "is not valid yet, by the clock of this machine: 20", "set the clock"),
        (certificate(10, "has expired"), "has expired, by the clock of this machine: 20", "set the clock"),
        (certificate(20, "unable to get local issuer"), "unable to get local issuer", "SSL_CERT_FILE"),
        (certificate(62, "Hostname mismatch"), "Hostname mismatch", "base_url"),
        (lambda: ssl.SSLError(1, "WRONG_VERSION_NUMBER"), "TLS: api", "base_url"),
        (
            lambda: httpx.ProxyError("407 Proxy Authentication Required"),
            "proxy: it refuses the connection: 407",
            "PROXY",
        ),
        (lambda: socket.gaierror(-2, "Name or service not known"), "DNS: api: Name or service", "resolv.conf"),
        (lambda: ConnectionRefusedError(111, "refused"), "api refuses the connection", "firewall"),
        (lambda: httpx.ReadTimeout(""), "api does not answer", "firewall"),
        (lambda: OSError(101, "Network is unreachable"), "api: [Errno 101] Network is unreachable", "network"),
        (OSError, "api: OSError", "network"),
    ],
)
def test_the_cause_inside_an_error_decides(error: Callable[[], Exception], message: str, remedy: str) -> None:
    outer, unreachable = httpx.ConnectError(""), Unreachable("no request was answered for 5 s")
    outer.__cause__, unreachable.__cause__ = error(), outer
    direct, wrapped = connection_fault(error(), "api"), connection_fault(unreachable, "api")
    assert message in direct.message
    assert remedy in direct.remedy
    if str(error()):
        assert message in wrapped.message


def test_a_clock_that_is_far_off_is_named() -> None:
    now = time.time()
    assert clock_fault(None) is None
    assert clock_fault(now - 60) is None
    behind, ahead = clock_fault(now + 7200), clock_fault(now - 7200)
    assert behind is not None
    assert ahead is not None
    assert "120 minutes behind the clock of the API" in behind.message
    assert "120 minutes ahead of the clock of the API" in ahead.message


@pytest.mark.parametrize(
    ("sent", "statuses", "message", "remedy"),
    [
        (1, ["200"], "answers (status 200), but not as the Cloudflare API does", "check base_url, and whether another"),
        (2, ["404"], "answers (status 404), but not as the Cloudflare API does", "another program or a proxy"),
        (2, ["200", "503"], "answers with status 200, 503 only", "https://www.cloudflarestatus.com"),
        (2, ["429"], "answers with status 429 only", "try again later"),
        (2, ["failed"], "does not answer", "check the network"),
        (1, [], "does not answer", "check the network"),  # the look ended before the request
        (0, [], "the quota of requests is used up", "raise cloudflare.quota"),
    ],
)
def test_an_answer_that_is_not_of_the_api_is_named(sent: int, statuses: list[str], message: str, remedy: str) -> None:
    fault = unanswered_fault("http://127.0.0.1:8787/client/v4", sent, statuses, TimeoutError())
    assert message in fault.message
    assert remedy in fault.remedy
