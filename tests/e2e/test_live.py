"""`make live` as a user runs it: rehearsals on stand-ins of opposite manners, its limit, leftovers and report."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.core.errors import ConfigError
from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import Server, serve
from tests.live.lab import LIMIT, OLD_S, Account, is_leftover, scratch_name

ROOT = Path(__file__).parents[2]
ACCOUNT, TOKEN = "0123456789abcdef0123456789abcdef", "a-token-that-nobody-must-see"


def live(server: Server, out: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run it, and return its exit code, its report, and everything that it printed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDFLARE_")}
    env |= {
        "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
        "CLOUDFLARE_API_TOKEN": TOKEN,
        "CLOUDFLARE_API_BASE_URL": server.base_url,
    }
    command = [sys.executable, "-m", "tests.live", "--out", str(out / "report"), *arguments]
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=110)
    written = [(out / f"report.{kind}").read_text() for kind in ("md", "json")]
    for text in written:
        assert ACCOUNT not in text
        assert TOKEN not in text
    return ended.returncode, json.loads(written[1]), ended.stdout + ended.stderr


def stores(server: Server) -> list[str]:
    """Return the names of all stores of the account."""
    base = f"{server.base_url}/accounts/{ACCOUNT}"
    found = []
    for path, name in (
        ("ai-search/namespaces", "name"),
        ("storage/kv/namespaces", "title"),
        ("vectorize/v2/indexes", "name"),
    ):
        answer = httpx.get(f"{base}/{path}", headers={"Authorization": "Bearer any"}, verify=False).json()
        found += [row[name] for row in answer["result"]]
    return sorted(found)


OPPOSITES = [
    EmulatorOptions(index_delay=0, on_existing="overwrite", checksum="zero", mutation_lag=0),
    EmulatorOptions(
        index_delay=0, on_existing="conflict", checksum="sha256", form_names="percent", list_lag=0.05, mutation_lag=0
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("manners", OPPOSITES, ids=["overwrite", "conflict"])
def test_a_rehearsal_passes_within_the_limit_and_leaves_nothing(tmp_path: Path, manners: EmulatorOptions) -> None:
    with serve(manners, 0) as server:
        before = stores(server)
        code, report, said = live(server, tmp_path)
        assert (code, report["ok"]) == (0, True), said[-3000:]
        assert set(report["outcomes"]) == {"passed"}
        assert report["requests"] <= LIMIT
        assert report["manners"]["existing"] == manners.on_existing
        assert stores(server) == before


@pytest.mark.slow
def test_requests_over_the_limit_are_refused_and_everything_is_removed(tmp_path: Path) -> None:
    with serve(EmulatorOptions(index_delay=0), 0) as server:
        before = stores(server)
        code, report, _ = live(server, tmp_path, "--limit", "60")
        assert code == 1
        assert report["outcomes"]["not run"] > 5
        assert report["requests"] <= 60
        assert stores(server) == before


def test_stores_of_earlier_runs_are_removed_after_a_day_and_no_others(tmp_path: Path) -> None:
    with serve(EmulatorOptions(index_delay=0), 0) as server:
        now = time.time()
        old, young = scratch_name(now - OLD_S - 60), scratch_name(now)
        client = httpx.Client(headers={"Authorization": "Bearer any"}, verify=False)
        base = f"{server.base_url}/accounts/{ACCOUNT}"
        for name in (old, young, "syncd-live-mine"):
            client.post(f"{base}/ai-search/namespaces", json={"name": name}).raise_for_status()
            client.post(f"{base}/ai-search/namespaces/{name}/instances", json={"id": "docs"}).raise_for_status()
            client.post(f"{base}/storage/kv/namespaces", json={"title": name}).raise_for_status()
            config = {"dimensions": 32, "metric": "cosine"}
            client.post(f"{base}/vectorize/v2/indexes", json={"name": name, "config": config}).raise_for_status()
        client.close()
        code, report, said = live(server, tmp_path, "-k", "learns")
        assert (code, report["removed"]) == (0, 3), said[-3000:]
        assert old not in stores(server)
        assert stores(server).count(young) == stores(server).count("syncd-live-mine") == 3


def test_the_age_of_a_store_is_in_its_name() -> None:
    now = 1_800_000_000.0
    assert not is_leftover(scratch_name(now), now + OLD_S - 1)
    assert is_leftover(scratch_name(now), now + OLD_S + 1)
    assert is_leftover(f"{scratch_name(now)}-kv3", now + OLD_S + 1)
    for name in (
        "syncd-live-",
        "syncd-live-20260101000000",
        "syncd-live-20269901000000-abcd",
        "my-syncd-live-20260101000000-abcd",
    ):
        assert not is_leftover(name, now + 10 * OLD_S), name


@pytest.mark.parametrize("missing", ["CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_API_TOKEN"])
def test_a_missing_variable_is_named(missing: str) -> None:
    env = {"CLOUDFLARE_ACCOUNT_ID": ACCOUNT, "CLOUDFLARE_API_TOKEN": TOKEN}
    assert not Account.of(env).rehearsal
    with pytest.raises(ConfigError, match=missing):
        Account.of({name: value for name, value in env.items() if name != missing})
