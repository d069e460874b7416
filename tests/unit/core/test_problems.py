from dataclasses import replace

import pytest

from syncd.core.model import Problem, Record
from syncd.core.plain_text import over_limit, shown_size
from syncd.core.problems import Limits, unindexable

LIMITS = Limits(max_key_length=10, max_file_size=100, extensions=frozenset({".md", ".tar.gz"}), empty=False)


@pytest.mark.parametrize(
    ("key", "size", "kind"),
    [
        ("a" * 6 + ".md", 50, None),
        ("a" * 7 + ".md", 50, None),
        ("a" * 8 + ".md", 50, "key_too_long"),
        ("\U0001f600" * 7 + ".md", 50, None),  # characters, not bytes
        ("a.md", 99, None),
        ("a.md", 100, None),
        ("a.md", 101, "too_large"),
        ("a.md", 1, None),
        ("a.md", 0, "empty"),
        ("A.MD", 1, None),
        ("a.txt", 1, "unsupported_type"),
        ("a.tar.gz", 1, None),
        ("a.b.md", 1, None),
        ("a.gz", 1, "unsupported_type"),
        ("md", 1, "unsupported_type"),
        (".md", 1, None),
        ("x.md/a", 1, "unsupported_type"),  # the name counts, not the folder
        ("a.txt", 101, "unsupported_type"),
    ],
)
def test_a_target_takes_what_is_within_its_limits(key: str, size: int, kind: str | None) -> None:
    problem = LIMITS.refuse(key, size)
    assert kind == (problem.kind if problem else None)
    assert problem is None or problem.key == key


def test_without_a_list_every_type_is_taken_and_empty_files_by_default() -> None:
    assert Limits().refuse("no-ending", 0) is None


@pytest.mark.parametrize(
    ("key", "taken"),
    [("a" * 19, True), ("a" * 20, True), ("a" * 21, False), ("\u00e9" * 15, True), ("\u00e9" * 15 + "a", False)],
)
def test_short_names_have_limits(key: str, taken: bool) -> None:
    problem = Limits(max_key_length=10, max_key_bytes=10, long_key_length=20, long_key_bytes=30).refuse(key, 1)
    assert (problem is None) is taken
    assert problem is None or problem.message.endswith("; shorten it")


@pytest.mark.parametrize(
    ("limits", "key", "message"),
    [
        (
            Limits(max_key_length=10),
            "a" * 11,
            'the name has 11 characters, the target takes 10; shorten it, or set long_names = "shorten"',
        ),
        (
            Limits(max_key_length=10, max_key_bytes=10),
            "\u00e9" * 6,
            'the name has 12 bytes, the target takes 10; shorten it, or set long_names = "shorten"',
        ),
        (
            Limits(max_key_length=10, long_key_length=20),
            "a" * 21,
            "the name has 21 characters, the target takes 20; shorten it",
        ),
        (
            Limits(max_key_length=10, max_key_bytes=10, long_key_length=20, long_key_bytes=30),
            "\u00e9" * 16,
            "the name has 32 bytes, the target takes 30; shorten it",
        ),
    ],
)
def test_the_problem_of_a_long_key_names_the_remedy(limits: Limits, key: str, message: str) -> None:
    assert limits.refuse(key, 1) == Problem(key, "key_too_long", message)


MIB = 1024 * 1024
BY_TYPE = Limits(
    max_file_size=10 * MIB,
    most_file_size=10 * MIB,
    small_file_size=4 * MIB,
    large_extensions=frozenset({".md", ".log"}),
    small_remedy="save it as text",
)


@pytest.mark.parametrize(
    ("limits", "key", "size", "message"),
    [
        (
            Limits(max_file_size=4_194_304),
            "big.pdf",
            5_500_000,
            "5.2 MiB is over the target's 4 MiB; make the file smaller, or raise max_file_size",
        ),
        (
            Limits(max_file_size=100),
            "a",
            101,
            "101 B is over the target's 100 B; make the file smaller, or raise max_file_size",
        ),
        (
            Limits(max_file_size=4 * MIB),
            "a",
            4 * MIB + 1,
            over_limit(4 * MIB + 1, 4 * MIB) + "; make the file smaller, or raise max_file_size",
        ),
        (BY_TYPE, "a.pdf", 5 * MIB, "5 MiB is over the target's 4 MiB for this type of file; save it as text"),
        (
            BY_TYPE,
            "a.md",
            11 * MIB,
            "11 MiB is over the target's 10 MiB; make the file smaller, or leave it out with exclude",
        ),
        (
            replace(BY_TYPE, max_file_size=2 * MIB),
            "a.pdf",
            5 * MIB,
            "5 MiB is over the target's 2 MiB; make the file smaller, or raise max_file_size",
        ),
        (
            replace(BY_TYPE, max_file_size=4 * MIB),
            "a.pdf",
            5 * MIB,
            "5 MiB is over the target's 4 MiB for this type of file; save it as text",
        ),
        (
            replace(BY_TYPE, max_file_size=4 * MIB),
            "a.md",
            5 * MIB,
            "5 MiB is over the target's 4 MiB; make the file smaller, or raise max_file_size",
        ),
    ],
)
def test_the_problem_of_a_large_file_names_both_sizes(limits: Limits, key: str, size: int, message: str) -> None:
    assert limits.refuse(key, size) == Problem(key, "too_large", message)


@pytest.mark.parametrize(
    ("key", "most"),
    [("a.md", 10), ("A.MD", 10), ("a.pdf", 4), ("a.log", 10), ("a.log.gz", 4), ("x.md/a", 4), ("md", 4), (".md", 10)],
)
def test_a_file_may_be_as_large_as_its_type_allows(key: str, most: int) -> None:
    assert BY_TYPE.size_limit(key) == most * MIB
    assert BY_TYPE.refuse(key, most * MIB) is None
    assert BY_TYPE.refuse(key, most * MIB + 1) is not None


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1_500_000, "1.4 MiB"),
        (4 * 1024 * 1024, "4 MiB"),
        (10 * 1024 * 1024, "10 MiB"),
        (2 * 1024**3, "2 GiB"),
    ],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert shown_size(size) == text


def test_a_size_just_over_a_limit_is_shown_in_bytes() -> None:
    text = "4,194,305 bytes is over the target's 4,194,304 bytes (4 MiB)"
    assert over_limit(4 * MIB + 1, 4 * MIB) == text


@pytest.mark.parametrize(
    ("status", "error", "checksum", "expected"),
    [
        ("error", "invalid_pdf", "x", True),
        ("error", "invalid_pdf", "y", False),
        ("error", "timeout_error", "x", False),
        ("error", None, "x", False),
        ("queued", "invalid_pdf", "x", False),
        ("completed", None, "x", False),
    ],
)
def test_only_the_content_that_the_remote_refused_is_unindexable(
    status: str, error: str | None, checksum: str, expected: bool
) -> None:
    record = Record("a", "r", "x", 1, 0.0, status=status, error=error)  # type: ignore[arg-type]
    assert unindexable(record, checksum) is expected


def test_content_without_a_checksum_is_not_unindexable() -> None:
    assert not unindexable(Record("a", "r", "x", 1, 0.0, status="error", error="invalid_pdf"), None)
