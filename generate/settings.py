"""The settings of the config with their descriptions, as values: the source of pages, example and schema."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from syncd.config.schema import Config
from syncd.config.values import seconds, size

FROM_ENVIRONMENT = frozenset({"state_dir"})
"""Settings that the model requires and `sources.load` takes from the environment."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    kind: "duration", "size", "integer" and so on. unit: of a number, "" without one. example: in TOML, "" without one.
    default: in TOML; None if the setting is required or has no default. table: the model of a table, None for a value.
    choices: the texts that are allowed, none for any other setting. limits: of a number, such as "1 to 256".
    """

    name: str
    description: str
    kind: str
    unit: str
    example: str
    default: str | None
    required: bool
    table: type[BaseModel] | None
    choices: tuple[str, ...]
    limits: str


@cache
def settings(model: type[BaseModel]) -> tuple[Setting, ...]:
    """Return the settings of a section, in the order of the model."""
    texts = _texts(model)
    return tuple(_setting(name, field, texts) for name, field in model.model_fields.items())


def _setting(name: str, field: Any, texts: dict[str, str]) -> Setting:
    description, _, notes = texts[name].partition("\n\n")
    lines = dict(line.split(": ", 1) for line in notes.splitlines())
    marks = [*field.metadata, *_marks(field.annotation)]
    forms = {getattr(mark, "func", None) for mark in marks}
    kind = "duration" if seconds in forms else "size" if size in forms else ""
    default = field.get_default(call_default_factory=True)
    return Setting(
        name,
        " ".join(description.split()),
        kind or _kind(field.annotation),
        lines.get("Unit", ""),
        lines.get("Example", ""),
        None if default is PydanticUndefined or default is None else in_toml(default, kind),
        field.is_required() and name not in FROM_ENVIRONMENT,
        _table(field.annotation),
        tuple(_choices(field.annotation)),
        _limits(marks, kind),
    )


def _texts(model: type[BaseModel]) -> dict[str, str]:
    """Return {setting: the text below it}, of a model and the models that it extends."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not issubclass(base, BaseModel) or not base.__module__.startswith("syncd."):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, after in zip(body.body, body.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(after, ast.Expr):
                assert isinstance(statement.target, ast.Name)
                text = ast.literal_eval(after.value)
                found[statement.target.id] = inspect.cleandoc(text)
    return found


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _marks(annotation: Any) -> Iterator[Any]:
    """Yield the validators and limits inside an annotation such as `Annotated[int, Field(ge=1)] | None`."""
    for part in _parts(annotation):
        yield part
        yield from getattr(part, "metadata", ())


def _limits(marks: list[Any], kind: str) -> str:
    """Return the limits of a number. The last one wins, since it is the narrower one."""
    least = next((mark.ge for mark in reversed(marks) if getattr(mark, "ge", None) is not None), None)
    most = next((mark.le for mark in reversed(marks) if getattr(mark, "le", None) is not None), None)
    if kind == "size":
        least = None
    shown = [
        in_toml(float(each) if kind == "duration" else each, kind).strip('"')
        for each in (least, most)
        if each is not None
    ]
    if least and most:
        return " to ".join(shown)
    return f"at least {shown[0]}" if least else f"at most {shown[-1]}" if most else ""


def _table(annotation: Any) -> type[BaseModel] | None:
    parts = list(_parts(annotation))
    found = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
    return found[0] if len(found) == 1 and not any(get_origin(part) is list for part in parts) else None


def _kind(annotation: Any) -> str:
    parts = {get_origin(part) or part for part in _parts(annotation)}
    if list not in parts and any(isinstance(part, type) and issubclass(part, BaseModel) for part in parts):
        return "table"
    names = {list: "list", dict: "table", bool: "true or false", float: "number", Path: "path"}
    for part, name in names.items():
        if part in parts:
            return name
    if int in parts:
        return "integer or text" if str in parts else "integer"
    return "text"


def _choices(annotation: Any) -> Iterator[str]:
    return (part for part in _parts(annotation) if isinstance(part, str))


def in_toml(value: Any, kind: str = "") -> str:
    """Return a value as people write it in TOML. kind: "duration" for seconds, "size" for bytes, else ""."""
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if kind == "duration":
        return f'"{_duration(value)}"'
    if kind == "size":
        return f'"{value // 2**20}MiB"' if value % 2**20 == 0 else str(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(map(in_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{name} = {in_toml(each)}' for name, each in value.items())} }}" if value else "{}"
    return str(value)


def _duration(value: float) -> str:
    if value < 1:
        return f"{value * 1000:g}ms"
    return f"{value / 3600:g}h" if value % 3600 == 0 else f"{value:g}s"


def every_model() -> list[type[BaseModel]]:
    """Return the model of the whole config, and that of every section, each once."""
    found: list[type[BaseModel]] = [Config]

    def add(model: type[BaseModel]) -> None:
        for field in model.model_fields.values():
            for part in _parts(field.annotation):
                if isinstance(part, type) and issubclass(part, BaseModel) and part not in found:
                    found.append(part)
                    add(part)

    add(Config)
    return found
