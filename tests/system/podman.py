"""Podman with a storage of its own, and the image of syncd over a base that is made from Debian's packages."""

import ast
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.harness import until
from tests.skips import NotHere

REPOSITORY = Path(__file__).parents[2]
IMAGE = "localhost/syncd"
SUITE, PACKAGES = "trixie", "python3,python3-venv,ca-certificates"
"""The base: a minimal Debian, as IMAGE_BASE names another one."""
MAKE_S = 900.0
"""Most seconds for making the base or the image on a slow line."""
COMMAND_S = 60.0
LOOK_EVERY_S = 0.3
LIMITS = ("nofile=1024:1024", "nproc=1024:1024")
"""Without them podman asks for the highest limits, which a machine may refuse."""
PLACES = {"root": "storage", "runroot": "run", "tmpdir": "tmp"}
"""The options of podman for its directories, and their names."""
SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")
"""The settings of pip that hold inside a build, too."""


class Podman:
    """The program with its storage below one directory. The network of each container is that of the machine."""

    def __init__(self, scratch: Path, runtime: str) -> None:
        self._scratch = scratch
        limits = scratch / "containers.conf"
        limits.write_text(f"[containers]\ndefault_ulimits = {json.dumps(LIMITS)}\n")
        # Without systemd nothing runs the health checks by a timer. The tests run them.
        self.environment = os.environ | {"CONTAINERS_CONF": str(limits), "DISABLE_HC_SYSTEMD": "true"}
        places = [f"--{option}={scratch / name}" for option, name in PLACES.items()]
        self.command = ["podman", *places, "--storage-driver=vfs", f"--runtime={runtime}", "--cgroup-manager=cgroupfs"]

    def tries(
        self, *arguments: str, within_s: float = COMMAND_S, given: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command of podman."""
        return subprocess.run(
            [*self.command, *arguments],
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )

    def does(self, *arguments: str, within_s: float = COMMAND_S, given: str = "") -> str:
        """Run a command of podman that must succeed. Return its stdout."""
        ended = self.tries(*arguments, within_s=within_s, given=given)
        assert ended.returncode == 0, f"{arguments}: {ended.returncode}: {ended.stdout}{ended.stderr}"
        return ended.stdout.strip()

    def inspect(self, kind: str, name: str) -> Any:
        """Return what podman knows of an image or a container."""
        (found,) = json.loads(self.does(kind, "inspect", name))
        return found

    def follow(self, page: str, place: Path, image: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of docs/how-to/container.md in a directory, with another image and the machine's network."""
        program, verb, *options = shlex.split(page.replace("\\\n", " "))
        assert (program, verb) == ("podman", "run"), page
        options = [image if option.startswith("syncd:") else option for option in options]
        return subprocess.run(
            [*self.command, verb, "--network=host", *options],
            cwd=place,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )

    def events(self, container: str, event: str) -> list[dict[str, Any]]:
        """Return the events with this name in the log of a container."""
        ended = self.tries("logs", container)
        lines = [json.loads(line) for line in (ended.stdout + ended.stderr).splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def saw(self, container: str, event: str, count: int = 1) -> None:
        """Wait until a container has logged an event that often."""
        until(
            lambda: len(self.events(container, event)) >= count,
            lambda: f"{event}: {self.tries('logs', container)}",
            every_s=LOOK_EVERY_S,
        )

    def build(self, checkout: Path, base: str, tag: str) -> str:
        """Build the image of a checkout as `make image` does. Return the output."""
        options = [f"--ulimit={limit}" for limit in LIMITS] + ["--network=host", "--layers=false"]
        built = subprocess.run(
            [checkout / ".ci/image", *options, *_pip_settings(self._scratch)],
            env={**self.environment, "ENGINE": " ".join(self.command), "IMAGE": f"{IMAGE}:{tag}", "BASE": base},
            capture_output=True,
            text=True,
            timeout=MAKE_S,
            check=False,
        )
        assert built.returncode == 0, f"{built.stdout[-3000:]}{built.stderr[-3000:]}"
        return built.stdout

    def base(self) -> str:
        """Return the name of the base, which is made if IMAGE_BASE does not name one. Raises NotHere."""
        if named := os.environ.get("IMAGE_BASE"):
            return named
        if not shutil.which("mmdebstrap"):
            raise NotHere("no base of an image can be made: there is no mmdebstrap; set IMAGE_BASE")
        archive = self._scratch / "base.tar"
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(archive)]
        made = subprocess.run(command, capture_output=True, text=True, timeout=MAKE_S, check=False)
        if made.returncode:
            raise NotHere(f"no base of an image can be made: {made.stderr.strip().rpartition(chr(10))[2]}")
        self.does("import", "-q", str(archive), "localhost/base:latest", within_s=MAKE_S)
        archive.unlink()
        return "localhost/base:latest"


@contextmanager
def podman(scratch: Path) -> Iterator[Podman]:
    """Podman, without a trace at the end. scratch: an empty directory on a disk. Raises NotHere."""
    if os.geteuid() != 0:
        raise NotHere("no image is built here: only root can do it without a user namespace")
    runtime = next((name for name in ("runc", "crun") if shutil.which(name)), None)
    if not shutil.which("podman") or runtime is None:
        raise NotHere("no image is built here: there is no podman, or neither runc nor crun")
    made = Podman(scratch, runtime)
    ended = made.tries("info")
    if ended.returncode:
        raise NotHere(f"no image is built here: {ended.stderr.strip()}")
    _reach_index(scratch)
    try:
        yield made
    finally:
        made.tries("pod", "rm", "-af", "-t", "0")
        made.tries("rm", "-af", "-t", "0")
        shutil.rmtree(scratch)


def _reach_index(scratch: Path) -> None:
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--no-cache-dir",
        "-d",
        str(scratch / "try"),
        "idna",
    ]
    ended = subprocess.run(pip, capture_output=True, text=True, timeout=MAKE_S, check=False)
    if ended.returncode:
        raise NotHere("no image is built here: the index of Python packages cannot be reached")


def _pip_settings(scratch: Path) -> list[str]:
    """Return the options of a build that give it this machine's settings of pip, except those that name its files."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    # A line is SECTION.NAME='VALUE'. A later one counts.
    pairs = [line.partition("=") for line in listed.stdout.splitlines()]
    found: Mapping[str, str] = {key.rpartition(".")[2]: ast.literal_eval(value) for key, _, value in pairs}
    lines = [f"{name} = {found[name]}" for name in SETTINGS if name in found and "file:" not in found[name]]
    options = []
    if "cert" in found:
        lines.append("cert = /run/secrets/ca.pem")
        options.append(f"--secret=id=ca.pem,src={found['cert']}")
    (scratch / "pip.conf").write_text("\n".join(["[global]", *lines, ""]))
    return [*options, f"--secret=id=pip.conf,src={scratch / 'pip.conf'}"]
