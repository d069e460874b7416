"""The answers of `syncd check --probe`: the kind of a checksum."""

import hashlib

import pytest

from syncd.core.probe_answers import checksum_kind

CONTENTS = (b"one", b"two")


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256"])
@pytest.mark.parametrize("form", ["{}", '"{}"'])
def test_a_checksum_that_is_a_digest_of_each_content_has_its_kind(kind: str, form: str) -> None:
    digests = [hashlib.new(kind, content).hexdigest() for content in CONTENTS]
    pairs = [(form.format(digest.upper()), content) for digest, content in zip(digests, CONTENTS, strict=True)]
    assert checksum_kind(pairs) == kind
    assert checksum_kind([*pairs, ("other", b"three")]) == "opaque"


@pytest.mark.parametrize(
    ("checksums", "kind"),
    [((None, ""), "absent"), (("0", "0"), "zero"), (("0", None), "opaque"), (("a", "b"), "opaque")],
)
def test_a_checksum_that_is_no_digest_has_a_kind_too(checksums: tuple[str | None, str | None], kind: str) -> None:
    assert checksum_kind(list(zip(checksums, CONTENTS, strict=True))) == kind


def test_without_a_content_the_kind_is_unknown() -> None:
    assert checksum_kind([]) is None
