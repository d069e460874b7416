"""Rows of `ls` with each file in one, also where its entries are parts of it."""

from typing import Any

from syncd.parts import Naming

_WORST = ("failed", "rejected", "pending", "synced")
_INDEX = ("error", "skipped", "outdated", "queued", "running", "completed")
"""From what a person should see first to what can be left unsaid."""


def as_files(rows: list[dict[str, Any]], names: Naming) -> list[dict[str, Any]]:
    """Make one row of the rows of a file in parts: sizes together, the worst of states; they stay under `parts`."""
    if not names.split:
        return rows
    files: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        # A file that is called like a part is its own: it has no entry, only that problem.
        alone = row.get("state") == "rejected: invalid_key"
        files.setdefault(row["key"] if alone else names.file(row["key"]), []).append(row)
    return [_one(file, same) for file, same in sorted(files.items())]


def _one(file: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    parts = [row for row in rows if row["key"] != file]
    if not parts:
        return rows[0]
    told: dict[str, Any] = {"key": file, "size": sum(row["size"] or 0 for row in rows)}
    if "state" in rows[0]:
        told["state"] = min((row["state"] for row in rows), key=lambda state: _WORST.index(state.partition(":")[0]))
    if "owner" in rows[0]:
        told["owner"] = rows[0]["owner"]
    shown = [row["index"] for row in rows if row["index"]]
    told["index"] = min(shown, key=_INDEX.index, default=None)
    return told | {"parts": parts}
