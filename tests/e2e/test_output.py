"""What scripts parse and people read: JSON key by key, stdout apart from stderr, names of every kind."""

import json
import os
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import unicodedata
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import PATIENCE_S, Ended, Room, on_a_terminal, open_room, until

MIRROR = {"dry_run", "complete", "plan", "actions", "problems", "result", "requests", "elapsed_s"}
STATUS = {
    "state",
    "path",
    "target",
    "owner",
    "items",
    "searchable",
    "index",
    "last_reconcile",
    "oldest_pending_s",
    "watch",
    "problems",
}
NAMES = ("sp ace.md", "q\"uo'te.md", "per%41cent.md", "emoji😀.md", "日本語/ä.md", "a+b&c=d#e?f.md", "-n.md", "[x].md")


def problems_of(seen: Ended) -> dict[str, str]:
    return {problem["key"]: problem["kind"] for problem in seen.json()["mirrors"]["docs"]["problems"]}


def test_reconcile_and_its_dry_run_have_the_shape_of_the_contract(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        room.remote.create("docs")
        for number in range(3):
            room.write(f"{number}.md", f"text {number}")
        room.write("empty.md", "")
        room.remote.forget_requests()

        dry = room.syncd("reconcile", "--dry-run", "--json").json()
        assert room.remote.counted()["changing"] == 0
        assert room.remote.items() == []
        assert not room.state.exists() or not (room.state / "state.db").exists()
        mirror = dry["mirrors"]["docs"]
        assert (dry["exit_code"], mirror.keys()) == (0, MIRROR | {"forecast"})
        assert mirror["forecast"]["requests"] == 3
        assert mirror["forecast"].keys() == {"requests", "seconds"}
        assert mirror["actions"][0] == {"action": "put", "key": "0.md", "reason": "new", "bytes": 6}

        wet = room.syncd("reconcile", "--json").json()
        mirror = wet["mirrors"]["docs"]
        assert (wet.keys(), mirror.keys()) == ({"mirrors", "exit_code"}, MIRROR)
        assert (mirror["dry_run"], mirror["complete"]) == (False, True)
        assert mirror["plan"] == {"put": 3, "delete": 0, "adopt": 0, "forget": 0, "unchanged": 0}
        assert mirror["result"] == {"put": 3, "delete": 0, "failed": 0}
        assert mirror["actions"][0] == {
            "action": "put",
            "key": "0.md",
            "reason": "new",
            "bytes": 6,
            "outcome": "done",
        }
        assert mirror["problems"] == [
            {"key": "empty.md", "kind": "empty", "message": "the file is empty, so there is nothing to index"}
        ]
        assert (mirror["requests"] >= 4, mirror["elapsed_s"] > 0) == (True, True)


def test_status_has_the_shape_of_the_contract_before_while_and_after(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        before = room.syncd("status", "--json").json()
        assert (before["mirrors"]["docs"].keys(), before["daemon"]) == (STATUS, {"running": False, "pid": None})
        assert before["mirrors"]["docs"]["last_reconcile"] is None
        room.write("a.md")
        with room.daemon() as daemon:
            room.in_step()
            until(lambda: room.status()["watch"] == "inotify")
            during = room.syncd("status", "--json").json()
            assert (during.keys(), during["daemon"]) == ({"mirrors", "daemon"}, {"running": True, "pid": daemon.pid})
            seen: dict[str, Any] = during["mirrors"]["docs"]
            assert seen.keys() == STATUS
            assert (seen["state"], seen["path"], seen["target"]) == ("idle", str(room.docs), "ai-search:default/docs")
            assert seen["items"] == {"synced": 1, "pending": 0, "failed": 0, "rejected": 0}
            assert seen["index"] == {
                "queued": 0,
                "running": 0,
                "completed": 1,
                "error": 0,
                "skipped": 0,
                "outdated": 0,
            }
            assert (len(seen["last_reconcile"]), seen["last_reconcile"][-1]) == (20, "Z")
            daemon.send(signal.SIGTERM)
            daemon.ends()
        after = room.syncd("status", "--json").json()
        assert (after["daemon"]["running"], after["mirrors"]["docs"]["watch"]) == (False, None)


def test_commands_that_only_look_change_nothing_and_answer_in_json(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        room.write("guide.md", "how to rotate the token")
        room.syncd("reconcile", "--wait")
        room.remote.forget_requests()
        listed = room.syncd("ls", "--json").json()
        assert listed == {
            "mirror": "docs",
            "items": [{"key": "guide.md", "size": 23, "state": "synced", "index": "completed", "searchable_s": None}],
        }
        remote = room.syncd("ls", "--remote", "--json").json()["items"][0]
        assert (remote["key"], remote["owner"], remote["size"]) == ("guide.md", "docs", 23)
        found = room.syncd("search", "rotate token", "--json").json()
        assert found["hits"][0]["path"] == str(room.docs / "guide.md")
        checked = room.syncd("check", "--json").json()
        assert (checked["exit_code"], {check["level"] for check in checked["checks"]}) == (0, {"ok"})
        for path in ("docs/guide.md", "guide.md", str(room.docs / "guide.md"), "docs/../docs/guide.md"):
            told = room.syncd("explain", path)
            assert (told.code, "taken: nothing excludes it" in told.out) == (0, True), path
        assert room.remote.counted()["changing"] == 0


def test_check_of_an_instance_yet_to_be_made_is_a_warning_and_the_dry_run_says_what_is_missing(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        room.write("a.md")
        checked = room.syncd("check", "--json")
        target = next(check for check in checked.json()["checks"] if check["what"] == "docs: target")
        assert (checked.code, target["level"], "is not there yet" in target["message"]) == (0, "warn", True)
        assert room.remote.counted()["changing"] == 0


def test_names_of_every_kind_arrive_and_come_back(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        for name in NAMES:
            room.write(name, f"content of {name}")
        assert room.syncd("reconcile").code == 0
        room.in_step()
        room.nothing_left_to_do()
        seen = room.syncd("ls")
        assert all(name in seen.out for name in NAMES)


def test_what_cannot_be_mirrored_is_named_everywhere_while_all_other_files_go(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        expected = {
            "empty.md": "empty",
            "program.exe": "unsupported_type",
            "link.md": "unsupported_type",
            "loop": "unsupported_type",
            "pipe.md": "unsupported_type",
            "socket.md": "unsupported_type",
            "big.md": "too_large",
            f"{'k' * 130}.md": "key_too_long",
            "caf\N{LATIN SMALL LETTER E WITH ACUTE}.md": "key_collision",
            "control\x01.md": "invalid_key",
            "bad\\xff.md": "invalid_key",
            "locked.md": "unreadable",
        }
        room.write("good.md")
        room.write("empty.md", "")
        room.write("program.exe")
        (room.docs / "link.md").symlink_to("good.md")
        (room.docs / "loop").symlink_to(".", target_is_directory=True)
        os.mkfifo(room.docs / "pipe.md")
        with socket.socket(socket.AF_UNIX) as listening:
            where = os.open(room.docs, os.O_RDONLY)
            # By way of /proc, since the path itself may be longer than a socket's name may be.
            listening.bind(f"/proc/self/fd/{where}/socket.md")
            os.close(where)
        room.write("big.md", "x" * (4 * 1024 * 1024 + 1))
        room.write(f"{'k' * 130}.md")
        for form in ("NFC", "NFD"):
            room.write(unicodedata.normalize(form, "café.md"), form)
        room.write("control\x01.md")
        (room.docs / os.fsdecode(b"bad\xff.md")).write_text("x")
        room.write("locked.md").chmod(0)
        room.write("sub/good.md", "goes up too")

        seen = room.syncd("reconcile", "--json", may=False)
        status = room.syncd("status", "--json")

        assert (seen.code, seen.err.count("Traceback")) == (1, 0)
        assert problems_of(seen) == expected
        assert problems_of(status) == expected
        assert set(room.remote.files()) == {"good.md", "sub/good.md"}
        for name, kind in expected.items():
            real = "bad\udcff.md" if name == "bad\\xff.md" else name
            told = room.syncd("explain", str(room.docs / real), may=False)
            assert (told.code, kind in told.out, "\x01" in told.out) == (0, True, False), name
        retried = room.syncd("retry", may=False)
        assert (retried.code, "\x01" in retried.out + retried.err) == (1, False)
        assert problems_of(room.syncd("status", "--json")) == expected


@pytest.mark.parametrize("arguments", [("reconcile", "--json"), ("ls",), ("--help",)])
def test_a_reader_that_goes_away_ends_a_command_like_any_unix_tool(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with open_room(tmp_path) as room:
        room.write("a.md")
        process = room.really(*arguments)
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        err = process.stderr.read()
        process.stderr.close()
        assert (process.wait(30), err) == (141, b"")


def test_streams_that_are_closed_or_know_no_arrows_are_no_bug(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        room.write("emoji😀.md")
        for arguments, expected in ((("reconcile",), rb"docs \u2192 ai-search"), (("ls",), rb"emoji\U0001f600.md")):
            process = room.really(*arguments, env={"PYTHONIOENCODING": "ascii"})
            out, err = process.communicate(timeout=PATIENCE_S)
            assert (process.returncode, err, expected in out) == (0, b"", True)
        shell = f"exec {shlex.join(room.command('status'))} >&- 2>&-"
        assert subprocess.run(["/bin/sh", "-c", shell], env=room.env(), cwd=room.path, check=False).returncode == 0


def test_the_log_is_json_lines_on_stderr_and_the_answer_alone_is_on_stdout(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        room.write("a.md")
        seen = room.syncd("--log-format", "json", "-vv", "reconcile", "--json")
        events = [json.loads(line) for line in seen.err.splitlines()]
        assert {"http.request", "put.done", "pass.done"} <= {event["event"] for event in events}
        assert all({"event", "level", "timestamp"} <= event.keys() for event in events)
        assert seen.json()["exit_code"] == 0
        room.write("b.md")
        assert room.syncd("--quiet", "reconcile").err == ""
        assert "put.done" not in room.syncd("reconcile").err


def test_colour_and_progress_are_for_terminals_only(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        room.write("a.md")
        code, shown = on_a_terminal(room, "reconcile")
        assert (code, "\x1b[" in shown, "1 put" in shown) == (0, True, True)
        plain = room.syncd("status")
        assert "\x1b" not in plain.out + plain.err


def test_the_module_is_the_same_program_as_the_command(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        command = Path(sys.executable).with_name("syncd")
        shown = subprocess.run([command, "--version"], env=room.env(), capture_output=True, text=True, check=True)
        assert shown.stdout == room.syncd("--version").out
        bare = subprocess.run([command], env=room.env(), capture_output=True, text=True, check=False)
        assert (bare.returncode, bare.stdout, bare.stderr.startswith("Usage: syncd")) == (2, "", True)
        assert "reconcile" in bare.stderr


def test_init_writes_a_private_config_that_check_accepts_and_never_overwrites_one(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        folder = room.path / 'od"d \\ näme'
        folder.mkdir()
        (folder / "a.md").write_text("text")
        room.config.unlink()
        environment = {"CLOUDFLARE_ACCOUNT_ID": "0" * 32, "CLOUDFLARE_API_BASE_URL": room.server.base_url}
        made = room.syncd("init", str(folder), "--target", "ai-search:default/docs", env=environment)
        assert (made.code, room.config.stat().st_mode & 0o777) == (0, 0o600)
        assert room.syncd("reconcile", "--json", env=environment).json()["mirrors"]["od-d-n-me"]["result"]["put"] == 1
        again = room.syncd("init", str(folder), "--target", "ai-search:default/docs")
        assert (again.code, "--force" in again.err) == (2, True)


def test_explain_says_what_the_next_pass_makes_of_a_file(tmp_path: Path) -> None:
    def ahead(room: Room, path: str) -> str | None:
        told = dict(line.split(maxsplit=1) for line in room.syncd("explain", path).out.splitlines())
        return told.get("next")

    with open_room(tmp_path) as room:
        for name in ("same.md", "edited.md", "gone.md", "emptied.md"):
            room.write(name)
        assert room.syncd("reconcile").code == 0
        assert ahead(room, "same.md") is None
        room.write("edited.md", "other text")
        room.write("new.md")
        room.write("emptied.md", "")
        (room.docs / "gone.md").unlink()
        assert ahead(room, "edited.md") == "the file has changed since it was sent, so the next pass sends it"
        assert ahead(room, "new.md") == "the next pass sends it"
        assert (
            ahead(room, "emptied.md") == "nothing while the problem lasts; the content sent earlier stays in the target"
        )
        assert ahead(room, "gone.md") == "the file is gone, so the next pass removes its entry"
        room.configure(mirror='prune = "never"')
        assert "prune" in str(ahead(room, "gone.md"))
        room.configure()
        assert room.syncd("reconcile").code == 0
        for name in ("edited.md", "new.md", "gone.md"):
            assert ahead(room, name) is None, name


def test_explain_and_check_know_of_a_mount_that_is_gone(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        for name in ("disk/a.md", "own.md"):
            room.write(name)
        assert room.syncd("reconcile").code == 0
        with closing(sqlite3.connect(room.state / "state.db")) as db, db:
            # What a pass remembers that saw something mounted there.
            changed = "json_set(value, '$.inner', json_object('disk', 'tmpfs / 4711'))"
            db.execute(f"UPDATE meta SET value = {changed} WHERE mirror = 'docs' AND name = 'mounts'")
        (room.docs / "disk/a.md").unlink()
        told = room.syncd("explain", "disk/a.md").out
        assert "not sent: unreadable" in told
        assert "is not mounted any more; nothing below it is deleted" in told
        assert "nothing while the problem lasts; the content sent earlier stays in the target" in told
        assert "there is no such file" in room.syncd("explain", "none.md").out
        seen = room.syncd("check").out
        assert "disk/: the earlier file system is not mounted any more" in seen
        assert "to delete" not in seen
        assert room.syncd("reconcile").code == 1
        assert set(room.remote.files()) == {"disk/a.md", "own.md"}
