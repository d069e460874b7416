"""The environment of a measurement: a folder of old files, a stand-in process, and the real program."""

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import httpx

from bench.process import LONGEST_S, Daemon, Run, end, measured, piped

Kind: TypeAlias = Literal["ai-search", "kv", "vectorize"]
ACCOUNT = "0123456789abcdef0123456789abcdef"
SYNCD = (sys.executable, "-m", "syncd")
SETTLE_S = 0.05
HOUR_S = 3600.0
AGED = 1_700_000_000
"""Modification time of every file, old enough for the stat cache."""
TEXT = "A paragraph of plain words, so that a file has something to send and the index something to cut.\n"
SMALL, LARGER = 400, 2_000
"""Sizes of files in bytes."""
LATENCY_S = 0.05
"""Injected latency of the parts that measure with latency."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a measurement. --quick uses smaller ones."""

    files: int = 2_000
    bulk_files: int = 10_000
    guides: int = 2_000
    many: int = 100_000
    sharded: int = 20_000
    idle_files: int = 100_000
    million: int = 1_000_000
    folders: int = 200
    watched: int = 20_000
    queue: int = 50_000
    edits: int = 200
    edits_between: int = 100
    gap_s: float = 0.1
    idle_s: float = 20.0
    starts: int = 10
    rounds: int = 3
    budget_files: int = 1_000
    budget_long: int = 5_000


QUICK = Sizes(
    files=200,
    bulk_files=3_000,
    guides=100,
    many=600,
    sharded=600,
    idle_files=5_000,
    million=20_000,
    folders=20,
    watched=300,
    queue=1_000,
    edits=20,
    edits_between=5,
    idle_s=2.0,
    starts=3,
    rounds=1,
    budget_files=200,
    budget_long=2_500,
)


def plant(root: Path, number: int, folders: int, size: int) -> None:
    """Write `number` different Markdown files of about `size` bytes into `folders` directories."""
    text = (TEXT * (size // len(TEXT) + 1))[:size]
    for at in range(number):
        file = root / f"part-{at % folders:05d}" / f"page-{at:07d}.md"
        if at < folders:
            file.parent.mkdir(parents=True)
        file.write_text(f"# Page {at}\n\n{text}")
        os.utime(file, (AGED, AGED))


def cool(root: Path) -> None:
    """Drop all files from the page cache, so that each size of folder is read from the disk."""
    os.sync()
    for folder, _, names in os.walk(root):
        for name in names:
            descriptor = os.open(f"{folder}/{name}", os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def write_through(file: Path, text: str) -> float:
    """Write a file in place and sync it, as an editor does. Return the time of the close (Unix time)."""
    with file.open("w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    return time.time()


class Standin:
    """`syncd emulate` as a process: it shares no interpreter lock with the measured client."""

    def __init__(self, *, latency: float = 0.0, index_delay: float = 0.2, quota: str = "") -> None:
        options = ["--port", "0", "--latency", str(latency), "--index-delay", str(index_delay)]
        options += ["--quota", quota] if quota else []
        self.index_delay = index_delay
        self._process = subprocess.Popen([*SYNCD, "emulate", *options], stdout=subprocess.PIPE, text=True)
        self._out = piped(self._process.stdout)
        self.base_url = self._out.readline().strip()
        self._client = httpx.Client(trust_env=False, timeout=30, headers={"Authorization": "Bearer bench"})

    def reset(self) -> None:
        """Reset the counters."""
        self._client.post(f"{self._own}/reset").raise_for_status()

    def requests(self) -> dict[str, Any]:
        """Return the requests since the last reset: total, changing, and by route."""
        counted: dict[str, Any] = self._client.get(self._own).raise_for_status().json()
        return counted

    def items(self, instance: str) -> str:
        """Return the URL of an instance's items."""
        return f"{self.base_url}/accounts/{ACCOUNT}/ai-search/namespaces/default/instances/{instance}/items"

    def make(self, instance: str) -> None:
        """Create an instance before the first pass."""
        url = self.items(instance).removesuffix(f"/{instance}/items")
        self._client.post(url, json={"id": instance}).raise_for_status()

    def make_namespace(self, title: str) -> str:
        """Create a KV namespace and return its id."""
        made: str = self._client.post(self._namespaces, json={"title": title}).raise_for_status().json()["result"]["id"]
        return made

    def list_keys(self, title: str) -> None:
        """Read all pages of a KV namespace's listing without decoding them."""
        named = self._client.get(self._namespaces, params={"per_page": 1000}).raise_for_status().json()["result"]
        found = next(row["id"] for row in named if row["title"] == title)
        cursor = ""
        while True:
            answer = self._client.get(f"{self._namespaces}/{found}/keys", params={"limit": 1000, "cursor": cursor})
            # Only the cursor is read, because the client decodes the rows.
            said = _CURSOR.search(answer.raise_for_status().text)
            if said is None or not (cursor := said["cursor"]):
                return

    def vectors(self, index: str) -> int:
        """Return the number of vectors in a Vectorize index."""
        url = f"{self.base_url}/accounts/{ACCOUNT}/vectorize/v2/indexes/{index}/info"
        count: int = self._client.get(url).raise_for_status().json()["result"]["vectorCount"]
        return count

    def arrivals(self, instance: str, keys: Collection[str]) -> dict[str, float]:
        """Return key -> arrival time of its content (Unix time, in ms) from the API's listing.

        The listing shows the end of the indexing, which is `index_delay` after the arrival. Call it after the
        measurement. Raises RuntimeError if a key is absent or not indexed yet.
        """
        items = self.items(instance)
        found: dict[str, float] = {}
        page = 1
        while len(found) < len(keys) and (rows := self._page(items, page)):
            for row in rows:
                if row["key"] in keys and row["status"] == "completed":
                    found[row["key"]] = datetime.fromisoformat(row["last_seen_at"]).timestamp() - self.index_delay
            page += 1
        if missing := set(keys) - set(found):
            raise RuntimeError(f"{len(missing)} of {len(keys)} edits have not come in, or are not indexed: {missing}")
        return found

    def _page(self, items: str, page: int) -> list[dict[str, Any]]:
        params: dict[str, str | int] = {"page": page, "per_page": 50, "sort_by": "modified_at"}
        rows: list[dict[str, Any]] = self._client.get(items, params=params).raise_for_status().json()["result"]
        return rows

    @property
    def _namespaces(self) -> str:
        return f"{self.base_url}/accounts/{ACCOUNT}/storage/kv/namespaces"

    @property
    def _own(self) -> str:
        return self.base_url.removesuffix("/client/v4") + "/_syncd/requests"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        end(self._process)
        self._out.close()


_CURSOR = re.compile(r'"result_info":\s*{[^}]*"cursor":\s*"(?P<cursor>[^"]*)"')
_NAMES: Mapping[Kind, str] = {"ai-search": "instance", "kv": "namespace_title", "vectorize": "index"}
"""The config key with the name of the store, for each kind of target."""


class Workspace:
    """A folder and a config in a temporary directory. `fresh` empties the state and the target."""

    def __init__(self, place: Path, standin: Standin, kind: Kind = "ai-search") -> None:
        self.tree = place / "tree"
        self.instance = ""
        self._kind = kind
        self._limits = 'quota = ""\ntpslimit = 0\ntransfers = 8\n'
        self._place = place
        self._standin = standin
        self.tree.mkdir()
        self.fresh()

    def forget(self) -> None:
        """Delete the state file with journal, stat cache and cached vectors."""
        shutil.rmtree(self._place / "state", ignore_errors=True)

    def fresh(self) -> None:
        """Use an empty state directory and another instance."""
        self.forget()
        self.instance = f"bench-{secrets.token_hex(4)}"
        self._configure(HOUR_S)
        if self._kind == "ai-search":
            self._standin.make(self.instance)

    def use_default_limits(self) -> None:
        """Limit the requests as a new config does. Without this call, nothing but `transfers` limits them."""
        self._limits = ""
        self._configure(HOUR_S)

    def _configure(self, interval: float) -> None:
        name = _NAMES[self._kind]
        config = self._place / "syncd.toml"
        config.write_text(
            f'state_dir = "{self._place}/state"\n'
            f'[cloudflare]\naccount_id = "{ACCOUNT}"\napi_token = "bench"\n'
            f'base_url = "{self._standin.base_url}"\n{self._limits}'
            f'[mirrors.bench]\npath = "{self.tree}"\nsettle = {SETTLE_S}\ndelete_after = 0\n'
            f"reconcile_interval = {interval}\n"
            f'[mirrors.bench.target]\ntype = "{self._kind}"\n{name} = "{self.instance}"\ncreate = true\n'
        )
        config.chmod(0o600)

    def target(self) -> str:
        """Return the URL of uploads."""
        return self._standin.items(self.instance)

    def command(self, *arguments: str) -> list[str]:
        """Return a command line of syncd that logs JSON lines at the level info."""
        return [*SYNCD, "-c", str(self._place / "syncd.toml"), "--log-format", "json", *arguments]

    def reconcile(self, *options: str, log: bool = False, longest_s: float = LONGEST_S) -> Run:
        """Run one full pass, timed from start to end of its process. log: keep its log."""
        return measured(self.command(*(["-v"] if log else []), "reconcile", *options), longest_s=longest_s)

    def run(self, interval: float = HOUR_S) -> Daemon:
        """Return the daemon with a full pass at every interval (seconds)."""
        self._configure(interval)
        return Daemon(self.command("run"), self._place / "run.log")


@contextmanager
def workspace(
    standin: Standin, files: int, folders: int = 10, kind: Kind = "ai-search", size: int = SMALL
) -> Iterator[Workspace]:
    """Yield a workspace with files of about `size` bytes and a target of a kind."""
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as place:
        made = Workspace(Path(place), standin, kind)
        plant(made.tree, files, min(files, folders), size)
        yield made
