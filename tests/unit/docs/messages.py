"""Reads the messages of the program from its source: every text, with "…" for each part that varies."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from syncd.core import errors

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "syncd"
CODES = (errors.EXIT_CONFIG, errors.EXIT_HALT, errors.EXIT_BRAKE, errors.EXIT_UNREACHABLE, errors.EXIT_LOCKED)
"""The exit codes whose messages a person must understand to go on."""
RAISING = frozenset(
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.SyncdError) and kind.exit_code in CODES
)
"""The classes of errors that end a command with one of CODES."""
REMEDIES = frozenset({"halt", "paused", "auth", "missing", "blocked"})
"""The actions of a Remedy (cloudflare/error_codes.py) that need a person."""
FAULTS = ("config/", "core/requests.py")
"""The modules whose ValueError is a fault of the config."""
LETTERS = 12
"""The smallest number of letters by which a message can be recognised."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_FIELD = re.compile(r"\{[a-z_]*\}")


@cache
def modules() -> list[tuple[str, ast.Module]]:
    """Return the path below the package and the syntax tree of each module."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return [(path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def text_of(node: ast.AST) -> str | None:
    """Return the text of an expression, with "…" for each part that varies; None if it is no text."""
    match node:
        case ast.Constant(value=str(text)):
            return _FIELD.sub("…", text)
        case ast.JoinedStr(values=values):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in values)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return f"{text_of(left) or '…'}{text_of(right) or '…'}"
    return None


def letters(text: str) -> int:
    """Return the number of letters of a text."""
    return sum(character.isalpha() for character in text)


@cache
def all_texts() -> frozenset[str]:
    """Return every text of the program."""
    return frozenset(text for _, tree in modules() for node in ast.walk(tree) if (text := text_of(node)))


def quotes(quoted: str, text: str) -> bool:
    """Return whether a quotation with "…" stands in a text. An "…" of the quotation stands for any words."""
    at = 0
    for part in quoted.strip("… ").split("…"):
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True


class Sources:
    """Finds the texts of the errors that the program raises."""

    def __init__(self) -> None:
        self._returned: dict[str, list[ast.expr]] = defaultdict(list)
        self._assigned: dict[str, list[ast.expr]] = defaultdict(list)
        for _, tree in modules():
            for node in ast.walk(tree):
                if isinstance(node, _Function):
                    self._returned[node.name] += [
                        each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value
                    ]
            self._note_names(tree.body, self._assigned)

    def raised(self) -> Iterator[tuple[str, str]]:
        """Yield (module, text) for each error of RAISING, each Remedy of REMEDIES and each fault of the config."""
        for module, tree in modules():
            if not module.startswith("emulator/"):
                yield from ((module, text) for text in self._of_module(module, tree))

    def _of_module(self, module: str, tree: ast.Module) -> Iterator[str]:
        names: dict[str, list[ast.expr]] = defaultdict(list)
        self._note_names(ast.walk(tree), names)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = _name(node.func)
            if called in RAISING or (called == "ValueError" and module.startswith(FAULTS)):
                yield from self._texts(node.args[0], names)
            elif called == "Remedy" and text_of(node.args[0]) in REMEDIES:
                yield from self._texts(node.args[1], names)

    def _texts(self, node: ast.expr, names: dict[str, list[ast.expr]], depth: int = 3) -> Iterator[str]:
        """Yield the texts of an argument. It may be a name, a choice, or the result of a function of syncd.

        names: the values of the names of the module, in all of its functions.
        """
        text = text_of(node)
        if text is not None:
            yield text
        elif depth:
            for each in self._meant(node, names):
                yield from self._texts(each, names, depth - 1)

    def _meant(self, node: ast.expr, names: dict[str, list[ast.expr]]) -> list[ast.expr]:
        """Return the expressions that an argument may stand for."""
        match node:
            case ast.Name(id=name):
                return names.get(name) or self._assigned[name]
            case ast.IfExp(body=body, orelse=orelse):
                return [body, orelse]
            case ast.Call(func=function):
                return self._returned[_name(function)]
            case ast.Attribute(attr=name):
                return self._returned[name]
        return []

    @staticmethod
    def _note_names(nodes: "Iterator[ast.AST] | list[ast.stmt]", names: dict[str, list[ast.expr]]) -> None:
        for node in nodes:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    names[name].append(value)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    names[name].append(value)


def _name(function: ast.expr) -> str:
    """Return the last name of a called function."""
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
