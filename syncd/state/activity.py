"""What a mirror is doing, as `status` shows it. Stored in the state file."""

from typing import Any, Literal

from syncd.state.db import Meta

State = Literal["idle", "syncing", "degraded", "halted"]


def set_state(
    meta: Meta, state: State, detail: str | None = None, *, remaining: int = 0, until: float | None = None
) -> None:
    """Store the state of a mirror. detail: why it is degraded or halted.

    remaining: the number of planned actions that are not done yet. until: the expected end in seconds since the epoch.
    """
    meta.set("state", {"state": state, "detail": detail, "remaining": remaining, "until": until})


def stored_state(meta: Meta) -> dict[str, Any]:
    """Return the arguments of the last `set_state`; empty if there was none."""
    stored = meta.get("state")
    return stored if isinstance(stored, dict) else {}


def was_halted(meta: Meta) -> bool:
    """Return whether the last stored state is halted."""
    return stored_state(meta).get("state") == "halted"


def stored_detail(meta: Meta) -> str | None:
    """Return why the mirror was last stored as halted or degraded."""
    detail = stored_state(meta).get("detail")
    return detail if isinstance(detail, str) else None
