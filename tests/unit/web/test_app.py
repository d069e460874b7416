"""The answers of the page's routes, and who gets them."""

import json
import math
import time
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pytest

from syncd.core.errors import Brake, RootHalt
from syncd.core.model import HARMLESS, ActionEvent, Delete, Problem, ProblemKind
from syncd.service.runtime import summary_of
from syncd.service.worker import STALL_S
from syncd.web.app import FILES, HEADERS
from syncd.web.problems import TITLES
from tests.unit.web.harness import HERE, Room, open_web_room

HOSTILE = "<img src=x onerror=alert(1)>\u202egnp.\n\x1b[2J\u2028\"'&.md"


# -- the page


async def test_every_answer_has_the_security_headers(room: Room) -> None:
    for path in ("/", "/page/app.js", "/healthz", "/metrics", "/nowhere", "/mirrors/docs/retry"):
        answer = await room.http.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path
    assert "'unsafe-inline'" not in HEADERS["Content-Security-Policy"]


async def test_the_page_and_its_files_have_the_right_content_types(room: Room) -> None:
    page = await room.http.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    types = {
        "style.css": "text/css",
        "app.js": "text/javascript",
        "chart.js": "text/javascript",
        "icon.svg": "image/svg",
    }
    for name, kind in types.items():
        answer = await room.http.get(f"/page/{name}")
        assert (answer.status_code, answer.headers["content-type"].startswith(kind)) == (200, True)


@pytest.mark.parametrize("path", ["/page/index.html", "/page/..%2fapp.py", "/page/", "/page/style.css/", "/x"])
async def test_other_paths_are_not_served(room: Room, path: str) -> None:
    assert (await room.http.get(path)).status_code in (307, 404)


OWN = ("index.html", *(name for name in FILES if not name.startswith("uplot")))


@pytest.mark.parametrize("name", OWN)
def test_no_file_of_the_page_has_a_foreign_url_or_inserts_markup(name: str) -> None:
    text = (files("syncd.web") / "page" / name).read_text(encoding="utf-8")
    text = text.replace("http://www.w3.org/2000/svg", "")
    assert "://" not in text
    assert not any(word in text for word in ("innerHTML", "insertAdjacentHTML", "document.write", "eval(", "style="))


async def test_the_page_holds_a_token_that_differs_between_processes(room: Room) -> None:
    assert len(await room.token()) >= 32
    async with open_web_room(_made(room)) as other:
        assert await other.token() != await room.token()


def _made(room: Room) -> Path:
    path = room.session.config.state_dir.parent / "other"
    path.mkdir()
    return path


# -- who may send requests


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8385", "localhost:8385", "LOCALHOST", "[::1]:8385", "127.0.0.1:9000", "127.0.0.2:8385"]
)
async def test_every_name_of_this_machine_is_accepted(room: Room, host: str) -> None:
    assert (await room.http.get("/", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8385",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1:8385",
        "0.0.0.0:8385",
        "me@127.0.0.1:8385",
        "127.0.0.1:8385:1",
        "127.0.0.1/x",
        "[::1",
        "",
    ],
)
@pytest.mark.parametrize("path", ["/", "/events", "/metrics", "/healthz", "/page/app.js"])
async def test_a_foreign_or_malformed_host_is_refused(room: Room, host: str, path: str) -> None:
    answer = await room.http.get(path, headers={"Host": host})
    assert (answer.status_code, "docs" in answer.text) == (400, False)


ALLOWED: list[dict[str, str]] = [
    {},
    {"Origin": HERE, "Sec-Fetch-Site": "same-origin"},
    {"Origin": "http://localhost:9000", "Host": "localhost:9000"},
]
REFUSED: list[dict[str, str]] = [
    {"X-Syncd-Token": ""},
    {"X-Syncd-Token": "another"},
    {"X-Syncd-Token": "gr\u00fcn"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:9999"},
    {"Origin": "http://localhost:8385"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Host": "evil.example"},
]


@pytest.mark.parametrize("headers", ALLOWED)
async def test_the_page_may_request_a_full_pass(room: Room, headers: dict[str, str]) -> None:
    given = {"X-Syncd-Token": await room.token(), **headers}
    assert (await room.http.post("/mirrors/docs/reconcile", headers=given)).status_code == 202
    assert room.workers["docs"].full_at < math.inf
    assert room.workers["settings"].full_at == math.inf


@pytest.mark.parametrize("what", ["reconcile", "retry", "plan", "approve"])
@pytest.mark.parametrize("headers", REFUSED)
async def test_other_origins_may_request_nothing(room: Room, what: str, headers: dict[str, str]) -> None:
    given = {"X-Syncd-Token": await room.token(), **headers}
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    expected = 400 if "Host" in headers else 403
    assert (await room.http.post(f"/mirrors/docs/{what}", headers=raw)).status_code == expected
    assert room.workers["docs"].full_at == math.inf
    assert room.workers["docs"].index.due_at == math.inf
    assert room.web.feed.jobs.last("docs") is None


@pytest.mark.parametrize("what", ["problems", "explain", "plan"])
@pytest.mark.parametrize("headers", [each for each in REFUSED if "Host" not in each])
async def test_other_origins_may_ask_nothing(room: Room, what: str, headers: dict[str, str]) -> None:
    given = {"X-Syncd-Token": await room.token(), **headers}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
    assert (await room.http.get(f"/mirrors/docs/{what}?kind=failed&key=a.md", headers=raw)).status_code == 403


async def test_actions_need_post_and_a_known_mirror(room: Room) -> None:
    given = {"X-Syncd-Token": await room.token()}
    assert (await room.http.get("/mirrors/docs/reconcile", headers=given)).status_code == 405
    assert (await room.http.post("/mirrors/nobody/reconcile", headers=given)).status_code == 404


async def test_retry_makes_failed_and_refused_items_due(room: Room) -> None:
    mirror = room.session.mirrors["docs"]
    mirror.journal.problems.add([Problem("a.md", "failed", "no"), Problem("b.md", "refused", "no")], 1)
    mirror.journal.problems.park(Problem("b.md", "refused", "no"), "0" * 64)
    answer = await room.http.post("/mirrors/docs/retry", headers={"X-Syncd-Token": await room.token()})
    assert answer.status_code == 202
    assert mirror.queue.next_due(mirror.now()) == 0.0
    assert {row.key for row in mirror.queue.every()} == {"a.md", "b.md"}
    assert mirror.journal.problems.parked("", "z") == {}


async def test_retry_can_be_limited_to_a_key_or_to_a_kind(room: Room) -> None:
    mirror = room.session.mirrors["docs"]
    keys = {"a.md": "failed", "b.md": "failed", "c.md": "refused", "d.md": "refused"}
    mirror.journal.problems.add([Problem(key, kind, "no") for key, kind in keys.items()], 1)  # type: ignore[arg-type]
    assert (await room.press("docs", "retry", key="c.md")).json() == {"count": 1}
    assert {row.key for row in mirror.queue.every()} == {"c.md"}
    assert (await room.press("docs", "retry", kind="failed")).json() == {"count": 2}
    assert {row.key for row in mirror.queue.every()} == {"a.md", "b.md", "c.md"}
    assert (await room.press("docs", "retry", key="nobody.md")).json() == {"count": 0}


@pytest.mark.parametrize("body", ["[]", "{", '"a"', "\xff"])
async def test_a_request_that_is_no_object_is_refused(room: Room, body: str) -> None:
    given = {"X-Syncd-Token": await room.token()}
    answer = await room.http.post("/mirrors/docs/retry", headers=given, content=body.encode("latin-1"))
    assert answer.status_code == 400


async def test_an_approval_names_its_plan(room: Room) -> None:
    assert (await room.press("docs", "approve")).status_code == 400
    assert (await room.ask("docs", "plan")).status_code == 404


# -- health


async def test_health_fails_while_a_mirror_is_halted(room: Room) -> None:
    answer = await room.http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert (await room.http.head("/healthz")).status_code == 200
    room.workers["docs"]._on_error(RootHalt(f"path {HOSTILE}: gone; bring it back"))
    answer = await room.http.get("/healthz")
    assert answer.status_code == 503
    (reason,) = answer.json()["reasons"]
    assert reason.startswith("mirror docs is halted: path ")
    assert reason.isprintable()
    head = await room.http.head("/healthz")
    assert (head.status_code, head.content) == (503, b"")


async def test_health_fails_while_a_loop_is_stuck(room: Room) -> None:
    room.workers["settings"]._moved_at -= STALL_S + 1
    answer = await room.http.get("/healthz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["the loop of mirror settings is stuck"])


async def test_health_fails_with_a_dead_watcher_once_it_was_started(room: Room) -> None:
    assert (await room.http.get("/healthz")).status_code == 200
    assert room.runtime
    room.runtime.watching = True  # But its threads were never started.
    answer = await room.http.get("/healthz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["the watcher is dead"])


async def test_health_is_ok_while_the_config_is_read_again(room: Room) -> None:
    token = await room.token()
    room.runtime = None
    assert (await room.http.get("/healthz")).status_code == 200
    assert (await room.http.get("/metrics")).status_code == 503
    answer = await room.http.post("/mirrors/docs/retry", headers={"X-Syncd-Token": token})
    assert (answer.status_code, answer.json()["error"]) == (503, "the config is being read again; try once more")


# -- the first message


async def first_message(room: Room) -> dict[str, Any]:
    """Return the first message of a stream, by event."""
    messages = room.web.feed.messages()
    text = (await anext(messages)).decode("ascii")
    await messages.aclose()  # type: ignore[attr-defined]
    found = {}
    for block in text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        found[name.removeprefix("event: ")] = json.loads(data.removeprefix("data: "))
    return found


async def test_the_first_message_holds_everything(room: Room) -> None:
    mirror = room.session.mirrors["docs"]
    mirror.on_action(ActionEvent("delete", "a.md", "stale", "done"))
    mirror.history.add(Delete("a.md", "stale", "", "1", None), time.time(), "done", 7)
    seen = await first_message(room)
    assert [mirror["name"] for mirror in seen["state"]["mirrors"]] == ["docs", "settings"]
    assert seen["state"]["mirrors"][0]["items"] == {"synced": 0, "pending": 0, "failed": 0, "rejected": 0}
    gate = {"rate": 0.0, "held_until": None, "in_flight": 0, "left": 1050, "quota": 1050, "window_s": 300.0}
    assert seen["state"]["gate"] == {"limit": room.session.config.cloudflare.tpslimit, **gate}
    (entry,) = seen["log"]
    fields = ("mirror", "kind", "key", "reason", "outcome", "pass")
    assert [entry[name] for name in fields] == ["docs", "delete", "a.md", "stale", "done", 7]
    assert seen["minutes"] == {"rows": [[int(room.clock.now // 60), 1, 0, 0]], "spans": []}


async def test_a_hostile_name_is_sent_in_printable_ascii(room: Room) -> None:
    mirror = room.session.mirrors["docs"]
    mirror.history.add(Delete(HOSTILE, "stale", "", "1", None), time.time(), "done", 1)
    mirror.journal.problems.add([Problem(HOSTILE, "unreadable", f"{HOSTILE}: cannot")], 1)
    room.workers["docs"]._on_error(Brake(f"{HOSTILE} is too much"))
    seen = await first_message(room)
    shown = seen["state"]["mirrors"][0]
    (problem,) = (await room.ask("docs", "problems", kind="unreadable")).json()["problems"]
    texts = [seen["log"][0]["key"], shown["detail"], problem["key"], problem["message"]]
    assert all(text.isprintable() for text in texts)
    assert "\\u202egnp.\\n\\x1b[2J\\u2028" in texts[0]


async def test_problems_are_counted_by_kind_the_worst_first(room: Room) -> None:
    problems = [Problem(f"{each:03}.md", "refused", "no") for each in range(120)]
    problems += [Problem("a.bin", "unsupported_type", "no"), Problem("b.md", "failed", "no")]
    room.session.mirrors["docs"].journal.problems.add(problems, 1)
    kinds = (await first_message(room))["state"]["mirrors"][0]["problems"]
    assert [(kind["kind"], kind["count"], kind["harmless"]) for kind in kinds] == [
        ("failed", 1, False),
        ("refused", 120, False),
        ("unsupported_type", 1, True),
    ]


def test_every_kind_of_problem_has_a_heading_and_the_harmless_ones_are_last() -> None:
    assert set(TITLES) == set(get_args(ProblemKind))
    assert set(list(TITLES)[-len(HARMLESS) :]) == HARMLESS


async def test_the_files_of_a_kind_are_sent_by_pages_and_can_be_searched(room: Room) -> None:
    problems = [Problem(f"Guides/{each:03}.md", "refused", f"reason {each}") for each in range(120)]
    room.session.mirrors["docs"].journal.problems.add(problems, 1)
    first, last = [(await room.ask("docs", "problems", kind="refused", offset=at)).json() for at in ("0", "100")]
    assert (first["found"], len(first["problems"]), first["problems"][0]["key"]) == (120, 50, "Guides/000.md")
    assert (last["found"], len(last["problems"]), last["problems"][-1]["key"]) == (120, 20, "Guides/119.md")
    for text, found in (("guides/11", 10), ("REASON 7", 11), ("%", 0), ("", 120)):
        assert (await room.ask("docs", "problems", kind="refused", q=text)).json()["found"] == found, text
    for kind, offset in (("nonsense", "0"), ("failed", "-1"), ("failed", "9" * 40)):
        answer = (await room.ask("docs", "problems", kind=kind, offset=offset)).json()
        assert answer == {"found": 0, "problems": []}


async def test_a_file_is_explained_as_the_command_does(room: Room) -> None:
    (room.session.config.mirrors["docs"].path / "a.bin").write_text("text")
    facts = dict((await room.ask("docs", "explain", key="a.bin")).json()["facts"])
    assert (facts["key"], facts["rule"]) == ("a.bin", "not sent: unsupported_type")


async def test_a_running_pass_shows_its_remaining_items_and_time(room: Room) -> None:
    worker = room.workers["docs"]
    worker.mirror.now = room.clock
    worker.status.set("syncing", remaining=1234, left_s=360.0)
    shown = (await first_message(room))["state"]["mirrors"][0]
    assert (shown["remaining"], shown["until"]) == (1234, room.clock.now + 360)
    assert summary_of(worker.mirror, worker.status.shown) == "docs: syncing, 0 in step, 1234 to go, about 6 min left"
    worker.status.set("idle")
    shown = (await first_message(room))["state"]["mirrors"][0]
    assert (shown["remaining"], shown["until"]) == (0, None)


async def test_no_answer_holds_a_secret(room: Room) -> None:
    text = json.dumps(await first_message(room))
    for path in ("/", "/metrics", "/healthz"):
        text += (await room.http.get(path)).text
    assert "a-token-that-nobody-may-see" not in text


async def test_a_bug_is_answered_with_500_and_logged(
    room: Room, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(room.watcher, "status", lambda _: 1 / 0)
    assert (await room.http.get("/metrics")).status_code == 500
    assert "web.bug" in capsys.readouterr().out
