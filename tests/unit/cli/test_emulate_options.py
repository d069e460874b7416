"""The options of the command `emulate` are options of the stand-in, with the same defaults."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click import Option
from click.testing import CliRunner

from syncd.cli.context import GlobalOptions
from syncd.cli.demo import emulate
from syncd.emulator.options import EmulatorOptions

OWN = {"port"}
PYTHON_ONLY = {"kv_write_limit", "bulk_max_bytes", "bulk_fail_over", "empty_pages"}
"""Options of the stand-in that only tests use."""


def test_each_option_of_the_stand_in_can_be_given_to_the_command() -> None:
    names = {each.name for each in emulate.params if isinstance(each, Option)}
    assert names - OWN == {field.name for field in fields(EmulatorOptions)} - PYTHON_ONLY


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ("", "store", None),
        ("--store a.db", "store", Path("a.db")),
        ("", "on_existing", "overwrite"),
        ("--on-existing conflict", "on_existing", "conflict"),
        ("", "slow_index_delay", 3600),
        ("--slow-index-delay 2m", "slow_index_delay", 120),
        ("", "index_delay", 0.2),
        ("", "fail_index_times", 2),
        ("--fail-index-times 0", "fail_index_times", 0),
        ("", "index_error", ()),
        (
            "--index-error a=over_size --index-error b=r2_unknown_error",
            "index_error",
            ("a=over_size", "b=r2_unknown_error"),
        ),
        ("", "permission_status", 403),
        ("--permission-status 401", "permission_status", 401),
        ("", "list_metadata", True),
        ("--no-list-metadata", "list_metadata", False),
        ("", "paused", False),
        ("--paused", "paused", True),
        ("--unsuccessful 0.5", "unsuccessful", 0.5),
    ],
)
def test_an_option_of_the_command_has_the_type_and_the_default_of_the_stand_in(
    given: str, name: str, value: Any
) -> None:
    params = emulate.make_context("emulate", given.split(), obj=GlobalOptions(None, 0, False, "auto")).params
    assert params[name] == value
    options = EmulatorOptions(**{field.name: params[field.name] for field in fields(EmulatorOptions) if field.metadata})
    assert getattr(options, name) == value
    if not given:
        assert options == EmulatorOptions()


def test_the_help_names_the_routes_that_the_stand_in_refuses() -> None:
    text = CliRunner().invoke(emulate, ["--help"]).output
    for word in ("jobs", "chats", "models", "tasks", "authors", "finetunes", "tomarkdown", "501"):
        assert word in text
