"""The glossary explains every word that commands and logs show in place of a sentence."""

import re
from typing import get_args

import pytest

from syncd.core.model import IndexStatus, Reason
from syncd.state.history import State
from tests.unit.docs.messages import ROOT

WORDS = re.findall(r"^## (.+)$", (ROOT / "docs/glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
ACTIONS = ("put", "delete", "adopt", "forget")


@pytest.mark.parametrize("shown", [ACTIONS, *map(get_args, (Reason, State, IndexStatus))])
def test_the_glossary_has_every_shown_word(shown: tuple[str, ...]) -> None:
    assert set(shown) <= set(WORDS)


def test_the_words_stand_in_the_order_of_the_alphabet() -> None:
    assert sorted(set(WORDS)) == WORDS
