"""Names from the operating system, as keys and in messages."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.keys import from_os, name_fault, normal, shown, spellings
from syncd.core.plain_text import printable

NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_names_are_normalised_to_nfc() -> None:
    assert normal(NFD) == NFC
    assert normal(NFC) == NFC
    assert normal("plain") == "plain"


@given(st.text())
def test_normalising_twice_is_normalising_once(name: str) -> None:
    assert normal(normal(name)) == normal(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("a b.md", None),
        ("\u00fc.md", None),
        ("100%.md", None),
        ("\u2028line separator", None),
        ("bad\udcff.md", "UTF-8"),
        ("new\nline", "control character"),
        ("tab\t", "control character"),
        ("nul\0", "control character"),
        ("del\x7f", "control character"),
        ("\u00fc\x1b[0m", "control character"),
        ("c1\x85", "control character"),
    ],
)
def test_invalid_names_have_a_fault(name: str, fault: str | None) -> None:
    found = name_fault(name)
    assert (found is None) == (fault is None)
    assert fault is None or (found is not None and fault in found and "rename" in found)


def test_names_that_are_not_utf_8_are_shown_escaped() -> None:
    assert shown("bad\udcff.md") == "bad\\xff.md"
    assert shown("half \ud83d a pair.md") == "half \\xed\\xa0\\xbd a pair.md"
    assert shown("fine \u00fc.md") == "fine \u00fc.md"


@given(st.binary(min_size=1))
def test_every_name_can_be_shown(raw: bytes) -> None:
    shown(raw.decode("utf-8", "surrogateescape")).encode()


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


def test_escapes_stand_for_bytes_or_for_characters() -> None:
    assert spellings("\\x1b\\xc3\\xa9") == ["\\x1b\\xc3\\xa9", "\x1b\u00e9", "\x1b\u00c3\u00a9"]
    assert spellings("\\u00e9\\n\\xff") == ["\\u00e9\\n\\xff", "\u00e9\n\udcff", "\u00e9\n\u00ff"]


def test_half_a_surrogate_pair_is_shown_as_its_bytes() -> None:
    assert shown("a\ud800.md") == "a\\xed\\xa0\\x80.md"
