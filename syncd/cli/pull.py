"""pull: writes the entries of a target into a folder."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from syncd.cli.completion import directory_path
from syncd.cli.context import GlobalOptions, as_json_option, command, mirror_option, one_mirror, run_async, shard_field
from syncd.cli.output import print_json, print_line, print_rows, shard_suffix
from syncd.core.errors import EXIT_OK, EXIT_PROBLEMS
from syncd.core.keys import shown_path
from syncd.core.plain_text import counted
from syncd.service import signals

if TYPE_CHECKING:
    from syncd.queries.pull import Pulled

_OUTCOMES = ("written", "unchanged", "different", "refused", "gone", "foreign")


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

    from syncd.queries.pull import Pulled

    pulled = Pulled()
    signals.describe_with(lambda: _pull_interruption(pulled))

    async def work() -> None:
        from syncd.queries.pull import Folder, check_files, pull
        from syncd.service.build import open_session

        async with open_session(config, [name], read_only=True) as session:
            check_files(session.mirrors[name])
            with Folder(folder) as target:
                await pull(session.mirrors[name], target, pulled, force=force, everyone=everyone)

    run_async(work())
    code = EXIT_PROBLEMS if pulled.problems else EXIT_OK
    result = {outcome: pulled.done[outcome] for outcome in _OUTCOMES}
    if as_json:
        problems = [asdict(problem) for problem in pulled.problems]
        head = {"mirror": name, **shard_field(config, name)}
        print_json({**head, "result": result, "problems": problems, "exit_code": code})
        return code
    counts = [f"{count} {outcome}" for outcome, count in result.items() if count or outcome == "written"]
    suffix = shard_suffix(config.mirrors[name].shard)
    print_line(f"{name}{suffix} → {shown_path(folder)}: {', '.join(counts)}")
    print_rows((problem.key, problem.message) for problem in pulled.problems)
    return code


def _pull_interruption(pulled: "Pulled") -> str:
    """Return how far an interrupted pull came."""
    if pulled.listed is None:
        return "pull: nothing was written; the listing was not finished"
    written = pulled.done["written"]
    left = max(
        0, pulled.listed - sum(pulled.done[outcome] for outcome in ("written", "unchanged", "different", "gone"))
    )
    return f"pull: {counted(written, 'file')} written, each one whole, {left} left; run it again for them"
