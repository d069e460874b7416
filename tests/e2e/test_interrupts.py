"""SIGTERM and SIGINT end every command soon, with one line, also as PID 1 and while its main thread hangs."""

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import PATIENCE_S, open_workspace, until

both_signals = pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
HANGING = """
import sqlite3, sys
from syncd.service import signals
signals.GRACE_S = float(sys.argv[1])
signals.install(lambda text: print(text, flush=True))
signals.describe_with(lambda: "it hung")
endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c"
try:
    print("hangs", flush=True)
    sqlite3.connect("").execute(endless)
except signals.Interrupted:
    sqlite3.connect("").execute(endless)
"""
"""A program whose main thread hangs in a call that no signal ends. Other threads can run."""
IN_A_CLASS = """
import os, sys
from syncd.cli import main

class Attribute:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), int(sys.argv[1]))

def define(arguments):
    class Definition:
        attribute = Attribute()

main._invoke = define
main.main()
"""
"""A program that gets a signal during the definition of a class. Python 3.11 makes a RuntimeError of it."""
IN_A_MODEL = """
import os, sys
from syncd.cli import main

class Word:
    def __repr__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        return "word"

def define(arguments):
    from pydantic_core import SchemaValidator, core_schema

    SchemaValidator(core_schema.nullable_schema(core_schema.literal_schema([Word()])))

main._invoke = define
main.main()
"""
"""A program that gets a signal while pydantic builds the validator of a model. pydantic keeps only the text of it."""
IN_A_FINALIZER = """
import os, sys, time
from syncd.cli import main
from syncd.service import signals

signals.GRACE_S = 0.1

class Short:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))

def finalize(arguments):
    Short()
    time.sleep(30)

main._invoke = finalize
main.main()
"""
"""A program that gets a signal in a finalizer, whose exceptions nobody can catch."""
IN_THE_SETUP = """
import os, sys, threading
from syncd.cli import main

start = threading.Thread.start

def start_late(thread):
    start(thread)
    os.kill(os.getpid(), int(sys.argv[1]))

threading.Thread.start = start_late
main.main()
"""
"""A program that gets a signal while the handlers of signals are installed."""


@both_signals
@pytest.mark.parametrize(
    "program", [IN_A_CLASS, IN_A_MODEL, IN_A_FINALIZER, IN_THE_SETUP], ids=["class", "model", "finalizer", "setup"]
)
def test_a_signal_at_a_bad_moment_is_no_bug(program: str, number: int, code: int) -> None:
    command = [sys.executable, "-c", program, str(int(number))]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S)
    said = f"syncd: interrupted by {signal.Signals(number).name}; nothing was changed\n"
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", said, code)


@pytest.mark.slow
@both_signals
def test_an_interrupted_pass_prints_how_much_is_done_and_left(tmp_path: Path, number: int, code: int) -> None:
    with open_workspace(tmp_path, latency=0.1) as workspace:
        for each in range(200):
            workspace.write(f"{each}.md", f"text {each}")
        running = workspace.start("reconcile")
        until(lambda: len(workspace.remote.items()) > 3)
        running.send(number)
        exit_code, seconds = running.ends()
        assert (exit_code, seconds < 5) == (code, True)
        stored = len(workspace.remote.items())
        line = running.text()
        assert line.startswith(f"syncd: interrupted by {signal.Signals(number).name}; reconcile: "), line
        assert line.endswith(" left; the next pass continues\n"), line
        assert line.count("\n") == 1
        uploaded, left = int(line.split()[5]), int(line.split()[7])
        assert uploaded + left == 200
        assert 0 < uploaded <= stored
        seen = workspace.status()
        assert (seen["state"], seen["items"]["pending"]) == ("degraded", left), seen
        assert "interrupted" in seen["detail"]
        assert workspace.syncd("reconcile").code == 0
        assert workspace.status()["state"] == "idle"


@both_signals
@pytest.mark.parametrize(
    ("command", "done"),
    [
        ("verify", "verify: nothing was changed"),
        ("check", "check: nothing was changed"),
        ("search text", "search: nothing was changed"),
        ("kv namespaces", "kv: the request may have been carried out or not"),
        ("ls --remote", "ls: nothing was changed"),
        ("pull out", "pull: nothing was written; the listing was not finished"),
        ("status --watch", "status: nothing was changed"),
    ],
)
def test_other_commands_print_what_was_changed(tmp_path: Path, command: str, done: str, number: int, code: int) -> None:
    with open_workspace(tmp_path, latency=30.0) as workspace:
        running = workspace.start(*command.split())
        if command == "status --watch":
            until(running.out)
        else:
            until(lambda: workspace.server.requests.total)
        running.send(number)
        exit_code, seconds = running.ends()
        assert (exit_code, seconds < 5) == (code, True)
        assert running.text().startswith(f"syncd: interrupted by {signal.Signals(number).name}; {done}")


def test_an_interrupted_pull_prints_how_much_is_written_and_left(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        for number in range(100):
            workspace.write(f"{number}.md", f"text {number}")
        assert workspace.syncd("reconcile").code == 0
        out = workspace.path / "out"
        running = workspace.start("pull", "out", env={"SYNCD_CLOUDFLARE__TPSLIMIT": "10"})
        until(lambda: out.exists() and len(list(out.iterdir())) > 3)
        running.send(signal.SIGINT)
        assert running.ends()[0] == 130
        found = re.search(r"pull: (\d+) files written, each one whole, (\d+) left; run it again", running.text())
        assert found, running.text()
        assert int(found[1]) + int(found[2]) == 100
        assert workspace.syncd("pull", "out", env={"SYNCD_CLOUDFLARE__TPSLIMIT": "0"}).code == 0
        assert len(list(out.iterdir())) == 100


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs a process with PID 1")
@both_signals
def test_a_process_with_pid_1_ends(tmp_path: Path, number: int, code: int) -> None:
    with open_workspace(tmp_path, latency=30.0) as workspace:
        workspace.write("a.md")
        command = ["unshare", "--pid", "--fork", "--kill-child", *workspace.command("reconcile")]
        with subprocess.Popen(command, env=workspace.env(), stderr=subprocess.PIPE, text=True) as outer:
            until(lambda: workspace.server.requests.total)
            (inner,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
            os.kill(int(inner), number)
            _, err = outer.communicate(timeout=PATIENCE_S)
        assert (outer.returncode, "interrupted by" in err) == (code, True), err


@pytest.mark.parametrize(("grace_s", "signals"), [("0.2", 1), ("3600", 2)])
def test_a_process_whose_main_thread_hangs_ends(grace_s: str, signals: int) -> None:
    with subprocess.Popen([sys.executable, "-c", HANGING, grace_s], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hangs\n"
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (143, "interrupted by SIGTERM; it hung\n")


def test_a_service_that_is_stopped_during_its_start_has_not_failed(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        process = workspace.really("run")
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert b"Traceback" not in err, err
        assert process.returncode in (0, -signal.SIGTERM)


@pytest.mark.parametrize("command", ["ls", "status", "status --json", "--help"])
def test_a_full_disk_under_stdout_is_reported_in_one_line(tmp_path: Path, command: str) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md")
        assert workspace.syncd("reconcile").code == 0
        ended = workspace.streamed(*command.split(), stdout="/dev/full")
        assert ended.code == 3, ended
        assert ended.err == "syncd: the output or a file: No space left on device; make room on its disk\n"


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "| head -c 1", ">/dev/full"])
def test_a_shell_may_close_or_fill_streams(tmp_path: Path, streams: str) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md")
        script = f'"$@" {streams}'
        for command in ("reconcile", "ls"):
            ended = subprocess.run(
                ["sh", "-c", script, "sh", *workspace.command(*command.split())],
                env=workspace.env(),
                capture_output=True,
                text=True,
                check=False,
            )
            if "full" in streams:
                assert (ended.returncode, ended.stderr.count("\n")) == (3, 1), ended
            else:
                assert (ended.returncode, ended.stderr) == (0, ""), ended
        assert workspace.remote.files().keys() == {"a.md"}


@pytest.mark.parametrize("streams", [{"stdin": None}, {"stdout": None}, {"stderr": None}, {"stderr": "/dev/full"}])
def test_closed_or_full_streams_do_not_end_a_command(tmp_path: Path, streams: dict[str, Any]) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md")
        for command in ("reconcile", "ls"):
            ended = workspace.streamed(command, **streams)
            assert (ended.code, ended.err) == (0, ""), ended
        assert workspace.remote.files().keys() == {"a.md"}


def test_status_shows_the_number_of_searchable_entries(tmp_path: Path) -> None:
    with open_workspace(tmp_path, fail_index="bad") as workspace:
        for name in ("a.md", "b.md", "bad.md"):
            workspace.write(name)
        assert workspace.syncd("reconcile", "--wait").code == 1
        assert workspace.status()["searchable"] == 2
        assert "  searchable 2 of 3\n" in workspace.syncd("status").out


@pytest.mark.parametrize(("make", "words"), [(os.mkfifo, "is no regular file"), (os.mkdir, "is a directory")])
def test_a_config_that_is_no_regular_file_is_an_error(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.config.unlink()
        make(workspace.config)
        for command in ("status", "reconcile", "run", "check"):
            ended = workspace.syncd(command)
            assert (ended.code, words in ended.out + ended.err) == (2, True), ended


LIMITS = [
    "ulimit -n 20",
    "ulimit -n 10",
    "ulimit -n 7",
    "ulimit -f 0",
    "cd gone; rmdir ../gone",
    "export TZ=x LC_ALL=y",
]


@pytest.mark.slow
@pytest.mark.parametrize("limit", LIMITS)
def test_limits_of_the_machine_are_no_bugs(tmp_path: Path, limit: str) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md")
        for command in ("reconcile", "status", "reconcile -n"):
            (workspace.path / "gone").mkdir(exist_ok=True)
            ended = subprocess.run(
                ["bash", "-c", f'{limit}; "$@"', "bash", *workspace.command(*command.split())],
                env=workspace.env(),
                cwd=workspace.path,
                capture_output=True,
                text=True,
                check=False,
            )
            # 1: files that could not be read are listed as problems.
            assert ended.returncode in (0, 1, 3), ended
            assert "Traceback" not in ended.stderr
            assert ended.returncode != 3 or ended.stderr.count("\n") == 1, ended


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "reconcile"])
def test_a_log_without_a_reader_delays_neither_the_daemon_nor_its_end(tmp_path: Path, command: str) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md")
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"x" * select.PIPE_BUF)
        os.set_blocking(writing, True)
        with subprocess.Popen(
            workspace.command("-v", command), env=workspace.env(), stdout=subprocess.DEVNULL, stderr=writing
        ) as process:
            if command == "run":
                until(lambda: workspace.remote.files().keys() == {"a.md"})
            else:
                time.sleep(3)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == (0 if command == "run" else 143)
            assert time.monotonic() - began < 5
        os.close(reading)
        os.close(writing)
