"""What the page is told, as JSON values. Names of files are hostile: nothing leaves here that is not printable."""

import os
import time
from typing import Any

from syncd import __version__
from syncd.masks import printable
from syncd.paths import shown
from syncd.web.history import History, Minute, Seen
from syncd.web.live import Facts, Live


class View:
    """Puts together what changes while one looks. facts are shared by all who do."""

    def __init__(self, history: History, facts: Facts) -> None:
        self._history = history
        self._facts = facts

    async def state(self, live: Live | None) -> dict[str, Any]:
        """All but the actions and the chart. live: None while the config is read again."""
        head = {"version": __version__, "pid": os.getpid(), "began": round(self._history.began)}
        if live is None:
            return {**head, "reloading": True}
        mirrors = await self._facts.mirrors(live)
        gate = live.session.transport.gate
        held_s = gate.held_s()
        return {
            **head,
            "mirrors": [_mirror(name, mirror, live) for name, mirror in mirrors.items() if name in live.keepers],
            "gate": {
                "limit": gate.tpslimit,
                "rate": round(self._history.rate(), 1),
                "held_until": round(time.time() + held_s) if held_s > 0 else None,
                "in_flight": gate.in_flight,
            },
        }

    def actions(self, after: int) -> list[dict[str, Any]]:
        """Actions with a higher number than `after`, oldest first."""
        return [_action(seen) for seen in self._history.actions_after(after)]

    def minutes(self, number: int) -> list[list[int]]:
        """[number, changes, failed, requests] of each minute from `number` on in which something happened."""
        return [_minute(minute) for minute in self._history.minutes_from(number)]


def safe(value: Any) -> Any:
    """A JSON value whose texts hold no control, format, bidirectional or surrogate characters but escaped."""
    if isinstance(value, str):
        return printable(shown(value))
    if isinstance(value, dict):
        return {key: safe(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [safe(inner) for inner in value]
    return value


def _mirror(name: str, mirror: dict[str, Any], live: Live) -> dict[str, Any]:
    # Of the keeper, for it is newer than what was counted; but the daemon's first word is what it found written.
    keeper = live.keepers[name]
    state, detail = keeper.said
    remaining, until = keeper.left
    watch = live.watcher.status(name)
    standing = mirror["items"]["failed"] + mirror["items"]["rejected"] + mirror["index"]["error"]
    shown_facts = {key: mirror[key] for key in ("path", "target", "items", "index", "last_reconcile", "oldest_at")}
    if "shard" in mirror:
        shown_facts["target"] += f", shard {mirror['shard']}"
    return {
        "name": name,
        "state": state,
        "detail": safe(detail),
        "remaining": remaining,
        "until": until,
        **safe(shown_facts),
        "watch": watch.mode,
        "watch_detail": safe(watch.detail),
        "problems": safe(mirror["problems"]),
        "more_problems": max(0, standing - len(mirror["problems"])),
    }


def _action(seen: Seen) -> dict[str, Any]:
    ending = seen.ending
    return {
        "number": seen.number,
        "at": round(seen.at, 1),
        "mirror": seen.mirror,
        "kind": ending.kind,
        "key": safe(ending.key),
        "reason": ending.reason,
        "outcome": ending.outcome,
        "size": ending.size if ending.kind == "put" else None,
    }


def _minute(minute: Minute) -> list[int]:
    return [minute.number, minute.changes, minute.failed, minute.requests]
