"""The options of the command `emulate` are options of the stand-in, with the same defaults."""

from dataclasses import fields
from typing import Any

from click import Option
from click.testing import CliRunner

from syncd.cli.demo import emulate
from syncd.config.values import parse_duration
from syncd.emulator.options import EmulatorOptions

OWN = {"port"}
PYTHON_ONLY = {"kv_write_limit", "bulk_max_bytes", "bulk_fail_over", "empty_pages"}
"""Options of the stand-in that only tests use."""


def _of_the_command() -> dict[str, Any]:
    return {str(each.name): each.default for each in emulate.params if isinstance(each, Option)}


def test_each_option_of_the_stand_in_can_be_given_to_the_command() -> None:
    assert set(_of_the_command()) - OWN == {field.name for field in fields(EmulatorOptions)} - PYTHON_ONLY


def test_the_command_has_the_defaults_of_the_stand_in() -> None:
    options = EmulatorOptions()
    for name, default in _of_the_command().items():
        if name not in OWN and isinstance(default, (str, int, float)):
            expected = getattr(options, name)
            if name == "permission_status":
                expected = str(expected)
            is_duration = isinstance(default, str) and isinstance(expected, (int, float))
            assert (parse_duration(str(default)) if is_duration else default) == expected, name


def test_the_help_names_the_routes_that_the_stand_in_refuses() -> None:
    text = CliRunner().invoke(emulate, ["--help"]).output
    for word in ("jobs", "chats", "models", "tasks", "authors", "finetunes", "tomarkdown", "501"):
        assert word in text
