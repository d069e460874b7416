"""Config files in a temporary directory, loaded under an environment that the test decides."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from syncd.config.schema import Config
from syncd.config.sources import load
from syncd.core.errors import EXIT_CONFIG, ConfigError

ACCOUNT = "0123456789abcdef0123456789abcdef"

MINIMAL = f"""
[cloudflare]
account_id = "{ACCOUNT}"

[mirrors.docs]
path = "docs"

[mirrors.docs.target]
type = "ai-search"
instance = "docs"
"""


def keys_of_example(section: str) -> list[str]:
    """Return the keys that config.example.toml shows in a section, also those in comments."""
    example = (Path(__file__).parents[3] / "config.example.toml").read_text(encoding="utf-8")
    _, _, rest = example.partition(f"[{section}]\n")
    text = rest.partition("\n\n## ")[0]
    return re.findall(r"^(?:# )?([a-z_]+ = .+)$", text, re.MULTILINE)


class Place:
    """A directory with a syncd.toml in it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.file = base / "syncd.toml"

    def load(self, text: str = MINIMAL, environ: Mapping[str, str] | None = None) -> Config:
        self.file.write_text(text, encoding="utf-8")
        return load(self.file, {"XDG_STATE_HOME": str(self.base / "xdg"), **(environ or {})})

    def fault(self, text: str = MINIMAL, environ: Mapping[str, str] | None = None) -> str:
        """The message of a config that is refused: one line, exit 2."""
        with pytest.raises(ConfigError) as caught:
            self.load(text, environ)
        assert caught.value.exit_code == EXIT_CONFIG == 2
        message = str(caught.value)
        assert len(message.splitlines()) == 1
        return message

    def faults(self, text: str = MINIMAL, environ: Mapping[str, str] | None = None) -> list[str]:
        """The lines for a person of a config that is refused."""
        with pytest.raises(ConfigError) as caught:
            self.load(text, environ)
        return caught.value.lines

    def with_key(self, dotted: str, value: str) -> str:
        """The minimal config with one key more, or another value; value in TOML."""
        section, _, key = dotted.rpartition(".")
        lines = [line for line in MINIMAL.splitlines() if line.split(" = ")[0] != key or section.endswith("defaults")]
        if not section:
            return f"{key} = {value}\n" + MINIMAL
        header = f"[{section}]"
        if header not in lines:
            return "\n".join([*lines, header, f"{key} = {value}", ""])
        place = lines.index(header)
        return "\n".join([*lines[: place + 1], f"{key} = {value}", *lines[place + 1 :], ""])


def toml(value: object) -> str:
    return json.dumps(value)
