"""The keys `convert` and `as_text` of a mirror, and the limits of its target that follow."""

from pathlib import Path

import pytest

from syncd.core.errors import ConfigError
from syncd.core.names import NO_FORMS
from syncd.service.build import build_limits
from tests.unit.config.harness import ACCOUNT, Place

TARGETS = {
    "ai-search": 'instance = "docs"',
    "kv": 'namespace_title = "docs"',
    "vectorize": 'index = "docs"',
}


def text(target: str, *lines: str) -> str:
    mirror = "\n".join(lines)
    return (
        f'[cloudflare]\naccount_id = "{ACCOUNT}"\n[mirrors.docs]\npath = "docs"\n{mirror}\n'
        f'[mirrors.docs.target]\ntype = "{target}"\n{TARGETS[target]}\n'
    )


@pytest.mark.parametrize("target", TARGETS)
def test_both_are_off_by_default(tmp_path: Path, target: str) -> None:
    mirror = Place(tmp_path).load(text(target)).mirrors["docs"]
    assert (mirror.convert, mirror.as_text) == ([], [])
    assert build_limits(mirror).forms is NO_FORMS


@pytest.mark.parametrize("target", TARGETS)
def test_the_limits_concern_the_entry(tmp_path: Path, target: str) -> None:
    lines = 'convert = ["*.pptx"]', 'as_text = ["LICENSE"]', 'key_prefix = "p/"'
    limits = build_limits(Place(tmp_path).load(text(target, *lines)).mirrors["docs"])
    assert limits.refuse("p/a.pptx", 30_000_000) is None
    assert limits.refuse("p/LICENSE", 1000) is None
    assert limits.forms.name("p/LICENSE") == "p/LICENSE.txt"
    assert limits.forms.renames is (target != "vectorize")
    assert list(limits.forms.rivals("p/LICENSE")) == ([] if target == "vectorize" else ["p/LICENSE.txt"])


def test_a_mark_of_a_converter_leaves_less_room_for_a_long_key(tmp_path: Path) -> None:
    plain, converting = (
        build_limits(Place(tmp_path).load(text("kv", 'long_names = "shorten"', line)).mirrors["docs"])
        for line in ("", 'convert = ["*.pptx"]')
    )
    assert plain.long_key_bytes is not None
    assert converting.long_key_bytes == plain.long_key_bytes - len(f"+{converting.forms.converter}")


def test_a_bad_pattern_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"as_text.*pattern 2 is no gitignore-style pattern"):
        Place(tmp_path).load(text("kv", 'as_text = ["*.ts", "[z-a]"]'))
