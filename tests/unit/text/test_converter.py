"""HTML is converted in a process of its own, within limits."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from syncd.core.errors import Park, Retry
from syncd.text.converter import ANSWER_BYTES, Converter

BIG = "<p>x" * 400_000
ENDLESS = """
import time
import syncd.text.converter as w
convert = w._markdown
w._markdown = lambda kind, page: time.sleep(60) if page == b"endless" else convert(kind, page)
w.main()
"""
"""A converter that does not end the page "endless"."""


@pytest.fixture
def converter() -> Iterator[Converter]:
    converter = Converter()
    yield converter
    converter.close()
    assert not converter._all


def start_endless(converter: Converter, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Thread, list[Retry]]:
    """Start a conversion without an end in a thread. Return the thread, and a list that gets the error."""
    monkeypatch.setattr("syncd.text.converter.COMMAND", ("-c", ENDLESS))
    ended: list[Retry] = []

    def convert() -> None:
        try:
            converter.markdown("endless")
        except Retry as error:
            ended.append(error)

    thread = threading.Thread(target=convert)
    thread.start()
    return thread, ended


def test_pages_go_through_one_process(converter: Converter) -> None:
    assert converter.markdown("<h1>One</h1>") == "# One"
    (first,) = converter._all
    assert "ü\udcff" in converter.markdown("<p>ü\udcff")
    assert converter._all == {first}


def test_an_error_of_the_parser_is_a_fault_of_the_page(converter: Converter) -> None:
    with pytest.raises(Park, match="ValueError") as caught:
        converter.markdown(f"<p>&#{'9' * 4301};")
    assert caught.value.kind == "refused"
    assert converter.markdown("<p>next") == "next"


def test_a_page_over_the_time_limit_is_ended_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    converter = Converter(wall_s=2.0)
    thread, ended = start_endless(converter, monkeypatch)
    assert converter.markdown("<p>other") == "other"
    thread.join(30)
    assert len(ended) == 1
    converter.close()


def test_close_ends_a_conversion_under_way(converter: Converter, monkeypatch: pytest.MonkeyPatch) -> None:
    thread, ended = start_endless(converter, monkeypatch)
    deadline = time.monotonic() + 20
    while not converter._all and time.monotonic() < deadline:
        time.sleep(0.01)
    converter.close()
    thread.join(10)
    assert len(ended) == 1
    assert converter.markdown("<p>again") == "again"


# The parser may take a minute to fail if the memory ends in a large tree. A large text needs its memory at once.
@pytest.mark.parametrize(
    ("limit", "page"),
    [
        ("w.MEMORY_BYTES = 128 * 1024 * 1024", "x" * 50_000_000),
        ("w.MEMORY_BYTES = 96 * 1024 * 1024; w.resource.setrlimit = lambda *_: None", BIG),
        ("w.CPU_S = 0.5", BIG),
    ],
    ids=["memory limit", "memory without a limit of the system", "processor time"],
)
def test_a_page_that_takes_too_much_is_refused_with_the_reason(
    converter: Converter, monkeypatch: pytest.MonkeyPatch, limit: str, page: str
) -> None:
    monkeypatch.setattr("syncd.text.converter.COMMAND", ("-c", f"import syncd.text.converter as w; {limit}; w.main()"))
    with pytest.raises(Park, match="cut it into several pages") as caught:
        converter.markdown(page)
    assert caught.value.kind == "too_large"
    assert converter.markdown("<p>next") == "next"


def test_an_answer_over_the_limit_is_refused(converter: Converter, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ANSWER_BYTES >= 4 * 1024 * 1024
    monkeypatch.setattr("syncd.text.converter.COMMAND", (
        "-c", "import syncd.text.converter as w; w.ANSWER_BYTES = 10; w.main()",
    ))  # fmt: skip
    with pytest.raises(Park, match="cut it into several pages"):
        converter.markdown("<p>more than ten characters")


def test_the_memory_of_the_program_does_not_count_as_memory_of_its_converter() -> None:
    """A daemon over a large folder takes more memory than the converter of a page may."""
    child = "from syncd.text.converter import peak_memory; print(peak_memory())"
    parent = (
        "import subprocess, sys; held = b'x' * 2**28; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    )
    ended = subprocess.run([sys.executable, "-c", parent, child], capture_output=True, text=True, check=True)
    assert 2**20 < int(ended.stdout) < 2**27
