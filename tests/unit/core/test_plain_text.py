import pytest

from syncd.core.plain_text import decode

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


@pytest.mark.parametrize(
    ("data", "name"),
    [(b"a\xff", "UTF-8"), (b"\xff\xfea", "UTF-16"), (b"\xfe\xffa", "UTF-16"), (b"\0\0\xfe\xffa", "UTF-32")],
)
def test_the_error_names_the_encoding_without_its_byte_order(data: bytes, name: str) -> None:
    with pytest.raises(ValueError, match=f"^it is not {name} text; save it as UTF-8$"):
        decode(data)
