"""One file that nobody thought of: all three targets, the command and the daemon."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.cli.main import run
from syncd.targets.ai_search import writing as item_writing
from syncd.targets.kv import writing as value_writing
from syncd.targets.vectorize import writing as vector_writing
from tests.e2e.harness import Room, open_room

KINDS = {"ai-search": 'instance = "docs"', "kv": 'namespace_title = "docs"', "vectorize": 'index = "docs"'}


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path) as room:
        yield room


def configure(room: Room, kind: str) -> None:
    room.configure()
    text = room.config.read_text().replace('type = "ai-search"\ninstance = "docs"', f'type = "{kind}"\n{KINDS[kind]}')
    room.config.write_text(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_from_the_far_future_is_like_any_other(room: Room, kind: str) -> None:
    configure(room, kind)
    for name, seconds in {"a.md": 10_413_792_000, "b.md": -5_000_000_000, "c.md": 1}.items():
        os.utime(room.write(name, name), (seconds, seconds))
    first = room.syncd("reconcile", "--json")
    assert first.code == 0, first.err
    assert first.json()["mirrors"]["docs"]["plan"]["put"] == 3
    assert room.syncd("reconcile", "--json").json()["mirrors"]["docs"]["plan"]["unchanged"] == 3
    with room.daemon() as daemon:
        daemon.saw("pass.done")
        os.utime(room.write("d.md", "d"), (10_413_792_000, 10_413_792_000))
        daemon.saw("put.done", key="d.md")


@pytest.mark.parametrize("kind", KINDS)
def test_code_that_fails_about_one_file_stops_no_other(
    room: Room, kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    configure(room, kind)
    for number in range(7):
        room.write(f"{number}.md", f"# {number}\n\ntext")
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "any")
    place = {
        "ai-search": (item_writing, "describe_content"),
        "kv": (value_writing, "describe_content"),
        "vectorize": (vector_writing, "describe_file"),
    }
    module, name = place[kind]
    real = getattr(module, name)

    def odd(sources: Any, key: str, content: Any) -> Any:
        if key == "3.md":
            raise ZeroDivisionError("nobody thought of this")
        return real(sources, key, content)

    monkeypatch.setattr(module, name, odd)
    assert run(["-c", str(room.config), "reconcile"]) == 1
    shown = capfd.readouterr()
    assert "6 put" in shown.out
    assert "ZeroDivisionError" in shown.out
    assert "Traceback" in shown.err
    monkeypatch.setattr(module, name, real)
    assert run(["-c", str(room.config), "retry"]) == 0
    assert run(["-c", str(room.config), "reconcile"]) == 0
