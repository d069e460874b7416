"""Finds other programs on this machine, and downloads nothing."""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata

GET_RCLONE = "install rclone (Debian package rclone) or name one in BENCH_RCLONE"
GET_SDK = "install the package cloudflare from PyPI (part of `pip install -e '.[dev]'`)"
GET_WRANGLER = "install wrangler (npm package wrangler), so that it is on PATH or found by npx"
GET_INOTIFYWAIT = "install inotifywait and curl (Debian packages inotify-tools and curl)"
LOOK_S = 60


@functools.cache
def rclone() -> str | None:
    """Return the rclone in BENCH_RCLONE, else the rclone on PATH."""
    return shutil.which(os.environ.get("BENCH_RCLONE") or "rclone")


@functools.cache
def wrangler() -> tuple[str, ...] | None:
    """Return the command of wrangler, if any."""
    if found := shutil.which("wrangler"):
        return (found,)
    npx = shutil.which("npx")
    if npx is None:
        return None
    command = (npx, "--no-install", "wrangler")
    return command if _version([*command, "--version"]) else None


def sdk() -> bool:
    """Return whether the official SDK can be imported."""
    return importlib.util.find_spec("cloudflare") is not None


def inotifywait() -> bool:
    """Return whether both inotifywait and curl are installed."""
    return bool(shutil.which("inotifywait") and shutil.which("curl"))


def versions() -> Mapping[str, str]:
    """Return the name and version of each installed program."""
    asked = {
        "rclone": (rclone() or "rclone", "version"),
        "wrangler": (*(wrangler() or ("wrangler",)), "--version"),
        "inotifywait": ("inotifywait", "--help"),
        "curl": ("curl", "--version"),
    }
    found = {name: version for name, call in asked.items() if (version := _version(call))}
    return found | {name: metadata.version(name) for name in ("cloudflare", "httpx", "watchdog") if _installed(name)}


def bare() -> dict[str, str]:
    """Return an environment without the user's proxy, credentials and certificates."""
    kept = ("PATH", "HOME", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ}


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _version(command: Sequence[str]) -> str:
    """Return the first number with a dot that a program prints, or "" if it prints none or is missing.

    The exit code is ignored, because some programs fail when they print their help.
    """
    with tempfile.TemporaryDirectory(prefix="syncd-bench-peer-") as place:
        # Some programs make logs and caches in the working directory.
        env = bare() | {"XDG_CONFIG_HOME": place}
        try:
            run = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=LOOK_S, env=env, cwd=place
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
    found = re.search(r"\d+(?:\.\d+)+", run.stdout)
    return found.group() if found else ""
