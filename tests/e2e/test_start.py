"""Commands import only the packages that they need, because each import delays the start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """
state_dir = "{0}/state"
[cloudflare]
account_id = "0123456789abcdef0123456789abcdef"
api_token = "t"
base_url = "http://127.0.0.1:9/client/v4"
[mirrors.docs]
path = "{0}/not-there"
target = {{ type = "kv", namespace_title = "docs" }}
"""


def imported(directory: Path, *command: str) -> set[str]:
    """Return the packages that a command imports, with those in syncd. Its mirror has no folder."""
    config = directory / "syncd.toml"
    config.write_text(CONFIG.format(directory))
    config.chmod(0o600)
    program = [sys.executable, "-X", "importtime", "-m", "syncd", "-c", str(config), *command]
    ended = subprocess.run(program, capture_output=True, text=True, check=False, env=os.environ, timeout=60)
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    modules = [line.rpartition("|")[2].strip().split(".") for line in lines]
    return {".".join(names[:2]) if names[0] == "syncd" else names[0] for names in modules}


@pytest.mark.parametrize(
    ("command", "without"),
    [
        (["--help"], {"mcp", "httpx", "structlog", "rich", "pydantic", "asyncio", "sqlite3", "syncd.state"}),
        (["status"], {"httpx", "structlog", "rich", "starlette", "watchdog", "tenacity"}),
        (["log"], {"httpx", "structlog", "rich", "starlette", "watchdog", "tenacity"}),
        (["reconcile"], {"uvicorn", "starlette", "prometheus_client", "watchdog", "yaml", "syncd.text"}),
    ],
)
def test_a_command_imports_only_what_it_needs(tmp_path: Path, command: list[str], without: set[str]) -> None:
    packages = imported(tmp_path, *command)
    assert "click" in packages
    assert not without & packages


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        *(
            (command, package, "emulator")
            for command in ("demo", "emulate")
            for package in ("numpy", "python_multipart")
        ),
        ("mcp", "mcp", "mcp"),
    ],
)
def test_a_command_names_its_missing_extra(command: str, package: str, extra: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None; from syncd.cli.main import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program, command], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"{command}: needs the extra {extra!r}" in ended.stderr
    assert f"pip install 'syncd[{extra}]'" in ended.stderr


def test_the_demo_shows_six_files_in_step_and_finds_one() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "syncd", "demo"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "6 put, 0 unchanged" in ended.stdout
    assert "demo: 6 unchanged (1 request" in ended.stdout
    assert "1.00  guides/secrets.md" in ended.stdout


def test_a_shell_completes_commands_and_options() -> None:
    for words, expected in (
        ("syncd re", {"rebuild", "reconcile", "reload", "retry"}),
        ("syncd kv re", {"rename"}),
        ("syncd ls --", None),
    ):
        asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1), "_SYNCD_COMPLETE": "bash_complete"}
        ended = subprocess.run(
            [sys.executable, "-m", "syncd"], env=os.environ | asked, capture_output=True, text=True, check=False
        )
        found = {line.removeprefix("plain,") for line in ended.stdout.splitlines()}
        assert (ended.returncode, found) == (0, expected or {"--mirror", "--folder", "--remote", "--json", "--help"})


def test_the_stand_in_tells_a_pipe_its_address_at_once() -> None:
    program = [sys.executable, "-m", "syncd", "emulate", "--port", "0"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=buffered) as stand_in:
        assert stand_in.stdout is not None
        try:
            assert stand_in.stdout.readline().startswith("http://127.0.0.1:")
        finally:
            stand_in.terminate()
    assert stand_in.returncode == 0
