"""A run of the bench as a file, and the parts it can be made of."""

from pathlib import Path

import pytest

from bench.__main__ import LONG, PARTS
from bench.passes import _Program
from bench.process import Daemon, Run, measured
from bench.report import Report, load
from bench.table import Figure, Peer
from bench.workspace import plant


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    peers = (Peer("rclone", 2.0, "install it", 2.5), Peer("wrangler", get="install it"))
    report = Report({"python": "3"}, [Figure("a", 1.0, "s", 2.0, True, floor=0.5, peers=peers, median=1.5)])
    report.save(tmp_path / "run.json")
    again = load(tmp_path / "run.json")
    assert again == report
    assert again.text() == report.text()


def test_a_run_says_on_what_it_was_measured() -> None:
    report = Report({"python": "3.11"}, [Figure("a", 1.0)])
    assert report.text()[-1] == "python: 3.11"
    assert report.markdown()[-1] == "- python: 3.11"


def test_long_parts_are_parts() -> None:
    assert set(PARTS) > LONG


def test_the_processor_time_for_a_file_is_what_lies_beyond_the_best_start() -> None:
    def run(cpu_s: float) -> Run:
        return Run(1.0, cpu_s, 10.0, [])

    program = _Program(None, full=[run(2.5), run(3.5)], single=[run(0.5), run(0.9)])
    assert program.cpu_ms(1_000).values == [2.0, 3.0]
    assert _Program(None).cpu_ms(1_000).values == []


@pytest.mark.parametrize("size", [1, 100, 102, 103, 2_000])
def test_planted_files_are_of_one_size_and_all_different(tmp_path: Path, size: int) -> None:
    plant(tmp_path, 7, 3, size)
    texts = {file.read_text() for file in tmp_path.rglob("*.md")}
    assert len(texts) == 7
    assert {len(text) for text in texts} == {size + len("# Page 0\n\n")}
    assert len(list(tmp_path.iterdir())) == 3


def test_a_command_that_fails_says_what_it_said() -> None:
    with pytest.raises(RuntimeError, match="exit 3: no luck"):
        measured(["sh", "-c", "echo no luck >&2; exit 3"])


def test_the_log_of_a_daemon_is_read_whole_lines_at_a_time(tmp_path: Path) -> None:
    line = '{"event": "pass.done", "scope": "all", "timestamp": "2999-01-01T00:00:00Z"}'
    log = tmp_path / "log"
    with Daemon(["sleep", "60"], log) as daemon:
        log.write_text(f'{line}\nno JSON\n{{"event": "file.odd"}}\n{line[:20]}')
        assert len(daemon.logged("pass.done")) == 1
        assert daemon.logged("pass.done", scope=3) == []
        with log.open("a") as more:
            more.write(f"{line[20:]}\n")
        assert daemon.wait_for("pass.done", times=2, scope="all") > 1e9


def test_a_daemon_that_ends_is_not_waited_for(tmp_path: Path) -> None:
    with Daemon(["sh", "-c", "echo a bug >&2"], tmp_path / "log") as daemon, pytest.raises(RuntimeError, match="a bug"):
        daemon.wait_for("pass.done")
