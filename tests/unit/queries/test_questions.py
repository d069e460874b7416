"""The file of a question is found by a path of this machine, a path in the mirror, or a key.

A file of questions is read whole, or each of its faults is named with its line.
"""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.config.schema import Config
from syncd.config.sources import load
from syncd.core.errors import ConfigError, ConfigFaults
from syncd.queries import questions
from syncd.queries.questions import QuestionFile, Row, questions_of_file, questions_of_options

ACCOUNT = "0123456789abcdef0123456789abcdef"
KINDS = {"docs": 'type = "ai-search"\ninstance = "docs"', "kv": 'type = "kv"\nnamespace_title = "docs"'}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home directory, which is the current one, with a folder of files."""
    (tmp_path / "docs/sub/deep").mkdir(parents=True)
    for name in ("a.md", "sub/a.md", "sub/deep/ü.md"):
        (tmp_path / "docs" / name).touch()
    (tmp_path / "wiki").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(home: Path, *mirrors: str, prefix: str = "") -> Config:
    """Return a config. mirrors: "name folder kind"."""
    text = f'[cloudflare]\naccount_id = "{ACCOUNT}"\n'
    for mirror in mirrors or ("docs docs docs",):
        name, folder, kind = mirror.split()
        text += f'[mirrors.{name}]\npath = "{home}/{folder}"\nkey_prefix = "{prefix}"\nowner = "{name}"\n'
        text += f"[mirrors.{name}.target]\n{KINDS[kind]}\n"
    (home / "syncd.toml").write_text(text)
    (home / "syncd.toml").chmod(0o600)
    return load(home / "syncd.toml", {"HOME": str(home)})


def expected(config: Config, text: str, *names: str) -> tuple[str, str]:
    ((name, (question,)),) = questions_of_options(config, names, ["q"], [text]).items()
    return name, question.key


@pytest.mark.parametrize("prefix", ["", "p/", "sub/"])
@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a.md", "a.md"),
        ("./a.md", "a.md"),
        ("docs/a.md", "a.md"),
        ("~/docs/a.md", "a.md"),
        ("sub/a.md", "sub/a.md"),
        ("sub", "sub/"),
        ("docs/sub", "sub/"),
        ("sub/deep/", "sub/deep/"),
        ("sub/deep/u\u0308.md", "sub/deep/ü.md"),
        ("gone.md", "gone.md"),
        ("gone/", "gone/"),
    ],
)
def test_a_path_names_a_file_or_a_folder(home: Path, prefix: str, text: str, key: str) -> None:
    assert expected(configured(home, prefix=prefix), text) == ("docs", prefix + key)


def test_a_key_names_its_file(home: Path) -> None:
    config = configured(home, prefix="p/")
    assert expected(config, "p/sub/a.md") == ("docs", "p/sub/a.md")
    assert expected(config, "p/sub") == ("docs", "p/sub/")


def test_a_file_that_is_there_wins_over_one_that_is_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home / "docs/sub")
    config = configured(home)
    assert expected(config, "a.md") == ("docs", "sub/a.md")
    assert expected(config, "sub/deep/ü.md") == ("docs", "sub/deep/ü.md")
    assert expected(config, "new.md") == ("docs", "sub/new.md")


@pytest.mark.parametrize("text", ["", ".", "./", "..", "../x", "/etc/hosts", "docs", "docs/../x.md"])
def test_a_place_outside_of_the_folder_is_refused(home: Path, text: str) -> None:
    config = configured(home, "docs docs docs", "wiki wiki docs", prefix="")
    with pytest.raises(ConfigError, match="lies in no folder of a mirror that is asked"):
        expected(config, text)


def test_of_several_mirrors_the_one_with_the_path_and_a_search_is_asked(home: Path) -> None:
    config = configured(home, "kv docs kv", "docs docs docs")
    assert expected(config, "docs/a.md") == expected(config, "a.md") == ("docs", "a.md")
    assert expected(config, "a.md", "kv") == ("kv", "a.md")
    assert expected(configured(home, "kv docs kv"), "a.md") == ("kv", "a.md")
    with pytest.raises(ConfigError, match="name its mirror, too"):
        expected(config, "a.md", "kv", "docs")


def test_faults_of_the_file_and_of_its_paths_are_named_together(home: Path) -> None:
    (home / "q.csv").write_text("query,expect\na,../x\nb,\nc,a.md\n")
    with pytest.raises(ConfigFaults) as caught:
        questions_of_file(configured(home), (), Path("q.csv"))
    assert [line.partition(" ")[0] for line in caught.value.lines] == ["q.csv:2:", "q.csv:3:"]


def test_a_query_must_be_text(home: Path) -> None:
    for query, fault in ((" ", "is empty"), ("\udcff", "not valid UTF-8")):
        with pytest.raises(ConfigError, match=fault):
            questions_of_options(configured(home), (), [query], ["a.md"])


def read(folder: Path, name: str, data: bytes | str) -> list[Row]:
    file = folder / name
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    found = QuestionFile(file)
    found.check()
    return found.rows


def faults(folder: Path, name: str, data: bytes | str) -> list[str]:
    with pytest.raises(ConfigFaults) as caught:
        read(folder, name, data)
    return [line.removeprefix(f"{folder}/{name}:") for line in caught.value.lines]


@pytest.mark.parametrize("name", ["q.jsonl", "q.ndjson", "Q.JSONL"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    text = '{"query": "a\u2028b", "expect": "x y.md"}\n\n  {"expect": "sub/", "query": "ü", "answer": null}\r\n'
    rows = [Row(1, "a\u2028b", "x y.md"), Row(3, "ü", "sub/")]
    assert read(tmp_path, name, text) == rows
    assert read(tmp_path, name, b"\xef\xbb\xbf" + text.encode()) == rows


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_csv_with_any_line_end(tmp_path: Path, end: str, mark: bytes) -> None:
    lines = ["Expect, query ,answer", 'a.md,"one, two",', ",,", '"b.md","say ""yes""\n now",text', " c.md , d ,"]
    assert read(tmp_path, "q.csv", mark + end.join(lines).encode()) == [
        Row(2, "one, two", "a.md"),
        Row(4, 'say "yes"\n now', "b.md", "text"),
        Row(6, "d", "c.md"),
    ]


def test_the_column_of_answers_may_be_absent(tmp_path: Path) -> None:
    assert read(tmp_path, "q.csv", "query,expect\na,b\n") == [Row(2, "a", "b")]


def test_all_faults_of_json_lines_are_named_with_their_lines(tmp_path: Path) -> None:
    lines = [
        '{"query": "a", "expect": 3}',
        "[1]",
        '{"quary": "a", "expect": "b"}',
        '{"query": " ", "expect": "b"}',
        '{"query": "a"}',
        '{"query": "\\ud800", "expect": "b"}',
        '{"query": "a", "expect": "b\\u0000"}',
        "{",
        f"{'[' * 100_000}",
        f"{'1' * 10_000}",
        '{"query": "a", "expect": "b", "zzz": ""}',
        '{"query": "a", "expect": "b"}',
        '{"query": "a", "expect": "b", "answer": "another"}',
    ]
    found = faults(tmp_path, "q.jsonl", "\n".join(lines))
    wanted = [
        "1: expect should be a text in quotes",
        "2: it should be an object, such as",
        "3: unknown field 'quary'; did you mean query?",
        "4: query is missing or empty",
        "5: expect is missing or empty",
        "6: query holds half of a surrogate pair",
        "7: expect: its name has a control character",
        "8: it is not JSON (Expecting property name",
        "9: it holds a number that is too long, or too many brackets",
        "10: it holds a number that is too long",
        "11: unknown field 'zzz'; there are: query, expect, answer",
        "13: it repeats line 12",
    ]
    assert [line[: len(start)] for line, start in zip(found, wanted, strict=True)] == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "query;expect\na;b",
            "1: the first line should name the columns: query,expect,answer; separate them by commas",
        ),
        (
            "query\texpect\na\tb",
            "1: the first line should name the columns: query,expect,answer; separate them by comm",
        ),
        ("query,file\na,b", "1: the first line should name the columns: query,expect,answer; unknown field 'file'"),
        ("\n\nquery\na", "3: the first line should name the columns: query,expect,answer; expect is missing"),
        (
            "query,expect,query\na,b,c",
            "1: the first line should name the columns: query,expect,answer; one column is there twice",
        ),
        ("query,expect\na\nb,c", "2: it should have 2 columns, and has 1"),
        ("query,expect\na,b,c", "2: it should have 2 columns, and has 3; put a text with a comma in quotes"),
        ("query,expect\na,", "2: expect is missing or empty"),
        ('query,expect\na,"b', "2: it is not CSV (unexpected end of data)"),
        ('query,expect\n"a"b,c', "2: it is not CSV ("),
        ("query,expect\na,b\n a ,b", "3: it repeats line 2; remove one of them"),
        (b"query,expect\na,b\nc,\xfc.md\n", "3: it is not UTF-8 text; save the file as UTF-8"),
        ("query,expect\na,b".encode("utf-16"), "1: it is not UTF-8 text"),
    ],
)
def test_a_fault_of_csv_is_named_with_its_line(tmp_path: Path, text: str | bytes, wanted: str) -> None:
    (found,) = faults(tmp_path, "q.csv", text)
    assert found.startswith(wanted)


def test_the_first_faults_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    for number in (questions.FAULTS_SHOWN, questions.FAULTS_SHOWN + 1):
        found = faults(tmp_path, "q.jsonl", "1\n" * number)
        assert len(found) == number
        assert found[-1].endswith("… and 1 more lines") == (number > questions.FAULTS_SHOWN)


@pytest.mark.parametrize("number", [2, 3, 4])
def test_the_number_of_questions_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(questions, "MOST_QUESTIONS", 3)
    text = "query,expect\n" + "".join(f"{each},a\n" for each in range(number))
    if number > 3:
        with pytest.raises(ConfigError, match="more than 3 questions"):
            read(tmp_path, "q.csv", text)
    else:
        assert len(read(tmp_path, "q.csv", text)) == number


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_the_size_of_the_file_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int) -> None:
    text = "query,expect\na,b\n"
    monkeypatch.setattr(questions, "MOST_BYTES", len(text) - more)
    if more > 0:
        with pytest.raises(ConfigError, match="larger than"):
            read(tmp_path, "q.csv", text)
    else:
        assert read(tmp_path, "q.csv", text)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("missing.csv", "No such file"),
        ("folder.csv", "Is a directory"),
        ("q.txt", "should end in .jsonl or .csv"),
        ("q", "should end in .jsonl or .csv"),
        ("empty.csv", "holds no question"),
        ("empty.jsonl", "holds no question"),
        ("head.csv", "holds no question"),
    ],
)
def test_a_file_without_questions_is_a_fault(tmp_path: Path, name: str, fault: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "head.csv").write_text("query,expect\n")
    for empty in ("empty.csv", "empty.jsonl", "q.txt", "q"):
        (tmp_path / empty).touch()
    with pytest.raises(ConfigError, match=fault) as caught:
        QuestionFile(tmp_path / name)
    assert name in str(caught.value)


@given(st.binary())
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name in ("any.csv", "any.jsonl"):
        lines: list[str] = []
        rows: list[Row] = []
        try:
            rows = read(folder, name, data)
        except ConfigError as error:
            lines = error.lines
        assert bool(rows) != bool(lines)
        assert all(name in line for line in lines)


@given(st.lists(st.tuples(st.text(min_size=1), st.text("abc/.ü", min_size=1)), min_size=1, unique=True))
def test_questions_that_json_writes_are_read_again(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    wanted = [(query, expect) for query, expect in pairs if query.strip()]
    if wanted:
        text = "\n".join(json.dumps({"query": query, "expect": expect}) for query, expect in wanted)
        rows = read(tmp_path_factory.getbasetemp(), "all.jsonl", text)
        assert [(row.query, row.expect) for row in rows] == wanted
