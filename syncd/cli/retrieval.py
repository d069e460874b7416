"""Prints the results of searches: figures, misses, and the comparison with earlier results."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from syncd.cli.output import print_error, print_line, print_rows
from syncd.core.keys import shown
from syncd.core.plain_text import counted

if TYPE_CHECKING:
    from syncd.queries.retrieval import ChangedResult, Comparison, Figures, Measured, Measurement, SearchAnswer

_HITS_SHOWN = 3
"""Hits that are printed for a question whose file was not found."""


def search_summary(search: "Measurement") -> str:
    """Return the figures of a search in one line, such as "36 of 40 questions found their file, hit@10 0.90"."""
    result = search.figures
    asked = len(search.found)
    parts = []
    if asked < len(search.questions):
        parts.append(f"{asked} of {counted(len(search.questions), 'question')} asked")
    if result.answered:
        its = "its" if result.answered == 1 else "their"
        parts.append(f"{result.found} of {counted(result.answered, 'question')} found {its} file")
        parts.append(_figures(result, search.top))
    if result.failed:
        parts.append(f"{counted(result.failed, 'search')} failed")
    return ", ".join(parts)


def _figures(result: "Figures", top: int) -> str:
    texts = f", {result.texts_found} of {counted(result.texts, 'answer text')} found" if result.texts else ""
    return f"hit@{top} {_number(result.hit_rate)}, MRR {_number(result.mrr)}{texts}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def print_answers(search: "Measurement", *, found: bool) -> None:
    """Print a line for each question that failed or found less than it should.

    found: print a line for the other questions, too.
    """
    incomplete = [answer for answer in search.answers if answer.rank is None or answer.answered is False]
    print_rows(map(_answer_row, search.answers if found else incomplete))
    if search.error:
        print_error(str(search.error))


def _answer_row(answer: "SearchAnswer") -> tuple[str, str, str, str]:
    query, key = repr(answer.question.query), answer.question.key
    if answer.error:
        return "failed", query, key, str(answer.error)
    if answer.rank is None:
        return "not found", query, key, f"{answer.why}. {other_hits(answer)}"
    place = f"rank {answer.rank}, score {answer.score:.2f}"
    if answer.answered is False:
        return "no answer", query, key, f"{place}, but no hit of this file contains the text {answer.question.answer!r}"
    return "found", query, key, place


def other_hits(answer: "SearchAnswer") -> str:
    """Return the first hits of other files, best first, for a question whose file was not found."""
    if not answer.hits:
        return "Nothing else was found either"
    firsts: dict[str, str] = {}
    for rank, hit in enumerate(answer.hits, 1):
        firsts.setdefault(hit.key, f"{rank}. {hit.key} ({hit.score:.2f})")
    more = ", …" if len(firsts) > _HITS_SHOWN else ""
    return f"Found instead: {', '.join([*firsts.values()][:_HITS_SHOWN])}{more}"


def print_comparison(compared: "Comparison", top: int) -> None:
    """Print the figures of earlier and present results, and the questions whose results differ."""
    print_line(f"  before: {_figures(compared.before, top)}")
    print_line(f"  now:    {_figures(compared.now, top)}")
    names = ("better", "worse", "new", "removed", "unknown")
    counts = [f"{len(getattr(compared, name))} {name}" for name in names if getattr(compared, name)]
    print_line(f"  {', '.join([*counts, f'{compared.same} as before'])}")
    rows = [("better", repr(changed.query), changed.expect, _change(changed)) for changed in compared.better]
    rows += [("worse", repr(changed.query), changed.expect, _change(changed)) for changed in compared.worse]
    for name in ("new", "removed", "unknown"):
        rows += [(name, repr(query), expect, "") for query, expect in getattr(compared, name)]
    print_rows(rows)


def _change(change: "ChangedResult") -> str:
    return f"{_result(change.before)} → {_result(change.now)}"


def _result(measured: "Measured") -> str:
    if measured.rank is None:
        return "not found"
    text = {True: " with the answer text", False: " without the answer text", None: ""}[measured.answered]
    return f"rank {measured.rank}{text}"


# -- JSON


def search_fields(search: "Measurement", compared: "Comparison | None") -> dict[str, Any]:
    """Return the fields of a mirror that was asked questions."""
    result = search.figures
    fields: dict[str, Any] = {
        "queries": [_answer_object(answer) for answer in search.answers],
        "retrieval": {"top": search.top, "questions": len(search.questions)} | asdict(result),
    }
    return fields | ({"comparison": _comparison_object(compared)} if compared else {})


def _answer_object(answer: "SearchAnswer") -> dict[str, Any]:
    return {
        "query": answer.question.query,
        "expect": answer.question.key,
        "found": answer.rank is not None,
        "rank": answer.rank,
        "score": answer.score,
        "answer": answer.question.answer or None,
        "answer_rank": answer.answer_rank,
        "why": answer.why or None,
        "error": shown(str(answer.error)) if answer.error else None,
        "hits": [{"key": hit.key, "score": hit.score} for hit in answer.hits],
    }


def _comparison_object(compared: "Comparison") -> dict[str, Any]:
    fields: dict[str, Any] = {"before": asdict(compared.before), "now": asdict(compared.now), "same": compared.same}
    for name in ("better", "worse"):
        fields[name] = [
            {
                "query": changed.query,
                "expect": changed.expect,
                "rank_before": changed.before.rank,
                "rank": changed.now.rank,
                "answered_before": changed.before.answered,
                "answered": changed.now.answered,
            }
            for changed in getattr(compared, name)
        ]
    for name in ("new", "removed", "unknown"):
        fields[name] = [{"query": query, "expect": expect} for query, expect in getattr(compared, name)]
    return fields
