"""The commands and settings in the documentation work as they stand, against the stand-in, in a new home directory."""

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from syncd.config.sources import load
from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import serve
from tests.e2e.docs_pages import RUN, SEEN, Block, blocks, loose_commands, outputs, pages, replaced, script, unseen
from tests.e2e.harness import ACCOUNT, REPOSITORY, TOKEN
from tests.e2e.merge_toml import lines
from tests.torture.soak_parts import free_port

PAGES = pages(REPOSITORY)
PATIENCE_S = 240
"""A page takes some ten seconds. Each of its commands is a new process, which is slow on a busy machine."""

NOTES = {
    "coffee.md": "# Coffee\n\nGrind 18 g of beans. Brew for 30 seconds.\n",
    "bicycle.md": "# Bicycle\n\nPump the tyres to 4 bar every month.\n",
    "garden.md": "# Garden\n\nPrune the roses in March.\n",
}
CONFIG = """[mirrors.notes]
path = "~/notes"

[mirrors.notes.target]
type = "ai-search"
instance = "notes"
create = true
"""
"""The folder and the config that the tutorial ends with. Every other page begins with them."""


def name(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def blocks_of(page: Path) -> list[Block]:
    return list(blocks(page.read_text(encoding="utf-8")))


def runs(page: Path) -> bool:
    return any(block.language == RUN and block.kind != "skip" for block in blocks_of(page))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_has_a_known_language_and_every_skip_a_reason(page: Path) -> None:
    assert blocks_of(page) is not None
    assert loose_commands(page.read_text(encoding="utf-8")) == []


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_S + 30)
@pytest.mark.parametrize("page", [page for page in PAGES if runs(page)], ids=name)
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    with serve(EmulatorOptions(index_delay=0.05)) as server:
        walk(blocks_of(page), tmp_path, server.base_url)


def walk(found: list[Block], folder: Path, base_url: str) -> None:
    """Run the blocks in a new home, and compare their output with the output that the page shows."""
    home = folder / "ann"
    (home / "tmp").mkdir(parents=True)
    names = {port: str(free_port()) for port in ("8787", "8385", "8386", "9385")}
    environment = {
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LANG": "C.UTF-8",
    }
    if not any(block.kind == "plain" for block in found):
        environment |= {
            "CLOUDFLARE_API_BASE_URL": base_url,
            "CLOUDFLARE_API_TOKEN": TOKEN,
            "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
        }
        for file, text in NOTES.items():
            (home / "notes").mkdir(exist_ok=True)
            (home / "notes" / file).write_text(text)
        (home / "syncd.toml").write_text(CONFIG)
        (home / "syncd.toml").chmod(0o600)
    text = replaced(script(found, [sys.executable, str(REPOSITORY / "tests/e2e/merge_toml.py")]), names)
    with (folder / "output").open("w+", encoding="utf-8") as output:
        # In a session of its own, so that the end of the test ends everything that the page started.
        shell = subprocess.Popen(
            ["bash", "-c", text],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
        output.seek(0)
        printed = outputs(output.read().replace(str(home), "/home/ann"))
    last = max(printed)
    assert code == 0, f"line {found[last].line} ended with {code}:\n{found[last].text}\n{printed[last]}"
    compare(found, printed)


def compare(found: list[Block], printed: Mapping[int, str]) -> None:
    ran = None
    for number, block in enumerate(found):
        if block.language == RUN:
            ran = None if block.kind == "skip" else number
        elif block.language == SEEN and block.kind != "skip":
            assert ran is not None, f"line {block.line}: no command prints this"
            missed = unseen(block.text, printed[ran])
            assert missed is None, f"line {block.line}: {missed!r} is not as in:\n{printed[ran]}"


def complete(values: dict[str, Any]) -> str:
    """Return settings with what they need besides to be a config."""
    values.setdefault("cloudflare", {}).setdefault("account_id", ACCOUNT)
    mirrors = values.setdefault("mirrors", {})
    for mirror in mirrors.values() if mirrors else [mirrors.setdefault("notes", {})]:
        mirror.setdefault("path", "~/notes")
        target = mirror.setdefault("target", {})
        if not {"type", "namespace_id", "namespace_title", "index"} & target.keys():
            target["type"] = "ai-search"
        if target.get("type") == "ai-search":
            target.setdefault("instance", "notes")
    return "\n".join(lines(values))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_settings_of_a_page_are_a_config(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for number, block in enumerate(blocks_of(page)):
        if block.language == "toml" and block.kind != "skip":
            file = tmp_path / f"{number}.toml"
            file.write_text(complete(tomllib.loads(block.text)))
            assert load(file, {"HOME": str(tmp_path)}).mirrors
        elif block.language == "yaml" and block.kind != "skip":
            assert list(yaml.safe_load_all(block.text))
