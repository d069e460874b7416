"""The page of troubleshooting quotes the messages of the program, and leaves none out that a person must understand."""

import re

from syncd.core.problems import FAULTS
from tests.unit.docs.messages import LETTERS, ROOT, Sources, all_texts, letters, quotes

PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^### (.+)$", PAGE, re.MULTILINE)
LISTED = re.findall(r"^- `(.+)`$", PAGE, re.MULTILINE)
"""The messages that the page lists as needing no explanation."""
FEWEST_LETTERS = 3
"""The smallest number of letters of a quotation, so that it does not stand in any text by chance."""


def quoted() -> list[str]:
    """Return every message that the page quotes, without the marks of code."""
    return [heading.strip("`") for heading in HEADINGS] + LISTED


def uncovered(texts: "set[tuple[str, str]]", quotations: list[str]) -> list[str]:
    """Return the texts of errors in which none of the quotations stands."""
    return [
        f"{module}: {text}"
        for module, text in sorted(texts)
        if letters(text) >= LETTERS and not any(quotes(quotation, text) for quotation in quotations)
    ]


def test_every_heading_is_a_message_in_the_marks_of_code() -> None:
    assert [heading for heading in HEADINGS if not re.fullmatch(r"`[^`]+`", heading)] == []


def test_every_quoted_message_stands_in_the_code() -> None:
    # Most messages stand in the code word for word. One search for them is fast.
    together = "\0".join(all_texts())
    varied = [message for message in quoted() if message.strip("… ") not in together]
    strange = [message for message in varied if not any(quotes(message, text) for text in all_texts())]
    assert strange == [], "correct these words in docs/troubleshooting.md"
    assert [message for message in quoted() if letters(message) < FEWEST_LETTERS] == []


def test_every_message_that_ends_a_command_is_explained_or_listed() -> None:
    missing = uncovered(set(Sources().raised()), quoted())
    assert missing == [], "explain these messages in docs/troubleshooting.md, or list them at its end"


def test_a_changed_and_a_new_message_are_found() -> None:
    texts = {("sync/guard.py", "path … is empty, but … of its files are known")}
    assert uncovered(texts, ["is empty, but … of its files"]) == []
    assert uncovered(texts, ["is bare, but … of its files"]) == [f"sync/guard.py: {next(iter(texts))[1]}"]


def test_no_message_is_explained_twice() -> None:
    assert len(set(HEADINGS)) == len(HEADINGS)
    assert set(LISTED).isdisjoint(heading.strip("`") for heading in HEADINGS)


def test_the_page_has_every_error_of_the_index_with_its_meaning_and_remedy() -> None:
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert [(code, meaning) for code, meaning, _ in rows] == [(code, fault.meaning) for code, fault in FAULTS.items()]
    assert [code for code, _, remedy in rows if not remedy.startswith(FAULTS[code].remedy or "none: tried again")] == []
