"""rebuild: fills a second target with other settings, compares it with the first, and switches to it."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from syncd.cli import completion
from syncd.cli.completion import file_path
from syncd.cli.context import GlobalOptions, as_json_option, command, run_async
from syncd.cli.daemon import ask_daemon
from syncd.cli.output import (
    ProgressDisplay,
    print_error,
    print_json,
    print_line,
    print_note,
    print_problems,
    print_table,
    progress,
)
from syncd.cli.retrieval import print_comparison
from syncd.core.errors import EXIT_DIFFERENT, EXIT_OK, EXIT_PROBLEMS, Brake, ConfigError, SyncdError
from syncd.core.keys import shown
from syncd.core.plain_text import counted
from syncd.service import signals

if TYPE_CHECKING:
    from syncd.config.schema import Config
    from syncd.core.model import Problem
    from syncd.queries.retrieval import Comparison, Measurement, Question
    from syncd.service.build import Session
    from syncd.service.rebuild import Rebuild, Side
    from syncd.sync.mirror import Mirror
    from syncd.sync.once import Report

_TOP = 10
"""The hits of a question that count."""


@dataclass(frozen=True, slots=True)
class _Filled:
    """The end of a fill.

    name: the mirror. new_problems: problems that only the second target has. requests: the number of requests of this
    command. searches: the measurements of both targets, None without questions.
    """

    name: str
    first: "Side"
    second: "Side"
    new_problems: "list[Problem]"
    report: "Report"
    requests: int
    searches: "tuple[Measurement, Measurement] | None"

    @property
    def comparison(self) -> "Comparison | None":
        """The comparison of the answers of the second target with the answers of the first target."""
        from syncd.queries.retrieval import compare

        return compare(*(search.named() for search in self.searches)) if self.searches else None


@command()
@click.argument("mirror", metavar="MIRROR", help="The name of the mirror.", shell_complete=completion.mirrors)
@click.option(
    "--into",
    metavar="TARGET",
    help="The second target: NAMESPACE/INSTANCE or INSTANCE, an index of Vectorize, or a key prefix of KV.",
)
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="A setting in which the second target differs. May be repeated.",
)
@click.option(
    "--queries",
    metavar="FILE",
    type=file_path,
    help="Ask both targets the questions of this file, as `syncd verify` does, and compare the answers.",
)
@click.option("--switch", is_flag=True, help="When the second target is in step, let the mirror use it.")
@click.option("--drop-old", is_flag=True, help="After a switch: delete the mirror's entries in the old target.")
@click.option("--force", is_flag=True, help="Make the deletes that the delete guard refuses.")
@as_json_option
@click.pass_obj
def rebuild(  # noqa: PLR0913 - the options of the command
    options: GlobalOptions,
    mirror: str,
    into: str | None,
    settings: tuple[str, ...],
    queries: Path | None,
    *,
    switch: bool,
    drop_old: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Fill a second target with other settings, compare it with the first, and switch to it.

    The first target stays in use and fresh until the switch. Run the same command again to go on after an interruption.

    The exit code is 1 if the second target has problems that the first one does not have, and 6 if it answers fewer
    questions of --queries. There is no switch then.
    """
    if drop_old and (into is not None or settings or queries or switch):
        raise ConfigError("--drop-old stands alone; switch first, and drop the old entries in a later command")
    config = options.load()

    from syncd.config.schema import mirror_config

    mirror_config(config, mirror)
    if drop_old:
        return run_async(_drop_old(options, config, mirror, force=force))
    return run_async(
        _rebuild(options, config, mirror, into, settings, queries, switch=switch, force=force, as_json=as_json)
    )


async def _rebuild(  # noqa: PLR0913 - the options of the command
    options: GlobalOptions,
    config: "Config",
    name: str,
    into: str | None,
    settings: Sequence[str],
    queries: Path | None,
    *,
    switch: bool,
    force: bool,
    as_json: bool,
) -> int:
    from syncd.service.build import open_session
    from syncd.service.rebuild import check_second, is_configured, second_target

    async with open_session(config, [name], read_only=True) as session:
        rebuild = second_target(session, name, into, settings)
        if is_configured(rebuild) and switch:
            # An earlier command was killed after it had changed the config.
            await _take_effect(options, config, rebuild, as_json=as_json)
            return EXIT_OK
        check_second(session.config, rebuild)
        # The first full pass decides the owner mark.
        if session.mirrors[name].meta.get("last_reconcile") is None:
            raise ConfigError(f"mirror {name} has made no full pass yet; make one first: syncd reconcile {name}")
        questions = _questions(session, name, queries)
        filled = await _fill(options, session, rebuild, questions, force=force)
    if not as_json:
        _print_filled(filled)
    fault = _fault(filled)
    switches = switch and not fault
    if switches:
        fault = await _switch(options, rebuild, as_json=as_json)
    if as_json:
        print_json(_filled_object(filled, fault, switched=switches and not fault))
    elif fault:
        print_error(str(fault))
    elif not switch:
        print_line(f"the second target is in step; to use it: syncd rebuild {name} --switch")
    return fault.exit_code if fault else EXIT_OK


def _questions(session: "Session", name: str, queries: Path | None) -> "list[Question]":
    """Return the questions of the file. Raises ConfigError if it has mistakes, or if the target has no search."""
    if queries is None:
        return []
    from syncd.queries.questions import questions_of_file
    from syncd.targets.base import searchable

    searchable(session.mirrors[name].target)
    return questions_of_file(session.config, [name], queries)[name]


async def _fill(
    options: GlobalOptions, session: "Session", rebuild: "Rebuild", questions: "list[Question]", *, force: bool
) -> _Filled:
    from syncd.service.rebuild import check_settings, fill, first_side, new_problems, open_second, side_of
    from syncd.sync.mirror_status import Pace

    gate, counters = session.transport.gate, session.transport.counters
    reports: list[Report] = []
    signals.describe_with(lambda: _interruption(reports))
    before = counters.requests
    async with open_second(session, rebuild, force=force) as mirror:
        await check_settings(mirror)
        with progress(quiet=options.quiet) as bar:
            pace = Pace(mirror.target.requests, gate.seconds_for, gate.own_time)
            display = ProgressDisplay(f"{rebuild.name} (second)", bar, gate, pace=pace)
            async with display.refreshed():
                await fill(mirror, display, reports, force=force)
            used = counters.requests - before
            searches = None
            if questions and not reports[-1].error:
                searches = await _ask_both(questions, session.mirrors[rebuild.name], mirror, display)
        first, second = first_side(session.config, rebuild), side_of(mirror.journal, rebuild.second)
    return _Filled(rebuild.name, first, second, new_problems(rebuild.name, first, second), reports[-1], used, searches)


async def _ask_both(
    questions: "list[Question]", first: "Mirror", second: "Mirror", display: ProgressDisplay
) -> "tuple[Measurement, Measurement]":
    from syncd.queries.retrieval import Measurement, ask_questions

    searches = Measurement(questions, _TOP), Measurement(questions, _TOP)

    def show() -> None:
        asked = sum(len(search.found) for search in searches)
        display.show("asking the search of both targets", asked, 2 * len(questions))

    for mirror, search in zip((first, second), searches, strict=True):
        await ask_questions(mirror, search, show)
    return searches


def _interruption(reports: "list[Report]") -> str:
    put = sum(report.done["put"] for report in reports)
    return f"rebuild: {put} uploaded to the second target; run the same command again to go on"


def _print_filled(filled: _Filled) -> None:
    rows = [
        (label, side.spec, side.entries, "-" if side.searchable is None else side.searchable, len(side.problems))
        for label, side in (("first", filled.first), ("second", filled.second))
    ]
    print_table(("", "target", "entries", "searchable", "problems"), rows)
    if filled.new_problems:
        print_line("only in the second target:")
        print_problems(filled.new_problems, f"syncd rebuild {filled.name} --json")
    print_line(f"{counted(filled.requests, 'request')} for the second target")
    if filled.searches and (compared := filled.comparison):
        print_line(f"{counted(len(filled.searches[0].questions), 'question')}:")
        print_comparison(compared, _TOP)


def _filled_object(filled: _Filled, fault: SyncdError | None, *, switched: bool) -> dict[str, Any]:
    def side(found: "Side") -> dict[str, Any]:
        counts = {"entries": found.entries, "searchable": found.searchable, "problems": len(found.problems)}
        return {"target": found.spec, **counts}

    return {
        "mirror": filled.name,
        "first": side(filled.first),
        "second": side(filled.second),
        "new_problems": [asdict(problem) for problem in filled.new_problems],
        "switched": switched,
        **({"retrieval": _comparison_object(compared)} if (compared := filled.comparison) else {}),
        **({"error": shown(str(fault))} if fault else {}),
        "requests": filled.requests,
        "exit_code": fault.exit_code if fault else EXIT_OK,
    }


def _comparison_object(compared: "Comparison") -> dict[str, Any]:
    return {
        "first": asdict(compared.before),
        "second": asdict(compared.now),
        "better": len(compared.better),
        "worse": len(compared.worse),
    }


def _fault(filled: _Filled) -> SyncdError | None:
    """Return why the second target cannot take the place of the first, None if it can."""
    from syncd.service.rebuild import with_rebuild_commands

    report = filled.report
    if report.error:
        return _Stopped(with_rebuild_commands(str(report.error), filled.name), report.error.exit_code)
    if report.not_indexed:
        return _Stopped("the second target is not searchable yet; run the same command again", EXIT_PROBLEMS)
    if filled.new_problems:
        problems = counted(len(filled.new_problems), "problem")
        return _Stopped(
            f"the second target has {problems} that the first does not have; solve them before a switch", EXIT_PROBLEMS
        )
    return _search_fault(filled.name, *filled.searches) if filled.searches else None


def _search_fault(name: str, first: "Measurement", second: "Measurement") -> SyncdError | None:
    """Return why the answers of the second target do not suffice: a search failed, or it finds less than the first."""
    for search in (first, second):
        errors = [search.error, *(answer.error for answer in search.answers)]
        if error := next((error for error in errors if error), None):
            return error
    before, now = first.figures, second.figures
    if (now.found, now.texts_found) >= (before.found, before.texts_found):
        return None
    return _Stopped(
        f"of {counted(now.answered, 'question')} the first target answers {before.found}, the second {now.found}; to"
        f" use the second all the same: syncd rebuild {name} --switch",
        EXIT_DIFFERENT,
    )


class _Stopped(SyncdError):
    """The second target cannot be used. exit_code: of the command."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


# -- the switch


async def _switch(options: GlobalOptions, rebuild: "Rebuild", *, as_json: bool) -> SyncdError | None:
    """Let the config name the second target, and let the daemon read it. Return the error that prevented it."""
    from syncd.config.edit import change_config, changed_lines
    from syncd.config.file import config_path
    from syncd.config.sources import load
    from syncd.service.rebuild import check_edit

    try:
        path = config_path(options.config)
        change_config(path, rebuild.name, rebuild.changes, lambda new: check_edit(rebuild, load(new)))
        for line in changed_lines(rebuild.name, rebuild.changes):
            _print(f"{path}: {line}", as_json=as_json)
        await _take_effect(options, options.load(warn=False), rebuild, as_json=as_json)
    except SyncdError as error:
        return error
    return None


async def _take_effect(options: GlobalOptions, config: "Config", rebuild: "Rebuild", *, as_json: bool) -> None:
    """Let the daemon read the config. Without a daemon, let the journal of the rebuild take over here."""
    from syncd.service.build import open_session
    from syncd.service.rebuild import is_in_effect

    name, section = rebuild.name, config.mirrors[rebuild.name]
    if not is_in_effect(config, name):
        # The words of the daemon are no part of the answer.
        with redirect_stdout(sys.stderr):
            code = await ask_daemon(config.state_dir, {"command": "reload"}, quiet=options.quiet)
        if code is None:
            async with open_session(config, [name]):
                pass
    if not is_in_effect(config, name):
        raise ConfigError(
            f"the config of mirror {name} names {section.target.spec}, and the daemon uses another target; give the"
            " daemon the same config and environment, then: syncd reload"
        )
    _print(f"mirror {name} uses {section.target.spec}; old entries: syncd rebuild {name} --drop-old", as_json=as_json)


def _print(text: str, *, as_json: bool) -> None:
    """Print a line of the answer. Beside a JSON object it goes to stderr."""
    (print_note if as_json else print_line)(text)


# -- the old target


async def _drop_old(options: GlobalOptions, config: "Config", name: str, *, force: bool) -> int:
    from syncd.service.build import open_session
    from syncd.service.rebuild import open_old
    from syncd.sync import once
    from syncd.sync.mirror import PassOptions

    async with open_session(config, [name], read_only=True) as session, open_old(session, name) as old:
        report = once.Report()
        with progress(quiet=options.quiet) as bar:
            display = ProgressDisplay(f"{name} (old)", bar, session.transport.gate)
            await once.run(old, PassOptions(dry_run=not force, force=True), display, report, bulk=True)
        if report.error:
            raise report.error
        spec = old.settings.spec
        planned = report.planned["delete"]
        if not planned:
            print_line(f"{spec} has no entry of mirror {name}")
            return EXIT_OK
        if not force:
            raise Brake(
                f"{spec} has {counted(planned, 'entry')} of mirror {name}; nothing was deleted. If it is meant:"
                f" syncd rebuild {name} --drop-old --force"
            )
        deleted = report.done["delete"]
        print_line(f"{spec}: {deleted} of {counted(planned, 'entry')} of mirror {name} deleted; entries of others stay")
        return report.exit_code
