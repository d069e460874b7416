"""A state file that is damaged, locked, removed or owned by another user leads to one line or a new file."""

import importlib
import json
import os
import pkgutil
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NoReturn

import click
import pytest

import syncd
from syncd.core.errors import EXIT_CONFIG, EXIT_HALT
from syncd.state.directory import FILE_NAME
from tests.e2e.harness import PATIENCE_S, Ended, Preloaded, Workspace, forks, open_workspace, until
from tests.e2e.syncd_child import child

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")


def zero_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(8192))


def zero_all_but_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(path.stat().st_size - 4096))


def truncate(path: Path) -> None:
    os.truncate(path, 9000)


def replace_by_text(path: Path) -> None:
    path.write_text("this is no database\n")


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = [
    zero_header,
    zero_all_but_header,
    truncate,
    replace_by_text,
    replace_by_directory,
    replace_by_pipe,
]


@contextmanager
def workspace_in_step(path: Path) -> Iterator[Workspace]:
    with open_workspace(path) as workspace:
        for number in range(12):
            workspace.write(f"{number}.md", f"text {number}")
        assert workspace.syncd("reconcile").code == 0
        yield workspace


def one_line(text: str) -> str:
    assert (text.count("\n"), text[:7]) == (1, "syncd: "), text
    assert "bug" not in text
    return text


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_command_names_a_damaged_state_file_and_the_remedy_in_one_line(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    with workspace_in_step(tmp_path) as workspace:
        damage(workspace.state / FILE_NAME)
        workspace.remote.forget_requests()
        for command in (["reconcile"], ["reconcile", "-n"], ["status"], ["ls"], ["verify"], ["retry"]):
            ended = workspace.syncd(*command)
            assert ended.code == EXIT_HALT, (command, ended)
            assert "is damaged" in one_line(ended.err)
            assert "stop syncd and delete it" in ended.err
        assert workspace.remote.counted()["changing"] == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_daemon_sets_a_damaged_state_file_aside_and_deletes_nothing(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    with workspace_in_step(tmp_path) as workspace:
        before = {item["id"] for item in workspace.remote.items()}
        damage(workspace.state / FILE_NAME)
        with workspace.daemon() as daemon:
            daemon.saw("state.damaged")
            daemon.saw("pass.done", scope="all")
            workspace.write("new.md")
            workspace.in_step()
            assert before <= {item["id"] for item in workspace.remote.items()}
            daemon.stop()
        assert (workspace.state / f"{FILE_NAME}.damaged").exists()


def test_the_daemon_makes_a_new_state_file_when_its_file_is_removed(tmp_path: Path) -> None:
    with workspace_in_step(tmp_path) as workspace, workspace.daemon() as daemon:
        daemon.saw("pass.done", scope="all")
        (workspace.state / FILE_NAME).unlink()
        daemon.saw("state.damaged")
        daemon.saw("pass.done", count=2, scope="all")
        assert workspace.status()["items"]["synced"] == 12
        daemon.stop()


def test_a_daemon_whose_state_directory_is_removed_ends_with_one_line(tmp_path: Path) -> None:
    with workspace_in_step(tmp_path) as workspace:
        daemon = workspace.start("--log-format", "json", "run")
        until(lambda: "pass.done" in daemon.text(), daemon.text)
        shutil.rmtree(workspace.state)
        ended = daemon.ended()
        assert ended.code == EXIT_HALT, ended
        assert "was removed or replaced" in one_line(ended.err.splitlines(keepends=True)[-1])


def test_every_command_refuses_a_state_file_of_a_newer_syncd(tmp_path: Path) -> None:
    with workspace_in_step(tmp_path) as workspace:
        with closing(sqlite3.connect(workspace.state / FILE_NAME)) as db:
            db.execute("PRAGMA user_version = 99")
        for command in ("status", "ls", "verify", "reconcile"):
            ended = workspace.syncd(command)
            assert (ended.code, "newer syncd" in one_line(ended.err)) == (EXIT_CONFIG, True), ended


@pytest.mark.slow
@pytest.mark.parametrize("command", ["reconcile", "retry"])
def test_a_command_waits_for_the_lock_of_another_process(tmp_path: Path, command: str) -> None:
    with workspace_in_step(tmp_path) as workspace:
        workspace.write("new.md")
        with closing(
            sqlite3.connect(workspace.state / FILE_NAME, isolation_level=None, check_same_thread=False)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            freed = threading.Timer(4.0, lambda: other.execute("ROLLBACK"))
            freed.start()
            ended = workspace.syncd(command)
            freed.join()
        assert (ended.code, "locked" in ended.err) == (0, False), ended


@pytest.mark.slow
def test_a_daemon_that_waits_for_a_lock_ends_soon_at_sigterm(tmp_path: Path) -> None:
    with workspace_in_step(tmp_path) as workspace, workspace.daemon() as daemon:
        daemon.saw("pass.done", scope="all")
        with closing(sqlite3.connect(workspace.state / FILE_NAME, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            workspace.write("new.md")
            daemon.saw("mirror.degraded")
            code, seconds = daemon.stop()
        assert (code, seconds < 5) == (0, True)


@contextmanager
def workspace_of_nobody() -> Iterator[Workspace]:
    """Yield a workspace whose state directory belongs to a user without rights. This user can read everything else."""
    with tempfile.TemporaryDirectory(prefix="syncd-room-") as folder:
        Path(folder).chmod(0o755)
        with open_workspace(Path(folder)) as workspace:
            workspace.state.mkdir(mode=0o700)
            os.chown(workspace.state, NOBODY, NOBODY)
            yield workspace


def run_as_nobody(workspace: Workspace, *commands: str) -> list[Ended]:
    """Run commands as a user without rights."""
    for code in (Path(syncd.__file__), Path(click.__file__)):
        if not all(place.stat().st_mode & 0o001 for place in code.parents):
            pytest.skip(f"no other user may read {code.parent}, so none can run the program")
    folder = workspace.path / "answers"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    given = [("--config", str(workspace.config), *command.split()) for command in commands]
    process = forks.Process(target=become_nobody, args=(given, workspace.env(), str(folder)), daemon=True)
    process.start()
    process.join(PATIENCE_S)
    assert process.exitcode == 0
    places = [folder / str(number) for number in range(len(commands))]
    ended = [
        Ended(
            int(Path(f"{place}.code").read_text()), Path(f"{place}.out").read_text(), Path(f"{place}.err").read_text()
        )
        for place in places
    ]
    shutil.rmtree(folder)
    return ended


def become_nobody(commands: Sequence[Sequence[str]], env: Mapping[str, str], folder: str) -> None:
    """Run commands as a user without rights. All modules are imported before, because this user may not read them."""
    for package in (syncd, click):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(("__main__", "_winconsole")):
                importlib.import_module(module.name)
    for name in ("concurrent.futures.thread", "encodings.ascii", "encodings.idna"):
        importlib.import_module(name)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    for number, command in enumerate(commands):
        if (pid := os.fork()) == 0:
            run_forked(command, env, f"{folder}/{number}")
        Path(f"{folder}/{number}.code").write_text(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))


def run_forked(command: Sequence[str], env: Mapping[str, str], place: str) -> NoReturn:
    """Run a command and exit. Its output is in files beside `place`."""
    try:
        child(command, env, "/", (os.devnull, f"{place}.out", f"{place}.err"), ())
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else 0)
    os._exit(0)


@as_root
def test_files_written_by_root_belong_to_the_owner_of_the_state_directory() -> None:
    with workspace_of_nobody() as workspace:
        for number in range(12):
            workspace.write(f"{number}.md", f"text {number}")
        assert workspace.syncd("reconcile").code == 0
        workspace.write("0.md", "other")
        (workspace.docs / "1.md").unlink()
        assert workspace.syncd("reconcile", "--force").code == 0
        owners = {path.name: path.stat().st_uid for path in workspace.state.iterdir()}
        assert {"lock", FILE_NAME, "deletes.jsonl"} <= owners.keys()
        assert set(owners.values()) == {NOBODY}, owners
        (workspace.docs / "2.md").unlink()
        [ended] = run_as_nobody(workspace, "reconcile")
        assert (ended.code, ended.err) == (0, ""), ended.err


@as_root
def test_a_directory_made_by_root_belongs_to_the_owner_of_its_parent() -> None:
    with workspace_of_nobody() as workspace:
        workspace.write("a.md")
        below = workspace.state / "new/state"
        ended = workspace.syncd("reconcile", env={"SYNCD_STATE_DIR": str(below)})
        assert (ended.code, below.stat().st_uid, below.parent.stat().st_uid) == (0, NOBODY, NOBODY)


@as_root
def test_root_follows_no_link_of_the_owner() -> None:
    with workspace_of_nobody() as workspace:
        workspace.write("a.md")
        victim = workspace.path / "victim"
        victim.write_text("root's own")
        for place in ("lock", FILE_NAME):
            (workspace.state / place).symlink_to(victim)
            ended = workspace.syncd("reconcile")
            assert (ended.code, victim.stat().st_uid, victim.read_text()) == (EXIT_CONFIG, 0, "root's own"), ended
            (workspace.state / place).unlink()


@as_root
@pytest.mark.parametrize("name", [FILE_NAME, "lock"])
def test_a_file_of_another_user_is_named_with_its_owner(name: str) -> None:
    with workspace_of_nobody() as workspace:
        workspace.write("a.md")
        assert workspace.syncd("reconcile").code == 0
        os.chown(workspace.state / name, 0, 0)
        [ended] = run_as_nobody(workspace, "reconcile")
        assert ended.code == EXIT_HALT, ended
        assert f"{workspace.state / name} belongs to root, and syncd runs as nobody" in one_line(ended.err)


@as_root
def test_an_unreadable_state_directory_is_named_with_its_owner() -> None:
    with workspace_of_nobody() as workspace:
        workspace.write("a.md")
        assert workspace.syncd("reconcile").code == 0
        os.chown(workspace.state, 0, 0)
        commands = ["status", "ls", "ls --remote", "explain a.md", "verify", "reconcile", "reconcile -n", "retry"]
        commands += ["pull x", "search text", "status --json"]
        for command, ended in zip(commands, run_as_nobody(workspace, *commands), strict=True):
            assert ended.code == EXIT_HALT, (command, ended)
            assert f"{workspace.state} belongs to root" in one_line(ended.err), command


READ_ONLY = """
for each in /tmp /var/tmp "$STATE"; do
  mount --bind "$each" "$each" && mount -o remount,ro,bind "$each" || exit 99
done
mount -o remount,ro,bind / || exit 99
exec "$@"
"""


def can_mount() -> bool:
    trial = ["unshare", "-m", "sh", "-c", "mount --bind / / && mount -o remount,ro,bind /"]
    return bool(shutil.which("unshare")) and subprocess.run(trial, check=False, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="needs a mount namespace of its own")
@pytest.mark.parametrize("keep", [(), ("-wal",), ("-wal", "-shm")])
def test_commands_that_change_nothing_work_on_a_read_only_system(tmp_path: Path, keep: tuple[str, ...]) -> None:
    with workspace_in_step(tmp_path) as workspace, ExitStack() as stack:
        copied = workspace.path / "copied"
        copied.mkdir()
        with closing(sqlite3.connect(workspace.state / FILE_NAME)) as db:
            # The write-ahead log stays, as after a crash.
            db.execute("PRAGMA wal_autocheckpoint = 0")
            db.execute("INSERT INTO meta VALUES ('', 'x', '1')")
            db.commit()
            for suffix in ("", *keep):
                shutil.copyfile(workspace.state / (FILE_NAME + suffix), copied / (FILE_NAME + suffix))
        env = {"STATE": str(copied), "SYNCD_STATE_DIR": str(copied)}
        process = stack.enter_context(closing(Preloaded(env, ["unshare", "-m", "sh", "-c", READ_ONLY, "sh"])))
        for command in (
            ["status"],
            ["ls"],
            ["explain", "1.md"],
            ["verify"],
            ["check"],
            ["reconcile", "-n"],
            ["ls", "--remote"],
        ):
            code, out, err = process.run(workspace, *command)
            if keep == ("-wal",):
                # A write-ahead log needs a copy of the file, for which no directory can be written.
                assert (code, b"TMPDIR" in err + out) == (3, True), err
            else:
                assert (code, err) == (0, b""), err


# -- a disk without any room


def without_room(workspace: Workspace, *arguments: str) -> Ended:
    """Run a command that cannot make any file longer, as on a full disk."""
    line = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *workspace.command(*arguments)]
    ended = subprocess.run(
        line, env=workspace.env(), cwd=workspace.path, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def test_commands_that_change_nothing_work_on_a_full_disk(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md", "words about anchors")
        assert workspace.syncd("reconcile", "--wait").code == 0
        for command in ("status", "ls", "explain a.md", "log", "plan", "verify", "search anchors", "ls --remote"):
            ended = without_room(workspace, *command.split())
            assert (ended.code, ended.out != "") == (0, True), (command, ended)
        assert "a.md" in without_room(workspace, "ls").out
        checked = without_room(workspace, "check")
        assert "last reconcile" in checked.out, checked


@contextmanager
def daemon_without_room(workspace: Workspace) -> Iterator[subprocess.Popen[str]]:
    """Run a daemon that cannot make any file longer until `make_room`."""
    command = workspace.command("--log-format", "json", "run")
    line = ["sh", "-c", 'ulimit -S -f 0; exec "$@"', "sh", *command]
    with subprocess.Popen(line, env=workspace.env(), cwd=workspace.path, stderr=subprocess.PIPE, text=True) as daemon:
        try:
            yield daemon
        finally:
            daemon.kill()


def make_room(daemon: subprocess.Popen[str], size: int = resource.RLIM_INFINITY) -> None:
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def wait_for_event(daemon: subprocess.Popen[str], event: str) -> None:
    assert daemon.stderr
    for line in daemon.stderr:
        if json.loads(line)["event"] == event:
            return
    raise AssertionError(f"the daemon ended without {event}")


@pytest.mark.slow
def test_the_daemon_waits_for_room_at_its_start_and_at_a_reload(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, daemon_without_room(workspace) as daemon:
        workspace.write("a.md", "text a")
        wait_for_event(daemon, "state.full")
        make_room(daemon)
        workspace.in_step()
        make_room(daemon, 0)
        reloaded = workspace.syncd("reload")
        assert (reloaded.code, "make room on the disk" in reloaded.err) == (EXIT_HALT, True), reloaded
        wait_for_event(daemon, "state.full")
        make_room(daemon)
        workspace.write("b.md", "text b")
        workspace.in_step()
        daemon.terminate()
        assert daemon.wait(PATIENCE_S) == 0


@pytest.mark.slow
def test_a_daemon_that_waits_for_room_ends_soon_at_sigterm(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, daemon_without_room(workspace) as daemon:
        wait_for_event(daemon, "state.full")
        daemon.terminate()
        assert daemon.wait(5) == 0


def test_init_on_a_full_disk_leaves_the_directory_as_it_was(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        before = workspace.config.read_bytes()
        target = ("init", str(workspace.docs), "--target", "kv:x")
        kept = without_room(workspace, *target, "--force")
        assert (kept.code, workspace.config.read_bytes()) == (EXIT_CONFIG, before), kept
        workspace.config.unlink()
        refused = without_room(workspace, *target)
        assert (refused.code, "choose another place" in refused.err) == (EXIT_CONFIG, True)
        assert not workspace.config.exists()
        assert workspace.syncd(*target).code == 0
        link = workspace.path / "link.toml"
        link.symlink_to(workspace.config)
        assert workspace.syncd("--config", str(link), *target, "--force").code == 0
        assert (link.is_symlink(), workspace.config.stat().st_mode & 0o777) == (True, 0o600)
