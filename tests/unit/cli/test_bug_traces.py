"""Exit 70: the traceback of a bug shows neither the token nor variables, and forges nothing."""

import sys
from pathlib import Path

import httpx
import pytest

from syncd.cli import main
from syncd.cli.main import run
from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.request import Request
from syncd.cloudflare.transport import Transport
from syncd.config.sources import load
from syncd.core.errors import EXIT_BUG, EXIT_HALT
from syncd.emulator.options import EmulatorOptions
from tests.unit.config.harness import MINIMAL

pytestmark = pytest.mark.usefixtures("bare_logging")

TOKEN = "a-token-that-nobody-may-see-4713"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "syncd.toml"
    path.write_text(f'state_dir = "{tmp_path / "state"}"\n{MINIMAL}')
    (tmp_path / "docs").mkdir()
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", TOKEN)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return path


@pytest.mark.parametrize("verbose", [[], ["-vv"]])
def test_a_bug_that_quotes_the_token_ends_with_70_and_without_it(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verbose: list[str]
) -> None:
    def fail(*_: object) -> None:
        a_local_variable = TOKEN
        raise RuntimeError(f"Bearer {a_local_variable}\n12:00:00 [error] forged\x1b[2J\u202e") from KeyError(TOKEN)

    monkeypatch.setattr("syncd.queries.status.snapshot", fail)
    assert run(["--config", str(config), *verbose, "status"]) == 70
    printed = capsys.readouterr()
    text = printed.out + printed.err
    assert "Traceback" in text
    assert "RuntimeError: Bearer [hidden]" in text
    assert "this is a bug" in text
    for never in (TOKEN, "\x1b", "\u202e", "\n12:00:00"):
        assert never not in text, never


def test_no_object_that_holds_the_token_shows_it(config: Path) -> None:
    loaded = load(config)
    credentials = Credentials.bearer(TOKEN)
    by_key = Credentials.global_key("me@example.com", TOKEN)
    for each in (loaded, loaded.cloudflare, credentials, by_key, EmulatorOptions(token=TOKEN)):
        assert TOKEN not in f"{each!r} {each!s}", type(each)


async def test_no_request_shows_the_token() -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request!r} {request.headers!r}")
        return httpx.Response(200, json={"success": True, "result": {}})

    way = httpx.MockTransport(answer)
    base = "https://api.cloudflare.com/client/v4"
    async with Transport(base, "a" * 32, Credentials.bearer(TOKEN), Gate(0, 1), http=way) as transport:
        await transport.request(Request("GET", "/x"))
        assert TOKEN not in f"{seen} {transport!r}"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("can't start new thread"), EXIT_HALT),
        (RuntimeError("Event loop is closed"), EXIT_BUG),
        (ImportError("libx.so: failed to map segment from shared object"), EXIT_HALT),
        (ImportError("cannot import name"), EXIT_BUG),
    ],
)
def test_a_machine_without_threads_or_memory_is_no_bug(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(main, "_invoke", fail)
    monkeypatch.setattr(main, "discard_stdout", lambda: None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    assert main.run(["status"]) == code
    assert ("this machine has no" in capsys.readouterr().err) == (code == EXIT_HALT)
