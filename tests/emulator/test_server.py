import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import run, serve
from tests.emulator.harness import ACCOUNT, ITEMS, ROOT, form

AUTH = {"Authorization": "Bearer token"}


def create_docs(base_url: str) -> None:
    answer = httpx.post(f"{base_url}{ROOT}/instances", headers=AUTH, json={"id": "docs"}, verify=False)
    assert answer.status_code == 201


def test_a_server_answers_on_a_free_loopback_port_and_counts() -> None:
    with serve(EmulatorOptions()) as server:
        assert server.base_url.startswith("http://127.0.0.1:")
        assert server.base_url.endswith("/client/v4")
        answer = httpx.get(f"{server.base_url}/accounts/{ACCOUNT}/tokens/verify", headers=AUTH, verify=False)
        assert answer.json()["result"]["status"] == "active"
        assert server.requests.total == 1


def test_a_small_answer_is_not_delayed_by_the_network_stack() -> None:
    with (
        serve(EmulatorOptions()) as server,
        httpx.Client(base_url=server.base_url, headers=AUTH, verify=False) as client,
    ):
        begin = time.monotonic()
        for _ in range(50):
            client.get("/user/tokens/verify")
        assert time.monotonic() - begin < 50 * 0.03


def test_a_server_closes_at_once_with_connections_open_and_requests_waiting() -> None:
    server = serve(EmulatorOptions(index_delay=30))
    with httpx.Client(base_url=server.base_url, headers=AUTH, verify=False) as client:
        create_docs(server.base_url)
        waiting = threading.Thread(target=_upload_and_wait, args=(server.base_url,))
        waiting.start()
        while server.requests.total < 2:
            time.sleep(0.001)
        begin = time.monotonic()
        server.close()
        assert time.monotonic() - begin < 0.5
        waiting.join()
        with pytest.raises(httpx.TransportError):
            client.get(f"{ROOT}/instances")
    server.close()


def _upload_and_wait(base_url: str) -> None:
    try:
        httpx.post(f"{base_url}{ITEMS}", headers=AUTH, **form("a.md", wait_for_completion="true"), verify=False)
    except httpx.TransportError:
        return


def test_a_port_in_use_is_an_os_error() -> None:
    with serve(EmulatorOptions()) as server, pytest.raises(OSError, match="in use"):
        serve(EmulatorOptions(), httpx.URL(server.base_url).port or 0)


@pytest.mark.parametrize(
    "values",
    [
        {"index_delay": -1},
        {"list_lag": float("nan")},
        {"slow_index_delay": -1},
        {"fail_index": "("},
        {"fail_index_transient": "("},
        {"slow_index": "("},
        {"fail_index_times": -1},
        {"unsuccessful": 1.5},
        {"bulk_max_bytes": -1},
        {"bulk_fail_over": -1},
        {"mutation_lag": -0.1},
        {"fail_index": "(a+)+$"},
        {"skip_index": "(?:a|b){2,}"},
        {"slow_index": "a*b+c{2}d*"},
        {"index_error": ["(a*)*=over_size"]},
    ],
)
def test_an_option_out_of_range_is_named(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        EmulatorOptions(**values)


def test_a_server_may_be_closed_right_after_its_start() -> None:
    for _ in range(3):
        serve(EmulatorOptions()).close()


def test_a_store_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        serve(EmulatorOptions(store=tmp_path / "missing" / "emulator.db"))


def test_a_too_large_upload_is_answered_although_the_client_is_still_sending() -> None:
    with serve(EmulatorOptions()) as server:
        create_docs(server.base_url)
        answer = httpx.post(f"{server.base_url}{ITEMS}", headers=AUTH, **form("a.md", bytes(20_000_000)), verify=False)
        assert answer.status_code == 413


def test_a_client_that_disconnects_during_an_upload_does_no_harm() -> None:
    with serve(EmulatorOptions()) as server:
        create_docs(server.base_url)
        url = httpx.URL(server.base_url)
        with socket.create_connection((url.host, url.port or 0)) as rude:
            head = f"POST {url.path}{ITEMS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer t\r\n"
            rude.sendall(head.encode() + b"Content-Length: 1000\r\n\r\nhalf")
        answer = httpx.get(f"{server.base_url}{ITEMS}", headers=AUTH, verify=False)
        assert answer.json()["result"] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_serves_until_a_signal_and_returns_its_number(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    answers = []

    def ask(url: str) -> None:
        answers.append(httpx.get(f"{url}/user/tokens/verify", headers=AUTH, verify=False).status_code)
        os.kill(os.getpid(), number)

    assert _run_with_client(EmulatorOptions(), ask) == number
    assert answers == [200]
    assert signal.getsignal(number) is before


def test_emulate_stops_at_sigterm_without_a_message() -> None:
    command = [sys.executable, "-m", "syncd", "emulate", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"http://127.0.0.1:")
        process.terminate()
        assert process.communicate(timeout=20) == (b"", b"")
        assert process.returncode == 0


@pytest.mark.parametrize("expression", ["a*b+c{2}", "^(docs/)?.*\\.(md|txt)$"])
def test_an_expression_of_three_repeats_and_an_optional_group_are_accepted(expression: str) -> None:
    assert EmulatorOptions(fail_index=expression).fail_index == expression


def _run_with_client(wanted: EmulatorOptions, client: Callable[[str], None]) -> int:
    """Run the stand-in in the main thread and the client in another thread."""
    clients: list[threading.Thread] = []

    def ready(url: str) -> None:
        clients.append(threading.Thread(target=client, args=(url,)))
        clients[0].start()

    number = run(wanted, ready=ready)
    clients[0].join()
    return number
