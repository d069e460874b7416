"""demo: the main job on the stand-in, on a folder of real files, without an account."""

import re
import secrets
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.app import Globals, app, await_, os_path
from syncd.cli.standin import require_emulator
from syncd.core.errors import ConfigError
from syncd.core.os_names import shown_path

if TYPE_CHECKING:
    from syncd.config.schema import Config
    from syncd.local.walk import Tree

SAMPLE_QUERY = "rotate the API token"
ACCOUNT = "0123456789abcdef0123456789abcdef"


@app.command()
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
    require_emulator("demo")
    import tempfile
    from importlib.resources import as_file, files

    from syncd.emulator.options import EmulatorOptions
    from syncd.emulator.server import serve

    options: Globals = ctx.obj
    options.log("WARNING")
    with (
        as_file(files("syncd") / "sample") as sample,
        tempfile.TemporaryDirectory(prefix="syncd-demo-") as state,
        serve(EmulatorOptions(index_delay=0.2)) as server,
    ):
        root = path.expanduser().absolute() if path else sample
        if not root.is_dir():
            raise ConfigError(f"{shown_path(root)} is no directory; name a folder to mirror: syncd demo PATH")
        config = _config(root, Path(state), server.base_url)
        typer.echo(f"stand-in  {server.base_url} (loopback only, forgets everything at the end)")
        code = await_(_show(config, SAMPLE_QUERY if path is None else None))
        if watch:
            from syncd.cli.out import line
            from syncd.service.daemon import serve as keep

            line(f"watching  {shown_path(root)}: edit, rename or delete a file there; Ctrl-C ends")
            options.log("INFO")
            code = keep(lambda: config)
        return code


def _config(root: Path, state: Path, base_url: str) -> "Config":
    """A config like any other, from a file and an environment of its own."""
    from syncd.config.sources import load

    (state / "syncd.toml").write_text(
        "[mirrors.demo]\n[mirrors.demo.target]\ntype = 'ai-search'\ninstance = 'demo'\ncreate = true\n"
    )
    environment = {
        "SYNCD_STATE_DIR": str(state / "state"),
        "SYNCD_CLOUDFLARE__ACCOUNT_ID": ACCOUNT,
        # The stand-in takes any. A word would be hidden wherever it stands.
        "SYNCD_CLOUDFLARE__API_TOKEN": secrets.token_hex(20),
        "SYNCD_CLOUDFLARE__BASE_URL": base_url,
        "SYNCD_CLOUDFLARE__TPSLIMIT": "0",
        "SYNCD_MIRRORS__DEMO__PATH": str(root),
        "SYNCD_MIRRORS__DEMO__SETTLE": "0.1",
    }
    return load(state / "syncd.toml", environment)


async def _show(config: "Config", query: str | None) -> int:
    from syncd.cli.hits import show_hits
    from syncd.cli.out import Watcher, line, progress
    from syncd.cli.report import show
    from syncd.service import once
    from syncd.service.build import open_session
    from syncd.sync.passes import Options
    from syncd.targets.base import searchable

    async with open_session(config) as session:
        mirror = session.mirrors["demo"]
        worst = 0
        for _ in range(2):
            report = once.Report()
            before = session.transport.counters.requests
            began = time.monotonic()
            with progress() as shown:
                await once.run(mirror, Options(), Watcher("demo", shown), report)
                await once.wait_until_indexed(mirror, report, 60)
            report.requests = session.transport.counters.requests - before
            report.elapsed_s = time.monotonic() - began
            show(session, {"demo": report})
            worst = max(worst, report.exit_code)
        asked = query or _query_from(mirror.tree)
        line(f'search    "{asked}"')
        show_hits(
            [asdict(hit) for hit in await searchable(mirror.target).search(asked, 3)],
            asked,
        )
        return worst


def _query_from(tree: "Tree") -> str:
    """The first heading of some Markdown file: a question that this folder can answer."""
    from syncd.core.errors import Park
    from syncd.core.model import Item
    from syncd.targets.base import Again

    for item in tree.walk():
        if not isinstance(item, Item) or not re.search(r"\.mdx?$", item.path):
            continue
        try:
            text = tree.read(item.path)[0].data.decode("utf-8", "replace")
        except (Again, Park):
            continue
        for row in text.splitlines()[:50]:
            if heading := re.match(r"#+\s+([\w][^`<\[{]{3,60})$", row):
                return heading[1].strip()
    return "introduction"
