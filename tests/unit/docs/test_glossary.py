"""The glossary explains every word that commands and logs show in place of a sentence."""

import re
from typing import get_args

import pytest

from syncd.core.model import HARMLESS, IndexStatus, ProblemKind, Reason
from syncd.state.history import State
from tests.unit.docs.messages import ROOT

WORDS = re.findall(r"^## (.+)$", (ROOT / "docs/glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
ACTIONS = ("put", "delete", "adopt", "forget")


@pytest.mark.parametrize("shown", [ACTIONS, *map(get_args, (Reason, State, IndexStatus))])
def test_the_glossary_has_every_shown_word(shown: tuple[str, ...]) -> None:
    assert set(shown) <= set(WORDS)


def test_the_words_stand_in_the_order_of_the_alphabet() -> None:
    assert sorted(set(WORDS)) == WORDS


def test_the_reference_of_json_has_every_kind_of_problem_and_whether_it_is_harmless() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (yes|no) \|$", (ROOT / "docs/reference/json.md").read_text(), re.MULTILINE)
    assert dict(rows) == {kind: "no" if kind in HARMLESS else "yes" for kind in get_args(ProblemKind)}
