"""verify, pull: compare the entries of a target with the folder, or write them into a folder."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from syncd.cli import completion
from syncd.cli.context import (
    GlobalOptions,
    as_json_option,
    chosen_mirrors,
    command,
    directory_path,
    mirror_option,
    mirrors_argument,
    one_mirror,
    os_path,
    run_async,
    shard_field,
)
from syncd.cli.output import counted, print_error, print_json, print_line, print_table, shard_suffix
from syncd.core.errors import EXIT_OK, EXIT_PROBLEMS, ConfigError
from syncd.core.keys import shown_path
from syncd.service import signals

if TYPE_CHECKING:
    from syncd.config.schema import Config
    from syncd.queries.pull import Pulled
    from syncd.queries.verify import Question, SearchAnswer, Verdict

SEVERITY = (3, 4, 5, 1, 6, 0)
"""Exit codes, the most serious first. With several mirrors the most serious one is returned."""
_OUTCOMES = ("written", "unchanged", "different", "refused", "gone", "foreign")
_HITS_SHOWN = 3
"""Hits that are printed for a question whose file was not found."""


MirrorQuestions = dict[str, "list[Question]"]
"""The questions to each mirror."""


@dataclass(frozen=True, slots=True)
class _Search:
    """The questions to the targets' own search, and how many hits of each count."""

    questions: MirrorQuestions
    top: int


# -- verify


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
    help="The file that the query before it should find.",
)
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(1, 50),
    default=10,
    help="The number of hits that count.",
)
@as_json_option
@click.pass_obj
def verify(  # noqa: PLR0913 - the options of the command
    options: GlobalOptions,
    mirrors: tuple[str, ...],
    query: tuple[str, ...],
    expect: tuple[str, ...],
    top: int,
    *,
    deep: bool,
    as_json: bool,
) -> int:
    """Compare the folder with the target and change nothing.

    The exit code is 6 if there is a difference, or if a query does not find its file.
    """
    config = options.load()
    chosen_mirrors(config, mirrors)
    questions = _questions(config, mirrors, query, expect)
    verdicts = run_async(_verify(options, config, mirrors, _Search(questions, top), deep=deep))
    code = next(code for code in SEVERITY if code in {verdict.exit_code for verdict in verdicts.values()})
    if as_json:
        objects = {name: shard_field(config, name) | _verdict_object(verdict) for name, verdict in verdicts.items()}
        print_json({"mirrors": objects, "exit_code": code})
    else:
        _print_verdicts(config, verdicts)
    return code


async def _verify(
    options: GlobalOptions, config: "Config", names: Sequence[str], search: _Search, *, deep: bool
) -> "dict[str, Verdict]":
    from syncd.cli.output import ProgressDisplay, progress
    from syncd.queries.verify import Verdict, ask_questions, verify
    from syncd.service.build import open_session

    questions_only = bool(search.questions) and not deep
    if questions_only:
        # The folder is not compared: a smoke test costs one request for each question.
        names = list(search.questions)
    async with open_session(config, names, read_only=True) as session:
        verdicts = {name: Verdict(deep, compared=False) for name in session.mirrors}
        for name, questions in search.questions.items():
            await ask_questions(session.mirrors[name], questions, search.top, verdicts[name])
        if questions_only:
            return verdicts
        with progress(quiet=options.quiet) as bar:
            for name, mirror in session.mirrors.items():
                asked = verdicts[name]
                if not asked.error:
                    display = ProgressDisplay(name, bar, quiet=options.quiet, gate=session.transport.gate)
                    async with display.refreshed():
                        verdicts[name] = replace(await verify(mirror, display, deep=deep), answers=asked.answers)
    return verdicts


def _verdict_object(verdict: "Verdict") -> dict[str, Any]:
    from syncd.core.keys import shown

    fields: dict[str, Any] = {
        "checked": verdict.checked,
        "differences": [asdict(difference) for difference in verdict.differences],
        "deep": verdict.deep,
    }
    if verdict.answers:
        fields["queries"] = [_answer_object(answer) for answer in verdict.answers]
    return fields | ({"error": shown(str(verdict.error))} if verdict.error else {})


def _print_verdicts(config: "Config", verdicts: "dict[str, Verdict]") -> None:
    for name, verdict in verdicts.items():
        print_line(f"{name}{shard_suffix(config.mirrors[name].shard)}: {_headline(verdict)}")
        if verdict.answers:
            _print_answers(verdict.answers)
        if verdict.differences:
            print_table(("", "", ""), [(f"  {d.difference}", d.key, d.message) for d in verdict.differences])
        if verdict.error:
            print_error(str(verdict.error))


def _headline(verdict: "Verdict") -> str:
    answers = _answers_summary(verdict.answers) if verdict.answers else ""
    if not verdict.compared:
        return ", ".join(part for part in (answers, "stopped" if verdict.error else "") if part)
    return "; ".join(part for part in (_comparison_summary(verdict), answers) if part)


def _comparison_summary(verdict: "Verdict") -> str:
    found, checked = len(verdict.differences), counted(verdict.checked, "key")
    differences = counted(found, "difference")
    if verdict.error:
        return f"stopped, {differences} until then" if found else "not compared"
    content = ", bytes and all" if verdict.files else ", with what each vector says of its file"
    return f"{checked} compared{content if verdict.deep else ''}, {differences if found else 'no difference'}"


# -- verify --query Q --expect FILE


def _questions(config: "Config", names: Sequence[str], queries: Sequence[str], files: Sequence[str]) -> MirrorQuestions:
    """Return the questions to each mirror. The first query expects the first file, and so on.

    names: the mirrors that may be asked; empty: all. Raises ConfigError.
    """
    from syncd.queries.verify import Question

    if len(queries) != len(files):
        raise ConfigError(
            f"{len(queries)} --query and {len(files)} --expect; each question needs the file it should find:"
            " --query Q --expect FILE"
        )
    questions: MirrorQuestions = {}
    for query, file in zip(queries, files, strict=True):
        if not query.strip():
            raise ConfigError("a --query is empty; ask for something")
        name, key = _expected_key(config, names or list(config.mirrors), file)
        questions.setdefault(name, []).append(Question(query, key))
    return questions


def _expected_key(config: "Config", names: Sequence[str], file: str) -> tuple[str, str]:
    """Return the mirror and the key that FILE names: a file of a folder, a path relative to one, or a key."""
    from syncd.core.keys import normal
    from syncd.queries.lookup import folders_of, mirror_containing

    path = Path(file)
    found = mirror_containing(config, file)
    if found and found[0] in names:
        return found[0], config.mirrors[found[0]].key_prefix + normal(found[1])
    if len(names) != 1 or path.is_absolute() or ".." in path.parts or file in ("", "."):
        more = "; name its mirror, too" if len(names) > 1 else ""
        folders = folders_of(config, names)
        raise ConfigError(f"--expect {file}: lies in no folder that is verified; they are: {folders}{more}")
    section = config.mirrors[names[0]]
    name = normal(path.as_posix())
    is_key = section.key_prefix and name.startswith(section.key_prefix) and not (section.path / os_path(file)).exists()
    return names[0], name if is_key else section.key_prefix + name


def _answer_object(answer: "SearchAnswer") -> dict[str, Any]:
    return {
        "query": answer.question.query,
        "expect": answer.question.key,
        "found": answer.rank is not None,
        "rank": answer.rank,
        "score": answer.score,
        "why": answer.why or None,
        "hits": [{"key": hit.key, "score": hit.score} for hit in answer.hits],
    }


def _answers_summary(answers: "Sequence[SearchAnswer]") -> str:
    found = sum(answer.rank is not None for answer in answers)
    return f"{found} of {counted(len(answers), 'question')} found {'its' if len(answers) == 1 else 'their'} file"


def _print_answers(answers: "Sequence[SearchAnswer]") -> None:
    rows = []
    for answer in answers:
        if answer.rank is not None:
            row = ("  found", answer.question.key, f"rank {answer.rank}, score {answer.score:.2f}")
        else:
            row = ("  not found", answer.question.key, f"{answer.why}. {_other_hits(answer)}")
        rows.append((*row, repr(answer.question.query)))
    print_table(("", "", "", ""), rows)


def _other_hits(answer: "SearchAnswer") -> str:
    if not answer.hits:
        return "Nothing else was found either"
    best: dict[str, float] = {}
    for hit in answer.hits:
        best.setdefault(hit.key, hit.score)
    names = [f"{key} ({score:.2f})" for key, score in best.items()]
    return f"Instead came: {', '.join(names[:_HITS_SHOWN])}{', …' if len(names) > _HITS_SHOWN else ''}"


# -- pull


@command()
@click.argument(
    "folder", metavar="DIR", type=directory_path, help="The folder to write into. It is created if it is missing."
)
@mirror_option
@click.option("--force", is_flag=True, help="Overwrite files that differ.")
@click.option("--all", "everyone", is_flag=True, help="Also write the entries of other owners.")
@as_json_option
@click.pass_obj
def pull(
    options: GlobalOptions, folder: Path, mirrors: tuple[str, ...], *, force: bool, everyone: bool, as_json: bool
) -> int:
    """Write the remote entries into a folder.

    It never writes outside the folder, and never over a file that differs without --force.
    """
    config = options.load()
    name = one_mirror(config, mirrors)

    from syncd.config.file import at_home
    from syncd.queries.pull import Pulled

    pulled = Pulled()
    signals.describe_with(lambda: _pull_interruption(pulled))

    async def work() -> None:
        from syncd.queries.pull import Folder, check_files, pull
        from syncd.service.build import open_session

        async with open_session(config, [name], read_only=True) as session:
            check_files(session.mirrors[name])
            with Folder(folder) as target:
                await pull(session.mirrors[name], target, force=force, everyone=everyone, pulled=pulled)

    folder = at_home(folder)
    run_async(work())
    code = EXIT_PROBLEMS if pulled.problems else EXIT_OK
    if as_json:
        counts = {outcome: pulled.done[outcome] for outcome in _OUTCOMES}
        problems = [asdict(problem) for problem in pulled.problems]
        result = {"result": counts, "problems": problems, "exit_code": code}
        print_json({"mirror": name, **shard_field(config, name), **result})
        return code
    counted_outcomes = [f"{pulled.done[o]} {o}" for o in _OUTCOMES if pulled.done[o] or o == "written"]
    suffix = shard_suffix(config.mirrors[name].shard)
    print_line(f"{name}{suffix} → {shown_path(folder)}: {', '.join(counted_outcomes)}")
    if pulled.problems:
        print_table(("", ""), [(f"  {problem.key}", problem.message) for problem in pulled.problems])
    return code


def _pull_interruption(pulled: "Pulled") -> str:
    """Return how far an interrupted pull came."""
    if pulled.listed is None:
        return "pull: nothing was written; the listing was not finished"
    written = pulled.done["written"]
    left = max(0, pulled.listed - sum(pulled.done[each] for each in ("written", "unchanged", "different", "gone")))
    return f"pull: {counted(written, 'file')} written, each one whole, {left} left; run it again for them"
