"""docs/reference/json.md has every field that the commands print with --json, and no other.

A field whose meaning begins with "Only" appears in some situations. The scenarios need not cause each of them.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.e2e.harness import REPOSITORY, Remote, Workspace, open_workspace

PAGE = (REPOSITORY / "docs/reference/json.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([^`]+)` \| (\w+) \| (.+) \|$", re.MULTILINE)
HEAD = "| field | type | meaning |"
TYPES = {bool: "bool", int: "number", float: "number", str: "text", list: "list", dict: "object", type(None): "null"}
NAMED = {"mirrors": "NAME", "excludes": "GROUP", "types": "TARGET", "failed": "KEY"}
"""Objects whose keys are names, and the word of the page for such a name."""
FREE = frozenset({"metadata"})
"""Objects whose keys belong to somebody else."""
MORE_THAN_THE_FLOOR = 14
"""Files whose deletes the delete guard refuses."""

VALUES = re.compile(r"`[a-z]+`(?: \([^)]*\))?(,| or) (or )?`[a-z]+(: KIND)?`")
"""A list of values, such as "`put`, `delete` or `pass`"."""
Fields = dict[str, set[tuple[str, str]]]
"""Heading of the page -> paths of fields, each with its type or with its text."""


def values_of(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of each part of a JSON value, such as "mirrors.NAME.actions[].key"."""
    if path:
        yield path, value
    last = path.rpartition(".")[2]
    if isinstance(value, list):
        for inner in value:
            yield from values_of(inner, f"{path}[]")
    elif isinstance(value, dict) and last not in FREE:
        for key, inner in value.items():
            yield from values_of(inner, f"{path}.{NAMED.get(last, key)}" if path else key)


def fields_of(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the path and the type of each field of a JSON value."""
    return ((path, TYPES[type(part)]) for path, part in values_of(value) if not path.endswith("[]"))


def texts_of(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the path and the value of each text of a JSON value."""
    return ((path, part) for path, part in values_of(value) if isinstance(part, str))


def documented() -> dict[str, dict[str, tuple[str, str]]]:
    """Return heading -> path -> (type, meaning), as the page has them. A time is a text."""
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    return {
        heading: {path: (kind.replace("time", "text"), meaning) for path, kind, meaning in ROW.findall(text)}
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
        if HEAD in text
    }


class Collector:
    """Runs commands, and collects the fields and texts that they print. place: the heading of the page."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.found: Fields = defaultdict(set)
        self.texts: Fields = defaultdict(set)

    def run(self, place: str, *arguments: str) -> Any:
        ended = self._workspace.syncd(*arguments, "--json")
        try:
            value = json.loads(ended.out)
        except ValueError:
            raise AssertionError(f"{arguments}: {ended.out!r} {ended.err}") from None
        self.found[place] |= set(fields_of(value))
        self.texts[place] |= set(texts_of(value))
        return value


PASS, NAMESPACE = "reconcile, plan, approve", "kv create, kv rename, kv delete"


def files_of_ai_search(workspace: Workspace, collector: Collector) -> None:
    """Collect what a mirror of AI Search shows: in step, with problems, refused, and out of reach."""
    for number in range(MORE_THAN_THE_FLOOR):
        workspace.write(f"page-{number}.md", f"# Page {number}\n\nSome words about number {number}.")
    workspace.write("broken.md", "the index does not take this")
    workspace.write("empty.md", "")
    collector.run(PASS, "plan")
    collector.run(PASS, "reconcile", "--wait", "20")
    collector.run("status", "status")
    collector.run("ls", "ls")
    collector.run("ls", "ls", "--remote")
    collector.run("search", "search", "words about number 3")
    collector.run("check", "check")
    collector.run("check --probe", "check", "--probe")
    collector.run("check --types", "check", "--types")
    collector.run("check --excludes", "check", "--excludes")
    collector.run("pull", "pull", str(workspace.path / "pulled"))
    workspace.write("broken.md", "other words")
    collector.run("verify", "verify")
    collector.run("verify", "verify", "--query", "words about number 3", "--expect", "page-3.md")
    collect_retrieval(workspace, collector)
    collect_rebuild(workspace, collector)
    for number in range(MORE_THAN_THE_FLOOR):
        (workspace.docs / f"page-{number}.md").unlink()
    collector.run(PASS, "reconcile")
    plan = collector.run(PASS, "plan")["mirrors"]["docs"]["plan_id"]
    collector.run(PASS, "approve", plan)
    collector.run("log", "log")


def collect_retrieval(workspace: Workspace, collector: Collector) -> None:
    """Collect what `verify --queries` shows: found, missed, and compared with earlier results."""
    questions, saved = workspace.path / "q.jsonl", workspace.path / "saved.json"

    def ask(*rows: tuple[str, str, str], options: tuple[str, ...]) -> None:
        lines = [json.dumps({"query": query, "expect": file, "answer": answer}) for query, file, answer in rows]
        questions.write_text("\n".join(lines))
        collector.run("verify", "verify", "--queries", str(questions), *options)

    same, old, new = (
        ("words about number 4", "page-4.md", "number 4"),
        ("old", "page-7.md", ""),
        ("new", "page-8.md", ""),
    )
    up, down = ("unheard of", "page-5.md", "5"), ("number 6", "page-6.md", "6")
    ask(same, up, down, old, options=("--save", str(saved)))
    # As if the texts of the two questions had changed places.
    saved.write_text(saved.read_text().replace(up[0], "words about number 5").replace(down[0], "something else"))
    ask(same, ("words about number 5", *up[1:]), ("something else", *down[1:]), new, options=("--against", str(saved)))


def collect_rebuild(workspace: Workspace, collector: Collector) -> None:
    """Collect what `rebuild` shows: with questions, and with a problem that only the second target has."""
    questions = workspace.path / "rebuild.csv"
    questions.write_text("query,expect\nwords about number 3,page-3.md\n")
    collector.run("rebuild", "rebuild", "docs", "--into", "docs-2", "--queries", str(questions))
    with closing(Remote(workspace.server.base_url, "docs-3")) as third:
        third.create("docs-3")
        third.upload("page-3.md", b"of another writer")
        collector.run("rebuild", "rebuild", "docs", "--into", "docs-3")


def values_of_kv(workspace: Workspace, collector: Collector) -> None:
    """Collect what the commands of `syncd kv` show."""
    file = workspace.write("value.txt", "a value")
    namespace = collector.run(NAMESPACE, "kv", "create", "docs")["id"]
    collector.run(NAMESPACE, "kv", "rename", namespace, "texts")
    collector.run("kv namespaces", "kv", "namespaces")
    collector.run("kv put", "kv", "put", "a", str(file), "--metadata", '{"lang": "en"}', "--namespace", "texts")
    collector.run("kv keys", "kv", "keys", "--namespace", "texts")
    collector.run("kv meta", "kv", "meta", "a", "--namespace", "texts")
    collector.run("kv rm", "kv", "rm", "a", "--namespace", "texts")
    collector.run(NAMESPACE, "kv", "delete", "texts", "--yes")


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Collector:
    """Return the fields and texts that the commands print."""
    with open_workspace(tmp_path_factory.mktemp("json"), fail_index="broken") as workspace:
        collector = Collector(workspace)
        files_of_ai_search(workspace, collector)
        values_of_kv(workspace, collector)
    return collector


@pytest.fixture
def found(collected: Collector) -> Fields:
    """Return the fields that the commands print."""
    return collected.found


def test_the_page_has_every_field_that_a_command_prints_with_its_type(found: Fields) -> None:
    pages = documented()
    missing = [
        f"{place}: {path} ({kind})"
        for place, fields in found.items()
        for path, kind in sorted(fields)
        if kind not in ("null", pages[place].get(path, ("", ""))[0])
    ]
    assert missing == []


def test_the_commands_print_every_field_of_the_page(found: Fields) -> None:
    printed = {place: {path for path, _ in fields} for place, fields in found.items()}
    absent = [
        f"{place}: {path}"
        for place, fields in documented().items()
        for path, (_, meaning) in fields.items()
        if path not in printed[place] and not meaning.startswith("Only ")
    ]
    assert absent == []


def test_the_page_names_every_value_of_a_field_whose_values_it_lists(collected: Collector) -> None:
    lists = {
        (place, path): (set(re.findall(r"`([a-z]+)(?:: KIND)?`", meaning)), meaning)
        for place, fields in documented().items()
        for path, (kind, meaning) in fields.items()
        if kind == "text" and VALUES.search(meaning)
    }
    assert {path.rpartition(".")[2] for _, path in lists} >= {"action", "reason", "outcome", "state", "level", "kind"}
    unknown = [
        f"{place}: {path} {text!r} is none of: {meaning}"
        for place, texts in collected.texts.items()
        for path, text in sorted(texts)
        for values, meaning in [lists.get((place, path), (set(), ""))]
        if values and text.partition(":")[0] not in values
    ]
    assert unknown == []


def test_a_text_without_a_value_is_null_where_the_page_says_so(collected: Collector) -> None:
    pages = documented()
    empty = [
        f"{place}: {path}"
        for place, texts in collected.texts.items()
        for path, text in sorted(texts)
        if not text and "null" in pages[place].get(path, ("", ""))[1]
    ]
    assert empty == []


def test_fields_are_named_by_their_path() -> None:
    value = {"mirrors": {"docs": {"actions": [{"key": "a"}], "metadata": {"x": 1}, "since": None}}}
    assert set(fields_of(value)) == {
        ("mirrors", "object"),
        ("mirrors.NAME", "object"),
        ("mirrors.NAME.actions", "list"),
        ("mirrors.NAME.actions[].key", "text"),
        ("mirrors.NAME.metadata", "object"),
        ("mirrors.NAME.since", "null"),
    }
