"""Which states become a notice, how often, and what the message says."""

import json

import pytest

from syncd.service.notices import TEXT_LIMIT, Conditions, Notice, NoticeBoard

IN_STEP: Conditions = {"halted": None, "refused": None, "degraded": None}


def told(board: NoticeBoard, *conditions: Conditions) -> list[tuple[str, str | None]]:
    return [(each.state, each.topic) for one in conditions for each in board.update("docs", one, 0.0)]


def test_a_halt_is_told_once_and_its_end_once() -> None:
    halted: Conditions = {"halted": "the folder is gone"}
    states = told(NoticeBoard(), IN_STEP, halted, {}, halted, {"halted": "it is still gone"}, {}, IN_STEP, IN_STEP)
    assert states == [("halted", "halted"), ("recovered", None)]


def test_a_refusal_is_a_halt_of_its_own_kind_and_both_end_together() -> None:
    states = told(NoticeBoard(), {"halted": "no token"}, {"refused": "too many deletes"}, IN_STEP)
    assert states == [("halted", "halted"), ("halted", "refused"), ("recovered", None)]


def test_other_topics_have_their_own_end() -> None:
    board = NoticeBoard()
    assert told(board, {"problems": "20 items"}, {"degraded": "for 5 min"}, IN_STEP) == [
        ("problems", "problems"),
        ("degraded", "degraded"),
        ("recovered", None),
    ]
    assert board.raised("docs") == ["problems"]
    assert told(board, {"problems": None, "foreign": None}) == [("recovered", "problems")]


def test_what_an_earlier_process_has_told_is_not_told_again() -> None:
    board = NoticeBoard()
    assert not board.knows("docs")
    board.restore("docs", ["halted"])
    assert told(board, {"halted": "no token"}, IN_STEP) == [("recovered", None)]
    assert (board.knows("docs"), board.knows("other")) == (True, False)


def test_a_message_has_a_text_for_people_that_calls_nobody() -> None:
    (notice,) = NoticeBoard().update("docs", {"halted": "<!channel> @everyone.md \u202e\n\udcff"}, 0.0)
    body = json.loads(json.dumps(notice.body()))
    assert (body["mirror"], body["state"], body["kind"]) == ("docs", "halted", "halted")
    assert body["detail"] == "<!channel> @everyone.md \\u202e\\n\\xff"
    assert body["time"] == "1970-01-01T00:00:00Z"
    assert body["text"] == body["content"]
    assert "mirror docs on " in body["text"]
    assert "@everyone" not in body["text"]
    assert "<" not in body["text"]
    assert body["allowed_mentions"] == {"parse": []}


@pytest.mark.parametrize("length", [0, TEXT_LIMIT, TEXT_LIMIT * 3])
def test_a_text_is_short_enough_for_every_service(length: int) -> None:
    assert len(Notice(None, "budget", "budget", "@" * length, 0.0).text) <= TEXT_LIMIT
