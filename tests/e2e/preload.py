"""Imports the modules that most commands use, and fills the caches that each command fills, before the first fork."""

import asyncio
import concurrent.futures.thread  # noqa: F401 - asyncio imports it for the first thread
import difflib  # noqa: F401 - click imports it for short options
import encodings.ascii
import encodings.idna  # noqa: F401 - sockets import it for names of hosts
import importlib
import pkgutil
from contextlib import suppress

import anyio.lowlevel
import certifi  # noqa: F401 - httpx imports it, and httpcore, for the first connection
import httpcore  # noqa: F401

import syncd
from syncd.cloudflare.ai_search import Instance, Namespace, StoredItem
from syncd.cloudflare.decoding import decode, decode_rows
from syncd.cloudflare.kv import KVNamespaceInfo, ListedKey
from syncd.cloudflare.vectorize import IndexDetails, IndexInfo, StoredVector
from syncd.config.schema import Config
from syncd.core.errors import Retry
from syncd.core.rules import Rules

SEPARATE = ("syncd.__main__", "syncd.emulator", "syncd.text.html_text", "syncd.agents")
"""Modules of other programs, and of the command that takes as long to import as all others together."""
KINDS: tuple[type[object], ...] = (
    *(Instance, Namespace, StoredItem),
    *(KVNamespaceInfo, ListedKey),
    *(IndexDetails, IndexInfo, StoredVector),
)

for found in pkgutil.walk_packages(syncd.__path__, "syncd."):
    if not found.name.startswith(SEPARATE):
        importlib.import_module(found.name)
Rules().excluded("a.md")
asyncio.run(anyio.lowlevel.checkpoint())
Config.model_rebuild()
for kind in KINDS:
    decode_rows(kind, [], "")
    with suppress(Retry):
        decode(kind, {}, "")
