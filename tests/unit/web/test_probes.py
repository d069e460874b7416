"""Health as probes ask for it, and the address that may be open to other machines."""

import httpx
import pytest
from starlette.applications import Starlette

from syncd.service.lookout import DEGRADED_LONG_S
from syncd.web.app import RENDERED_S, Probes
from tests.unit.web.harness import Clock, Room

SECRET = "a-file-that-nobody-may-see"


class Outside:
    """A client of the open address, with the host that a scraper of another machine names."""

    def __init__(self, room: Room) -> None:
        self.clock = Clock()
        probes = Probes(room.history.metrics, room.counted_by(self.clock), self.clock, is_open=True)
        transport = httpx.ASGITransport(Starlette(routes=probes.routes()))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://10.1.2.3:9385")

    async def get(self, path: str, accept: str = "") -> httpx.Response:
        return await self.http.get(path, headers={"Accept": accept})


async def reasons(room: Room, path: str) -> list[str]:
    answer = await room.http.get(path)
    assert (answer.status_code == 503) is ("reasons" in answer.json())
    return list(answer.json().get("reasons", []))


async def test_a_halted_mirror_is_alive_and_not_ready(room: Room) -> None:
    assert room.runtime
    room.runtime.watching = True
    # No threads watch in this test.
    room.runtime.watcher.alive = lambda: True  # type: ignore[method-assign]
    assert [await reasons(room, path) for path in ("/healthz", "/livez", "/readyz")] == [[], [], []]
    room.workers["docs"].status.set("halted", f"the root {SECRET} is gone")
    halted = [f"mirror docs is halted: the root {SECRET} is gone"]
    assert [await reasons(room, path) for path in ("/healthz", "/livez", "/readyz")] == [halted, [], halted]


async def test_the_daemon_is_not_ready_before_the_watches_are_set_up_and_during_a_reload(room: Room) -> None:
    assert await reasons(room, "/readyz") == ["the watches of the folders are being set up"]
    assert await reasons(room, "/livez") == []
    room.runtime = None
    assert await reasons(room, "/readyz") == ["the config is being read again"]
    assert [await reasons(room, path) for path in ("/healthz", "/livez")] == [[], []]


@pytest.mark.parametrize(("seconds", "healthy"), [(DEGRADED_LONG_S - 1, True), (DEGRADED_LONG_S, False)])
async def test_a_mirror_that_is_degraded_for_long_is_unhealthy(room: Room, seconds: float, *, healthy: bool) -> None:
    mirror, status = room.session.mirrors["docs"], room.workers["docs"].status
    now = mirror.now()
    mirror.now = lambda: now
    status.set("degraded", "could not connect")
    mirror.now = lambda: now + seconds
    status.set("degraded", "could not connect, again")
    expected = [] if healthy else ["mirror docs is degraded for 5 min: could not connect, again"]
    assert await reasons(room, "/healthz") == expected
    status.set("syncing")
    status.set("degraded", "could not connect")
    assert await reasons(room, "/healthz") == [], "something was done in between"


async def test_a_state_that_cannot_be_written_is_unhealthy(room: Room) -> None:
    assert room.runtime
    room.runtime.state_fault = "the disk is full"
    assert await reasons(room, "/healthz") == ["the disk is full"]
    assert await reasons(room, "/livez") == [], "a restart does not help"


async def test_the_open_address_serves_probes_and_metrics_and_nothing_else(room: Room) -> None:
    outside = Outside(room)
    room.workers["docs"].status.set("halted", f"the root {SECRET} is gone")
    for path in ("/", "/events", "/healthz", "/page/app.js", "/mirrors/docs/reconcile"):
        assert (await outside.get(path)).status_code == 404, path
    assert (await outside.http.post("/metrics")).status_code == 405
    answers = [await outside.get(path) for path in ("/livez", "/readyz", "/metrics")]
    assert [answer.status_code for answer in answers] == [200, 503, 200]
    assert answers[1].json() == {"status": "failing"}
    assert not any(SECRET in answer.text for answer in answers)
    text = answers[2].text
    assert 'syncd_mirror_state{mirror="docs",state="halted"} 1.0' in text
    assert "\nprocess_resident_memory_bytes " in text
    assert (await outside.get("/metrics", "application/openmetrics-text")).text.endswith("# EOF\n")


async def test_many_scrapes_cost_as_much_as_one(room: Room) -> None:
    outside = Outside(room)
    first = (await outside.get("/metrics")).text
    room.workers["docs"].status.set("halted", "why")
    outside.clock.now += RENDERED_S - 0.1
    assert (await outside.get("/metrics")).text == first
    outside.clock.now += 0.1
    assert (await outside.get("/metrics")).text != first


async def test_the_open_address_is_not_ready_while_the_config_is_read(room: Room) -> None:
    outside, room.runtime = Outside(room), None
    assert [(await outside.get(path)).status_code for path in ("/livez", "/readyz", "/metrics")] == [200, 503, 503]
