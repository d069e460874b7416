"""Names that a command has shown are found again."""

from hypothesis import given
from hypothesis import strategies as st

from syncd.core.keys import from_os, shown, spellings
from syncd.core.plain_text import printable


@given(st.binary(max_size=12))
def test_a_shown_name_stands_for_the_name(data: bytes) -> None:
    name = from_os(data)
    assert name in spellings(shown(name))


@given(st.text(max_size=12).filter(lambda name: "\\" not in name))
def test_a_printed_name_stands_for_the_name(name: str) -> None:
    assert name in spellings(printable(name))


def test_a_name_without_escapes_stands_for_itself_alone() -> None:
    assert spellings("a b/ä.md") == ["a b/ä.md"]
    assert spellings("a\\x41")[0] == "a\\x41"
    assert spellings("\\Uffffffff") == ["\\Uffffffff"]
