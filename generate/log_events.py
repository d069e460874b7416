"""The events of the log: names, levels and fields from the code, and a sentence for each from log_events.toml."""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from generate.blocks import Code, Table, Text, markdown
from generate.project import ROOT

LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
_EVENT = re.compile(r"[a-z_]+\.[a-z_]+")
_LOGGER = re.compile(r"_?log|structlog\.get_logger\(\)")
_COMPUTED = {
    "f'{self._name}.failed'": ("webhook.failed", "apprise.failed"),
    "f'{self._name}.sent'": ("webhook.sent", "apprise.sent"),
}
"""Names that the code joins at run time."""
_LEVEL_COMPUTED = ("info", "debug")
"""The levels of a call that chooses its level: the first lines of many, or a pass that did something."""

Assigned = dict[str, list[str]]
"""The expressions that a module assigns to each name."""


@dataclass(slots=True)
class Event:
    """The levels and fields of all calls with one name. has_others: a call has fields that it computes."""

    levels: list[str] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    has_others: bool = False

    def shown_fields(self) -> str:
        """Return the fields as a list in Markdown."""
        return ", ".join([*(f"`{each}`" for each in self.fields), *(["others"] if self.has_others else [])])


def page() -> str:
    """Return the page."""
    texts: dict[str, str] = tomllib.loads((Path(__file__).parent / "log_events.toml").read_text(encoding="utf-8"))
    found = events()
    if faults := sorted(texts.keys() ^ found.keys()):
        raise ValueError(f"generate/log_events.toml and the calls in syncd/ differ in: {', '.join(faults)}")
    rows = [
        (f"`{name}`", ", ".join(found[name].levels), texts[name], found[name].shown_fields()) for name in sorted(found)
    ]
    return markdown(
        "Log events",
        [
            Text(
                "Each line of the log has an event with a constant name, a level and fields. On a terminal the log is"
                " for people, under systemd it has the priorities of the journal, and elsewhere each line is a JSON"
                " object; `--log-format` chooses. The log goes to stderr. `syncd run` shows the level info and above,"
                " other commands show warnings and errors. `-v` shows one level more, `-q` errors only."
            ),
            Code('{"mirror": "docs", "key": "a/b.md", "event": "put.done", "level": "info", "timestamp": "…"}', "json"),
            Text("Secrets are in no line. Control characters in the names of files are escaped."),
            Table(("event", "level", "meaning", "fields"), rows),
        ],
        "the calls of the log in `syncd/`",
    )


def events() -> dict[str, Event]:
    """Return every event of the code."""
    found: dict[str, Event] = {}
    for path in sorted((ROOT / "syncd").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assigned = _assigned(tree)
        for call in ast.walk(tree):
            if isinstance(call, ast.Call):
                _add(found, assigned, call)
    return found


def _add(found: dict[str, Event], assigned: Assigned, call: ast.Call) -> None:
    levels, at = _levels(assigned, call.func)
    if not levels or len(call.args) <= at:
        return
    for name in _names(assigned, call.args[at]):
        event = found.setdefault(name, Event())
        event.levels += [level for level in levels if level not in event.levels]
        event.has_others |= any(each.arg is None for each in call.keywords)
        event.fields += [each.arg for each in call.keywords if each.arg and each.arg not in ("exc_info", *event.fields)]


def _levels(assigned: Assigned, function: ast.expr) -> tuple[tuple[str, ...], int]:
    """Return the levels of a call and the place of its event; none if it is no call of the log."""
    if isinstance(function, ast.Attribute) and _LOGGER.fullmatch(ast.unparse(function.value)):
        if function.attr == "log":
            return _LEVEL_COMPUTED, 1
        return ((LEVELS[function.attr],) if function.attr in LEVELS else ()), 0
    if isinstance(function, ast.Name):
        # Such as: line = log.info if there is news else log.debug
        chosen = (re.findall(r"\blog\.(\w+)\b", value) for value in assigned.get(function.id, ()))
        return tuple(LEVELS[name] for names in chosen for name in names if name in LEVELS), 0
    return (), 0


def _names(assigned: Assigned, event: ast.expr) -> Iterator[str]:
    """Yield the names that the event of a call may have."""
    text = ast.unparse(event)
    if text in _COMPUTED:
        yield from _COMPUTED[text]
        return
    if isinstance(event, ast.Constant):
        sources = [text]
    elif isinstance(event, ast.Subscript):
        sources = assigned.get(ast.unparse(event.value), [])
    else:
        sources = assigned.get(text, [])
    constants = (
        each.value
        for source in sources
        for each in ast.walk(ast.parse(source))
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    )
    yield from (name for name in constants if _EVENT.fullmatch(name))


def _assigned(tree: ast.Module) -> Assigned:
    """Collect the assignments of a module, at any depth."""
    found: Assigned = {}
    for each in ast.walk(tree):
        if isinstance(each, ast.Assign):
            for target in each.targets:
                found.setdefault(ast.unparse(target), []).append(ast.unparse(each.value))
    return found
