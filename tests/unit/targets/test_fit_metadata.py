"""Marks and fields within the limit of a target's metadata."""

import json

from hypothesis import given
from hypothesis import strategies as st

from syncd.targets.shared import fit_metadata, json_size


def test_the_longest_fields_are_left_out_first_and_never_the_marks() -> None:
    marks, fields = {"sha256": "f" * 64, "size": 3}, {"a": "x" * 50, "b": "\u00e9" * 30, "c": "z"}
    whole = json_size({**marks, **fields})
    assert fit_metadata(marks, fields, whole) == {**fields, **marks}
    assert fit_metadata(marks, fields, whole - 1) == {"a": "x" * 50, "c": "z", **marks}
    assert fit_metadata(marks, fields, 0) == marks
    assert fit_metadata({"a": "ours"}, {"a": "theirs"}, 1000) == {"a": "ours"}


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=40), max_size=6), st.integers(20, 300))
def test_what_is_fitted_fits(fields: dict[str, str], limit: int) -> None:
    kept = fit_metadata({"m": "mark"}, fields, limit)
    assert len(json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")) <= limit
    assert kept["m"] == "mark"
