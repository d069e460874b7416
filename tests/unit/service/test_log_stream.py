"""The stream under stderr: what nobody reads, or no disk has room for, is dropped and counted, and holds nobody up."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.service.log_stream import LogStream

FULL = b"x" * 4096


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe with room for nothing more: (its reading end, its writing end)."""
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


def drained(reading: int) -> bytes:
    parts = []
    try:
        while part := os.read(reading, 65536):
            parts.append(part)
    except BlockingIOError:
        return b"".join(parts)
    return b"".join(parts)


def test_a_line_that_nobody_reads_is_dropped_and_counted(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1], 0.0, lambda: False)
    assert stream.write(b"one\ntwo\n") == 8
    assert (stream.lost, drained(pipe[0]).replace(b"x", b"")) == (2, b"")


def test_the_reader_is_waited_for_once_and_heard_of_again(pipe: tuple[int, int]) -> None:
    looks: list[int] = []
    stream = LogStream(pipe[1], 0.05, lambda: looks.append(1))
    stream.write(b"one\n")
    waited = len(looks)
    stream.write(b"two\n")
    assert (waited > 1, len(looks), stream.lost) == (True, waited + 1, 2)
    drained(pipe[0])
    stream.write(b"three\n")
    assert (stream.lost, drained(pipe[0])) == (0, b"three\n")


def test_a_command_waits_for_its_reader_until_a_signal_comes(pipe: tuple[int, int]) -> None:
    come = iter((None, None, 15, 15))
    stream = LogStream(pipe[1], None, lambda: next(come))
    stream.write(b"one\n")
    assert (list(come), stream.lost) == ([15], 1)


def test_a_line_longer_than_the_room_is_cut_and_the_next_one_begins_anew(pipe: tuple[int, int]) -> None:
    drained(pipe[0])
    stream = LogStream(pipe[1], 0.0, lambda: False)
    stream.write(b"y" * 100_000 + b"\n")
    assert stream.lost == 1
    assert len(drained(pipe[0])) < 100_000
    stream.write(b"next\n")
    assert drained(pipe[0]) == b"\nnext\n"


def test_a_full_disk_and_a_reader_that_has_gone_are_no_error() -> None:
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
