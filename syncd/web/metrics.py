"""The /metrics: what is counted, in the form that Prometheus reads. docs/metrics.md says what each means."""

import platform
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import accumulate
from typing import Any, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from syncd import __version__
from syncd.state.activity import State
from syncd.web.history import BUCKETS_S, History, Totals, Waits
from syncd.web.live import Live

WATCH_MODES = ("inotify", "poll", "off")


def render(live: Live, mirrors: Mapping[str, Any], history: History, accept: str) -> tuple[bytes, str]:
    """Return (body, content type). mirrors: those of `Facts`. accept: the request's header, for OpenMetrics."""
    # A registry of its own and for this once: nothing that some library registers elsewhere appears in it.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Now(live, mirrors, history))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Now(Collector):
    def __init__(self, live: Live, mirrors: Mapping[str, Any], history: History) -> None:
        self._live = live
        self._mirrors = mirrors
        self._history = history

    def collect(self) -> Iterator[Metric]:
        """Yield every family; label values come from the config and from fixed sets."""
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("syncd_build", "The running program.", value=build)
        yield GaugeMetricFamily(
            "syncd_start_time_seconds", "When the daemon started, seconds since the epoch.", value=self._history.began
        )
        yield from _of_mirrors(self._mirrors)
        yield self._watch_modes()
        yield from _of_totals(self._history.totals)
        yield from self._of_gate()

    def _watch_modes(self) -> Metric:
        family = GaugeMetricFamily(
            "syncd_watch_mode", "1 for the way a mirror's changes are noticed.", labels=("mirror", "mode")
        )
        for name in self._live.keepers:
            mode = self._live.watcher.status(name).mode
            for each in WATCH_MODES:
                family.add_metric((name, each), mode == each)
        return family

    def _of_gate(self) -> Iterator[Metric]:
        gate = self._live.session.transport.gate
        yield GaugeMetricFamily(
            "syncd_gate_held_seconds", "Seconds until anybody may send again.", value=max(0.0, gate.held_s())
        )
        yield GaugeMetricFamily("syncd_requests_in_flight", "Requests under way.", value=gate.in_flight)


def _of_mirrors(mirrors: Mapping[str, Any]) -> Iterator[Metric]:
    items = GaugeMetricFamily("syncd_items", "Items by state.", labels=("mirror", "state"))
    index = GaugeMetricFamily("syncd_index_items", "Entries by index status.", labels=("mirror", "status"))
    stuck = GaugeMetricFamily(
        "syncd_index_stuck_items", "Entries that are not searchable after half an hour.", labels=("mirror",)
    )
    state = GaugeMetricFamily("syncd_mirror_state", "1 for the state a mirror is in.", labels=("mirror", "state"))
    oldest = GaugeMetricFamily(
        "syncd_oldest_pending_seconds", "How long the oldest change has waited, 0 if none does.", labels=("mirror",)
    )
    last = GaugeMetricFamily(
        "syncd_last_reconcile_timestamp_seconds", "When the last full pass ended well.", labels=("mirror",)
    )
    for name, mirror in mirrors.items():
        for each, count in mirror["items"].items():
            items.add_metric((name, each), count)
        for each, count in mirror["index"].items():
            index.add_metric((name, each), count)
        stuck.add_metric((name,), mirror.get("stuck", {"count": 0})["count"])
        for each in get_args(State):
            state.add_metric((name, each), mirror["state"] == each)
        # Not how long it was when it was counted: while nothing changes, nothing is counted, and it grows.
        since = mirror["oldest_at"]
        oldest.add_metric((name,), 0.0 if since is None else max(0.0, time.time() - since))
        if mirror["last_reconcile"]:
            last.add_metric((name,), datetime.fromisoformat(mirror["last_reconcile"]).timestamp())
    yield from (items, index, stuck, state, oldest, last)


def _of_totals(totals: Totals) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "syncd_requests", "Requests, by method and HTTP status (or failed).", labels=("method", "code")
    )
    for (method, code), count in sorted(totals.requests.items()):
        requests.add_metric((method, code), count)
    actions = CounterMetricFamily(
        "syncd_actions", "Actions that ended, by kind and outcome.", labels=("mirror", "kind", "outcome")
    )
    for labels, count in sorted(totals.actions.items()):
        actions.add_metric(labels, count)
    sent = CounterMetricFamily("syncd_uploaded_bytes", "Bytes of the files that were put.", labels=("mirror",))
    for name, count in sorted(totals.put_bytes.items()):
        sent.add_metric((name,), count)
    yield from (requests, actions, sent)
    yield CounterMetricFamily("syncd_retries", "Requests that were sent again.", value=totals.retries)
    yield CounterMetricFamily("syncd_watch_overflows", "Times the kernel dropped events.", value=totals.overflows)
    yield CounterMetricFamily("syncd_gate_waits", "Requests that waited for rate or hold.", value=totals.waits)
    yield CounterMetricFamily("syncd_gate_wait_seconds", "Seconds that requests waited so.", value=totals.wait_s)
    yield _histogram("syncd_searchable_seconds", "Seconds from written until searchable.", totals.searchable)


def _histogram(name: str, says: str, waits: Mapping[str, Waits]) -> Metric:
    family = HistogramMetricFamily(name, says, labels=("mirror",))
    ends = [*(f"{end:.1f}" for end in BUCKETS_S), "+Inf"]
    for mirror, wait in sorted(waits.items()):
        family.add_metric((mirror,), list(zip(ends, accumulate(wait.counts), strict=True)), wait.total_s)
    return family
