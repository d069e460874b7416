"""The stream under stderr drops and counts lines that a slow reader or a full disk does not take."""

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.cli.output import ProgressLine, print_note
from syncd.service.streams import LogStream

FULL = b"x" * 4096


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Yield the reading and the writing end of a full pipe."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    while True:
        try:
            os.write(writing, FULL)
        except BlockingIOError:
            break
    os.set_blocking(writing, True)
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def drain(reading: int) -> bytes:
    parts = []
    try:
        while part := os.read(reading, 65536):
            parts.append(part)
    except BlockingIOError:
        return b"".join(parts)
    return b"".join(parts)


def test_a_line_without_a_reader_is_dropped_and_counted(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1], 0.0, lambda: False)
    assert stream.write(b"one\ntwo\n") == 8
    assert (stream.lost, drain(pipe[0]).replace(b"x", b"")) == (2, b"")


def test_only_one_write_waits_for_a_slow_reader_until_it_reads_again(pipe: tuple[int, int]) -> None:
    checks: list[int] = []
    stream = LogStream(pipe[1], 0.05, lambda: checks.append(1))
    stream.write(b"one\n")
    waited = len(checks)
    stream.write(b"two\n")
    assert (waited > 1, len(checks), stream.lost) == (True, waited + 1, 2)
    drain(pipe[0])
    stream.write(b"three\n")
    assert (stream.lost, drain(pipe[0])) == (0, b"three\n")


def test_without_a_time_limit_a_write_waits_until_it_is_told_to_give_up(pipe: tuple[int, int]) -> None:
    answers = iter((None, None, 15, 15))
    stream = LogStream(pipe[1], None, lambda: next(answers))
    stream.write(b"one\n")
    assert (list(answers), stream.lost) == ([15], 1)


def test_a_cut_line_is_followed_by_a_line_break(pipe: tuple[int, int]) -> None:
    drain(pipe[0])
    stream = LogStream(pipe[1], 0.0, lambda: False)
    stream.write(b"y" * 100_000 + b"\n")
    assert stream.lost == 1
    assert len(drain(pipe[0])) < 100_000
    stream.write(b"next\n")
    assert drain(pipe[0]) == b"\nnext\n"


def test_a_full_disk_and_a_closed_pipe_are_no_errors() -> None:
    with Path("/dev/full").open("wb") as full:
        stream = LogStream(full.fileno(), 0.0, lambda: False)
        assert stream.write(b"line\n") == 5
        assert stream.lost == 1
    reading, writing = os.pipe()
    os.close(reading)
    text = io.TextIOWrapper(io.BufferedWriter(LogStream(writing, 0.0, lambda: False)), line_buffering=True)
    for _ in range(3):
        text.write("line\n" * 10_000)
    os.close(writing)


def test_a_log_line_removes_a_longer_progress_line_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    raw = LogStream(writing, 0.0, lambda: False)
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(raw), write_through=True))
    ProgressLine().show("docs: syncing a long way", 3, 4)
    print_note("one")
    print_note("two")
    monkeypatch.undo()
    written = os.read(reading, 65536).decode()
    os.close(reading)
    assert written.endswith("\r\x1b[Kone\ntwo\n")
