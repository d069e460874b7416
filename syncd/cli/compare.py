"""verify, pull: what the remote holds, against the folder and back into one."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.app import Globals, app, await_, os_path
from syncd.cli.look import one_mirror
from syncd.core.errors import EXIT_OK, EXIT_PROBLEMS
from syncd.core.os_names import shown_path

if TYPE_CHECKING:
    from syncd.cli.questions import Questions
    from syncd.config.schema import Config
    from syncd.queries.pull import Pulled
    from syncd.queries.verify import Verdict

SEVERITY = (3, 4, 5, 1, 6, 0)
"""With several mirrors the most serious code wins."""
COUNTED = ("written", "unchanged", "different", "refused", "gone", "foreign")


@app.command()
def verify(  # noqa: PLR0913 - the options of the command
    ctx: typer.Context,
    mirrors: Annotated[list[str] | None, typer.Argument(metavar="MIRROR", show_default=False)] = None,
    *,
    deep: Annotated[bool, typer.Option("--deep", help="Read all that the target holds and compare it.")] = False,
    query: Annotated[
        list[str] | None,
        typer.Option("--query", metavar="Q", help="Ask the target's own search; alone, nothing is compared."),
    ] = None,
    expect: Annotated[
        list[str] | None, typer.Option("--expect", metavar="FILE", help="The file that the query should find.")
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="N", help="How many hits count.", min=1, max=50)] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Compare local with remote, change nothing.

    Exit code 6 if there is any difference, or a query does not find its file.
    """
    from syncd.cli.out import emit
    from syncd.cli.questions import questions_of
    from syncd.service.build import mirror_config

    options: Globals = ctx.obj
    config = options.load()
    names = mirrors or []
    for name in names:
        mirror_config(config, name)
    asked = questions_of(config, names, query or [], expect or [])
    verdicts = await_(_verify(options, config, names, Asking(asked, top), deep=deep))
    code = next(code for code in SEVERITY if code in {verdict.exit_code for verdict in verdicts.values()})
    if as_json:
        told = {name: _of(config, name) | _told(verdict) for name, verdict in verdicts.items()}
        emit({"mirrors": told, "exit_code": code})
    else:
        _show(config, verdicts)
    return code


@dataclass(frozen=True, slots=True)
class Asking:
    """The questions to each mirror, and how many hits count."""

    questions: "Questions"
    top: int


async def _verify(
    options: Globals, config: "Config", names: list[str], asking: Asking, *, deep: bool
) -> dict[str, "Verdict"]:
    from syncd.cli.out import Watcher, progress
    from syncd.queries.verify import Verdict, question, verify
    from syncd.service.build import open_session

    asked = asking.questions
    if asked and not deep:
        # With questions alone the folder is not compared: a smoke test costs a request for each.
        names = list(asked)
    async with open_session(config, names, read_only=True) as session:
        verdicts = {name: Verdict(deep, compared=False) for name in session.mirrors}
        for name, questions in asked.items():
            await question(session.mirrors[name], questions, asking.top, verdicts[name])
        if asked and not deep:
            return verdicts
        with progress(quiet=options.quiet) as shown:
            for name, mirror in session.mirrors.items():
                answered = verdicts[name]
                if not answered.error:
                    watcher = Watcher(name, shown, quiet=options.quiet)
                    verdicts[name] = replace(await verify(mirror, watcher, deep=deep), answers=answered.answers)
    return verdicts


def _told(verdict: "Verdict") -> dict[str, object]:
    from syncd.cli import questions
    from syncd.core.keys import shown

    told: dict[str, object] = {
        "checked": verdict.checked,
        "differences": [asdict(difference) for difference in verdict.differences],
        "deep": verdict.deep,
    }
    if verdict.answers:
        told["queries"] = questions.told(verdict.answers)
    return told | ({"error": shown(str(verdict.error))} if verdict.error else {})


def _of(config: "Config", name: str) -> dict[str, object]:
    """Which part of the mirror was looked at, if not all of it."""
    shard = config.mirrors[name].shard
    return {"shard": shard} if shard else {}


def _show(config: "Config", verdicts: "dict[str, Verdict]") -> None:
    from syncd.cli import questions
    from syncd.cli.out import line, of_shard, table

    for name, verdict in verdicts.items():
        found = len(verdict.differences)
        line(f"{name}{of_shard(config.mirrors[name].shard)}: {_headline(verdict)}")
        if verdict.answers:
            questions.show(verdict.answers)
        if found:
            table(("", "", ""), [(f"  {each.difference}", each.key, each.message) for each in verdict.differences])
        if verdict.error:
            typer.echo(f"syncd: {_safe(str(verdict.error))}", err=True)


def _headline(verdict: "Verdict") -> str:
    from syncd.cli import questions

    asked = questions.headline(verdict.answers) if verdict.answers else ""
    if not verdict.compared:
        return ", ".join(part for part in (asked, "stopped" if verdict.error else "") if part)
    return "; ".join(part for part in (_compared(verdict), asked) if part)


def _compared(verdict: "Verdict") -> str:
    from syncd.cli.report import counted

    found, checked = len(verdict.differences), counted(verdict.checked, "key")
    differences = counted(found, "difference")
    if verdict.error:
        return f"stopped, {differences} until then" if found else "not compared"
    deep = ", bytes and all" if verdict.files else ", with what each vector says of its file"
    how = deep if verdict.deep else ""
    return f"{checked} compared{how}, {differences if found else 'no difference'}"


def _safe(text: str) -> str:
    from syncd.core.redact import printable

    return printable(text)


@app.command()
def pull(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", parser=os_path, help="Where to; made if it is not there.")],
    *,
    mirror: Annotated[str | None, typer.Option("--mirror", metavar="M", help="Which mirror's entries.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that differ.")] = False,
    everyone: Annotated[bool, typer.Option("--all", help="Entries of other owners too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Write the remote entries into a folder.

    Never outside it, and never over a file that differs without --force.
    """
    options: Globals = ctx.obj
    config = options.load()
    name = one_mirror(config, mirror)

    async def work() -> "Pulled":
        from syncd.queries.pull import Folder, check_files, pull
        from syncd.service.build import open_session

        async with open_session(config, [name], read_only=True) as session:
            check_files(session.mirrors[name])
            with Folder(folder.expanduser()) as into:
                return await pull(session.mirrors[name], into, force=force, everyone=everyone)

    pulled = await_(work())
    code = EXIT_PROBLEMS if pulled.problems else EXIT_OK
    from syncd.cli.out import emit, line, of_shard, table

    if as_json:
        counts = {what: pulled.done[what] for what in COUNTED}
        problems = [asdict(problem) for problem in pulled.problems]
        emit({"mirror": name, **_of(config, name), "result": counts, "problems": problems, "exit_code": code})
        return code
    words = [f"{pulled.done[what]} {what}" for what in COUNTED if pulled.done[what] or what == "written"]
    line(f"{name}{of_shard(config.mirrors[name].shard)} → {shown_path(folder)}: {', '.join(words)}")
    if pulled.problems:
        table(("", ""), [(f"  {problem.key}", problem.message) for problem in pulled.problems])
    return code
