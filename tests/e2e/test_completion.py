"""Completion in real shells, with the files of the packages."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from syncd.state.db import Meta, open_state
from syncd.state.history import MirrorState, keep_state
from tests.skips import NotHere

FILES = Path(__file__).parents[2] / "completions"
CONFIG = """
state_dir = "state"
[cloudflare]
account_id = "0123456789abcdef0123456789abcdef"
[mirrors.handbook]
path = "handbook"
target = { type = "kv", namespace_title = "a" }
[mirrors.wiki]
path = "wiki"
target = { type = "kv", namespace_title = "title-of-wiki" }
"""
LINES = {
    "syncd recon": {"reconcile"},
    "syncd kv re": {"rename"},
    "syncd status ": {"handbook", "wiki"},
    "syncd status handbook ": {"wiki"},
    "syncd ls -m wi": {"wiki"},
    "syncd search words --mirror h": {"handbook"},
    "syncd -c other.toml status ": {"elsewhere"},
    "syncd status -c other.toml ": {"elsewhere"},
    "syncd -c broken.toml status ": set(),
    "syncd -c missing.toml status ": set(),
    "syncd kv get --namespace tit": {"title-of-wiki"},
    "syncd kv delete t": {"title-of-wiki"},
    "syncd approve ": {"handbook-0123456789ab"},
    "syncd -c broken.toml approve ": set(),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with configs, and a `syncd` that the shells find."""
    (tmp_path / "syncd.toml").write_text(CONFIG)
    (tmp_path / "other.toml").write_text("[mirrors.elsewhere]\n")
    (tmp_path / "broken.toml").write_text("[mirrors\n")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "syncd"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m syncd "$@"\n')
    program.chmod(0o755)
    with closing(open_state(tmp_path / "state")) as db:
        keep_state(
            Meta(db, "handbook"), MirrorState("halted", "refused; if it is meant: syncd approve handbook-0123456789ab")
        )
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    ours = {name: text for name, text in os.environ.items() if not name.startswith(("SYNCD_", "XDG_"))}
    return ours | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder), "TERM": "dumb"}


def ask(folder: Path, *command: str) -> set[str]:
    """Return the words that a shell prints. It must print no error."""
    if not shutil.which(command[0]):
        raise NotHere(f"{command[0]} is not installed")
    ended = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stderr == ""
    return {line.partition("\t")[0] for line in ended.stdout.splitlines() if line}


@pytest.mark.parametrize("line", LINES)
def test_bash_completes(folder: Path, line: str) -> None:
    words = line.split(" ")
    script = (
        f"source {FILES / 'syncd.bash'}; COMP_WORDS=({line.rstrip()} {'' if words[-1] else chr(39) * 2});"
        f" COMP_CWORD={len(words) - 1}; _syncd_completion syncd; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    assert ask(folder, "bash", "--norc", "-c", script) == LINES[line]


@pytest.mark.parametrize("line", LINES)
def test_fish_completes(folder: Path, line: str) -> None:
    script = f"source {FILES / 'syncd.fish'}; complete -C '{line}'"
    # Without candidates of its own, fish offers the files of the folder.
    found = ask(folder, "fish", "--no-config", "-c", script)
    assert found - {path.name for path in folder.iterdir()} - {"bin/", "state/"} == LINES[line]


def test_zsh_completes_a_mirror(folder: Path) -> None:
    if not shutil.which("zsh"):
        raise NotHere("zsh is not installed")
    (folder / ".zshrc").write_text(f"fpath=({FILES} $fpath)\nPS1='ready> '\nautoload -Uz compinit\ncompinit -D -u\n")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe("zsh", ["zsh", "-i"], environment(folder))
    try:
        expect(terminal, "ready> ")
        os.write(terminal, b"syncd status hand\t")
        assert "handbook" in expect(terminal, "handbook")
    finally:
        os.close(terminal)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def expect(terminal: int, text: str, patience_s: float = 30) -> str:
    """Read a terminal until a text appears."""
    seen, end = "", time.monotonic() + patience_s
    while text not in seen and (left_s := end - time.monotonic()) > 0:
        if select.select([terminal], [], [], left_s)[0]:
            seen += os.read(terminal, 4096).decode(errors="replace")
    return seen


def test_a_path_is_left_to_the_shell(folder: Path) -> None:
    for line, kind in (
        ("syncd -c ", "file"),
        ("syncd init ", "dir"),
        ("syncd pull ", "dir"),
        ("syncd explain ", "file"),
    ):
        asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split())), "_SYNCD_COMPLETE": "bash_complete"}
        ended = subprocess.run(
            [folder / "bin" / "syncd"],
            env=environment(folder) | asked,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.stdout.strip() == f"{kind},", line
