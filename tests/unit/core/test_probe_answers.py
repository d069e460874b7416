"""The answers of `syncd check --probe`: how they are stored, and the kind of a checksum."""

import hashlib
from dataclasses import replace

import pytest

from syncd.core.probe_answers import NO_ANSWERS, ProbeAnswers, answers_of, checksum_kind, is_probe_name

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


ALL = ProbeAnswers("beside", False, "sha1", "marks", ("lang",), True, 1.5, False, "percent")


@pytest.mark.parametrize("answers", [NO_ANSWERS, ALL, ProbeAnswers(list_lag_s=0.0, fields=("a", "b"), id_kept=True)])
def test_answers_are_read_as_they_were_stored(answers: ProbeAnswers) -> None:
    assert answers_of(answers.as_json()) == answers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("existing", "other"),
        ("existing", None),
        ("id_kept", 1),
        ("id_kept", "yes"),
        ("checksum", ["md5"]),
        ("list_lag_s", -0.1),
        ("list_lag_s", float("inf")),
        ("list_lag_s", True),
        ("list_lag_s", "1"),
        ("fields", "lang"),
        ("fields", ["lang", 1]),
    ],
)
def test_a_damaged_answer_is_unknown_and_the_others_stay(name: str, value: object) -> None:
    assert answers_of(ALL.as_json() | {name: value}) == (
        ALL.without(name) if name != "fields" else replace(ALL, fields=())
    )
    assert answers_of(value) == NO_ANSWERS


def test_the_lag_of_a_listing_has_a_margin() -> None:
    assert (NO_ANSWERS.lag_s, ProbeAnswers(list_lag_s=0.0).lag_s, ALL.lag_s) == (None, 2.0, 6.5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (".syncd-probe-0123456789abcdef.md", True),
        (".syncd-probe-0123456789abcdef-2.md", True),
        (".syncd-probe-0123456789abcde.md", False),
        ("a/.syncd-probe-0123456789abcdef.md", False),
        (".syncd-probe-0123456789abcdef.md/a", False),
    ],
)
def test_a_throw_away_item_has_a_name_of_its_own(name: str, *, expected: bool) -> None:
    assert is_probe_name(name) is expected
