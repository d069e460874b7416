"""The image is built, and mirrors a folder into the stand-in as docs/how-to/container.md says."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd import __version__
from tests.e2e.harness import ACCOUNT, TOKEN, Workspace, files_of, open_workspace
from tests.system.podman import IMAGE, REPOSITORY, Podman

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
USER = 10001
NEXT = "999.0.0"
"""The version to which the image is upgraded."""
UNWANTED = "gcc cc g++ make git pip pip3 hatchling curl"


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """The pages of the documentation as a folder, a config and a token as a file."""
    with open_workspace(tmp_path) as made:
        shutil.copytree(
            REPOSITORY / "docs",
            made.docs,
            dirs_exist_ok=True,
            ignore=lambda folder, names: [
                name for name in names if not name.endswith(".md") and not Path(folder, name).is_dir()
            ],
        )
        made.config.write_text(
            f'[cloudflare]\naccount_id = "{ACCOUNT}"\nbase_url = "{made.server.base_url}"\n'
            'api_token_file = "/run/secrets/token"\nquota = ""\ntpslimit = 0\n'
            '[mirrors.docs]\npath = "/srv/docs"\nowner = "docs"\nsettle = 0.05\ndelete_after = 0\n'
            '[mirrors.docs.target]\ntype = "ai-search"\ninstance = "docs"\ncreate = true\n'
        )
        token = tmp_path / "token"
        token.write_text(TOKEN)
        token.chmod(0o400)
        os.chown(token, USER, USER)
        yield made


def commands() -> tuple[str, str]:
    """Return the commands of the page that run the daemon and make one pass."""
    page = (REPOSITORY / "docs/how-to/container.md").read_text(encoding="utf-8")
    daemon, once = re.findall(r"^podman run (?:.*\\\n)*.*$", page, re.MULTILINE)
    return daemon, once


def next_checkout(place: Path) -> Path:
    """Return a copy of the files that the build needs, with another version."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", (REPOSITORY / "Containerfile").read_text(), re.MULTILINE)
    needed = [name for line in lines for name in line.split()]
    for name in (*needed, "Containerfile", ".dockerignore", ".ci/image"):
        source, copy = REPOSITORY / name, place / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    init = place / "syncd/__init__.py"
    init.write_text(init.read_text().replace(f'"{__version__}"', f'"{NEXT}"'))
    return place


def test_the_image_says_what_it_is(engine: Podman, image: str, base: str, capsys: pytest.CaptureFixture[str]) -> None:
    found, bare = engine.inspect("image", image), engine.inspect("image", base)
    with capsys.disabled():
        print(f"\nimage: {found['Size'] / 1e6:.0f} MB over a base of {bare['Size'] / 1e6:.0f} MB")  # noqa: T201
    assert found["Size"] - bare["Size"] < 60e6
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in found["Labels"].items()}
    assert (labels["title"], labels["version"], labels["licenses"]) == ("syncd", __version__, "MIT")
    assert labels["source"].startswith("https://")
    assert labels["base.name"] == base
    if (REPOSITORY / ".git").exists():
        assert re.fullmatch("[0-9a-f]{40}", labels["revision"])
    assert (found["Config"]["User"], found["Config"]["StopSignal"]) == (f"{USER}:{USER}", "SIGTERM")
    assert found["Healthcheck"]["Test"] == ["CMD", "/opt/syncd/bin/syncd", "status", "--alive"]


def test_the_image_contains_nothing_of_its_build(engine: Podman, image: str) -> None:
    assert engine.does("run", "--rm", "--network=none", image, "--version").endswith(__version__)
    look = (
        f"for each in {UNWANTED}; do command -v $each; done; ls -A /run/secrets; find / -xdev "
        r"\( -name .git -o -name pip.conf -o -name ca.pem -o -path '*/site-packages/pip' -o -path '/opt/*.whl' "
        r"-o -path '*/site-packages/hatchling' -o -path '*/site-packages/tests' -o -path /src -o -path /wheels \)"
    )
    shell = ("run", "--rm", "--network=none", "--entrypoint=/bin/sh", image, "-c", f"{look} 2>/dev/null; true")
    assert engine.does(*shell) == ""
    history = engine.does("history", "--no-trunc", image)
    assert "index-url" not in history


def test_one_pass_with_a_config_from_the_environment(engine: Podman, image: str, workspace: Workspace) -> None:
    once = commands()[1].replace(" -v ", " -e CLOUDFLARE_API_BASE_URL -e SYNCD_MIRRORS__DOCS__TARGET__CREATE -v ", 1)
    variables = {
        "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
        "CLOUDFLARE_API_TOKEN": TOKEN,
        "CLOUDFLARE_API_BASE_URL": workspace.server.base_url,
        "SYNCD_MIRRORS__DOCS__TARGET__CREATE": "true",
    }
    ended = engine.follow(once, workspace.path, image, **variables)
    assert ended.returncode == 0, ended.stderr
    workspace.in_step()
    engine.does("volume", "rm", "syncd-state")
    workspace.remote.forget_requests()
    assert engine.follow(once, workspace.path, image, **variables).returncode == 0
    assert workspace.remote.counted()["changing"] == 0, "without its state it recognises what it wrote"
    engine.does("volume", "rm", "syncd-state")


def test_the_daemon_is_upgraded_and_removed_without_a_trace_but_the_state(
    engine: Podman, image: str, base: str, workspace: Workspace, tmp_path: Path
) -> None:
    assert len(files_of(workspace.docs)) > 50
    started = engine.follow(commands()[0], workspace.path, image)
    assert started.returncode == 0, started.stderr
    workspace.in_step()
    assert engine.does("exec", "syncd", "id", "-u") == str(USER)
    (began,) = engine.events("syncd", "daemon.start")
    assert began["pid"] == 1
    assert engine.tries("healthcheck", "run", "syncd").returncode == 0
    engine.does("kill", "--signal=STOP", "syncd")
    assert engine.tries("healthcheck", "run", "syncd").returncode == 1, "it is stuck"
    engine.does("kill", "--signal=CONT", "syncd")
    workspace.write("later.md", "a change while it runs")
    workspace.in_step()
    stop(engine)

    engine.does("rm", "syncd")
    engine.build(next_checkout(tmp_path / "next"), base, "next")
    workspace.remote.forget_requests()
    started = engine.follow(commands()[0], workspace.path, f"{IMAGE}:next")
    assert started.returncode == 0, started.stderr
    engine.saw("syncd", "pass.done")
    assert engine.does("exec", "syncd", "syncd", "--version").endswith(NEXT)
    assert workspace.remote.counted()["changing"] == 0, "the new version uploads nothing again"
    (workspace.docs / "later.md").unlink()
    workspace.in_step()
    stop(engine)

    engine.does("rm", "syncd")
    engine.does("rmi", f"{IMAGE}:next")
    assert engine.does("ps", "-aq") == ""
    assert engine.does("volume", "ls", "-q") == "syncd-state"
    state = Path(engine.inspect("volume", "syncd-state")["Mountpoint"])
    assert [path.name for path in state.iterdir()] == ["state"]
    engine.does("volume", "rm", "syncd-state")


def stop(engine: Podman) -> None:
    """Stop the daemon by SIGTERM, which it must obey as the first process within 5 s."""
    began = time.monotonic()
    engine.does("stop", "-t", "30", "syncd")
    assert time.monotonic() - began < 5
    assert engine.inspect("container", "syncd")["State"]["ExitCode"] == 0
    (ended,) = engine.events("syncd", "daemon.stop")
    assert ended["code"] == 0
