"""Every documented indexing error, what follows from it, and what the user is told."""

import pytest

from syncd.core.model import Problem
from syncd.core.problems import (
    CONTENT_FAULTS,
    FAULTS,
    FULL,
    LATER,
    LATER_TRIES_S,
    NOT_TRIED,
    TRIES_S,
    Consequence,
    full_message,
    index_problem,
    not_indexed,
    skipped_problem,
    tries_of,
)
from syncd.emulator.ai_search_files import INDEXING_ERRORS

DOCUMENTED: dict[Consequence, tuple[str, ...]] = {
    "content": (
        "over_size",
        "unsupported_type",
        "file_is_corrupt",
        "file_is_password_locked",
        "invalid_pdf",
        "unable_to_convert_to_markdown",
        "markdown_too_large",
        "markdown_conversion_empty",
        "file_content_empty",
        "chunk_too_large_for_storage",
        "file_length_exceed_embedding_model",
        "file_too_large_for_embedder",
        "workers_ai_invalid_input",
        "embedder_modality_unsupported",
    ),
    "again": (
        "unknown_error",
        "file_not_found",
        "timeout_error",
        "error_embedding_data_with_workers_ai",
        "workers_ai_internal_error",
        "workers_ai_timeout_error",
        "error_external_model_unknown_error",
        "r2_unknown_error",
        "r2_internal_error",
        "vectorize_ingestion_timeout",
        "vectorize_upstream_error",
        "hybrid_search_indexing_failed",
    ),
    "later": (
        "workers_ai_free_allocation_exceeded",
        "workers_ai_out_of_capacity_error",
        "error_external_model_rate_limited",
        "ai_gateway_rate_limited",
        "vectorize_rate_limited",
        "vectorize_in_invalid_state",
    ),
    "setting": (
        "invalid_url",
        "ai_gateway_insufficient_wholesale_credits",
        "error_external_model_unauthorized",
        "ai_gateway_request_blocked_firewall",
        "ai_gateway_dlp_blocked",
        "ai_gateway_response_blocked_firewall",
        "vectorize_not_found",
        "vectorize_unauthorized",
        "managed_resources_config_error",
        "r2_not_enabled",
        "bucket_not_found",
        "bucket_unauthorized",
        "external_source_missing_api_token",
        "bucket_name_invalid",
        "invalid_custom_header",
        "ai_gateway_not_configured",
    ),
    "full": ("ai_search_is_full", "hybrid_search_is_full"),
}
EACH = [(error, consequence) for consequence, errors in DOCUMENTED.items() for error in errors]


@pytest.mark.parametrize(("error", "consequence"), EACH)
def test_every_documented_error_has_its_consequence(error: str, consequence: str) -> None:
    assert FAULTS[error].consequence == consequence


def test_the_table_holds_the_documented_errors_and_no_other() -> None:
    errors = [error for error, _ in EACH]
    assert sorted(FAULTS) == sorted(errors)
    assert len(errors) == len(set(errors))
    assert set(INDEXING_ERRORS) == FAULTS.keys()


@pytest.mark.parametrize("error", FAULTS)
def test_an_error_has_either_a_remedy_or_tries(error: str) -> None:
    assert FAULTS[error].meaning
    assert bool(FAULTS[error].remedy) is not bool(tries_of(error))


@pytest.mark.parametrize("error", FAULTS)
def test_every_error_is_told_with_its_meaning_and_what_follows(error: str) -> None:
    problem = index_problem("a b.pdf", error, "The service's words.")
    fault = FAULTS[error]
    assert (problem.key, problem.kind) == ("a b.pdf", "index_error")
    expected = f"stored, but not searchable: {fault.meaning} ({error}); the service says: The service"
    assert problem.message.startswith(expected)
    assert "syncd retry 'a b.pdf'" in problem.message
    assert (fault.remedy or "syncd has it indexed again") in problem.message
    assert ("longer pauses" in problem.message) is (error in LATER)
    assert "UTC" not in problem.message, "the newest text names no time"


@pytest.mark.parametrize(
    ("error", "why", "tries", "text"),
    [
        (
            "file_is_password_locked",
            "Document is encrypted",
            0,
            (
                "the file is locked with a password (file_is_password_locked); the service says: Document is encrypted;"
                " remove the password (or have it indexed again as it is: syncd retry a.md)"
            ),
        ),
        (
            "ai_gateway_dlp_blocked",
            None,
            0,
            (
                "data loss prevention of AI Gateway blocked its text (ai_gateway_dlp_blocked); see the rules of the"
                " instance's AI Gateway, and the content; then have it indexed again: syncd retry a.md"
            ),
        ),
        (
            "ai_search_is_full",
            "Full.",
            0,
            (
                "the AI Search instance is full (ai_search_is_full); the service says: Full; ask Cloudflare for a"
                " higher limit, use another instance, or delete files that need not be searched; then have it indexed"
                " again: syncd retry a.md"
            ),
        ),
        (
            "timeout_error",
            None,
            1,
            (
                "the service took too long (timeout_error); it was indexed again 1 time in vain; once more with: syncd"
                " retry a.md"
            ),
        ),
        (
            "vectorize_rate_limited",
            None,
            7,
            (
                "Vectorize asks for fewer requests (vectorize_rate_limited); it was indexed again 7 times in vain; once"
                " more with: syncd retry a.md"
            ),
        ),
        (
            "vectorize_rate_limited",
            None,
            0,
            (
                "Vectorize asks for fewer requests (vectorize_rate_limited); syncd has it indexed again, with ever"
                " longer pauses (at once: syncd retry a.md)"
            ),
        ),
        (None, None, 0, "indexing failed (no error given); syncd has it indexed again (at once: syncd retry a.md)"),
    ],
)
def test_the_message_says_the_error_the_remedy_and_the_command(
    error: str | None, why: str | None, tries: int, text: str
) -> None:
    expected = Problem("a.md", "index_error", f"stored, but not searchable: {text}")
    assert index_problem("a.md", error, why, tries) == expected
    assert not_indexed("a.md", "error", error, why, tries) == expected


@pytest.mark.parametrize(("error", "named"), [("new_error", "new_error"), (None, "no error given")])
def test_an_unknown_error_value_is_temporary_and_is_shown(error: str | None, named: str) -> None:
    message = index_problem("a.md", error).message
    assert f"indexing failed ({named}); syncd has it indexed again" in message
    assert tries_of(error) == TRIES_S


@pytest.mark.parametrize(("why", "said"), [(None, False), ("", False), ("unknown_error", False), ("Busy", True)])
def test_a_reason_that_only_repeats_the_value_is_not_quoted(why: str | None, said: bool) -> None:
    assert ("the service says" in index_problem("a.md", "unknown_error", why).message) is said


@pytest.mark.parametrize(
    ("tries", "words"), [(0, "syncd has it indexed"), (1, "1 time in vain"), (5, "5 times in vain")]
)
@pytest.mark.parametrize("error", ["timeout_error", "vectorize_rate_limited"])
def test_the_message_says_whether_a_retry_is_due(tries: int, words: str, error: str) -> None:
    assert words in index_problem("a.md", error, tries=tries).message


@pytest.mark.parametrize("tries", [TRIES_S, LATER_TRIES_S])
def test_tries_are_ever_further_apart(tries: tuple[float, ...]) -> None:
    assert list(tries) == sorted(set(tries))


def test_a_daily_quota_is_over_before_the_last_try() -> None:
    assert 24 * 3600 < sum(LATER_TRIES_S) < 36 * 3600
    assert LATER_TRIES_S[0] > TRIES_S[0]


def test_nothing_is_tried_that_cannot_change_by_itself() -> None:
    assert CONTENT_FAULTS | FULL | set(DOCUMENTED["setting"]) == NOT_TRIED


@pytest.mark.parametrize("error", sorted(FULL))
def test_a_full_instance_halts_with_advice(error: str) -> None:
    message = full_message(error)
    for words in (error, "higher limit", "another instance", "delete files", "syncd retry"):
        assert words in message
    assert ("resume" in message) is (error == "hybrid_search_is_full")


# -- skipped


MAKE_SMALLER = "make it smaller or save it in another format, or leave it out with exclude"


@pytest.mark.parametrize(
    ("error", "why", "text"),
    [
        (None, None, f", as it does with files that are too large or of another type; {MAKE_SMALLER}"),
        (
            "over_size",
            None,
            ": the file is too large to be indexed (over_size); split it, or leave it out with exclude",
        ),
        (
            "over_size",
            "over_size",
            ": the file is too large to be indexed (over_size); split it, or leave it out with exclude",
        ),
        ("timeout_error", None, f": the service took too long (timeout_error); {MAKE_SMALLER}"),
        ("new_error", None, f" (new_error); {MAKE_SMALLER}"),
        (None, "The file has 5 MB.", f"; the service says: The file has 5 MB; {MAKE_SMALLER}"),
    ],
)
def test_a_skipped_file_is_told_with_its_reason(error: str | None, why: str | None, text: str) -> None:
    again = "(or have it tried again: syncd retry 'a b.md')"
    message = f"stored, but not searchable: the service skipped it{text} {again}"
    assert not_indexed("a b.md", "skipped", error, why) == Problem("a b.md", "skipped", message)
    assert skipped_problem("a b.md", error, why).message == message
