"""verify, pull: what the remote holds, against the folder and back into one."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.app import Globals, app, await_
from syncd.cli.look import one_mirror
from syncd.errors import EXIT_OK, EXIT_PROBLEMS

if TYPE_CHECKING:
    from syncd.config import Config
    from syncd.pull import Pulled
    from syncd.verify import Verdict

SEVERITY = (3, 4, 5, 1, 6, 0)
"""With several mirrors the most serious code wins."""
COUNTED = ("written", "unchanged", "different", "refused", "gone", "foreign")


@app.command()
def verify(
    ctx: typer.Context,
    mirrors: Annotated[list[str] | None, typer.Argument(metavar="MIRROR", show_default=False)] = None,
    *,
    deep: Annotated[bool, typer.Option("--deep", help="Read all that the target holds and compare it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Compare local with remote, change nothing.

    Exit code 6 if there is any difference.
    """
    from syncd.cli.out import emit

    options: Globals = ctx.obj
    config = options.load()
    verdicts = await_(_verify(config, mirrors or [], deep=deep, quiet=options.quiet))
    code = next(code for code in SEVERITY if code in {verdict.exit_code for verdict in verdicts.values()})
    if as_json:
        told = {name: _of(config, name) | _told(verdict) for name, verdict in verdicts.items()}
        emit({"mirrors": told, "exit_code": code})
    else:
        _show(config, verdicts)
    return code


async def _verify(config: "Config", names: list[str], *, deep: bool, quiet: bool) -> dict[str, "Verdict"]:
    from syncd.cli.out import Watcher, progress
    from syncd.session import open_session
    from syncd.verify import verify

    async with open_session(config, names, read_only=True) as session:
        with progress(quiet=quiet) as shown:
            return {
                name: await verify(mirror, Watcher(name, shown, quiet=quiet), deep=deep)
                for name, mirror in session.mirrors.items()
            }


def _told(verdict: "Verdict") -> dict[str, object]:
    from syncd.paths import shown

    told: dict[str, object] = {
        "checked": verdict.checked,
        "differences": [asdict(difference) for difference in verdict.differences],
        "deep": verdict.deep,
    }
    return told | ({"error": shown(str(verdict.error))} if verdict.error else {})


def _of(config: "Config", name: str) -> dict[str, object]:
    """Which part of the mirror was looked at, if not all of it."""
    shard = config.mirrors[name].shard
    return {"shard": shard} if shard else {}


def _show(config: "Config", verdicts: "dict[str, Verdict]") -> None:
    from syncd.cli.out import line, of_shard, table

    for name, verdict in verdicts.items():
        found = len(verdict.differences)
        line(f"{name}{of_shard(config.mirrors[name].shard)}: {_headline(verdict)}")
        if found:
            table(("", "", ""), [(f"  {each.difference}", each.key, each.message) for each in verdict.differences])
        if verdict.error:
            typer.echo(f"syncd: {_safe(str(verdict.error))}", err=True)


def _headline(verdict: "Verdict") -> str:
    from syncd.cli.report import counted

    found, checked = len(verdict.differences), counted(verdict.checked, "key")
    differences = counted(found, "difference")
    if verdict.error:
        return f"stopped, {differences} until then" if found else "not compared"
    deep = ", bytes and all" if verdict.files else ", with what each vector says of its file"
    how = deep if verdict.deep else ""
    return f"{checked} compared{how}, {differences if found else 'no difference'}"


def _safe(text: str) -> str:
    from syncd.logs import printable

    return printable(text)


@app.command()
def pull(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if it is not there.")],
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
        from syncd.pull import Folder, check_files, pull
        from syncd.session import open_session

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
    line(f"{name}{of_shard(config.mirrors[name].shard)} → {folder}: {', '.join(words)}")
    if pulled.problems:
        table(("", ""), [(f"  {problem.key}", problem.message) for problem in pulled.problems])
    return code
