"""Whatever a text makes a parser raise, it is the text's own matter."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.config.sources import load
from syncd.core.errors import ConfigError
from syncd.core.model import Content
from syncd.targets.shared import describe_file

SOURCES = {"title": "title", "description": "description", "modified": "modified", "x": "front:x"}
HUGE = "9" * 4301
"""More digits than Python turns into a number."""

PAGES = (f"<p>&#{HUGE};", f"<title>&#{HUGE};</title>", f'<meta name="x" content="&#{HUGE};">', f"<![if{HUGE}", "<![x")
FRONTS = (
    f"+++\nx = {HUGE}\n+++\n",
    "+++\nx = 0000-01-01\n+++\n",
    "+++\nx = 10000-01-01\n+++\n",
    f"+++\nx = {'[' * 3000}\n+++\n",
    f"---\n{'[' * 5000}\n---\n",
    "---\nx: &x [*x]\n---\n",
    "---\n? [a]\n: b\n---\n",
    '---\nx: "\\U00110000"\n---\n',
    "---\n%YAML 99999999999999999999.1\n---\n",
    "---\n\0\n---\n",
)


def _fields(key: str, text: str, mtime_ns: int = 0) -> dict[str, str]:
    return describe_file(SOURCES, key, Content(text.encode("utf-8", "surrogatepass"), "c", mtime_ns))


@pytest.mark.parametrize("text", PAGES)
def test_a_page_that_makes_the_parser_raise_loses_its_metadata_only(text: str) -> None:
    assert _fields("a.html", f"<h1>first</h1>{text}")["modified"] == "1970-01-01T00:00:00Z"


def test_values_before_a_fault_of_a_page_are_kept() -> None:
    assert _fields("a.html", f"<title>Known</title><p>&#{HUGE};")["title"] == "Known"


@pytest.mark.parametrize("text", FRONTS)
def test_a_front_matter_that_makes_the_parser_raise_is_left_out(text: str) -> None:
    assert _fields("a.md", f"{text}# Heading")["title"]


@pytest.mark.parametrize("mtime_ns", [10**30, -(10**30), -(10**19), 2**63])
def test_a_time_outside_the_range_of_datetime_is_left_out(mtime_ns: int) -> None:
    assert set(_fields("a.md", "# x", mtime_ns)) <= {"title", "modified"}


_LINES = st.lists(
    st.sampled_from(
        ["---", "+++", "x:", "x = ", "- ", "&a", "*a", "[", "{", "!!int ", "<<: ", "9" * 30, "1979-99-99", "|", "%"]
    ),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(_LINES, st.text(max_size=40), st.sampled_from(["a.md", "a.html", "a.txt"]))
def test_no_text_raises(lines: list[str], rest: str, key: str) -> None:
    for start in ("---\n", "+++\n", "<p "):
        assert _fields(key, start + "\n".join([*lines, rest]))["title"]


@pytest.mark.parametrize(
    "line",
    [f"tpslimit = {HUGE}", f"tpslimit = {'9' * 4000}", f"x = {'[' * 3000}", f'tpslimit = "{HUGE}"', "x = 0000-01-01"],
)
def test_a_config_that_makes_the_parser_raise_is_a_config_error(tmp_path: Path, line: str) -> None:
    config = tmp_path / "syncd.toml"
    config.write_text(f"[cloudflare]\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        load(config, {})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("value", ["[" * 100_000, f"[{HUGE}]", HUGE])
def test_an_environment_that_makes_the_parser_raise_is_a_config_error(tmp_path: Path, value: str) -> None:
    config = tmp_path / "syncd.toml"
    config.write_text("")
    with pytest.raises(ConfigError):
        load(config, {"SYNCD_CLOUDFLARE__TPSLIMIT": value})
