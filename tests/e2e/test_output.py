"""The output for scripts and people: each JSON key, stdout and stderr, names of every kind."""

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

from tests.e2e.harness import PATIENCE_S, Ended, Workspace, on_a_terminal, open_workspace, until

MIRROR = {"dry_run", "complete", "plan", "actions", "problems", "result", "requests", "elapsed_s"}
STATUS = {
    "counts",
    "files",
    "last_contact",
    "since",
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
    with open_workspace(tmp_path) as workspace:
        workspace.remote.create("docs")
        for number in range(3):
            workspace.write(f"{number}.md", f"text {number}")
        workspace.write("empty.md", "")
        workspace.remote.forget_requests()

        dry = workspace.syncd("reconcile", "--dry-run", "--json").json()
        assert workspace.remote.counted()["changing"] == 0
        assert workspace.remote.items() == []
        assert not workspace.state.exists() or not (workspace.state / "state.db").exists()
        mirror = dry["mirrors"]["docs"]
        assert (dry["exit_code"], mirror.keys()) == (0, MIRROR | {"forecast"})
        assert mirror["forecast"]["requests"] == 3
        assert mirror["forecast"].keys() == {"requests", "seconds"}
        assert mirror["actions"][0] == {"action": "put", "key": "0.md", "reason": "new", "bytes": 6}

        wet = workspace.syncd("reconcile", "--json").json()
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
    with open_workspace(tmp_path) as workspace:
        before = workspace.syncd("status", "--json").json()
        assert (before["mirrors"]["docs"].keys(), before["daemon"]) == (STATUS, {"running": False, "pid": None})
        assert before["mirrors"]["docs"]["last_reconcile"] is None
        workspace.write("a.md")
        with workspace.daemon() as daemon:
            workspace.in_step()
            until(lambda: workspace.status()["watch"] == "inotify")
            during = workspace.syncd("status", "--json").json()
            assert (during.keys(), during["daemon"]) == (
                {"mirrors", "daemon", "last_seen", "ended", "command"},
                {"running": True, "pid": daemon.pid},
            )
            seen: dict[str, Any] = during["mirrors"]["docs"]
            assert seen.keys() == STATUS
            assert (seen["state"], seen["path"], seen["target"]) == (
                "idle",
                str(workspace.docs),
                "ai-search:default/docs",
            )
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
        after = workspace.syncd("status", "--json").json()
        assert (after["daemon"]["running"], after["mirrors"]["docs"]["watch"]) == (False, None)


def test_read_only_commands_change_nothing_and_print_json(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("guide.md", "how to rotate the token")
        workspace.syncd("reconcile", "--wait")
        workspace.remote.forget_requests()
        listed = workspace.syncd("ls", "--json").json()
        assert listed == {
            "mirror": "docs",
            "items": [{"key": "guide.md", "size": 23, "state": "synced", "index": "completed", "searchable_s": None}],
        }
        remote = workspace.syncd("ls", "--remote", "--json").json()["items"][0]
        assert (remote["key"], remote["owner"], remote["size"]) == ("guide.md", "docs", 23)
        found = workspace.syncd("search", "rotate token", "--json").json()
        assert found["hits"][0]["path"] == str(workspace.docs / "guide.md")
        checked = workspace.syncd("check", "--json").json()
        assert (checked["exit_code"], {check["level"] for check in checked["checks"]}) == (0, {"ok"})
        for path in ("docs/guide.md", "guide.md", str(workspace.docs / "guide.md"), "docs/../docs/guide.md"):
            told = workspace.syncd("explain", path)
            assert (told.code, "taken: nothing excludes it" in told.out) == (0, True), path
        assert workspace.remote.counted()["changing"] == 0


def test_check_warns_about_a_missing_instance_and_the_dry_run_names_it(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md")
        checked = workspace.syncd("check", "--json")
        target = next(check for check in checked.json()["checks"] if check["what"] == "docs: target")
        assert (checked.code, target["level"], "is not there yet" in target["message"]) == (0, "warn", True)
        assert workspace.remote.counted()["changing"] == 0


def test_a_plan_without_actions_has_no_table_of_them(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.remote.create("docs")
        workspace.write("empty.md", "")
        title, problem, *_ = workspace.syncd("plan").out.splitlines()
        assert (title, problem.split()[:2]) == ("docs → ai-search:default/docs:", ["empty", "empty.md"])


def test_names_of_every_kind_are_uploaded_and_pulled(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        for name in NAMES:
            workspace.write(name, f"content of {name}")
        assert workspace.syncd("reconcile").code == 0
        workspace.in_step()
        workspace.nothing_left_to_do()
        seen = workspace.syncd("ls")
        assert all(name in seen.out for name in NAMES)


def test_files_that_cannot_be_mirrored_are_named_everywhere_and_the_others_are_uploaded(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
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
        workspace.write("good.md")
        workspace.write("empty.md", "")
        workspace.write("program.exe")
        (workspace.docs / "link.md").symlink_to("good.md")
        (workspace.docs / "loop").symlink_to(".", target_is_directory=True)
        os.mkfifo(workspace.docs / "pipe.md")
        with socket.socket(socket.AF_UNIX) as listening:
            where = os.open(workspace.docs, os.O_RDONLY)
            # Through /proc, because the path may be too long for a socket.
            listening.bind(f"/proc/self/fd/{where}/socket.md")
            os.close(where)
        workspace.write("big.md", "x" * (10 * 1024 * 1024 + 1))
        workspace.write(f"{'k' * 130}.md")
        for form in ("NFC", "NFD"):
            workspace.write(unicodedata.normalize(form, "café.md"), form)
        workspace.write("control\x01.md")
        (workspace.docs / os.fsdecode(b"bad\xff.md")).write_text("x")
        workspace.write("locked.md").chmod(0)
        workspace.write("sub/good.md", "goes up too")

        seen = workspace.syncd("reconcile", "--json", may=False)
        status = workspace.syncd("status", "--json")

        assert (seen.code, seen.err.count("Traceback")) == (1, 0)
        assert problems_of(seen) == expected
        assert problems_of(status) == expected
        assert set(workspace.remote.files()) == {"good.md", "sub/good.md"}
        for name, kind in expected.items():
            real = "bad\udcff.md" if name == "bad\\xff.md" else name
            told = workspace.syncd("explain", str(workspace.docs / real), may=False)
            assert (told.code, kind in told.out, "\x01" in told.out) == (0, True, False), name
        retried = workspace.syncd("retry", may=False)
        assert (retried.code, "\x01" in retried.out + retried.err) == (1, False)
        assert problems_of(workspace.syncd("status", "--json")) == expected


@pytest.mark.parametrize("arguments", [("reconcile", "--json"), ("ls",), ("--help",)])
def test_a_closed_pipe_ends_a_command_as_it_ends_other_unix_tools(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md")
        process = workspace.really(*arguments)
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        err = process.stderr.read()
        process.stderr.close()
        assert (process.wait(30), err) == (141, b"")


def test_closed_streams_and_streams_without_arrows_are_no_bug(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("emoji😀.md")
        for arguments, expected in ((("reconcile",), rb"docs \u2192 ai-search"), (("ls",), rb"emoji\U0001f600.md")):
            process = workspace.really(*arguments, env={"PYTHONIOENCODING": "ascii"})
            out, err = process.communicate(timeout=PATIENCE_S)
            assert (process.returncode, err, expected in out) == (0, b"", True)
        shell = f"exec {shlex.join(workspace.command('status'))} >&- 2>&-"
        assert (
            subprocess.run(["/bin/sh", "-c", shell], env=workspace.env(), cwd=workspace.path, check=False).returncode
            == 0
        )


def test_the_log_is_json_lines_on_stderr_and_stdout_has_only_the_result(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md")
        seen = workspace.syncd("--log-format", "json", "-vv", "reconcile", "--json")
        events = [json.loads(line) for line in seen.err.splitlines()]
        assert {"http.request", "put.done", "pass.done"} <= {event["event"] for event in events}
        assert all({"event", "level", "timestamp"} <= event.keys() for event in events)
        assert seen.json()["exit_code"] == 0
        workspace.write("b.md")
        assert workspace.syncd("--quiet", "reconcile").err == ""
        assert "put.done" not in workspace.syncd("reconcile").err


def test_colour_and_progress_are_for_terminals_only(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md")
        code, shown = on_a_terminal(workspace, "reconcile")
        assert (code, "\x1b[" in shown, "1 put" in shown) == (0, True, True)
        plain = workspace.syncd("status")
        assert "\x1b" not in plain.out + plain.err


def test_the_module_is_the_same_program_as_the_command(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        command = Path(sys.executable).with_name("syncd")
        shown = subprocess.run([command, "--version"], env=workspace.env(), capture_output=True, text=True, check=True)
        assert shown.stdout == workspace.syncd("--version").out
        bare = subprocess.run([command], env=workspace.env(), capture_output=True, text=True, check=False)
        assert (bare.returncode, bare.stdout, bare.stderr.startswith("Usage: syncd")) == (2, "", True)
        assert "reconcile" in bare.stderr


def test_init_writes_a_private_config_that_check_accepts_and_never_overwrites_one(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        folder = workspace.path / 'od"d \\ näme'
        folder.mkdir()
        (folder / "a.md").write_text("text")
        workspace.config.unlink()
        environment = {"CLOUDFLARE_ACCOUNT_ID": "0" * 32, "CLOUDFLARE_API_BASE_URL": workspace.server.base_url}
        made = workspace.syncd("init", str(folder), "--target", "ai-search:default/docs", env=environment)
        assert (made.code, workspace.config.stat().st_mode & 0o777) == (0, 0o600)
        assert f'base_url = "{workspace.server.base_url}"' in workspace.config.read_text()
        assert "account_id" not in made.out
        assert (
            workspace.syncd("reconcile", "--json", env=environment).json()["mirrors"]["od-d-n-me"]["result"]["put"] == 1
        )
        again = workspace.syncd("init", str(folder), "--target", "ai-search:default/docs")
        assert (again.code, "--force" in again.err) == (2, True)


@pytest.mark.parametrize(
    ("name", "why"), [("a\nb", "name has a control character"), ("a\udcff", "name is not valid UTF-8")]
)
def test_init_says_why_a_config_cannot_name_a_folder(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / name).mkdir()
    with open_workspace(tmp_path) as workspace:
        refused = workspace.syncd("init", str(tmp_path / name), "--target", "kv:x")
        assert (refused.code, f"its {why}; rename it, because" in refused.err) == (2, True), refused.err


def test_ls_takes_one_mirror_and_its_help_says_so(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        assert "Usage: syncd ls [OPTIONS] [MIRROR]\n" in workspace.syncd("ls", "--help").out
        assert workspace.syncd("ls", "docs").code == 0
        refused = workspace.syncd("ls", "docs", "other")
        assert (refused.code, "other" in refused.err) == (2, True)


def test_explain_shows_what_the_next_pass_does_with_a_file(tmp_path: Path) -> None:
    def ahead(workspace: Workspace, path: str) -> str | None:
        told = dict(line.split(maxsplit=1) for line in workspace.syncd("explain", path).out.splitlines())
        return told.get("next")

    with open_workspace(tmp_path) as workspace:
        for name in ("same.md", "edited.md", "gone.md", "emptied.md"):
            workspace.write(name)
        assert workspace.syncd("reconcile").code == 0
        assert ahead(workspace, "same.md") is None
        workspace.write("edited.md", "other text")
        workspace.write("new.md")
        workspace.write("emptied.md", "")
        (workspace.docs / "gone.md").unlink()
        assert ahead(workspace, "edited.md") == "the file has changed since it was sent, so the next pass sends it"
        assert ahead(workspace, "new.md") == "the next pass sends it"
        assert (
            ahead(workspace, "emptied.md")
            == "nothing while the problem lasts; the content sent earlier stays in the target"
        )
        assert ahead(workspace, "gone.md") == "the file is gone, so the next pass removes its entry"
        workspace.configure(mirror='prune = "never"')
        assert "prune" in str(ahead(workspace, "gone.md"))
        workspace.configure()
        assert workspace.syncd("reconcile").code == 0
        for name in ("edited.md", "new.md", "gone.md"):
            assert ahead(workspace, name) is None, name


def test_explain_and_check_report_a_missing_mount(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        for name in ("disk/a.md", "own.md"):
            workspace.write(name)
        assert workspace.syncd("reconcile").code == 0
        with closing(sqlite3.connect(workspace.state / "state.db")) as db, db:
            # Write the record of a pass that saw a mount there.
            changed = "json_set(value, '$.inner', json_object('disk', 'tmpfs / 4711'))"
            db.execute(f"UPDATE meta SET value = {changed} WHERE mirror = 'docs' AND name = 'mounts'")
        (workspace.docs / "disk/a.md").unlink()
        told = workspace.syncd("explain", "disk/a.md").out
        assert "not sent: unreadable" in told
        assert "is not mounted any more; nothing below it is deleted" in told
        assert "nothing while the problem lasts; the content sent earlier stays in the target" in told
        assert "there is no such file" in workspace.syncd("explain", "none.md").out
        seen = workspace.syncd("check").out
        assert "disk/: the earlier file system is not mounted any more" in seen
        assert "to delete" not in seen
        assert workspace.syncd("reconcile").code == 1
        assert set(workspace.remote.files()) == {"disk/a.md", "own.md"}
