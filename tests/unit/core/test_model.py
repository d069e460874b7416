"""Values of the model: metadata sources and numbers of the kernel."""

import pytest

from syncd.core.model import FIELD_SOURCES, int64, is_field_source


@pytest.mark.parametrize("text", [*FIELD_SOURCES, "front:x", "front: x "])
def test_a_metadata_source_is_a_known_name_or_a_field_of_the_front_matter(text: str) -> None:
    assert is_field_source(text)


@pytest.mark.parametrize("text", ["", "Title", "front", "front:", "front: ", "x front:x"])
def test_another_text_is_no_metadata_source(text: str) -> None:
    assert not is_field_source(text)


@pytest.mark.parametrize(
    ("number", "signed"),
    [
        (0, 0),
        (-1, -1),
        (2**63 - 1, 2**63 - 1),
        (2**63, -(2**63)),
        (2**64 - 1, -1),
        (-(2**63), -(2**63)),
        (-(2**63) - 1, 2**63 - 1),
    ],
)
def test_a_number_of_64_bits_fits_into_a_signed_one(number: int, signed: int) -> None:
    assert int64(number) == signed
