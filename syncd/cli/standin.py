"""emulate: the stand-in for the Cloudflare API, on loopback."""

import signal
import sqlite3
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from syncd.cli.app import app, os_path
from syncd.core.errors import EXIT_INTERRUPTED, EXIT_OK, ConfigError


class OnExisting(StrEnum):
    """What an upload under an existing key meets."""

    OVERWRITE = "overwrite"
    CONFLICT = "conflict"


class Checksum(StrEnum):
    """What an item's checksum is."""

    OPAQUE = "opaque"
    ZERO = "zero"
    MD5 = "md5"
    SHA256 = "sha256"


def require_emulator(command: str) -> None:
    """Raise ConfigError if the packages of the extra `emulator` are not installed."""
    if not all(find_spec(name) for name in ("numpy", "python_multipart")):
        raise ConfigError(f"{command}: needs the extra 'emulator'; install it: pip install 'syncd[emulator]'")


@app.command()
def emulate(  # noqa: PLR0913 - the contract's options
    *,
    port: Annotated[int, typer.Option("--port", help="Loopback port; 0 takes a free one.", min=0, max=65535)] = 8787,
    store: Annotated[
        Path | None,
        typer.Option(
            "--store", parser=os_path, metavar="PATH", help="SQLite file to keep everything in; default: memory."
        ),
    ] = None,
    token: Annotated[str | None, typer.Option("--token", help="Take this token only; default: any.")] = None,
    on_existing: Annotated[
        OnExisting, typer.Option("--on-existing", help="What an upload under an existing key meets.")
    ] = OnExisting.OVERWRITE,
    checksum: Annotated[Checksum, typer.Option("--checksum", help="What an item's checksum is.")] = Checksum.OPAQUE,
    index_delay: Annotated[float, typer.Option("--index-delay", help="Seconds until an upload is indexed.")] = 0.2,
    fail_index: Annotated[
        str | None, typer.Option("--fail-index", help="Keys (regular expression) whose content cannot be indexed.")
    ] = None,
    fail_index_transient: Annotated[
        str | None, typer.Option("--fail-index-transient", help="Keys (the same) whose first indexings fail.")
    ] = None,
    fail_index_times: Annotated[
        int, typer.Option("--fail-index-times", help="How many of them; 0 means all.", min=0)
    ] = 2,
    skip_index: Annotated[
        str | None, typer.Option("--skip-index", help="Keys (the same) that the index leaves out.")
    ] = None,
    slow_index: Annotated[
        str | None, typer.Option("--slow-index", help="Keys (the same) whose indexing takes longer.")
    ] = None,
    slow_index_delay: Annotated[
        float, typer.Option("--slow-index-delay", help="Seconds until those are indexed.")
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
    require_emulator("emulate")
    from syncd.emulator.options import EmulatorOptions
    from syncd.emulator.server import run

    def ready(base_url: str) -> None:
        typer.echo(base_url)

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
        return EXIT_INTERRUPTED if run(options, port, ready=ready) == signal.SIGINT else EXIT_OK
    except ValueError as error:
        raise ConfigError(f"emulate: {error}") from None
    except OSError as error:
        raise ConfigError(f"emulate: port {port}: {error.strerror}; choose another --port") from None
    except sqlite3.Error as error:
        raise ConfigError(f"emulate: store {store}: {error}; choose another --store") from None
