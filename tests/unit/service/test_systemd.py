"""Which datagrams systemd gets."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.service.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@syncd-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0", 1))
        receiver.settimeout(2)
        yield receiver, name


def test_each_call_is_one_datagram(manager: tuple[socket.socket, str]) -> None:
    receiver, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name}, lambda: 1_234_567_899)
    notifier.ready()
    notifier.status("120 in step")
    notifier.watchdog()
    notifier.reloading()
    notifier.stopping()
    received = [receiver.recv(4096) for _ in range(5)]
    assert received == [
        b"READY=1",
        b"STATUS=120 in step",
        b"WATCHDOG=1",
        b"RELOADING=1\nMONOTONIC_USEC=1234567",
        b"STOPPING=1",
    ]


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("a\nSTOPPING=1\r\nb", b"STATUS=a STOPPING=1 b"),
        ("a\0b", b"STATUS=a b"),
        ("gr\u00fc\u00dfe \udce9", "STATUS=gr\u00fc\u00dfe ?".encode()),
        ("esc\x1b[2J\x9b\u202e", b"STATUS=esc?[2J??"),
        ("x" * 5_000, b"STATUS=" + b"x" * 1024),
    ],
)
def test_a_status_stays_one_line(manager: tuple[socket.socket, str], text: str, sent: bytes) -> None:
    receiver, name = manager
    Notifier({"NOTIFY_SOCKET": name}).status(text)
    assert receiver.recv(8192) == sent


@pytest.mark.parametrize("address", [None, "", "vsock:2:1", "relative", "/no/such/socket", "/" + "x" * 300])
def test_a_manager_that_does_not_listen_is_no_error(address: str | None) -> None:
    notifier = Notifier({} if address is None else {"NOTIFY_SOCKET": address})
    notifier.ready()
    notifier.watchdog()


def test_a_manager_that_does_not_read_does_not_block(manager: tuple[socket.socket, str]) -> None:
    receiver, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for _ in range(5_000):
        notifier.status("x" * 1000)
    assert receiver.recv(4096).startswith(b"STATUS=x")


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_interval_is_half_of_what_systemd_allows(
    environ: dict[str, str], interval_s: float | None
) -> None:
    assert Notifier(environ).watchdog_interval_s == interval_s
