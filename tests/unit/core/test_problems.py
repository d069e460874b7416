import pytest

from syncd.core.model import Record
from syncd.core.plain_text import megabytes
from syncd.core.problems import CONTENT_FAULTS, FAULTS, TRIES_S, Limits, index_problem, unindexable

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


DOCUMENTED = [
    "unknown_error",
    "over_size",
    "unsupported_type",
    "file_not_found",
    "file_is_corrupt",
    "file_is_password_locked",
    "invalid_pdf",
    "unable_to_convert_to_markdown",
    "markdown_too_large",
    "markdown_conversion_empty",
    "file_content_empty",
    "chunk_too_large_for_storage",
    "timeout_error",
    "file_length_exceed_embedding_model",
    "file_too_large_for_embedder",
]


def test_the_table_holds_the_documented_values_and_no_other() -> None:
    assert sorted(FAULTS) == sorted(DOCUMENTED)


def test_all_but_two_are_faults_of_the_content() -> None:
    assert set(DOCUMENTED) - CONTENT_FAULTS == {"unknown_error", "timeout_error"}


@pytest.mark.parametrize("error", DOCUMENTED)
def test_every_error_value_has_a_meaning_and_a_remedy(error: str) -> None:
    problem = index_problem("a b.pdf", error, "The service's words.")
    meaning, remedy = FAULTS[error]
    assert (problem.key, problem.kind) == ("a b.pdf", "index_error")
    assert problem.message.startswith(f"stored, but not searchable: {meaning} ({error}); the service says: The service")
    assert "syncd retry 'a b.pdf'" in problem.message
    assert (remedy or "it is indexed again by itself") in problem.message


def test_a_locked_pdf_says_all_of_it() -> None:
    assert index_problem("a.pdf", "file_is_password_locked", "Document is encrypted").message == (
        "stored, but not searchable: the file is locked with a password (file_is_password_locked); the service says:"
        " Document is encrypted; remove the password (or have it indexed again as it is: syncd retry a.pdf)"
    )


@pytest.mark.parametrize(("error", "named"), [("new_error", "new_error"), (None, "no error given")])
def test_an_unknown_error_value_is_temporary_and_is_shown(error: str | None, named: str) -> None:
    message = index_problem("a.md", error).message
    assert f"indexing failed ({named}); it is indexed again by itself" in message
    assert error not in CONTENT_FAULTS


@pytest.mark.parametrize(("why", "said"), [(None, False), ("", False), ("unknown_error", False), ("Busy", True)])
def test_a_reason_that_only_repeats_the_value_is_not_quoted(why: str | None, said: bool) -> None:
    assert ("the service says" in index_problem("a.md", "unknown_error", why).message) is said


@pytest.mark.parametrize(("tries", "words"), [(0, "by itself"), (1, "1 time in vain"), (5, "5 times in vain")])
def test_the_message_says_whether_a_retry_is_due(tries: int, words: str) -> None:
    assert words in index_problem("a.md", "timeout_error", tries=tries).message


def test_tries_are_ever_further_apart() -> None:
    assert list(TRIES_S) == sorted(set(TRIES_S))


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


def test_content_that_was_never_written_is_not_unindexable() -> None:
    assert not unindexable(None, "x")
    assert not unindexable(Record("a", "r", "x", 1, 0.0, status="error", error="invalid_pdf"), None)
