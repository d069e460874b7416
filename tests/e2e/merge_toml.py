"""Merges TOML from stdin into a file: `python merge_toml.py FILE`. For values, lists and tables of a syncd.toml."""

import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return both, with the new values where they differ."""
    both = dict(old)
    for key, value in new.items():
        both[key] = merged(both[key], value) if isinstance(both.get(key), dict) and isinstance(value, dict) else value
    return both


def lines(table: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield a table as TOML: first its values, then the tables in it. A JSON text, number or list is TOML as it is."""
    for key, value in table.items():
        if not isinstance(value, dict):
            yield f"{json.dumps(key)} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in table.items():
        if isinstance(value, dict):
            name = f"{path}.{json.dumps(key)}".lstrip(".")
            yield f"[{name}]"
            yield from lines(value, name)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    both = merged(tomllib.loads(file.read_text(encoding="utf-8")), tomllib.loads(sys.stdin.read()))
    file.write_text("\n".join(lines(both)) + "\n", encoding="utf-8")
