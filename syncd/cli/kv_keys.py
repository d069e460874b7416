"""kv: the commands on the keys of one namespace."""

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from syncd.cli.app import Globals, await_, os_path
from syncd.cli.kv import AsJson, group, noted_by_hand, open_account, tell
from syncd.core.errors import EXIT_OK, EXIT_PROBLEMS, ConfigError, NotFound, SyncdError

if TYPE_CHECKING:
    from syncd.cloudflare.kv import KVNamespace
    from syncd.config.schema import Config

_T = TypeVar("_T")

DELETES_AT_ONCE = 1000
"""Keys of one bulk delete."""

Namespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="TITLE-OR-ID", help="Default: that of the only kv mirror.", show_default=False),
]
Key = Annotated[str, typer.Argument(metavar="KEY")]


@group.command()
def keys(
    ctx: typer.Context,
    *,
    prefix: Annotated[str, typer.Option("--prefix", metavar="P", help="Only keys that begin so.")] = "",
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> int:
    """List keys with metadata and expiration."""

    async def work(place: "KVNamespace") -> list[dict[str, Any]]:
        return [
            {"name": key.name, "metadata": key.metadata, "expiration": key.expiration}
            async for key in place.iter_keys(prefix)
        ]

    rows = _with_namespace(ctx, namespace, work)
    from syncd.cli.out import emit, table

    if as_json:
        emit({"keys": rows})
    else:
        table(
            ("key", "expires", "metadata"),
            ((row["name"], _when(row["expiration"]), _compact(row["metadata"])) for row in rows),
        )
    return EXIT_OK


@group.command()
def get(ctx: typer.Context, key: Key, *, namespace: Namespace = None) -> int:
    """Write a value to stdout, byte for byte.

    On a terminal control characters are shown and not obeyed.
    """

    async def work(place: "KVNamespace") -> bytes:
        with_key = await _of_key(key, place.read_value(key))
        return with_key.content

    content = _with_namespace(ctx, namespace, work)
    sys.stdout.flush()
    if sys.stdout.isatty():
        content = "\n".join(map(_safe, content.decode("utf-8", "backslashreplace").split("\n"))).encode()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    return EXIT_OK


@group.command()
def meta(ctx: typer.Context, key: Key, *, namespace: Namespace = None, as_json: AsJson = False) -> int:
    """Show the metadata of a key."""
    found = _with_namespace(ctx, namespace, lambda place: _of_key(key, place.read_metadata(key)))
    from syncd.cli.out import emit, line, table

    if as_json:
        emit({"key": key, "metadata": found})
    elif isinstance(found, dict):
        table(
            ("name", "value"),
            [(name, value if isinstance(value, str) else _compact(value)) for name, value in found.items()],
        )
    else:
        line(_compact(found))
    return EXIT_OK


@group.command()
def put(  # noqa: PLR0913 - the API's options
    ctx: typer.Context,
    key: Key,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="- reads stdin.", parser=os_path)],
    *,
    metadata: Annotated[str | None, typer.Option("--metadata", metavar="JSON", help="A JSON object.")] = None,
    expiration_ttl: Annotated[
        int | None, typer.Option("--expiration-ttl", metavar="S", help="Seconds it stays.", min=60)
    ] = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> int:
    """Store a file under a key."""
    marks = _object(metadata)
    content = _content(file)

    async def work(place: "KVNamespace") -> None:
        await place.write_value(key, content, marks, expiration_ttl=expiration_ttl)

    _with_namespace(ctx, namespace, work)
    tell(as_json=as_json, text=f"stored {key}, {len(content)} bytes", data={"key": key, "bytes": len(content)})
    return EXIT_OK


@group.command()
def rm(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="KEY...")],
    *,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> int:
    """Remove keys; absent ones count as removed."""
    wanted = list(dict.fromkeys(names))
    place_name = namespace or _only_namespace(ctx.obj.load(account_only=True))
    with noted_by_hand(ctx, f"kv:{place_name}", wanted) as note:
        failed = _with_namespace(ctx, place_name, lambda place: _remove(place, wanted))
        note([key for key in wanted if key not in failed])
    for key, error in failed.items():
        typer.echo(f"syncd: {_safe(key)}: {_safe(str(error))}", err=True)
    removed = [key for key in wanted if key not in failed]
    told = {"removed": removed, "failed": {key: str(error) for key, error in failed.items()}}
    tell(as_json=as_json, text=f"removed {len(removed)} of {len(wanted)}", data=told)
    return EXIT_PROBLEMS if failed else EXIT_OK


async def _remove(place: "KVNamespace", wanted: list[str]) -> dict[str, SyncdError]:
    import asyncio

    from syncd.targets.bulk import Keys, in_parts

    failed: dict[str, SyncdError] = {}
    for start in range(0, len(wanted), DELETES_AT_ONCE):
        part = Keys(tuple(wanted[start : start + DELETES_AT_ONCE]))
        failed |= await in_parts(part, lambda keys: place.bulk_delete(keys.keys), asyncio.sleep)
    return failed


def _with_namespace(ctx: typer.Context, given: str | None, work: "Callable[[KVNamespace], Awaitable[_T]]") -> _T:
    options: Globals = ctx.obj
    config = options.load(account_only=True)

    async def run() -> _T:
        from syncd.cloudflare.kv import KVNamespace, find_by_id_or_title

        name = given or _only_namespace(config)
        async with open_account(config) as kv:
            return await work(KVNamespace(kv.transport, await find_by_id_or_title(kv, name)))

    return await_(run())


def _only_namespace(config: "Config") -> str:
    """The namespace of the only kv mirror. Raises ConfigError naming what there is."""
    from syncd.config.schema import KVSection

    places = {name: section.target for name, section in config.mirrors.items()}
    found = {
        name: target.namespace_id or target.namespace_title or ""
        for name, target in places.items()
        if isinstance(target, KVSection)
    }
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    there = ", ".join(f"{place} (mirror {name})" for name, place in found.items())
    why = f"the kv mirrors have: {there}" if found else "no kv mirror is configured; see: syncd kv namespaces"
    raise ConfigError(f"which namespace? Name it with --namespace TITLE-OR-ID; {why}")


async def _of_key(key: str, reading: Awaitable[_T]) -> _T:
    from syncd.cloudflare.kv import KEY_NOT_FOUND

    try:
        return await reading
    except NotFound as error:
        if error.code not in (None, KEY_NOT_FOUND):
            raise
        raise NotFound(f"no key {key!r} in this namespace; see: syncd kv keys") from error


def _object(given: str | None) -> dict[str, Any] | None:
    if given is None:
        return None
    try:
        found = json.loads(given)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError('--metadata should be a JSON object, such as {"lang": "en"}')
    return found


def _content(file: Path) -> bytes:
    """What a file holds, and one byte more than KV takes at most."""
    from syncd.cloudflare.kv_bulk import VALUE_LIMIT

    try:
        if str(file) == "-":
            return sys.stdin.buffer.read(VALUE_LIMIT + 1)
        with file.open("rb") as opened:
            return opened.read(VALUE_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; name a file that can be read") from None


def _safe(text: str) -> str:
    from syncd.core.redact import printable

    return printable(text)


def _when(expiration: int | None) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(expiration, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if expiration else ""


def _compact(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
