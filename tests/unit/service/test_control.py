"""The control socket distinguishes a request that it cannot read from a bug in the code of a command."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import EXIT_BUG, EXIT_LOCKED, EXIT_OK
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
