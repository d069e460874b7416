"""Counts for Prometheus, which survive a reload of the config.

docs/reference/metrics.md describes each metric.
"""

import platform
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    values,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from syncd import __version__
from syncd.core.model import ActionEvent, WatchMode
from syncd.service.runtime import Runtime
from syncd.state.history import State

BUCKETS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
"""Upper ends of the histograms' buckets."""

# Without this, the library adds a series *_created to every counter and histogram.
disable_created_metrics()  # type: ignore[no-untyped-call]
# The library keeps values in files if PROMETHEUS_MULTIPROC_DIR is set. The daemon is one process.
values.ValueClass = values.MutexValue


class Metrics:
    """Counters and histograms continue after a reload. Gauges are set when the metrics are read.

    registry: holds all metrics.
    """

    def __init__(self, started: float) -> None:
        # The registry is our own, so that metrics of libraries do not appear.
        registry = self.registry = CollectorRegistry(auto_describe=False)
        build = {"version": __version__, "python": platform.python_version()}
        Info("syncd_build", "The running program.", registry=registry).info(build)
        start = Gauge(
            "syncd_start_time_seconds", "When the daemon started, seconds since the epoch.", registry=registry
        )
        start.set(started)
        ProcessCollector(namespace="syncd", registry=registry)
        self._gauges = _Gauges(registry)

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(name, documentation, labels, registry=registry)

        self._requests = counter("syncd_requests", "Requests, by method and HTTP status (or failed).", "method", "code")
        self._actions = counter(
            "syncd_actions", "Actions that ended, by kind and outcome.", "mirror", "kind", "outcome"
        )
        self._uploaded = counter("syncd_uploaded_bytes", "Bytes of the files that were put.", "mirror")
        self._retries = counter("syncd_retries", "Requests that were sent again.")
        self._overflows = counter("syncd_watch_overflows", "Times the kernel dropped events.")
        self._waits = counter("syncd_gate_waits", "Requests that waited for a rate limit or a hold.")
        self._wait_s = counter("syncd_gate_wait_seconds", "Seconds that these requests waited.")
        documentation = "Seconds from the write of an entry until it is searchable."
        self._searchable = Histogram(
            "syncd_searchable_seconds", documentation, ("mirror",), buckets=BUCKETS_S, registry=registry
        )
        # The last values of each counter that begins at 0 again after a reload, with the object that holds it.
        self._last: dict[str, tuple[object, Mapping[Any, float]]] = {}

    def on_action(self, mirror: str, event: ActionEvent) -> None:
        """Count an action that ended."""
        self._actions.labels(mirror, event.kind, event.outcome).inc()
        self._uploaded.labels(mirror).inc(event.size)
        if event.waited_s is not None:
            self._searchable.labels(mirror).observe(event.waited_s)

    def sample(self, runtime: Runtime) -> int:
        """Add the counts since the last call; return the number of requests."""
        requests, gate = runtime.session.transport.counters, runtime.session.transport.gate
        new = self._since("requests", requests, requests.by)
        for (method, code), count in new.items():
            self._requests.labels(method, code).inc(count)
        self._retries.inc(self._since("retries", requests, {0: requests.retries})[0])
        waited = self._since("waits", gate, {"waits": gate.waits, "s": gate.wait_s})
        self._waits.inc(waited["waits"])
        self._wait_s.inc(waited["s"])
        self._overflows.inc(self._since("overflows", runtime.watcher, {0: runtime.watcher.overflows})[0])
        return round(sum(new.values()))

    def render(self, mirrors: Mapping[str, Any], runtime: Runtime, accept: str, *more: Collector) -> tuple[bytes, str]:
        """Return (body, content type).

        mirrors: from `StatusCache`. accept: the header; it may ask for OpenMetrics. more: metrics that follow.
        """
        self._gauges.set(mirrors, runtime)
        encode, content_type = choose_encoder(accept)
        registry = CollectorRegistry(auto_describe=False)
        for collector in (self.registry, *more):
            registry.register(collector)
        return encode(registry), content_type

    def _since(self, name: str, owner: object, counts: Mapping[Any, float]) -> dict[Any, float]:
        last_owner, last = self._last.get(name, (None, {}))
        if last_owner is not owner:
            last = {}
        self._last[name] = owner, dict(counts)
        return {key: count - last.get(key, 0) for key, count in counts.items()}


class _Gauges:
    """Label values come from the config and from fixed sets, so their number is bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, documentation: str, *labels: str) -> Gauge:
            return Gauge(name, documentation, labels, registry=registry)

        self._items = gauge("syncd_items", "Items by state.", "mirror", "state")
        self._index = gauge("syncd_index_items", "Entries by index status.", "mirror", "status")
        self._stuck = gauge("syncd_index_stuck_items", "Entries that are not searchable after half an hour.", "mirror")
        self._state = gauge("syncd_mirror_state", "1 for the state a mirror is in.", "mirror", "state")
        self._oldest = gauge(
            "syncd_oldest_pending_seconds", "Age of the oldest pending change, 0 without one.", "mirror"
        )
        self._last = gauge("syncd_last_reconcile_timestamp_seconds", "Time of the last successful full pass.", "mirror")
        self._mode = gauge("syncd_watch_mode", "1 for the watch mode of a mirror.", "mirror", "mode")
        self._held = gauge("syncd_gate_held_seconds", "Seconds until the next request may be sent.")
        self._in_flight = gauge("syncd_requests_in_flight", "Requests under way.")

    def set(self, mirrors: Mapping[str, Any], runtime: Runtime) -> None:
        """Set every gauge to the present state."""
        # A mirror that is no longer configured disappears.
        for gauge in (self._items, self._index, self._stuck, self._state, self._oldest, self._last, self._mode):
            gauge.clear()
        for name, mirror in mirrors.items():
            self._set_mirror(name, mirror)
        for name in runtime.workers:
            mode = runtime.watcher.status(name).mode
            for watch_mode in get_args(WatchMode):
                self._mode.labels(name, watch_mode).set(mode == watch_mode)
        gate = runtime.session.transport.gate
        self._held.set(max(0.0, gate.held_s()))
        self._in_flight.set(gate.in_flight)

    def _set_mirror(self, name: str, mirror: Mapping[str, Any]) -> None:
        for state, count in mirror["items"].items():
            self._items.labels(name, state).set(count)
        for status, count in mirror["index"].items():
            self._index.labels(name, status).set(count)
        self._stuck.labels(name).set(mirror.get("stuck", {"count": 0})["count"])
        for state in get_args(State):
            self._state.labels(name, state).set(mirror["state"] == state)
        # The age is computed now. While nothing changes, the status is not counted again, and the age grows.
        since = mirror["oldest_at"]
        self._oldest.labels(name).set(0.0 if since is None else max(0.0, time.time() - since))
        if mirror["last_reconcile"]:
            self._last.labels(name).set(datetime.fromisoformat(mirror["last_reconcile"]).timestamp())
