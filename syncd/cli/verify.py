"""verify: compares the entries of a target with the folder, and measures the hits of its search."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from syncd.cli import completion
from syncd.cli.completion import file_path
from syncd.cli.context import (
    GlobalOptions,
    as_json_option,
    chosen_mirrors,
    command,
    mirrors_argument,
    run_async,
    shard_field,
)
from syncd.cli.output import (
    Bar,
    ProgressDisplay,
    print_error,
    print_json,
    print_line,
    print_note,
    print_rows,
    progress,
    shard_suffix,
)
from syncd.cli.retrieval import print_answers, print_comparison, search_fields, search_summary
from syncd.core.errors import most_serious
from syncd.core.keys import shown
from syncd.core.plain_text import counted, utc_time
from syncd.service import signals

if TYPE_CHECKING:
    from syncd.config.schema import Config
    from syncd.queries.questions import MirrorQuestions
    from syncd.queries.retrieval import Comparison, Measurement
    from syncd.queries.saved_run import SavedRun, SavePlace
    from syncd.queries.verify import Verdict
    from syncd.service.build import Session

_ASKING = "asking the search"


class _Share(click.FloatRange):
    """A number from 0 to 1."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number. The library takes the value "nan" for one within the range."""
        found: float = super().convert(value, param, ctx)
        if isnan(found):
            self.fail(f"{value!r} is not in the range 0<=x<=1.", param, ctx)
        return found


@dataclass(slots=True)
class _Run:
    """One run of the command.

    names: the chosen mirrors. top: the number of hits that count. min_hit: the share of the questions that must find
    their file, None for all. names_found: also print the questions that found their file. verdicts: the results by
    mirror, which grow.
    """

    config: "Config"
    names: Sequence[str]
    questions: "MirrorQuestions"
    top: int
    min_hit: float | None
    names_found: bool
    save: "SavePlace | None"
    against: "SavedRun | None"
    deep: bool
    as_json: bool
    quiet: bool
    verdicts: "dict[str, Verdict]" = field(default_factory=dict)

    @property
    def questions_only(self) -> bool:
        """Whether the folder is not compared: a smoke test costs one request for each question."""
        return bool(self.questions) and not self.deep

    @property
    def searches(self) -> "dict[str, Measurement]":
        """The questions to each mirror that was asked, and their answers."""
        return {name: verdict.search for name, verdict in self.verdicts.items() if verdict.search}

    @property
    def asked(self) -> int:
        """The number of questions that were answered or failed."""
        return sum(len(search.found) for search in self.searches.values())

    def describe(self) -> str:
        """Return the text for an interrupted run: how much of it was done."""
        total = sum(map(len, self.questions.values()))
        asked = f"{self.asked} of {counted(total, 'question')} asked; " if total else ""
        return f"verify: {asked}nothing was changed"


@command()
@mirrors_argument
@click.option("--deep", is_flag=True, help="Download every entry and compare its content.")
@click.option(
    "--query", metavar="Q", multiple=True, help="Ask the search of the target. Without --deep, do nothing else."
)
@click.option(
    "--expect",
    metavar="FILE",
    multiple=True,
    shell_complete=completion.files,
    help="The file or folder that the query before it should find.",
)
@click.option(
    "--queries",
    metavar="FILE",
    type=file_path,
    help="Ask the questions of a .jsonl or .csv file: query, expect and, if wanted, answer.",
)
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(1, 50),
    default=10,
    help="The number of hits that count.",
)
@click.option(
    "--min-hit",
    metavar="X",
    type=_Share(),
    help="The share of the questions that must find their file, such as 0.9.  [default: all]",
)
@click.option("--save", metavar="FILE", type=file_path, help="Keep the results in this file.")
@click.option("--against", metavar="FILE", type=file_path, help="Compare with the results in this file.")
@as_json_option
@click.pass_obj
def verify(  # noqa: PLR0913 - the options of the command
    options: GlobalOptions,
    mirrors: tuple[str, ...],
    *,
    query: tuple[str, ...],
    expect: tuple[str, ...],
    queries: Path | None,
    top: int,
    min_hit: float | None,
    save: Path | None,
    against: Path | None,
    deep: bool,
    as_json: bool,
) -> int:
    """Compare the folder with the target and change nothing.

    The exit code is 6 if there is a difference, if a query does not find its file, or if fewer than --min-hit do.
    """
    if queries and (query or expect):
        raise click.UsageError("--queries stands in place of --query and --expect")
    if not (queries or query or expect) and (save or against or min_hit is not None):
        raise click.UsageError("--min-hit, --save and --against need --queries FILE or --query Q --expect FILE")
    config = options.load()
    names = chosen_mirrors(config, mirrors)
    questions = _questions(config, mirrors, query, expect, queries)
    from syncd.queries.saved_run import SavePlace, read_saved_run

    run = _Run(
        config,
        names,
        questions,
        top,
        min_hit,
        names_found=not queries,
        # The files are checked before anything is asked.
        save=SavePlace(save) if save else None,
        against=read_saved_run(against, top) if against else None,
        deep=deep,
        as_json=as_json,
        quiet=options.quiet,
    )
    signals.describe_with(run.describe)
    try:
        run_async(_verify(run))
    except signals.Interrupted as interruption:
        if run.asked:
            _print_results(run, signals.exit_code(interruption.number))
        raise

    code = most_serious(verdict.exit_code for verdict in run.verdicts.values())
    _print_results(run, code)
    _save(run)
    return code


def _questions(
    config: "Config", mirrors: Sequence[str], query: Sequence[str], expect: Sequence[str], queries: Path | None
) -> "MirrorQuestions":
    if not (queries or query or expect):
        return {}
    from syncd.queries.questions import questions_of_file, questions_of_options

    if queries:
        return questions_of_file(config, mirrors, queries)
    return questions_of_options(config, mirrors, query, expect)


async def _verify(run: _Run) -> None:
    from syncd.queries.verify import Verdict, verify
    from syncd.service.build import open_session

    names = list(run.questions) if run.questions_only else run.names
    async with open_session(run.config, names, read_only=True) as session:
        run.verdicts.update({name: Verdict(run.deep, compared=False) for name in session.mirrors})
        with progress(quiet=run.quiet) as bar:
            for name in run.questions:
                await _ask(run, session, name, bar)
            for name, mirror in session.mirrors.items() if not run.questions_only else ():
                search = run.verdicts[name].search
                if search and search.error:
                    continue
                async with ProgressDisplay(name, bar, session.transport.gate).refreshed() as display:
                    run.verdicts[name] = replace(await verify(mirror, display, deep=run.deep), search=search)


async def _ask(run: _Run, session: "Session", name: str, bar: Bar) -> None:
    from syncd.queries.retrieval import Measurement, ask_questions

    search = Measurement(run.questions[name], run.top, run.min_hit)
    run.verdicts[name].search = search
    async with ProgressDisplay(name, bar, session.transport.gate, first=_ASKING).refreshed() as display:
        await ask_questions(
            session.mirrors[name],
            search,
            lambda: display.show(_ASKING, len(search.found), len(search.questions)),
        )


def _comparisons(run: _Run) -> "dict[str, Comparison]":
    """Return the comparison of each mirror whose earlier results are known."""
    if not run.against:
        return {}
    from syncd.queries.retrieval import compare

    searches = run.searches
    before = {name: run.against.of(name, len(searches)) for name in searches}
    return {
        name: compare(saved.results, search.named(run.config.mirrors[name].key_prefix))
        for name, search in searches.items()
        if (saved := before[name])
    }


def _save(run: _Run) -> None:
    """Save the results, unless a question has no result.

    A later comparison could not notice that such a question got worse.
    """
    if not run.save:
        return
    from syncd.queries.saved_run import saved_run_of

    left = sum(result.failed for search in run.searches.values() for _, result in search.measured)
    if left:
        print_error(f"the results are not saved, because {counted(left, 'question')} got no answer")
        return
    run.save.write(saved_run_of(run.config, run.searches, run.top, utc_time(time.time())))


# -- printing


def _print_results(run: _Run, code: int) -> None:
    comparisons = _comparisons(run)
    if run.as_json:
        objects = {
            name: shard_field(run.config, name) | _verdict_object(verdict, comparisons.get(name))
            for name, verdict in run.verdicts.items()
        }
        print_json({"mirrors": objects, "exit_code": code})
        return
    for name, verdict in run.verdicts.items():
        print_line(f"{name}{shard_suffix(run.config.mirrors[name].shard)}: {_headline(verdict)}")
        if verdict.search:
            print_answers(verdict.search, found=run.names_found)
        print_rows((found.difference, found.key, found.message) for found in verdict.differences)
        if verdict.error:
            print_error(str(verdict.error))
        if compared := comparisons.get(name):
            print_comparison(compared, run.top)
        elif run.against and verdict.search:
            print_note(f"{name}: the file of --against has no results of this mirror")


def _verdict_object(verdict: "Verdict", compared: "Comparison | None") -> dict[str, Any]:
    fields: dict[str, Any] = {
        "checked": verdict.checked,
        "differences": [asdict(difference) for difference in verdict.differences],
        "deep": verdict.deep,
    }
    if verdict.search:
        fields |= search_fields(verdict.search, compared)
    error = verdict.error or (verdict.search.error if verdict.search else None)
    return fields | ({"error": shown(str(error))} if error else {})


def _headline(verdict: "Verdict") -> str:
    answers = search_summary(verdict.search) if verdict.search else ""
    if not verdict.compared:
        return answers
    return "; ".join(part for part in (_comparison_summary(verdict), answers) if part)


def _comparison_summary(verdict: "Verdict") -> str:
    found, checked = len(verdict.differences), counted(verdict.checked, "key")
    differences = counted(found, "difference")
    if verdict.error:
        return f"stopped, {differences} until then" if found else "not compared"
    content = ", with their bytes" if verdict.files else ", with the metadata of each vector"
    return f"{checked} compared{content if verdict.deep else ''}, {differences if found else 'no difference'}"
