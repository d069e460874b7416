import base64
import subprocess
import sys
from typing import NoReturn

import pytest

from syncd.core import plain_text
from syncd.core.plain_text import decode, span

TEXT = "priv\u00e9/\nsecret.md\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        b"\xff\xfe" + TEXT.encode("utf-16-le"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        b"\xff\xfe\0\0" + TEXT.encode("utf-32-le"),
        b"\0\0\xfe\xff" + TEXT.encode("utf-32-be"),
    ],
)
def test_the_encodings_of_editors_are_decoded(data: bytes) -> None:
    assert decode(data) == TEXT


@pytest.mark.parametrize(
    "data", [b"a\xff", b"\xef\xbb\xbf\xff", b"\xff\xfea", b"a\0b", b"\0\0\0\0", b"\x1f\x8b\x08\0abc"]
)
def test_data_that_is_no_text_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="save it as UTF-8"):
        decode(data)


def test_bytes_that_are_not_utf_8_can_be_kept() -> None:
    assert decode(b"# \xfc\na", errors="surrogateescape") == "# \udcfc\na"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["\u65e5a", "a\u65e5", "\u65e5\u672ca\u8a9e"])
def test_one_ascii_letter_is_enough_to_recognise_utf_16(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize("text", ["кот и пёс.", "γάτα και", "חתול בית", "قط و كلب"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_few_spaces_are_enough_to_recognise_utf_16(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize("data", [b"key = 'v'\n" + b"#" * 19 + b"\0", b"key = 'v'\n" + b"#" * 19 + b"\0\xc3\xa9"])
def test_a_nul_in_utf_8_is_not_taken_for_utf_16(data: bytes) -> None:
    with pytest.raises(ValueError, match="holds NUL characters"):
        decode(data)


@pytest.mark.parametrize(
    ("data", "name"),
    [(b"a\xff", "UTF-8"), (b"\xff\xfea", "UTF-16"), (b"\xfe\xffa", "UTF-16"), (b"\0\0\xfe\xffa", "UTF-32")],
)
def test_the_error_names_the_encoding_without_its_byte_order(data: bytes, name: str) -> None:
    with pytest.raises(ValueError, match=f"^it is not {name} text; save it as UTF-8$"):
        decode(data)


SECRET = "s3cr3t/t0ken-of-the-account"


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_text, "_secrets", [])
    plain_text.add_secrets([SECRET])


def refuse() -> NoReturn:
    raise ValueError(f"refused: {SECRET}\n\x1b[31mforged line\n")


def test_a_traceback_is_indented_and_has_no_secret_and_no_control_character() -> None:
    with pytest.raises(ValueError, match="refused") as caught:
        refuse()
    lines = plain_text.traceback_of(caught.value).split("\n")
    assert lines[0] == "  Traceback (most recent call last):"
    assert lines[-2:] == ["  ValueError: refused: [hidden]", "  \\x1b[31mforged line"]
    assert all(line.startswith("  ") and SECRET not in line for line in lines)


def test_values_of_every_type_lose_the_secret_and_keep_their_form() -> None:
    kept = object()
    value = {"a": [SECRET, 1, None, True, 0.5], SECRET: (f"x {SECRET} y",), "b": kept}
    assert plain_text.redact(value) == {
        "a": ["[hidden]", 1, None, True, 0.5],
        "[hidden]": ["x [hidden] y"],
        "b": kept,
    }
    assert plain_text.redact(ValueError(SECRET)) == "ValueError('[hidden]')"


def test_without_secrets_a_value_is_returned_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_text, "_secrets", [])
    value = {"a": [1]}
    assert plain_text.redact(value) is value


def test_a_short_secret_has_no_form_and_a_repeated_one_is_kept_once() -> None:
    assert plain_text.encoded_forms("") == []
    assert plain_text.encoded_forms("1234567") == []
    assert len(plain_text.encoded_forms("12345678")) == 4
    before = list(plain_text._secrets)
    plain_text.add_secrets([SECRET])
    assert plain_text._secrets == before


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "key", "1 key"),
        (0, "file", "0 files"),
        (2, "key", "2 keys"),
        (2, "entry", "2 entries"),
        (2, "directory", "2 directories"),
        (2, "search", "2 searches"),
        (2, "push", "2 pushes"),
        (2, "address", "2 addresses"),
        (2, "index", "2 indexes"),
        (2, "day", "2 days"),
        (2, "toy", "2 toys"),
    ],
)
def test_a_noun_agrees_with_its_number(number: int, noun: str, text: str) -> None:
    assert plain_text.counted(number, noun) == text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (89.0, "1 min"),
        (359.0, "6 min"),
        (3569.0, "59 min"),
        (3580.0, "1 h"),
        (12000.0, "3 h 20 min"),
        (86399.0, "1 d"),
        (187200.0, "2 d 4 h"),
    ],
)
def test_a_length_of_time_is_shown_in_at_most_two_units(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


@pytest.mark.parametrize("length", [8, 9, 10])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_secret_is_found_at_any_place_of_base64(length: int, before: int) -> None:
    secret = "s" * length
    for neighbour in (b"\0", b"\xff"):
        whole = base64.b64encode(neighbour * before + secret.encode() + neighbour * 3).decode()
        assert any(form in whole for form in plain_text.encoded_forms(secret))


def test_a_text_is_escaped_also_if_no_file_can_be_opened() -> None:
    """The log must say that no descriptor is left."""
    code = (
        "import resource; from syncd.core.plain_text import printable;"
        " resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0)); print(printable('a\\n'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("a\\n\n", "")
