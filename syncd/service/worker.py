"""Keeps one mirror in step: decides when to look and where, and what to do after an error. One serial loop."""

import asyncio
import contextlib
import math
import random
import sqlite3
from collections.abc import Iterable

import structlog

from syncd.cloudflare.gate import Gate
from syncd.core.errors import Brake, Halt, Retry, RootHalt, StateDamaged, StateHalt, SyncdError, Unexpected
from syncd.core.keys import normal, shown
from syncd.queries.forecast import Pace, per_second, span
from syncd.state.db import directory_of
from syncd.state.directory import FILE_NAME, writable
from syncd.state.history import set_state, stored_detail, was_halted
from syncd.state.queue import Dirty
from syncd.sync import follow
from syncd.sync.mirror import Mirror
from syncd.sync.observe import Wide
from syncd.sync.passes import Hooks, Options, Result, Scope
from syncd.sync.reconcile import reconcile
from syncd.sync.turn import Preemption
from syncd.watch.hints import Hint

log = structlog.get_logger()

STALL_S = 900.0
"""A loop that has neither finished a step nor waited for its next one for so long is taken for stuck."""
AGAIN_FIRST_S = 5.0
AGAIN_LONGEST_S = 300.0
REFUSED_REST_S = 60.0
"""A mirror that its target refused asks it again at most this often, but for SIGHUP."""
SAY_S = 2.0
"""How often a pass says how much of it is left: to say it, all records are counted."""
PRESS_EVERY_S = 0.05
PRESS_SHARE = 20
"""How often a long pass asks whether a hint is due, and how much longer than the answer took it waits to ask again."""
LOOK_AGAIN_S = 10.0
"""A halted mirror whose files move looks again at most this often."""


class Keeper:
    """The loop of one mirror. interval: seconds between full passes. said: its state, and why it is in it.

    left: actions that the pass under way has still to do, and when it will be done, if that is known.
    state_fault: why the state file could not be used, until a pass has succeeded.
    """

    def __init__(self, mirror: Mirror, interval: float, gate: Gate) -> None:
        self.mirror = mirror
        self._interval = interval
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._full_at: float | None = None
        self._ticked = self._loop.time()
        self._failures = 0
        self._rest_until = 0.0
        self._halt: Halt | Brake | None = None
        # What an earlier process halted for may still hold: no part is served before everything was looked at.
        self._looked = False
        self._still_halted = was_halted(mirror.meta)
        self._refused = self._still_halted and mirror.absences.count() > 0
        self._options = Options(delete_after=mirror.settings.delete_after)
        self._deaf_until = 0.0
        self._looks = 0
        self._look_at: float | None = None
        self._look_rests_until = 0.0
        self._state = "starting"
        self.said: tuple[str, str | None] = (
            ("halted", stored_detail(mirror.meta)) if self._still_halted else ("idle", None)
        )
        self.left: tuple[int, float | None] = (0, None)
        self.state_fault: str | None = None
        self._result: Result | None = None
        self._pressed = False
        self._press_look_at = 0.0
        self._pace = Pace(mirror.target.requests, per_second(gate.tpslimit, gate.transfers))
        self._said_at = -SAY_S

    # -- what others may call

    def hint(self, hints: Iterable[Hint]) -> None:
        """Mark where something happened; a hint on the whole root asks for a full pass."""
        marks = []
        for hint in hints:
            if not hint.path:
                self._ask_full(max(self._loop.time(), self._deaf_until))
                continue
            path, subtree = self.mirror.settings.rules.taken_as(hint.path, subtree=hint.subtree)
            marks.append((self.mirror.policy.prefix + path, subtree))
            # What a link leads to, or through, has changed: so has the link's file.
            marks += [
                (self.mirror.policy.prefix + normal(link), False) for link in self.mirror.tree.links.at(hint.path)
            ]
        if marks:
            try:
                with writable():
                    self.mirror.queue.mark(marks, self.mirror.now())
            except StateHalt:
                # What cannot be marked one by one is looked for by a full pass.
                self.request_full()
            if isinstance(self._halt, (Brake, RootHalt)):
                # The folder moves again: what was wrong with it may be over.
                self._ask_full(self._loop.time() + LOOK_AGAIN_S)
        self._wake.set()

    def request_full(self) -> None:
        """Make a full pass as soon as possible."""
        self._ask_full(self._loop.time())
        self._wake.set()

    def marked(self) -> None:
        """Another process has written to the state file: something may be due now, or wanted indexed again."""
        self._look_at = self._look_rests_until = self._loop.time()
        self._wake.set()

    def alive(self) -> bool:
        """Whether the loop has moved lately, or waits for a remote that asked it to."""
        return self._loop.time() - self._ticked < STALL_S or self._gate.held_s() > 0

    def summary(self) -> str:
        """The mirror's part of the status line."""
        return f"{self.mirror.name}: {self._state}"

    # -- the loop

    async def run(self) -> None:
        """Serve the mirror until cancelled."""
        while True:
            self._tick()
            await self._sleep()
            self._tick()
            try:
                with writable(directory_of(self.mirror.db) / FILE_NAME):
                    await self._serve()
            except StateDamaged:
                # Not this mirror's matter: all of them need another file.
                raise
            except StateHalt as error:
                self.state_fault = str(error)
                self._degraded(error)
            except (Halt, Brake) as error:
                self._halted(error)
            except SyncdError as error:
                self._degraded(error)
            except sqlite3.Error:
                raise
            except (Exception, asyncio.CancelledError) as error:
                # A cancellation that nobody asked for is that of something it waited for.
                if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                    raise
                log.exception("mirror.failed", mirror=self.mirror.name)
                self._degraded(Unexpected(f"unexpected {type(error).__name__}; the log has the traceback: report it"))

    async def _serve(self) -> None:
        now = self._loop.time()
        if self._full_at is not None and now >= self._full_at:
            self._full_at = None
            try:
                held_back = await self._pass(Scope())
            except Brake:
                self._looked = True
                raise
            self._looked = True
            # Not plainly set: another full pass may have been asked for while this one was under way.
            settings = self.mirror.settings
            again_s = max(settings.settle_max, settings.delete_after)
            self._ask_full(self._loop.time() + (min(again_s, self._interval) if held_back else self._interval))
        elif self._serves and (rows := self.mirror.queue.settled(self.mirror.now())):
            try:
                await self._pass(Scope(rows))
            except Wide:
                self._ask_full(now)
        if self._serves:
            await self._follow_index()

    async def _pass(self, scope: Scope) -> bool:
        """Make a pass; return whether it held deletes back."""
        self._say_syncing(0)
        # The rows of a part are due until they are done: a breath in between would serve them twice.
        hooks = Hooks(
            Preemption(self._serve_pending, self._has_pending) if scope.everything else Preemption(), self._watch
        )
        try:
            result = await reconcile(self.mirror, scope, self._options, hooks)
            # Nothing new is on its way: the looks at the index go on as seldom as they have become.
            waits_only = not scope.everything and result.waiting > 0 and not result.done.total()
        finally:
            if self._result:
                self._result.tables.drop()
                self._result = None
        self._failures = 0
        self.state_fault = None
        # A few keys may be in order while the folder as a whole is not.
        refused = isinstance(self._halt, Brake) and not scope.everything
        if not refused:
            self._halt = None
            self._still_halted = False
        if not waits_only or self._look_at is None:
            self._looks = 0
            self._look_at = self._loop.time() + follow.pause_s(0)
        self._say("halted", str(self._halt)) if refused else self._say("idle")
        return result.held_back

    def _watch(self, result: Result) -> None:
        """Note that the pass moves, and how much of it is left."""
        self._tick()
        self._result = result
        remaining = result.tables.plan.counts.total() - result.done.total()
        self._still_halted = self._still_halted and (self._refused or not result.done.total())
        left_s = self._pace.look(result, self._ticked)
        if self._ticked - self._said_at >= SAY_S:
            self._say_syncing(remaining, left_s, moved=result.done.total() > 0)

    def _has_pending(self) -> bool:
        """Whether something is due; asked before each upload, and looked up now and then: many rows may be waiting."""
        now = self._loop.time()
        if now >= self._press_look_at:
            self._pressed = self.mirror.queue.next_due(self.mirror.now()) == 0.0
            # What has been looked up costs a part of the time only, however long it takes.
            self._press_look_at = self._loop.time() + max(PRESS_EVERY_S, PRESS_SHARE * (self._loop.time() - now))
        return self._pressed

    async def _serve_pending(self) -> None:
        """Serve what has settled, and follow what is up by now, while a long pass is under way."""
        rows: list[Dirty] = self.mirror.queue.settled(self.mirror.now())
        self._pressed, self._press_look_at = False, self._loop.time() + PRESS_EVERY_S
        if rows:
            try:
                result = await reconcile(self.mirror, Scope(rows), self._options)
            except Wide:
                self._ask_full(self._loop.time())
            except Brake as error:
                # What goes on is said of everything, by a full pass: this one, or the next one soon.
                log.info("delete.refused", mirror=self.mirror.name, why=str(error))
                self._ask_full(self._loop.time() + LOOK_AGAIN_S)
            else:
                result.tables.drop()
        if self._look_at is None:
            self._look_at = self._loop.time() + follow.LONGEST_LOOK_S
        try:
            await self._follow_index()
        except Retry as error:
            # The pass goes on, and will find out for itself if nothing can be reached.
            log.info("index.look_failed", mirror=self.mirror.name, why=str(error))

    async def _follow_index(self) -> None:
        began = self._loop.time()
        if self._look_at is None or began < max(self._look_at, self._look_rests_until):
            return
        again_s = await follow.go_on(self.mirror, follow.pause_s(self._looks))
        now = self._loop.time()
        self._look_rests_until = now + follow.rest_s(now - began)
        self._look_at = None if again_s is None else now + again_s
        self._looks += 1

    # -- waiting

    async def _sleep(self) -> None:
        """Wait until something is due and the rest after a failure is over."""
        while True:
            self._wake.clear()
            wait = max(self._until_due(), self._rest_until - self._loop.time())
            if wait <= 0:
                return
            # A wait that nothing interrupts still proves, now and then, that the loop lives. No wait_for: in
            # Python 3.11 it swallows a cancellation that comes together with the wake.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait, STALL_S / 2)):
                    await self._wake.wait()
            self._tick()

    def _until_due(self) -> float:
        now = self._loop.time()
        due = [math.inf]
        if self._full_at is not None:
            due.append(self._full_at - now)
        if self._serves:
            fresh = self.mirror.queue.next_due(self.mirror.now())
            due += [fresh] if fresh is not None else []
            due += [max(self._look_at, self._look_rests_until) - now] if self._look_at is not None else []
        return min(due)

    @property
    def _serves(self) -> bool:
        # Uploads go on while a person is asked about deletes.
        return self._looked and (self._halt is None or isinstance(self._halt, Brake))

    def _ask_full(self, when: float) -> None:
        self._full_at = when if self._full_at is None else min(when, self._full_at)

    # -- errors

    def _halted(self, error: Halt | Brake) -> None:
        if not (isinstance(self._halt, Brake) and isinstance(error, Brake)):
            log.error("mirror.halted", mirror=self.mirror.name, why=str(error))
        self._halt = error
        self._refused = isinstance(error, Brake)
        self._still_halted = True
        self._say("halted", str(error))
        # What the remote has said no to is not asked again and again because the folder moves, or every second.
        rest = 0.0 if isinstance(error, (Brake, RootHalt)) else REFUSED_REST_S
        self._deaf_until = self._loop.time() + rest
        self._ask_full(self._loop.time() + max(self._interval, rest))

    def _degraded(self, error: SyncdError) -> None:
        asked = (error.after_s or 0.0) if isinstance(error, Retry) else 0.0
        pause = min(AGAIN_FIRST_S * 2.0 ** min(self._failures, 16), AGAIN_LONGEST_S)
        pause = max(pause * random.uniform(0.8, 1.2), asked)  # noqa: S311 - spread, not a secret
        self._failures += 1
        self._still_halted = False
        log.warning("mirror.degraded", mirror=self.mirror.name, why=str(error), again_s=round(pause, 1))
        self._say("degraded", str(error))
        self._rest_until = self._loop.time() + pause
        self._ask_full(self._rest_until)

    # -- small things

    def _tick(self) -> None:
        self._ticked = self._loop.time()

    def _say_syncing(self, remaining: int, left_s: float | None = None, *, moved: bool = False) -> None:
        """What a mirror halted for is shown until a look at everything has ended, also by the next process.

        What it is degraded for, until a new try gets somewhere (moved).
        """
        if not self._still_halted and (moved or not self._failures):
            self._said_at = self._loop.time()
            self._say("syncing", remaining=remaining, left_s=left_s)

    def _say(self, state: str, detail: str | None = None, *, remaining: int = 0, left_s: float | None = None) -> None:
        until = None if left_s is None else round(self.mirror.now() + left_s)
        self.said, self.left = (state, detail), (remaining, until)
        # A state file that cannot be written tells nobody so; the log does, and the status line.
        with contextlib.suppress(StateHalt), writable():
            in_step = self.mirror.journal.in_step()
            self._state = f"{state}, {in_step} in step" + (f", {remaining} to go" if remaining else "")
            self._state += f", about {span(left_s)} left" if left_s else ""
            self._state += f" ({shown(detail)})" if detail else ""
            set_state(self.mirror.meta, state, detail, remaining=remaining, until=until)  # type: ignore[arg-type]


def _is_cancelled() -> bool:
    """Whether somebody has cancelled the task that asks."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
