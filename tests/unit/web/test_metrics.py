"""/metrics: its values, and the documents that name its metrics."""

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as families

from syncd.core.model import ActionEvent, Problem, Record
from tests.unit.web.harness import Room, open_web_room

DOCS = Path(__file__).parents[3] / "docs"
NAME = re.compile(r"\bsyncd_[a-z_]+\b")


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """Yield a page that has samples for every metric."""
    async with open_web_room(tmp_path) as opened:
        mirror = opened.session.mirrors["docs"]
        mirror.journal.put(Record("a.md", "r1", "0" * 64, 12, 1.0, status="completed"))
        mirror.journal.put(Record("b.md", "r2", "0" * 64, 12, 1.0, status="error"))
        mirror.journal.problems.add([Problem("c.md", "failed", "no")], 1)
        mirror.meta.set("last_reconcile", 1_800_000_000.25)
        mirror.queue.mark([("d.md", False)], mirror.now() - 60)
        mirror.on_action(ActionEvent("put", "a.md", "new", "done", 12))
        mirror.on_action(ActionEvent("index", "a.md", "searchable", "done", waited_s=7.5))
        counters = opened.session.transport.counters
        counters.by["GET", "200"], counters.by["POST", "failed"], counters.retries = 3, 1, 2
        opened.watcher._kernel.overflows = 1
        assert opened.runtime is not None
        opened.history.sample(opened.runtime)
        yield opened


async def scraped(room: Room, accept: str = "") -> str:
    answer = await room.http.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    return answer.text


async def samples(room: Room) -> dict[str, float]:
    lines = (await scraped(room)).splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


async def test_the_values_match_the_state(room: Room) -> None:
    seen = await samples(room)
    expected = {
        'syncd_items{mirror="docs",state="synced"}': 2,
        'syncd_items{mirror="docs",state="pending"}': 1,
        'syncd_items{mirror="docs",state="failed"}': 1,
        'syncd_items{mirror="settings",state="synced"}': 0,
        'syncd_index_items{mirror="docs",status="completed"}': 1,
        'syncd_index_items{mirror="docs",status="error"}': 1,
        'syncd_mirror_state{mirror="docs",state="idle"}': 1,
        'syncd_mirror_state{mirror="docs",state="halted"}': 0,
        'syncd_last_reconcile_timestamp_seconds{mirror="docs"}': 1_800_000_000,
        'syncd_oldest_pending_seconds{mirror="settings"}': 0,
        'syncd_watch_mode{mirror="docs",mode="off"}': 1,
        'syncd_actions_total{kind="put",mirror="docs",outcome="done"}': 1,
        'syncd_actions_total{kind="index",mirror="docs",outcome="done"}': 1,
        'syncd_uploaded_bytes_total{mirror="docs"}': 12,
        'syncd_requests_total{code="200",method="GET"}': 3,
        'syncd_requests_total{code="failed",method="POST"}': 1,
        "syncd_retries_total": 2,
        "syncd_watch_overflows_total": 1,
        'syncd_searchable_seconds_bucket{le="5.0",mirror="docs"}': 0,
        'syncd_searchable_seconds_bucket{le="10.0",mirror="docs"}': 1,
        'syncd_searchable_seconds_bucket{le="+Inf",mirror="docs"}': 1,
        'syncd_searchable_seconds_sum{mirror="docs"}': 7.5,
        "syncd_gate_held_seconds": 0,
        "syncd_requests_in_flight": 0,
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert 59 <= seen['syncd_oldest_pending_seconds{mirror="docs"}'] <= 120
    assert 'syncd_last_reconcile_timestamp_seconds{mirror="settings"}' not in seen


async def test_the_oldest_change_grows_older_while_nothing_else_changes(room: Room) -> None:
    counted = await room.status.mirrors()
    counted["docs"]["oldest_at"] -= 5000
    assert (await samples(room))['syncd_oldest_pending_seconds{mirror="docs"}'] > 5000


async def test_a_held_gate_is_shown(room: Room) -> None:
    room.session.transport.gate.hold(60)
    assert 50 < (await samples(room))["syncd_gate_held_seconds"] <= 60


async def test_no_file_name_is_a_label(room: Room) -> None:
    room.session.mirrors["docs"].on_action(ActionEvent("put", "names-are-no-labels.md", "new", "done"))
    assert ".md" not in await scraped(room)


async def test_openmetrics_is_served_on_request(room: Room) -> None:
    text = await scraped(room, "application/openmetrics-text;version=1.0.0")
    assert text.endswith("# EOF\n")
    assert {family.name for family in openmetrics(text)} >= {"syncd_items", "syncd_searchable_seconds"}  # type: ignore[no-untyped-call]


# -- the documents


async def test_the_documented_metrics_and_labels_are_those_served(room: Room) -> None:
    rows = re.findall(r"^\| `(syncd_\w+)` \|([^|]*)\|", (DOCS / "reference/metrics.md").read_text(), re.MULTILINE)
    documented = {name: frozenset(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    served = {}
    for family in families(await scraped(room)):
        # The parser removes the suffix of a counter's name.
        name = family.name + ("_total" if family.type == "counter" else "")
        served[name] = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
    assert documented == served


async def names(room: Room) -> set[str]:
    return {line.partition("{")[0].partition(" ")[0] for line in await samples(room)}


async def test_the_alerts_use_existing_metrics(room: Room) -> None:
    used = set(NAME.findall((DOCS / "alerts.yml").read_text()))
    assert used
    assert used <= await names(room)


async def test_the_dashboard_uses_existing_metrics_and_nearly_all_of_them(room: Room) -> None:
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
    used = set(NAME.findall(" ".join(each["expr"] for panel in dashboard["panels"] for each in panel["targets"])))
    there = await names(room)
    assert used <= there
    unused = {"syncd_build_info", "syncd_start_time_seconds", "syncd_requests_in_flight", "syncd_gate_waits_total"}
    unused |= {"syncd_process_virtual_memory_bytes", "syncd_process_start_time_seconds"}
    parts = ("syncd_searchable",)
    assert {name for name in there - used if not name.startswith(parts)} == unused
    assert all(any(name.startswith(part) for name in used) for part in parts)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("there is no promtool here (Debian: the package prometheus)")
    return found


def run(*arguments: str, given: str = "") -> tuple[int, str]:
    """Run promtool; return its exit code and output."""
    seen = subprocess.run([promtool(), *arguments], input=given, capture_output=True, text=True, check=False)
    return seen.returncode, seen.stdout + seen.stderr


async def test_promtool_accepts_the_metrics(room: Room) -> None:
    assert run("check", "metrics", given=await scraped(room)) == (0, "")


def test_promtool_accepts_the_alerts() -> None:
    code, output = run("check", "rules", str(DOCS / "alerts.yml"))
    assert (code, "7 rules found" in output) == (0, True), output


SERIES = {
    "syncd_start_time_seconds{}": "0x300",
    'syncd_mirror_state{mirror="new", state="halted"}': "0x300",
    'syncd_mirror_state{mirror="old", state="halted"}': "1x300",
    'syncd_mirror_state{mirror="well", state="idle"}': "1x300",
    'syncd_mirror_state{mirror="tries", state="idle"}': "0x300",
    'syncd_mirror_state{mirror="tries", state="degraded"}': " ".join(["0 1"] * 150),
    'syncd_last_reconcile_timestamp_seconds{mirror="old"}': "60x300",
    'syncd_last_reconcile_timestamp_seconds{mirror="well"}': "0+60x300",
    'syncd_last_reconcile_timestamp_seconds{mirror="tries"}': "0+60x300",
}
FIRING = [("SyncdDegraded", "tries"), ("SyncdHalted", "old"), ("SyncdNoReconcile", "new"), ("SyncdNoReconcile", "old")]


def test_the_alerts_fire_for_the_right_mirrors(tmp_path: Path) -> None:
    expected = [{"labels": f'{{alertname="{name}", mirror="{mirror}"}}', "value": 1} for name, mirror in FIRING]
    expression = 'count by (alertname, mirror) (ALERTS{alertstate="firing"})'
    series = {name.replace("{", '{job="syncd", instance="a", '): values for name, values in SERIES.items()}
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expression, "eval_time": "4h", "exp_samples": expected}],
    }
    # JSON is valid YAML.
    rules = {"rule_files": [str(DOCS / "alerts.yml")], "evaluation_interval": "1m", "tests": [case]}
    (tmp_path / "test.yml").write_text(json.dumps(rules))
    code, output = run("test", "rules", str(tmp_path / "test.yml"))
    assert code == 0, output
