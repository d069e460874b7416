"""When failing or unanswered requests are shown as trouble, and when it is over."""

from syncd.core.requests import (
    GRACE_S,
    SILENT_S,
    UPLOAD_BYTES_PER_S,
    Contact,
    current_contact,
    is_watched,
    reporting_to,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make() -> tuple[Contact, Clock]:
    clock = Clock()
    return Contact(clock, lambda: clock.now + 1e9), clock


def reason(contact: Contact) -> str | None:
    trouble = contact.trouble()
    return trouble.reason if trouble else None


def test_a_failure_is_trouble_after_a_while_and_until_an_answer() -> None:
    contact, clock = make()
    contact.failed("refused", 0.3)
    assert reason(contact) is None, "most requests succeed at the next try"
    clock.now += GRACE_S - 0.01
    contact.failed("refused again", 0.3)
    assert reason(contact) is None
    clock.now += 0.01
    assert reason(contact) == "refused again"
    contact.answered()
    assert (reason(contact), contact.answered_at) == (None, clock.now + 1e9)


def test_a_long_pause_is_trouble_at_once_and_names_the_next_try() -> None:
    contact, clock = make()
    contact.failed("429", GRACE_S)
    trouble = contact.trouble()
    assert trouble
    assert (trouble.reason, trouble.next_at) == ("429", clock.now + GRACE_S)


def test_a_remote_that_answers_nothing_is_silent_and_a_large_body_has_more_time() -> None:
    contact, clock = make()
    with contact.under_way(UPLOAD_BYTES_PER_S, 2.0):
        clock.now += SILENT_S + 3.0 - 0.01
        assert reason(contact) is None
        clock.now += 0.01
        assert "does not answer" in str(reason(contact))
    assert reason(contact) is None, "nothing is under way"


def test_an_answer_to_another_request_gives_those_under_way_more_time() -> None:
    contact, clock = make()
    with contact.under_way(0, 0.0):
        clock.now += SILENT_S
        contact.answered()
        assert reason(contact) is None
        clock.now += SILENT_S
        assert reason(contact) is not None


def test_the_requests_of_a_block_report_to_its_object_which_forgets_failures_at_the_end() -> None:
    contact, _ = make()
    assert not is_watched()
    with reporting_to(contact):
        assert (is_watched(), current_contact()) == (True, contact)
        current_contact().failed("refused", 60.0)
        assert reason(contact) == "refused"
    assert (is_watched(), reason(contact)) == (False, None)
