"""The control socket: a request that it cannot read, a bug in the code of a command, and a lack of descriptors."""

import asyncio
import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from syncd.core.errors import EXIT_BUG, EXIT_HALT, EXIT_LOCKED, EXIT_OK
from syncd.service.control import Channel, ControlServer, ask, reading_request


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), ValueError("x"), RecursionError()])
@pytest.mark.parametrize("unread", [True, False])
async def test_an_error_while_reading_is_not_understood_and_a_later_one_is_a_bug(
    tmp_path: Path, error: Exception, *, unread: bool
) -> None:
    async def handle(request: Mapping[str, Any], channel: Channel) -> int:
        del channel
        if request["command"] != "fails":
            return EXIT_OK
        if unread:
            with reading_request():
                raise error
        raise error

    server = ControlServer(handle)
    await server.open(tmp_path)
    try:
        codes = []
        for command in ("fails", "works"):
            events = await ask(tmp_path, {"command": command})
            assert events is not None
            codes += [event["exit_code"] async for event in events if "exit_code" in event]
    finally:
        await server.close()
    assert codes == [EXIT_LOCKED if unread else EXIT_BUG, EXIT_OK]


async def test_a_command_that_lacks_descriptors_is_no_bug(tmp_path: Path) -> None:
    async def handle(_: Mapping[str, Any], __: Channel) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    server = ControlServer(handle)
    await server.open(tmp_path)
    try:
        events = await ask(tmp_path, {"command": "fails"})
        assert events is not None
        answer = [event async for event in events]
    finally:
        await server.close()
    assert answer[-1] == {"exit_code": EXIT_HALT}
    assert "Too many open files" in answer[0]["err"]


async def test_connections_that_cannot_be_accepted_are_logged_once(tmp_path: Path) -> None:
    """Asyncio reports each of a hundred tries, every second."""
    server, loop = ControlServer(_never), asyncio.get_running_loop()
    await server.open(tmp_path)
    try:
        with capture_logs() as logs:
            for _ in range(100):
                refused = OSError(errno.EMFILE, "Too many open files")
                loop.call_exception_handler({"message": "socket.accept() out of system resource", "exception": refused})
    finally:
        await server.close()
    assert [line["event"] for line in logs] == ["connection.refused"]


async def test_a_daemon_without_descriptors_does_not_go_on_without_its_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("socket.socket", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        await ControlServer(_never).open(tmp_path)


async def _never(_: Mapping[str, Any], __: Channel) -> int:
    raise AssertionError
