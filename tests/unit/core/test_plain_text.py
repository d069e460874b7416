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
