"""The format of the log, and values that it never contains."""

import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, TextIO

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from syncd.cli.context import GlobalOptions
from syncd.core.plain_text import add_secrets, printable
from syncd.service.logging import configure, is_journal

pytestmark = pytest.mark.usefixtures("bare_logging")

SECRET = "s3cr3t-t0ken"


class Stderr(io.StringIO):
    def __init__(self, *, tty: bool = False) -> None:
        super().__init__()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Stderr:
    return _replace_stderr(monkeypatch, Stderr())


def _replace_stderr(monkeypatch: pytest.MonkeyPatch, stderr: Stderr) -> Stderr:
    """Replace stderr for the log only, because the test runner replaces sys.stderr after this fixture."""
    monkeypatch.setattr("syncd.service.logging.sys", SimpleNamespace(stderr=stderr))
    return stderr


def events(stderr: Stderr) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr.getvalue().splitlines()]


def log() -> Any:
    return structlog.get_logger()


def fail(text: str) -> NoReturn:
    raise ValueError(text)


def test_without_a_terminal_every_line_is_a_json_object(stderr: Stderr) -> None:
    configure("auto", logging.INFO)
    log().info("put.done", key="a.md", bytes=3, path=Path("/x"))
    log().warning("put.failed", key="b.md")
    first, second = events(stderr)
    assert (first["event"], first["level"], first["key"], first["bytes"]) == ("put.done", "info", "a.md", 3)
    assert first["timestamp"].endswith("Z")
    assert second["level"] == "warning"


def test_a_terminal_gets_lines_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = _replace_stderr(monkeypatch, Stderr(tty=True))
    configure("auto", logging.INFO)
    log().info("put.done", key="a.md")
    assert "put.done" in terminal.getvalue()
    assert "\x1b[" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_without_colours_gets_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    terminal = _replace_stderr(monkeypatch, Stderr(tty=True))
    configure("auto", logging.INFO)
    log().info("put.done", key="a.md")
    assert "put.done" in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()


def test_the_console_format_can_be_chosen(stderr: Stderr) -> None:
    configure("console", logging.INFO)
    log().info("put.done", key="a.md")
    assert "key=a.md" in stderr.getvalue()
    assert "\x1b" not in stderr.getvalue()


def test_json_can_be_chosen_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _replace_stderr(monkeypatch, Stderr(tty=True))
    configure("json", logging.INFO)
    log().info("put.done")
    assert events(terminal)[0]["event"] == "put.done"


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_the_log_goes_to_stderr_and_nothing_to_stdout(
    log_format: Any, stderr: Stderr, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(log_format, logging.INFO)
    log().info("put.done")
    assert stderr.getvalue().count("\n") == 1
    assert capsys.readouterr().out == ""


# -- levels

LEVELS = {
    (0, False): ["warning", "error"],
    (1, False): ["info", "warning", "error"],
    (2, False): ["debug", "info", "warning", "error"],
    (9, False): ["debug", "info", "warning", "error"],
    (0, True): ["error"],
    (2, True): ["error"],
}


@pytest.mark.parametrize(("verbose", "quiet"), LEVELS)
def test_verbose_and_quiet_choose_the_level(stderr: Stderr, verbose: int, *, quiet: bool) -> None:
    GlobalOptions(None, verbose, quiet, "auto").set_up_logging("WARNING")
    for level in ("debug", "info", "warning", "error"):
        getattr(log(), level)("an.event")
    assert [event["level"] for event in events(stderr)] == LEVELS[verbose, quiet]


def test_the_daemon_logs_at_info(stderr: Stderr) -> None:
    GlobalOptions(None, 0, quiet=False, log_format="auto").set_up_logging("INFO")
    log().info("an.event")
    log().debug("an.event")
    assert len(events(stderr)) == 1


# -- secrets


class Holder:
    def __repr__(self) -> str:
        return f"Holder({SECRET})"


@pytest.mark.parametrize("log_format", ["console", "json"])
@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        f"Bearer {SECRET}",
        [SECRET],
        {"headers": {"Authorization": f"Bearer {SECRET}"}},
        {SECRET: 1},
        (1, (SECRET,)),
        {SECRET},
        ValueError(f"you sent {SECRET}"),
        Path(f"/tmp/{SECRET}"),
        Holder(),
        SECRET.encode(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_secret_is_redacted_in_any_field(log_format: Any, stderr: Stderr, value: object) -> None:
    add_secrets([SECRET, ""])
    configure(log_format, logging.INFO)
    log().info("http.failed", why=value, bound=3, none=None)
    log().bind(context=value).info("http.failed")
    assert SECRET not in stderr.getvalue()
    assert stderr.getvalue().count("[hidden]") >= 2
    assert stderr.getvalue().count("\n") == 2


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_secret_is_redacted_in_tracebacks_and_messages_of_libraries(log_format: Any, stderr: Stderr) -> None:
    add_secrets([SECRET])
    configure(log_format, logging.INFO)
    try:
        fail(f"you sent {SECRET}")
    except ValueError:
        log().exception("bug")
    logging.getLogger("library").error("you sent %s", SECRET)
    assert SECRET not in stderr.getvalue()
    assert "ValueError" in stderr.getvalue()


# -- exceptions


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_is_shown_without_local_variables(log_format: Any, stderr: Stderr) -> None:
    configure(log_format, logging.INFO)
    local = "in a local" + " variable"
    try:
        fail(str(len(local)))
    except ValueError:
        log().exception("bug")
    assert "Traceback" in stderr.getvalue()
    assert "test_logging.py" in stderr.getvalue()
    assert local not in stderr.getvalue()


def test_an_exceptions_text_cannot_forge_a_line_of_the_console_log(stderr: Stderr) -> None:
    configure("console", logging.INFO)
    try:
        fail("a\n12:00:00 [error    ] mirror.halted   mirror=docs\x1b[2J\rover")
    except ValueError:
        log().exception("bug")
    lines = stderr.getvalue().splitlines()
    assert "\x1b" not in stderr.getvalue()
    assert "\r" not in stderr.getvalue()
    assert all(line.startswith("  ") for line in lines[1:])


# -- names

FORGERIES = [
    "a\nmirror.halted mirror=docs",
    "a\r\x1b[2Kmirror.halted",
    "\x1b]0;title\x07",
    "\x9b31m",
    "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg",
    "txt.\u202eexe\u2066",
    "\udcff\udc80",
    "\U000e0041\ufeff\u200b",
    "quote\" level=error '",
    "\0",
]


@pytest.mark.parametrize("name", FORGERIES)
@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_name_cannot_forge_a_line_or_reach_the_terminal(log_format: Any, stderr: Stderr, name: str) -> None:
    configure(log_format, logging.INFO)
    log().info("put.done", key=name, names=[name, {"in": name}], bytes=1)
    logging.getLogger("library").warning("took %s", name)
    text = stderr.getvalue()
    assert len(text.splitlines()) == 2
    assert text.replace("\n", "").isprintable()
    if log_format == "json":
        assert text.isascii()
        assert [event["event"] for event in events(stderr)] == ["put.done", "library.message"]


def test_a_name_with_spaces_and_equal_signs_is_quoted(stderr: Stderr) -> None:
    configure("console", logging.INFO)
    log().info("put.failed", key="a.md outcome=done")
    assert "key='a.md outcome=done'" in stderr.getvalue()


def test_readable_names_are_not_escaped() -> None:
    for name in ("Größe.md", "日本語\u3000ファイル.md", "🗂.md", "a b.md", "e\u0301.md"):
        assert printable(name) == name


@given(st.text())
def test_a_printable_text_is_one_line_without_controls(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert not any(char < " " or "\x7f" <= char <= "\x9f" for char in shown)
    shown.encode()


# -- libraries


def test_warnings_and_messages_of_libraries_become_events(stderr: Stderr) -> None:
    configure("json", logging.INFO)
    logging.getLogger("library.part").warning("took %d of %d", 1, 2)
    logging.getLogger("library.part").info("detail")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old\nways", UserWarning, stacklevel=1)
    first, second = events(stderr)
    assert (first["library"], first["message"], first["level"]) == ("library.part", "took 1 of 2", "warning")
    assert second["library"] == "py.warnings"
    assert "UserWarning" in second["message"]


def test_the_traceback_of_a_librarys_message_is_not_lost(stderr: Stderr) -> None:
    configure("json", logging.INFO)
    try:
        fail("inner")
    except ValueError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
    [event] = events(stderr)
    assert "ValueError: inner" in event["exception"]


@pytest.mark.parametrize("level", [logging.WARNING, 35, logging.CRITICAL, 99])
def test_any_level_of_a_library_is_logged(stderr: Stderr, level: int) -> None:
    configure("json", logging.INFO)
    logging.getLogger("library").log(level, "odd")
    assert events(stderr)[0]["message"] == "odd"


def test_a_librarys_message_with_wrong_arguments_is_logged(stderr: Stderr) -> None:
    configure("json", logging.INFO)
    logging.getLogger("library").warning("took %d of %d", "one")  # noqa: PLE1206 - what the test is about
    [event] = events(stderr)
    assert event["message"].startswith("took %d of %d")


def test_quiet_hides_warnings_of_libraries(stderr: Stderr) -> None:
    configure("json", logging.ERROR)
    logging.getLogger("library").warning("detail")
    assert stderr.getvalue() == ""


# -- journald: each line has a priority, and none has a time


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """Make stderr the stream that JOURNAL_STREAM names."""
    with (tmp_path / "journal").open("w+", encoding="utf-8") as stream:
        stat = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino}")
        monkeypatch.setattr("syncd.service.logging.sys", SimpleNamespace(stderr=stream))
        yield stream


def printed_lines(stream: TextIO) -> list[str]:
    stream.flush()
    return Path(stream.name).read_text(encoding="utf-8").splitlines()


def test_a_line_has_a_priority_and_neither_time_nor_colour(journal: TextIO) -> None:
    configure("auto", logging.DEBUG)
    log().debug("http.request", status=200)
    log().info("put.done", mirror="docs", key="a.md", bytes=3, unchanged=False, detail=None)
    log().warning("mirror.degraded", why="no answer, will try")
    log().error("mirror.halted")
    assert printed_lines(journal) == [
        "<7>http.request status=200",
        "<6>put.done mirror=docs key=a.md bytes=3 unchanged=false",
        '<4>mirror.degraded why="no answer, will try"',
        "<3>mirror.halted",
    ]


def test_a_level_can_be_chosen_for_journald(journal: TextIO) -> None:
    configure("auto", logging.WARNING)
    log().info("put.done")
    assert printed_lines(journal) == []


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_chosen_format_is_used_for_journald(journal: TextIO, log_format: Any) -> None:
    configure(log_format, logging.INFO)
    log().info("put.done")
    assert not printed_lines(journal)[0].startswith("<")


def test_another_stream_gets_json(journal: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = os.fstat(journal.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino + 1}")
    configure("auto", logging.INFO)
    log().info("put.done")
    assert printed_lines(journal)[0].startswith("{")


def test_a_stream_without_a_file_is_not_the_journal() -> None:
    assert not is_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


def test_each_line_of_a_traceback_has_the_priority(journal: TextIO) -> None:
    configure("auto", logging.INFO)
    try:
        fail("a\n<0>forged")
    except ValueError:
        log().exception("bug", at=1)
    printed = printed_lines(journal)
    assert printed[0] == "<3>bug at=1"
    assert len(printed) > 3
    assert all(line.startswith("<3>  ") for line in printed[1:])


@pytest.mark.parametrize("name", ["a\n<0>mirror.halted", "\x1b[2J", "x\u202ey\u2028z", '" level=error "', "a b=c"])
def test_a_name_cannot_forge_a_line_or_a_field(journal: TextIO, name: str) -> None:
    configure("auto", logging.INFO)
    log().info("put.done", key=name, names=[name])
    (line,) = printed_lines(journal)
    assert line.isprintable()
    assert line.startswith('<6>put.done key="')
