"""A systemd of the test's own: booted in fresh namespaces on a root made of the host's files, and gone afterwards."""

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from tests.e2e.harness import until
from tests.skips import NotHere

SYSTEMD = Path("/lib/systemd/systemd")
TOOLS = ("unshare", "nsenter", "setpriv", "systemctl", "systemd-analyze", "mount", "pivot_root", "hostname")
# Whatever becomes of this process, what it started ends with it: the first process of a pid namespace takes all along.
UNSHARE = (
    *("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child"),
    *("--mount", "--propagation", "private", "--uts", "--ipc"),
)
BOOT_S = 20.0
"""A boot takes a fifth of a second; a loaded machine may take longer."""
COMMAND_S = 30.0
LOOK_EVERY_S = 0.1
"""Each look starts a process."""
GROUP = "syncd-test-"
"""What the cgroups of these tests are called; then the number of the process that made it."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES = {"cgroup": "cgroup", "ipc": "ipc", "uts": "uts", "pid": "pid", "mount": "mnt"}
_numbers = count()


class Machine:
    """A booted systemd. pid: its first process, seen from outside.

    Its files and namespaces are held open: should it end, nothing that is meant for it can reach this machine, not even
    if another process gets its number.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._spaces = {name: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for name, kind in NAMESPACES.items()}
        self._root = os.open(f"/proc/{pid}/root", os.O_PATH)

    def close(self) -> None:
        """Let go of it."""
        for descriptor in (*self._spaces.values(), self._root):
            os.close(descriptor)

    def path(self, inside: str) -> Path:
        """A file of the machine, for this process to use."""
        return Path(f"/proc/self/fd/{self._root}{inside}")

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        """Write a file, and the directories it needs."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def tries(self, *command: str, given: str = "", within_s: float = COMMAND_S) -> "subprocess.CompletedProcess[str]":
        """Run a command in there, as root."""
        spaces = [f"--{name}=/proc/self/fd/{descriptor}" for name, descriptor in self._spaces.items()]
        return subprocess.run(
            ["nsenter", *spaces, "env", "-i", f"PATH={PATH}", "LANG=C.UTF-8", "PAGER=cat", *command],
            input=given,
            pass_fds=tuple(self._spaces.values()),
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )

    def does(self, *command: str, given: str = "", within_s: float = COMMAND_S) -> str:
        """Run a command that must succeed; return its stdout."""
        ended = self.tries(*command, given=given, within_s=within_s)
        assert ended.returncode == 0, f"{command}: {ended.returncode}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def show(self, unit: str) -> dict[str, str]:
        """The properties of a unit."""
        lines = self.does("systemctl", "show", unit).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def becomes(self, unit: str, within_s: float = COMMAND_S, **properties: str) -> dict[str, str]:
        """Wait until a unit has these properties; return all of them."""
        shown: dict[str, str] = {}

        def seen() -> bool:
            shown.update(self.show(unit))
            return properties.items() <= shown.items()

        def instead() -> str:
            return f"{unit}: { ({name: shown.get(name) for name in properties}) } {self.journal(unit)}"

        until(seen, instead, within_s, LOOK_EVERY_S)
        return shown

    def journal(self, unit: str) -> list[str]:
        """What a unit and systemd said about it."""
        self.does("journalctl", "--sync")
        return self.does("journalctl", "-u", unit, "-o", "cat", "-q").splitlines()

    def events(self, unit: str, name: str) -> list[dict[str, Any]]:
        """The events of syncd's log with this name."""
        return [event for event in map(_event, self.journal(unit)) if event["event"] == name]

    def saw(self, unit: str, name: str, count: int = 1, **fields: object) -> None:
        """Wait until an event was logged that often with these fields."""

        def seen() -> bool:
            events = self.events(unit, name)
            return sum(all(str(event.get(key)) == str(fields[key]) for key in fields) for event in events) >= count

        until(seen, lambda: f"{name} {fields} in: {self.journal(unit)}", every_s=LOOK_EVERY_S)


@contextmanager
def booted(scratch: Path, shown: Mapping[Path, str] | None = None, base: Path | None = None) -> Iterator[Machine]:
    """A machine, gone at the end with all it held. scratch: an empty directory. shown: directories it sees read-only.

    base: the directory of an installed system to use instead of this machine's files. The directory stays as it is.
    Raises NotHere where none can be booted.
    """
    group = _cgroup()
    (scratch / "root").mkdir()
    pairs = [part for directory, inside in (shown or {}).items() for part in (str(directory), inside)]
    program = ["sh", str(Path(__file__).with_name("boot.sh")), str(scratch / "root"), str(group), str(base or "-")]
    command = [*UNSHARE, *program, *pairs]
    with (scratch / "console").open("w") as console:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
    try:
        with closing(Machine(_first_process(process, scratch / "console"))) as machine:
            until(lambda: machine.tries("systemctl", "is-active", "test.target").returncode == 0, within_s=BOOT_S)
            yield machine
    finally:
        for child in _children(process.pid):
            # The first of its namespace: with it go all others, before `unshare` ends.
            os.kill(child, signal.SIGKILL)
        process.wait(BOOT_S)
        until(lambda: _removed(group), f"{group} is still in use")


def _first_process(process: "subprocess.Popen[bytes]", console: Path) -> int:
    """The number of the process that has become systemd."""
    found: list[int] = []

    def became() -> bool:
        if process.poll() is not None:
            said = console.read_text().splitlines() or ["it does not say why"]
            raise NotHere(f"no systemd can be booted here: {said[-1]}")
        found[:] = [child for child in _children(process.pid) if _read(Path(f"/proc/{child}/comm")) == "systemd\n"]
        return bool(found)

    until(became, console.read_text, BOOT_S)
    return found[0]


def _event(line: str) -> dict[str, Any]:
    """A line of the journal: an event as JSON or as NAME KEY=VALUE…, or what somebody else said."""
    if line.startswith("{"):
        event: dict[str, Any] = json.loads(line)
        return event
    try:
        name, *fields = shlex.split(line) or [""]
    except ValueError:
        return {"event": line}
    return {**dict(field.split("=", 1) for field in fields if "=" in field), "event": name}


def _children(pid: int) -> list[int]:
    return [int(child) for child in _read(Path(f"/proc/{pid}/task/{pid}/children")).split()]


def _cgroup() -> Path:
    """A new group in the tree of version 2, where systemd can put its units."""
    if os.geteuid() != 0:
        raise NotHere("only root can boot a systemd in namespaces")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None] + [SYSTEMD.name] * (not SYSTEMD.exists())
    if missing:
        raise NotHere(f"no systemd can be booted here: there is no {', '.join(missing)}")
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line]
    if not mounts:
        raise NotHere("no systemd can be booted here: cgroups of version 2 are not mounted")
    tree = Path(mounts[0][4])
    for left in tree.glob(f"{GROUP}*"):
        # Of a run that was killed.
        if not Path(f"/proc/{left.name.removeprefix(GROUP).partition('.')[0]}").exists():
            _removed(left)
    group = tree / f"{GROUP}{os.getpid()}.{next(_numbers)}"
    try:
        group.mkdir()
    except OSError as error:
        raise NotHere(f"no systemd can be booted here: {group}: {error.strerror}") from None
    return group


def _removed(group: Path) -> bool:
    """Remove a group and those below it; False while a process is in one of them."""
    try:
        for directory, _, _ in os.walk(group, topdown=False):
            Path(directory).rmdir()
    except OSError:
        return False
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
