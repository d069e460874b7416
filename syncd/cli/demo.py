"""emulate, demo: the stand-in for the Cloudflare API, alone or with a mirror at work."""

import re
import time
from dataclasses import asdict
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.context import GlobalOptions, os_path, run_async
from syncd.cli.output import ProgressDisplay, print_line, progress
from syncd.core.errors import EXIT_INTERRUPTED, EXIT_OK, ConfigError
from syncd.core.keys import shown_path

if TYPE_CHECKING:
    from syncd.config.schema import Config
    from syncd.local.walk import Tree
    from syncd.service.build import Session
    from syncd.sync.once import Report

_SAMPLE_QUERY = "rotate the API token"
_ACCOUNT = "0123456789abcdef0123456789abcdef"
_HEADING_LINES = 50
"""Lines of a file that are searched for a heading."""


def _require_emulator(command: str) -> None:
    """Raise ConfigError if the packages of the extra `emulator` are not installed."""
    if not all(find_spec(name) for name in ("numpy", "python_multipart")):
        raise ConfigError(f"{command}: needs the extra 'emulator'; install it: pip install 'syncd[emulator]'")


# -- emulate


class OnExisting(StrEnum):
    """The stand-in's answer to an upload under an existing key."""

    OVERWRITE = "overwrite"
    CONFLICT = "conflict"


class Checksum(StrEnum):
    """The kind of checksum that the stand-in gives an item."""

    OPAQUE = "opaque"
    ZERO = "zero"
    MD5 = "md5"
    SHA256 = "sha256"


def emulate(  # noqa: PLR0913 - the options of the command
    *,
    port: Annotated[int, typer.Option("--port", help="Loopback port; 0 takes a free one.", min=0, max=65535)] = 8787,
    store: Annotated[
        Path | None,
        typer.Option("--store", parser=os_path, metavar="PATH", help="SQLite file for all data; default: memory."),
    ] = None,
    token: Annotated[str | None, typer.Option("--token", help="Accept this token only; default: any.")] = None,
    on_existing: Annotated[
        OnExisting, typer.Option("--on-existing", help="The answer to an upload under an existing key.")
    ] = OnExisting.OVERWRITE,
    checksum: Annotated[Checksum, typer.Option("--checksum", help="The kind of an item's checksum.")] = Checksum.OPAQUE,
    index_delay: Annotated[float, typer.Option("--index-delay", help="Seconds until an upload is indexed.")] = 0.2,
    fail_index: Annotated[
        str | None, typer.Option("--fail-index", help="Keys (regular expression) whose content cannot be indexed.")
    ] = None,
    fail_index_transient: Annotated[
        str | None,
        typer.Option("--fail-index-transient", help="Keys (regular expression) whose first indexings fail."),
    ] = None,
    fail_index_times: Annotated[
        int, typer.Option("--fail-index-times", help="How many indexings of these keys fail; 0: all.", min=0)
    ] = 2,
    skip_index: Annotated[
        str | None, typer.Option("--skip-index", help="Keys (regular expression) that the index leaves out.")
    ] = None,
    slow_index: Annotated[
        str | None, typer.Option("--slow-index", help="Keys (regular expression) whose indexing takes longer.")
    ] = None,
    slow_index_delay: Annotated[
        float, typer.Option("--slow-index-delay", help="Seconds until the slow keys are indexed.")
    ] = 3600.0,
    list_lag: Annotated[float, typer.Option("--list-lag", help="Seconds by which listings are behind.")] = 0.0,
    latency: Annotated[float, typer.Option("--latency", help="Seconds from a request to its answer.")] = 0.0,
    unsuccessful: Annotated[
        float, typer.Option("--unsuccessful", help="Share of the keys of a KV bulk request that fail.")
    ] = 0.0,
    mutation_lag: Annotated[
        float, typer.Option("--mutation-lag", help="Seconds until a change of a Vectorize index is seen.")
    ] = 0.2,
) -> int:
    """Serve the stand-in for the Cloudflare API on loopback.

    Prints its base URL.
    """
    _require_emulator("emulate")
    import signal
    import sqlite3

    from syncd.emulator.options import EmulatorOptions
    from syncd.emulator.server import run

    try:
        options = EmulatorOptions(
            store=store,
            token=token,
            on_existing=on_existing.value,
            checksum=checksum.value,
            index_delay=index_delay,
            fail_index=fail_index,
            fail_index_transient=fail_index_transient,
            fail_index_times=fail_index_times,
            skip_index=skip_index,
            slow_index=slow_index,
            slow_index_delay=slow_index_delay,
            list_lag=list_lag,
            latency=latency,
            unsuccessful=unsuccessful,
            mutation_lag=mutation_lag,
        )
        return EXIT_INTERRUPTED if run(options, port, ready=_print_url) == signal.SIGINT else EXIT_OK
    except ValueError as error:
        raise ConfigError(f"emulate: {error}") from None
    except OSError as error:
        raise ConfigError(f"emulate: port {port}: {error.strerror}; choose another --port") from None
    except sqlite3.Error as error:
        raise ConfigError(f"emulate: store {store}: {error}; choose another --store") from None


def _print_url(base_url: str) -> None:
    typer.echo(base_url)


# -- demo


def demo(
    ctx: typer.Context,
    path: Annotated[
        Path | None,
        typer.Argument(parser=os_path, metavar="PATH", help="A folder; default: a bundled sample.", show_default=False),
    ] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and follow edits until Ctrl-C.")] = False,
) -> int:
    """Mirror a folder into the stand-in and search it.

    A second pass shows that nothing is left to do. Needs no account.
    """
    _require_emulator("demo")
    import tempfile
    from importlib.resources import as_file, files

    from syncd.emulator.options import EmulatorOptions
    from syncd.emulator.server import serve

    options: GlobalOptions = ctx.obj
    options.set_up_logging("WARNING")
    with (
        as_file(files("syncd") / "sample") as sample,
        tempfile.TemporaryDirectory(prefix="syncd-demo-") as state,
        serve(EmulatorOptions(index_delay=0.2)) as server,
    ):
        root = path.expanduser().absolute() if path else sample
        if not root.is_dir():
            raise ConfigError(f"{shown_path(root)} is no directory; name a folder to mirror: syncd demo PATH")
        config = _demo_config(root, Path(state), server.base_url)
        typer.echo(f"stand-in  {server.base_url} (loopback only, forgets everything at the end)")
        code = run_async(_show(config, _SAMPLE_QUERY if path is None else None))
        if watch:
            from syncd.cli.reconcile import make_page
            from syncd.service.daemon import serve as serve_mirrors

            print_line(f"watching  {shown_path(root)}: edit, rename or delete a file there; Ctrl-C ends")
            options.set_up_logging("INFO")
            code = serve_mirrors(lambda: config, make_page)
        return code


def _demo_config(root: Path, state: Path, base_url: str) -> "Config":
    """Return a config that is loaded like any other, from a file and an environment of its own."""
    import secrets

    from syncd.config.sources import load

    (state / "syncd.toml").write_text(
        "[mirrors.demo]\n[mirrors.demo.target]\ntype = 'ai-search'\ninstance = 'demo'\ncreate = true\n"
    )
    environment = {
        "SYNCD_STATE_DIR": str(state / "state"),
        "SYNCD_CLOUDFLARE__ACCOUNT_ID": _ACCOUNT,
        # The stand-in accepts any token. This one is random, since the output hides every occurrence of the token.
        "SYNCD_CLOUDFLARE__API_TOKEN": secrets.token_hex(20),
        "SYNCD_CLOUDFLARE__BASE_URL": base_url,
        "SYNCD_CLOUDFLARE__TPSLIMIT": "0",
        "SYNCD_MIRRORS__DEMO__PATH": str(root),
        "SYNCD_MIRRORS__DEMO__SETTLE": "0.1",
    }
    return load(state / "syncd.toml", environment)


async def _show(config: "Config", query: str | None) -> int:
    """Make two passes, then search. query: None takes a heading of a file. Return the exit code."""
    from syncd.cli.report import print_reports
    from syncd.cli.search import print_hits
    from syncd.service.build import open_session
    from syncd.targets.base import searchable

    async with open_session(config) as session:
        mirror = session.mirrors["demo"]
        worst = EXIT_OK
        for _ in range(2):
            report = await _full_pass(session)
            print_reports(session, {"demo": report})
            worst = max(worst, report.exit_code)
        question = query or _query_from(mirror.tree)
        print_line(f'search    "{question}"')
        print_hits([asdict(hit) for hit in await searchable(mirror.target).search(question, 3)], question)
        return worst


async def _full_pass(session: "Session") -> "Report":
    from syncd.sync import once
    from syncd.sync.mirror import PassOptions

    mirror, report = session.mirrors["demo"], once.Report()
    began, before = time.monotonic(), session.transport.counters.requests
    with progress() as bar:
        await once.run(mirror, PassOptions(), ProgressDisplay("demo", bar), report)
        await once.wait_until_indexed(mirror, report, 60)
    report.requests = session.transport.counters.requests - before
    report.elapsed_s = time.monotonic() - began
    return report


def _query_from(tree: "Tree") -> str:
    """Return the first heading of a Markdown file: a question that this folder can answer."""
    from syncd.core.errors import FileChanged, Park
    from syncd.core.model import Item

    for item in tree.walk():
        if not isinstance(item, Item) or not re.search(r"\.mdx?$", item.path):
            continue
        try:
            text = tree.read(item.path)[0].data.decode("utf-8", "replace")
        except (FileChanged, Park):
            continue
        for line in text.splitlines()[:_HEADING_LINES]:
            if heading := re.match(r"#+\s+([\w][^`<\[{]{3,60})$", line):
                return heading[1].strip()
    return "introduction"
