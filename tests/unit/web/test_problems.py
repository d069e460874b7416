"""The commands that the page offers to copy, out of the messages that people read."""

import pytest

from syncd.core.problems import index_problem, skipped_problem
from syncd.web.problems import plan_of, remedies

REFUSED = (
    "the plan deletes 70 of 121 entries (a.md, b.md, …); max_delete = 25% allows 30. Nothing was deleted; 0 uploads"
    " were made. See all of it: syncd plan docs; if it is meant: syncd approve docs-138d66b944e8"
)


@pytest.mark.parametrize(
    ("message", "commands"),
    [
        (REFUSED, ["syncd plan docs", "syncd approve docs-138d66b944e8"]),
        ("nothing was deleted. Mount it again, or accept this folder: syncd reconcile --force docs", ["--force docs"]),
        ("the last pass was interrupted, 7 left; run: syncd reconcile", ["syncd reconcile"]),
        (
            "the AI Search instance does not exist: `syncd check` shows its name, create = true creates it",
            ["syncd check"],
        ),
        ("search and verify --query fail like this; run syncd check again later", ["syncd check"]),
        ("left alone. To make it this mirror's: syncd reconcile --takeover", ["syncd reconcile --takeover"]),
        ("turn on use_ocr, then syncd retry. Or syncd retry", ["syncd retry"]),
        ("it belongs to root, and syncd runs as syncd", []),
        ("could not connect: All connection attempts failed", []),
        ("<b>syncd explain</b>", ["syncd explain"]),
    ],
)
def test_the_commands_of_a_message_are_found(message: str, commands: list[str]) -> None:
    found = remedies(message)
    assert len(found) == len(commands)
    assert all(command.endswith(wanted) for command, wanted in zip(found, commands, strict=True))


@pytest.mark.parametrize("key", ["a.md", "two words.md", "(a);b.md", "folder/a.tar.gz"])
def test_the_command_of_a_problem_names_its_key_as_a_shell_reads_it(key: str) -> None:
    quoted = key if key in ("a.md", "folder/a.tar.gz") else f"'{key}'"
    for problem in (skipped_problem(key), index_problem(key, "timeout_error"), index_problem(key, "invalid_pdf")):
        assert remedies(problem.message)[-1:] == [f"syncd retry {quoted}"]


@pytest.mark.parametrize(
    ("message", "plan"),
    [
        (REFUSED, "docs-138d66b944e8"),
        ("if it is meant: syncd approve my-docs-138d66b944e8", "my-docs-138d66b944e8"),
        ("syncd approve ID lets a plan pass", None),
        ("the folder is gone", None),
    ],
)
def test_the_plan_that_a_message_offers_is_found(message: str, plan: str | None) -> None:
    assert plan_of(message) == plan
