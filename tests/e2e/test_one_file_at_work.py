"""One unusual file, with all three targets, the command and the daemon."""

import os
from typing import Any

import pytest

from syncd.cli.main import run
from syncd.targets.ai_search import writing as item_writing
from syncd.targets.kv import writing as value_writing
from syncd.targets.vectorize import writing as vector_writing
from tests.e2e.harness import Workspace

KINDS = {"ai-search": 'instance = "docs"', "kv": 'namespace_title = "docs"', "vectorize": 'index = "docs"'}


def configure(workspace: Workspace, kind: str) -> None:
    workspace.configure()
    text = workspace.config.read_text().replace(
        'type = "ai-search"\ninstance = "docs"', f'type = "{kind}"\n{KINDS[kind]}'
    )
    workspace.config.write_text(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_from_the_far_future_is_like_any_other(workspace: Workspace, kind: str) -> None:
    configure(workspace, kind)
    for name, seconds in {"a.md": 10_413_792_000, "b.md": -5_000_000_000, "c.md": 1}.items():
        os.utime(workspace.write(name, name), (seconds, seconds))
    first = workspace.syncd("reconcile", "--json")
    assert first.code == 0, first.err
    assert first.json()["mirrors"]["docs"]["plan"]["put"] == 3
    assert workspace.syncd("reconcile", "--json").json()["mirrors"]["docs"]["plan"]["unchanged"] == 3
    with workspace.daemon() as daemon:
        daemon.saw("pass.done")
        os.utime(workspace.write("d.md", "d"), (10_413_792_000, 10_413_792_000))
        daemon.saw("put.done", key="d.md")


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_about_one_file_does_not_stop_the_others(
    workspace: Workspace, kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    configure(workspace, kind)
    for number in range(7):
        workspace.write(f"{number}.md", f"# {number}\n\ntext")
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
    assert run(["-c", str(workspace.config), "reconcile"]) == 1
    shown = capfd.readouterr()
    assert "6 put" in shown.out
    assert "ZeroDivisionError" in shown.out
    assert "Traceback" in shown.err
    monkeypatch.setattr(module, name, real)
    assert run(["-c", str(workspace.config), "retry"]) == 0
    assert run(["-c", str(workspace.config), "reconcile"]) == 0
