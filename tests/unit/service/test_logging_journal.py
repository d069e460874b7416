"""The lines for journald: each has a priority, and none has a time."""

import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, TextIO

import pytest
import structlog

from syncd.service.logging import configure, is_journal


@pytest.fixture(autouse=True)
def _restore_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    yield
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """Make stderr the stream that JOURNAL_STREAM names."""
    with (tmp_path / "journal").open("w+", encoding="utf-8") as stream:
        stat = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino}")
        monkeypatch.setattr("syncd.service.logging.sys", SimpleNamespace(stderr=stream))
        yield stream


def lines(stream: TextIO) -> list[str]:
    stream.flush()
    return Path(stream.name).read_text(encoding="utf-8").splitlines()


def log() -> Any:
    return structlog.get_logger()


def fail(text: str) -> NoReturn:
    raise ValueError(text)


def test_a_line_has_a_priority_and_neither_time_nor_colour(journal: TextIO) -> None:
    configure("auto", logging.DEBUG)
    log().debug("http.request", status=200)
    log().info("put.done", mirror="docs", key="a.md", bytes=3, unchanged=False, detail=None)
    log().warning("mirror.degraded", why="no answer, will try")
    log().error("mirror.halted")
    assert lines(journal) == [
        "<7>http.request status=200",
        "<6>put.done mirror=docs key=a.md bytes=3 unchanged=false",
        '<4>mirror.degraded why="no answer, will try"',
        "<3>mirror.halted",
    ]


def test_a_level_can_be_chosen_for_journald(journal: TextIO) -> None:
    configure("auto", logging.WARNING)
    log().info("put.done")
    assert lines(journal) == []


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_chosen_format_is_used_for_journald(journal: TextIO, log_format: Any) -> None:
    configure(log_format, logging.INFO)
    log().info("put.done")
    assert not lines(journal)[0].startswith("<")


def test_another_stream_gets_json(journal: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = os.fstat(journal.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino + 1}")
    configure("auto", logging.INFO)
    log().info("put.done")
    assert lines(journal)[0].startswith("{")


def test_a_stream_without_a_file_is_not_the_journal() -> None:
    assert not is_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


def test_each_line_of_a_traceback_has_the_priority(journal: TextIO) -> None:
    configure("auto", logging.INFO)
    try:
        fail("a\n<0>forged")
    except ValueError:
        log().exception("bug", at=1)
    printed = lines(journal)
    assert printed[0] == "<3>bug at=1"
    assert len(printed) > 3
    assert all(line.startswith("<3>  ") for line in printed[1:])


@pytest.mark.parametrize("name", ["a\n<0>mirror.halted", "\x1b[2J", "x\u202ey\u2028z", '" level=error "', "a b=c"])
def test_a_name_cannot_forge_a_line_or_a_field(journal: TextIO, name: str) -> None:
    configure("auto", logging.INFO)
    log().info("put.done", key=name, names=[name])
    (line,) = lines(journal)
    assert line.isprintable()
    assert line.startswith('<6>put.done key="')
