"""The addresses of the project, from pyproject.toml."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
URLS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
SITE = URLS["Documentation"].rstrip("/")
SCHEMA_URL = f"{SITE}/schema/syncd.json"
