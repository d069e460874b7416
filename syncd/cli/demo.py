"""emulate, demo: the stand-in for the Cloudflare API, alone or with a mirror at work."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from syncd.cli.completion import directory_path, file_path
from syncd.cli.context import Duration, GlobalOptions, command, run_async
from syncd.cli.output import print_line, progress
from syncd.core.errors import EXIT_INTERRUPTED, EXIT_OK, ConfigError, most_serious
from syncd.core.keys import shown_path

if TYPE_CHECKING:
    from syncd.config.schema import Config
    from syncd.local.walk import Tree

_SAMPLE_QUERY = "rotate the API token"
_ACCOUNT = "0123456789abcdef0123456789abcdef"
_INDEXED_S = 60.0
"""Seconds to wait until the files are indexed."""
_HEADING_LINES = 50
"""Lines of a file that are searched for a heading."""


def _require_emulator(command: str) -> None:
    """Raise ConfigError if the packages of the extra `emulator` are not installed."""
    if not all(find_spec(name) for name in ("numpy", "python_multipart")):
        raise ConfigError(f"{command}: needs the extra 'emulator'; install it: pip install 'syncd[emulator]'")


# -- emulate


_Decorator = Callable[[Callable[..., int]], Callable[..., int]]
_PATTERN = "Keys (regular expression) "


def _choice(name: str, choices: Sequence[str], text: str) -> _Decorator:
    """Return an option that takes one of some texts, by default the first one. text: its help."""
    return click.option(name, type=click.Choice(choices), default=choices[0], help=text)


def _time(name: str, default: str, text: str) -> _Decorator:
    """Return an option that takes a duration. text: its help."""
    return click.option(name, metavar="TIME", type=Duration(), default=default, help=text)


def _switch(name: str, text: str) -> _Decorator:
    """Return an option that is on unless it is given as --no-NAME. text: its help."""
    return click.option(f"--{name}/--no-{name}", default=True, help=text)


@command()
@click.option(
    "--port", metavar="N", type=click.IntRange(0, 65535), default=8787, help="The loopback port; 0 takes a free one."
)
@click.option("--store", type=file_path, metavar="PATH", help="The SQLite file for all data. Default: memory.")
@click.option("--token", help="Accept this token only. Default: any.")
@_choice("--on-existing", ("overwrite", "conflict"), "The answer to an upload under an existing key.")
@_choice("--overwritten-id", ("keep", "new"), "Whether an item keeps its id when it is overwritten.")
@_choice("--form-names", ("backslash", "percent"), "The escapes in the file name of an upload.")
@_time("--delete-delay", "0s", "Time until a deleted item is gone.")
@_choice("--metadata", ("keep", "texts", "declared", "refuse"), "The custom metadata that an upload may have.")
@_switch("list-metadata", "Show the metadata of items, as since July 2026.")
@_choice("--checksum", ("opaque", "zero", "md5", "sha256"), "The kind of an item's checksum.")
@_time("--index-delay", "200ms", "Time until an upload is indexed.")
@click.option("--fail-index", help=f"{_PATTERN}whose content cannot be indexed.")
@click.option("--fail-index-transient", help=f"{_PATTERN}whose first indexings fail.")
@click.option(
    "--fail-index-times",
    metavar="N",
    type=click.IntRange(0),
    default=2,
    help="How many indexings of these keys fail; 0: all.",
)
@click.option("--skip-index", help=f"{_PATTERN}that the index leaves out.")
@click.option(
    "--index-error",
    metavar="REGEX=CODE",
    multiple=True,
    help="Keys whose indexing ends with this documented error; may be repeated.",
)
@click.option("--slow-index", help=f"{_PATTERN}whose indexing takes longer.")
@_time("--slow-index-delay", "1h", "Time until the slow keys are indexed.")
@_time("--list-lag", "0s", "Time by which listings are behind.")
@_time("--latency", "0s", "Time from a request to its answer.")
@click.option(
    "--quota",
    metavar="N/S",
    help="More than N requests in any S seconds are answered 429, and all requests of the next S seconds.",
)
@_switch("quota-headers", "Send the Ratelimit headers on every answer under a quota.")
@_choice(
    "--permissions",
    ("edit+run", "edit", "run"),
    "The AI Search permissions of the token. Searches and chats need run, everything else edit.",
)
@_choice("--permission-status", ("403", "401"), "The HTTP status of a refusal for a missing permission.")
@click.option("--degraded", is_flag=True, help="The statistics of instances are degraded: they have no counts.")
@click.option("--paused", is_flag=True, help="Every instance is paused until it is updated with paused: false.")
@_switch("show-defaults", "Show the settings of instances that no client has set.")
@_switch("builtin-storage", "Instances take uploads; otherwise they answer 7053.")
@_choice(
    "--permanent",
    ("refuse", "ignore"),
    "The answer to an update that changes the embedding model or the type of an instance.",
)
@_choice("--oversize", ("refuse", "skip", "error"), "What happens to an upload over the size limit of its type.")
@_switch("search-cache", "Answer similar queries from a cache, as the service does.")
@click.option(
    "--fail-search", is_flag=True, help="Retrieval fails: an empty list, or 7073 if return_on_failure is false."
)
@click.option("--unsuccessful", type=float, default=0.0, help="Share of the keys of a KV bulk request that fail.")
@_time("--mutation-lag", "200ms", "Time until a change of a Vectorize index is seen.")
def emulate(port: int, store: Path | None, permission_status: Literal["403", "401"], **behaviour: Any) -> int:
    """Serve the stand-in for the Cloudflare API on loopback.

    It prints its base URL. GET /_syncd/requests on the same port returns the number of requests by route, and with
    --quota the most requests in a window and the number of 429s. POST /_syncd/requests/reset starts the counters again.

    It answers AI Search, KV, Vectorize and the embedding models of Workers AI. The following routes are known and
    answered in part: jobs end by themselves, chats quote a chunk, as there is no language model, and instances with an
    external source have no files. The other routes of Workers AI (models, tasks, authors, finetunes, tomarkdown) are
    refused with 501.
    """
    _require_emulator("emulate")
    import signal
    import sqlite3

    from syncd.emulator.options import EmulatorOptions
    from syncd.emulator.server import run

    try:
        status: Literal[403, 401] = 403 if permission_status == "403" else 401
        options = EmulatorOptions(store=store, permission_status=status, **behaviour)
        return EXIT_INTERRUPTED if run(options, port, ready=print_line) == signal.SIGINT else EXIT_OK
    except ValueError as error:
        raise ConfigError(f"emulate: {error}") from None
    except OSError as error:
        raise ConfigError(
            f"emulate: port {port}: {error.strerror}; choose another with --port, and name it in base_url"
        ) from None
    except sqlite3.Error as error:
        raise ConfigError(f"emulate: store {store}: {error}; choose another --store") from None


# -- demo


@command()
@click.argument("path", type=directory_path, required=False, help="The folder to mirror. Default: a bundled sample.")
@click.option("--watch", is_flag=True, help="Stay and follow edits until Ctrl-C.")
@click.pass_obj
def demo(options: GlobalOptions, path: Path | None, *, watch: bool) -> int:
    """Mirror a folder into the stand-in and search it.

    A second pass shows that nothing is left to do. Needs no account.
    """
    _require_emulator("demo")
    import tempfile
    from importlib.resources import as_file, files

    from syncd.emulator.options import EmulatorOptions
    from syncd.emulator.server import serve

    options.set_up_logging("WARNING")
    with (
        as_file(files("syncd") / "sample") as sample,
        tempfile.TemporaryDirectory(prefix="syncd-demo-") as state,
        serve(EmulatorOptions(index_delay=0.2)) as server,
    ):
        root = path.absolute() if path else sample
        if not root.is_dir():
            raise ConfigError(f"{shown_path(root)} is no directory; name a folder to mirror: syncd demo PATH")
        config = _demo_config(root, Path(state), server.base_url)
        print_line(f"stand-in  {server.base_url} (loopback only, forgets everything at the end)")
        code = run_async(_show(config, _SAMPLE_QUERY if path is None else None))
        if watch:
            from syncd.cli.run import make_page
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
        "SYNCD_CLOUDFLARE__QUOTA": "",
        "SYNCD_CLOUDFLARE__TPSLIMIT": "0",
        "SYNCD_MIRRORS__DEMO__PATH": str(root),
        "SYNCD_MIRRORS__DEMO__SETTLE": "0.1",
    }
    return load(state / "syncd.toml", environment)


async def _show(config: "Config", query: str | None) -> int:
    """Make two passes, then search. query: None takes a heading of a file. Return the exit code."""
    from syncd.cli.items import print_hits
    from syncd.cli.reconcile import ReconcileRequest, make_report
    from syncd.cli.reports import print_reports
    from syncd.service.build import NO_GRANTS, open_session
    from syncd.sync.mirror import PassOptions
    from syncd.sync.once import Report
    from syncd.targets.base import searchable

    request = ReconcileRequest(PassOptions(), NO_GRANTS, _INDEXED_S, as_json=False)
    async with open_session(config) as session:
        mirror = session.mirrors["demo"]
        codes = set()
        for _ in range(2):
            with progress() as bar:
                report = await make_report(session, mirror, request, Report(), bar)
            print_reports(session, {"demo": report})
            codes.add(report.exit_code)
        question = query or _query_from(mirror.tree)
        print_line(f'search    "{question}"')
        print_hits([asdict(hit) for hit in await searchable(mirror.target).search(question, 3)], question)
        return most_serious(codes)


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
