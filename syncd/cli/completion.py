"""Completion in a shell: mirrors of the config, plans that wait for approval, files and directories.

A shell shows an error in the middle of the line, so a config that cannot be read completes to nothing.
"""

import os
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from syncd.core.errors import SyncdError
from syncd.core.keys import to_os

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

CONFIG = "syncd.config"
"""The key of a context's `meta` with the path that -c names behind the command."""


def mirrors(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of the mirrors that begin with a text, without importing the schema of the config."""
    from syncd.config.file import MIRROR_VARIABLES

    found = dict.fromkeys(_mirrors_of_file(ctx))
    names = map(str.upper, os.environ)
    variables = (name.removeprefix(MIRROR_VARIABLES) for name in names if name.startswith(MIRROR_VARIABLES))
    found.update(dict.fromkeys(name.partition("__")[0].lower() for name in variables))
    given = ctx.params.get("mirrors") or ()
    return [name for name in found if name.startswith(incomplete) and name not in given]


def titles(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the titles of the Workers KV namespaces that the config names. The others need the network."""
    targets = (mirror.get("target") for mirror in _mirrors_of_file(ctx).values() if isinstance(mirror, dict))
    found = (target.get("namespace_title") for target in targets if isinstance(target, dict))
    return [title for title in found if isinstance(title, str) and title.startswith(incomplete)]


def _mirrors_of_file(ctx: click.Context) -> dict[str, Any]:
    from syncd.config.file import config_path, file_values

    with suppress(SyncdError, OSError):
        values = file_values(config_path(_config_of(ctx))).get("mirrors")
        return values if isinstance(values, dict) else {}
    return {}


def plans(ctx: click.Context, _: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Return the ids of the plans that the delete guard has refused, each with the reason."""
    import sqlite3

    from click.shell_completion import CompletionItem

    found: dict[str, str] = {}
    with suppress(SyncdError, OSError, sqlite3.Error):
        found = _refused_plans(_config_of(ctx))
    return [CompletionItem(plan, help=why) for plan, why in found.items() if plan.startswith(incomplete)]


def _refused_plans(path: Path | None) -> dict[str, str]:
    from syncd.config.sources import load
    from syncd.state.db import Meta, open_copy, open_state_to_read
    from syncd.state.history import stored_state
    from syncd.web.problems import plan_of

    config = load(path)
    with closing(open_state_to_read(config.state_dir) or open_copy(config.state_dir)) as db:
        details = [str(stored_state(Meta(db, name)).get("detail") or "") for name in config.mirrors]
    return {plan: detail for detail in details if (plan := plan_of(detail))}


def _config_of(ctx: click.Context) -> Path | None:
    """Return the path that -c names, before or after the command."""
    return ctx.meta.get(CONFIG) or ctx.find_root().params.get("config")


class OsPath(click.ParamType[Path]):
    """A path of the command line, which `main` decoded as UTF-8, as the operating system takes it, with "~" as home.

    kind: the kind of path that a shell completes.
    """

    name = "path"

    def __init__(self, kind: Literal["file", "dir"]) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path. An empty text is none: a variable without a value would mean the current directory."""
        from syncd.config.file import at_home

        if value == "":
            self.fail("the path is empty", param, ctx)
        return at_home(Path(to_os(value)))

    def shell_complete(self, _: click.Context, __: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """Let the shell complete the path."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type=self._kind)]


file_path, directory_path = OsPath("file"), OsPath("dir")
files, directories = file_path.shell_complete, directory_path.shell_complete
"""They complete a text that may also be a key."""
