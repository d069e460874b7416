"""Every code of AI Search: "API error codes" of the documentation (October 2026), with its documented status."""

from typing import Any

import pytest

from syncd.cloudflare.error_codes import ALLOCATION_PAUSE_S, CODES, LIMIT_CODES
from syncd.cloudflare.response import Response
from syncd.core.errors import (
    AuthHalt,
    Conflict,
    Halt,
    Later,
    NotFound,
    Park,
    PausedHalt,
    Retry,
    SyncdError,
    TargetMissing,
)
from tests.unit.cloudflare.harness import bad

DOCUMENTED: list[tuple[int, int, type[SyncdError], str]] = [
    (10000, 401, AuthHalt, "check the API token"),
    (7001, 500, Retry, "could not carry out"),
    (7002, 404, TargetMissing, "instance does not exist"),
    (7017, 503, Retry, "could not carry out"),
    (7063, 404, TargetMissing, "namespace does not exist"),
    (7068, 500, Retry, "could not carry out"),
    (7115, 503, Retry, "could not carry out"),
    # instances
    (7010, 400, Park, "supported one"),
    (7018, 400, Halt, "existing gateway"),
    (7012, 400, Halt, "service token"),
    (7013, 403, Halt, "delete one"),
    (7022, 400, Conflict, "exists already"),
    (7036, 400, Park, "chunk_size"),
    (7050, 500, Retry, "could not carry out"),
    (7052, 400, Park, "refused"),
    (7104, 409, Retry, "at the same time"),
    (7111, 400, Park, "refused"),
    # website sources and domains
    *((code, 400, Park, "refused") for code in (7023, 7024, 7028, 7029, 7034, 7035, 7040, 7045, 7047)),
    *((code, 400, Park, "refused") for code in (7090, 7093, 7096, 7101, 7102, 7103)),
    (7091, 409, Conflict, "exists already"),
    (7092, 502, Retry, "could not carry out"),
    # namespaces and service tokens
    (7062, 403, Halt, "another AI Search namespace"),
    (7064, 409, Conflict, "namespace exists already"),
    (7065, 400, Park, "refused"),
    (7066, 400, Park, "not empty"),
    (7067, 400, Park, "refused"),
    (7097, 400, Park, "refused"),
    (7099, 409, Retry, "at the same time"),
    (7075, 404, NotFound, "service token"),
    (7076, 409, Conflict, "exists already"),
    # items
    (7032, 400, PausedHalt, "resume"),
    (7041, 404, NotFound, "item"),
    (7042, 409, Conflict, "key exists"),
    (7044, 503, Retry, "could not carry out"),
    (7053, 400, Halt, "newly created"),
    (7054, 413, Park, "too large"),
    (7055, 400, Park, "no file part"),
    (7056, 400, Park, "metadata"),
    (7058, 400, Park, "filter"),
    (7059, 400, Park, "uploaded"),
    (7060, 400, Park, "file type"),
    (7072, 400, Park, "key is too long"),
    (7095, 429, Retry, "this item later"),
    (7100, 403, Park, "full text"),
    (7113, 499, Retry, "connection ended"),
    (7114, 429, Retry, "overloaded"),
    # jobs
    (7020, 429, Retry, "sync job"),
    (7021, 404, NotFound, "job"),
    (7046, 400, Park, "refused"),
    # searches
    *((code, 400, Park, "refused") for code in (7015, 7016, 7038, 7039, 7057, 7074, 7080, 7089)),
    (7069, 429, Halt, "quota of this month"),
    (7070, 400, Park, "index_method"),
    (7071, 401, Halt, "its own Vectorize index"),
    (7073, 500, Retry, "every search method"),
    (7105, 400, Park, "does not declare"),
    (7049, 500, Retry, "could not carry out"),
    # models and AI Gateway
    (2003, 429, Retry, "fewer requests"),
    (2016, 424, Park, "Guardrails"),
    (2017, 424, Park, "Guardrails"),
    (7011, 500, Retry, "could not carry out"),
    (7019, 400, Park, "models of the instance"),
    (7094, 402, Later, "allocation of Workers AI"),
    (7030, 400, Retry, "took too long"),
    (7031, 400, Retry, "took too long"),
    (7033, 502, Retry, "could not carry out"),
    (7077, 401, Halt, "provider's key in AI Gateway"),
    (7078, 402, Halt, "provider's billing"),
    (7079, 413, Park, "shorter"),
    (7117, 400, Halt, "add the provider's key"),
]


def error_of(status: int, code: int | None, **headers: str) -> SyncdError:
    answer = bad(status, code, headers={name.replace("_", "-"): value for name, value in headers.items()})
    with pytest.raises(SyncdError) as caught:
        Response(answer.status_code, answer.headers, answer.content, "Account / AI Search:Edit").answer()
    return caught.value


@pytest.mark.parametrize(("code", "status", "kind", "words"), DOCUMENTED)
def test_every_documented_code_has_its_remedy(code: int, status: int, kind: type[SyncdError], words: str) -> None:
    error = error_of(status, code)
    assert type(error) is kind
    for part in (words, f"HTTP {status}", f"code {code}"):
        assert part in str(error)


def test_every_documented_code_is_in_the_table_once() -> None:
    codes = [code for code, *_ in DOCUMENTED]
    assert len(codes) == len(set(codes)) == 89
    undocumented = {7000, 7003, 7009}
    assert {code for code in CODES if 7000 <= code < 8000} - undocumented <= set(codes)


@pytest.mark.parametrize("code", [7071, 7077, 7078, 7117])
def test_credentials_that_are_not_the_api_tokens_are_no_refusal_of_the_api_token(code: int) -> None:
    status = next(status for number, status, *_ in DOCUMENTED if number == code)
    error = error_of(status, code)
    assert not isinstance(error, AuthHalt)
    assert "API token, that it has" not in str(error)


@pytest.mark.parametrize("code", [None, 1, 10000, 9109, 7001, 7002, 7003, 7032, 7041, 7042, 7054, 7100, 2003])
def test_a_429_is_a_rate_limit_whatever_code_stands_in_it(code: int | None) -> None:
    error = error_of(429, code)
    assert type(error) is Retry
    assert "fewer requests" in str(error)
    assert (error.ambiguous, error.scope, error.after_s) == (False, "account", None)


@pytest.mark.parametrize("code", sorted(LIMIT_CODES))
def test_a_code_with_a_meaning_of_its_own_keeps_it_in_a_429(code: int) -> None:
    assert str(error_of(429, code)).startswith(CODES[code].text)


@pytest.mark.parametrize("status", [500, 502, 503, 520])
@pytest.mark.parametrize("code", [10000, 9109, 7002, 7063, 7032, 7041, 7042, 7062, 10013, 12345, None])
def test_the_code_of_a_service_in_trouble_is_not_certain(status: int, code: int | None) -> None:
    error = error_of(status, code)
    assert type(error) is Retry
    assert error.ambiguous


@pytest.mark.parametrize("code", [7095, 7114, 7020])
def test_a_limit_of_one_item_or_one_instance_is_not_one_of_the_account(code: int) -> None:
    error = error_of(429, code, retry_after="40")
    assert isinstance(error, Retry)
    assert error.scope == ("instance" if code == 7114 else "request")
    assert (error.after_s, error.ambiguous) == (40, False)


def test_an_overload_in_the_older_form_may_have_been_done() -> None:
    error = error_of(500, 7114)
    assert isinstance(error, Retry)
    assert (error.scope, error.ambiguous) == ("instance", True)


@pytest.mark.parametrize(("headers", "after_s"), [({}, ALLOCATION_PAUSE_S), ({"retry_after": "70"}, 70.0)])
def test_an_exceeded_allocation_is_tried_again_much_later(headers: Any, after_s: float) -> None:
    error = error_of(402, 7094, **headers)
    assert isinstance(error, Later)
    assert error.after_s == after_s


def test_an_interrupted_upload_is_looked_up_before_it_is_sent_again() -> None:
    for code in (7113, None):
        error = error_of(499, code)
        assert isinstance(error, Retry)
        assert error.ambiguous
