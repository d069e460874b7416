"""The evidence of `syncd explain` that the remote has the content of a file."""

from dataclasses import replace

import pytest

from syncd.core.model import Record
from syncd.queries.explain import content_evidence

RECORD = Record("p/a.md", "r1", "5e", 9, 100.0)


@pytest.mark.parametrize(
    ("record", "digests", "downloaded", "expected"),
    [
        (replace(RECORD, marked=True, version="M"), ("m",), True, "the mark of the entry"),
        (replace(RECORD, version="M"), ("m",), True, "a known digest"),
        (replace(RECORD, version="5e"), (), False, "a known digest"),
        (replace(RECORD, version="v7"), ("m",), True, "downloaded and hashed"),
        (replace(RECORD, version="v7", remote_size=9), ("m",), False, "the same values: checksum v7, 9 bytes"),
        (RECORD, (), False, "only the journal"),
    ],
)
def test_the_best_evidence_is_named(record: Record, digests: tuple[str, ...], downloaded: bool, expected: str) -> None:
    assert expected in content_evidence(record, digests, downloaded=downloaded)
