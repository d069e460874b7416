"""emulate, demo: the stand-in for the Cloudflare API, alone or with a mirror at work."""

import re
from collections.abc import Callable
from dataclasses import Field, asdict, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import click

from syncd.cli.completion import directory_path, file_path
from syncd.cli.context import Duration, GlobalOptions, command, run_async
from syncd.cli.output import print_line, progress
from syncd.core.errors import EXIT_INTERRUPTED, EXIT_OK, ConfigError, FileChanged, Park, most_serious
from syncd.core.keys import shown_path
from syncd.emulator.options import EmulatorOptions, Seconds

if TYPE_CHECKING:
    from syncd.config.schema import Config
    from syncd.local.walk import Tree

_SAMPLE_QUERY = "rotate the API token"
_ACCOUNT = "0123456789abcdef0123456789abcdef"
_INDEX_TIMEOUT_S = 60.0
"""Maximum seconds to wait until the files are indexed."""
_HEADING_LINES = 50
"""Lines at the beginning of a file that are searched for a heading."""


def _require_emulator(command: str) -> None:
    """Raise ConfigError if the packages of the extra `emulator` are not installed."""
    if not all(find_spec(name) for name in ("numpy", "python_multipart")):
        raise ConfigError(f"{command}: needs the extra 'emulator'; install it: pip install 'syncd[emulator]'")


# -- emulate


_KINDS: dict[Any, click.ParamType[Any]] = {
    Path | None: file_path,
    Seconds: Duration(),
    int: click.IntRange(0),
    float: click.FLOAT,
}
"""The type of a field of EmulatorOptions -> the type of the option."""


def _behaviour(function: Callable[..., int]) -> Callable[..., int]:
    """Add an option to the command for each option of the stand-in that has a help text."""
    for field in reversed(fields(EmulatorOptions)):
        if "help" in field.metadata:
            function = _option(field)(function)
    return function


def _option(field: Field[Any]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Return the decorator that adds the option of a field to a command."""
    name = f"--{field.name.replace('_', '-')}"
    default: Any = field.default
    if field.type is bool:
        name = f"{name}/--no{name[1:]}" if default else name
        return click.option(name, is_flag=True, default=default, help=field.metadata["help"])
    kind: Any = _KINDS.get(field.type)
    if get_origin(field.type) is Literal:
        kind = click.Choice(get_args(field.type))
    if isinstance(kind, Duration):
        default = f"{default * 1000:g}ms" if 0 < default < 1 else f"{default:g}s"
    return click.option(name, type=kind, default=default, multiple=default == (), **field.metadata)


@command()
@click.option(
    "--port", metavar="N", type=click.IntRange(0, 65535), default=8787, help="The loopback port; 0 takes a free one."
)
@_behaviour
def emulate(port: int, store: Path | None, **behaviour: Any) -> int:
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

    from syncd.emulator.server import run

    try:
        options = EmulatorOptions(store=store, **behaviour)
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

    from syncd.config.checks import TOO_MUCH, is_too_much
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
        if is_too_much(root):
            raise ConfigError(f"{shown_path(root)} {TOO_MUCH}")
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
    """Write a config file, and load it with an environment that does not depend on the variables of the process."""
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
    """Make two passes, then search. Return the exit code. query: None searches for a heading of a file."""
    from syncd.cli.items import print_hits
    from syncd.cli.reconcile import ReconcileRequest, make_report
    from syncd.cli.reports import print_reports
    from syncd.service.build import NO_GRANTS, open_session
    from syncd.sync.mirror import PassOptions
    from syncd.sync.once import Report
    from syncd.targets.base import searchable

    request = ReconcileRequest(PassOptions(), NO_GRANTS, _INDEX_TIMEOUT_S, as_json=False)
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
    """Return the first heading of a Markdown file as a query, because a search of this folder finds the file."""
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
