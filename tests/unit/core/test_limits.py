import pytest

from syncd.core.limits import Limits
from syncd.core.plain_text import megabytes

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


def test_the_problem_of_a_long_key_names_the_remedy() -> None:
    problem = Limits(max_key_length=10).refuse("a" * 11, 1)
    assert problem is not None
    assert problem.message == (
        'the name has 11 characters, the target takes 10; shorten it, or set long_names = "shorten"'
    )


def test_the_problem_of_a_large_file_names_both_sizes() -> None:
    problem = Limits(max_file_size=4_194_304).refuse("big.pdf", 5_200_000)
    assert problem is not None
    assert problem.message == "5.2 MB is over the target's 4.2 MB; make the file smaller, or raise max_file_size"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (2_000_000_000, "2.0 GB")],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert megabytes(size) == text
