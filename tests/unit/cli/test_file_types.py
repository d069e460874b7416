"""The list of file types: of the command, of the document, and of the limits of the targets."""

import json
from pathlib import Path
from typing import Any

import pytest

from syncd.cli.file_types import print_excludes, print_types, type_groups
from syncd.cli.main import run
from syncd.cloudflare.file_types import GROUPS, LARGE, LARGE_WITH_OCR, MIB, SUPPORTED
from syncd.core import rules
from syncd.targets.ai_search.target import limits
from syncd.text.documents import SUPPORTED as TEXTS

PAGE = Path(__file__).parents[3] / "docs/reference/file-types.md"


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, list[dict[str, Any]]]:
    assert print_types(as_json=True) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert answer["exit_code"] == 0
    types: dict[str, list[dict[str, Any]]] = answer["types"]
    return types


def test_the_page_shows_the_output_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_types(as_json=False) == 0
    assert f"```text\n{capsys.readouterr().out}```\n" in PAGE.read_text(encoding="utf-8")


def test_the_command_needs_no_config(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["check", "--types"]) == 0
    assert capsys.readouterr().out in PAGE.read_text(encoding="utf-8")


def test_each_type_is_in_one_group() -> None:
    listed = [extension for group in GROUPS for extension in group.extensions]
    assert sorted(listed) == sorted(SUPPORTED)
    vectorize = [extension for group in type_groups()["vectorize"] for extension in group.extensions]
    assert sorted(vectorize) == sorted(TEXTS)


def test_the_json_holds_the_limit_of_each_type(capsys: pytest.CaptureFixture[str]) -> None:
    types = printed(capsys)
    assert types["kv"] == [
        {
            "group": "every file, also an empty one",
            "max_bytes": 25 * MIB,
            "max_bytes_with_ocr": 25 * MIB,
            "extensions": None,
        }
    ]
    assert {each["max_bytes"] for each in types["vectorize"]} == {25 * MIB}
    for group in types["ai-search"]:
        for extension in group["extensions"]:
            large, with_ocr = extension in LARGE, extension in LARGE | LARGE_WITH_OCR
            assert (group["max_bytes"], group["max_bytes_with_ocr"]) == (
                10 * MIB if large else 4 * MIB,
                10 * MIB if with_ocr else 4 * MIB,
            )
            # The target decides about a PDF only when it is to be sent.
            assert limits(128, 10 * MIB).size_limit(f"a{extension}") == group["max_bytes_with_ocr"]


def test_forty_types_are_large_in_every_instance() -> None:
    # The documentation lists 41 types of plain text and code; of .log.gz nobody knows which bytes count.
    assert len(LARGE) == 40
    assert {".pdf"} == LARGE_WITH_OCR


def test_the_excludes_that_are_printed_have_the_reserved_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_excludes(as_json=True) == 0
    groups = json.loads(capsys.readouterr().out)["excludes"]
    assert groups == {
        **{name: list(group) for name, group in rules.GROUPS.items()},
        "reserved names": list(rules.RESERVED),
    }
    assert print_excludes(as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[lines.index("# reserved names, which no pattern includes") + 1 :] == ["..*", ".syncd-probe-*"]
    assert {pattern for group in groups.values() for pattern in group} <= set(lines)
