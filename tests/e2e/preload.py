"""Imports every module of the program, and fills the caches that each command fills, before the first fork."""

import asyncio
import importlib
import pkgutil

import anyio.lowlevel
import pytest  # noqa: F401 - the modules that `tests.unclosed` uses
import rich.live
import rich.progress
import rich.table  # noqa: F401

import syncd
from syncd.core.rules import Rules

SEPARATE = ("syncd.__main__", "syncd.emulator", "syncd.text.html_worker")
"""Modules of other programs."""

for found in pkgutil.walk_packages(syncd.__path__, "syncd."):
    if not found.name.startswith(SEPARATE):
        importlib.import_module(found.name)
Rules().excluded("a.md")
asyncio.run(anyio.lowlevel.checkpoint())
