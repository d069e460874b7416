"""Virtual time: an event loop that does not wait for its timers."""

import asyncio


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer when no other work is ready."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual = 0.0

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._virtual

    def _run_once(self) -> None:
        if not self._ready:  # type: ignore[attr-defined]
            timers = (timer.when() for timer in self._scheduled if not timer.cancelled())  # type: ignore[attr-defined]
            self._virtual = max(self._virtual, min(timers, default=self._virtual))
        super()._run_once()  # type: ignore[misc]
