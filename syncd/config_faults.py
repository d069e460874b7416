"""What is wrong with a configuration, said in one line that names the key and what would be right."""

import difflib
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from syncd.paths import name_fault

if TYPE_CHECKING:
    from syncd.config import Config

MIRROR_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def faults(config: "Config") -> Iterator[tuple[str, str]]:
    """What no single key shows: names, roots that must not be mirrored, mirrors that would fight each other."""
    for name, mirror in config.mirrors.items():
        if not MIRROR_NAME.fullmatch(name):
            yield name, ": a mirror's name is 1-64 of a-z 0-9 - _, beginning with a letter or digit"
        root = mirror.path.resolve()
        if root == Path("/") or root == Path.home().resolve():
            yield name, f".path: {mirror.path} is too much to mirror; name a folder of documents inside it"
        if config.state_dir.resolve().is_relative_to(root):
            yield name, f".path: {mirror.path} holds the state directory {config.state_dir}; move one of them"
        if fault := name_fault(mirror.key_prefix + mirror.owner):
            yield name, f": key_prefix and owner: {fault.partition(';')[0]}; use printable characters"
    for (one, first), (other, second) in combinations(config.mirrors.items(), 2):
        same = first.target.spec == second.target.spec and first.owner == second.owner
        prefixes = first.key_prefix, second.key_prefix
        if same and (prefixes[0].startswith(prefixes[1]) or prefixes[1].startswith(prefixes[0])):
            yield one, f" and mirrors.{other} write as the same owner under the same keys; give one another key_prefix"


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first mistake, as "key: what would be right"."""
    errors = error.errors(include_input=False, include_url=False, include_context=False)
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key {where}{_suggestion(first['loc'], model)}{more}"
    if where == "mirrors" and first["type"] in ("missing", "too_short"):
        return f"mirrors: there is no [mirrors.NAME] section; add one with path and target{more}"
    if where.endswith("account_id"):
        return f"{where}: should be the account's 32 lower-case hex digits, as in the dashboard's address{more}"
    if where.endswith(".type"):
        return f'{where}: this version knows type = "ai-search"{more}'
    if first["type"] == "missing":
        return f"{where} is missing{more}"
    if first["type"].startswith("path"):
        return f"{where}: should be a path, in quotes{more}"
    said = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    said = said.removeprefix(f"{first['loc'][-1]} ")
    return f"{where}: {said}{more}"


def _suggestion(loc: tuple[int | str, ...], model: type[BaseModel]) -> str:
    names = _field_names(model, loc[:-1])
    close = difflib.get_close_matches(str(loc[-1]), names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(names)}"


def _field_names(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand at a place in the configuration."""
    for part in loc:
        field = model.model_fields.get(str(part))
        # A mirror's own name is no field: the model behind the dictionary goes on.
        inner = field.annotation if field else model
        args = getattr(inner, "__args__", ())
        inner = args[-1] if args else inner
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)
