"""kv: shows and changes namespaces of Workers KV, and the keys of one namespace, by hand."""

import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import wraps
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from syncd.cli import completion
from syncd.cli.completion import file_path
from syncd.cli.context import CommandGroup, Duration, GlobalOptions, Text, as_json_option, run_async
from syncd.cli.output import print_error, print_json, print_line, print_note, print_table
from syncd.core.errors import EXIT_OK, EXIT_PROBLEMS, ConfigError, Conflict, NotFound, SyncdError, file_error
from syncd.core.plain_text import printable, shown_size, utc_time

if TYPE_CHECKING:
    from syncd.cloudflare.kv import KV, KVNamespace, ListedKey
    from syncd.config.schema import Config

_T = TypeVar("_T")

_LAST_SECOND = 253_402_300_799
"""The end of the year 9999. An entry may expire later, and Python knows no later time."""

_namespace_argument = click.argument(
    "namespace",
    metavar="TITLE-OR-ID",
    type=Text(),
    help="The title of the namespace, or its id.",
    shell_complete=completion.titles,
)
_title_argument = click.argument("title", type=Text(), help="The title of the namespace.")
_key_argument = click.argument("key", type=Text(), help="The key.")
_namespace_option = click.option(
    "--namespace",
    metavar="TITLE-OR-ID",
    type=Text(),
    help="The namespace. Default: the one of the only mirror of type kv.",
    shell_complete=completion.titles,
)


def _pass_config(function: Callable[..., int]) -> Callable[..., int]:
    """Pass the config to a command as its first argument. The config may have no mirror."""

    @wraps(function)
    def command(**arguments: Any) -> int:
        options: GlobalOptions = click.get_current_context().obj
        return function(options.load(account_only=True), **arguments)

    return command


@click.group("kv", cls=CommandGroup, no_args_is_help=True)
def group() -> None:
    """Look at and change Workers KV by hand."""


# -- namespaces


@group.command
@as_json_option
@_pass_config
def namespaces(config: "Config", *, as_json: bool) -> int:
    """List the namespaces of the account."""

    async def work(kv: "KV") -> list[dict[str, str]]:
        return [{"id": namespace.id, "title": namespace.title} async for namespace in kv.iter_namespaces()]

    rows = sorted(_with_account(config, work), key=itemgetter("title", "id"))
    if as_json:
        print_json({"namespaces": rows})
    else:
        print_table(("id", "title"), [(row["id"], row["title"]) for row in rows])
    return EXIT_OK


@group.command
@_title_argument
@as_json_option
@_pass_config
def create(config: "Config", title: str, *, as_json: bool) -> int:
    """Create a namespace."""

    async def work(kv: "KV") -> str:
        try:
            return (await kv.create_namespace(title)).id
        except Conflict as error:
            raise _title_taken(title) from error

    namespace_id = _with_account(config, work)
    _print_result(as_json=as_json, text=namespace_id, data={"id": namespace_id, "title": title})
    return EXIT_OK


@group.command
@_namespace_argument
@_title_argument
@as_json_option
@_pass_config
def rename(config: "Config", namespace: str, title: str, *, as_json: bool) -> int:
    """Give a namespace another title."""

    async def work(kv: "KV") -> str:
        from syncd.cloudflare.kv import find_by_id_or_title

        namespace_id = await find_by_id_or_title(kv, namespace)
        try:
            await kv.rename_namespace(namespace_id, title)
        except Conflict as error:
            raise _title_taken(title) from error
        return namespace_id

    namespace_id = _with_account(config, work)
    _print_result(as_json=as_json, text=f"{namespace_id} is now {title}", data={"id": namespace_id, "title": title})
    return EXIT_OK


@group.command
@_namespace_argument
@click.option("--yes", is_flag=True, help="Delete without a question.")
@as_json_option
@_pass_config
def delete(config: "Config", namespace: str, *, yes: bool, as_json: bool) -> int:
    """Delete a namespace and every key in it."""
    if not yes and not sys.stdin.isatty():
        raise ConfigError("this deletes a namespace with every key in it, and stdin is no terminal to ask: add --yes")

    async def find(kv: "KV") -> tuple[str, str]:
        from syncd.cloudflare.kv import find_by_id_or_title

        found = await kv.get_namespace(await find_by_id_or_title(kv, namespace))
        return found.id, found.title

    namespace_id, title = _with_account(config, find)
    if not yes and not click.confirm(f"Delete the KV namespace {title!r} and every key in it?", err=True):
        print_note("nothing was deleted")
        return EXIT_PROBLEMS
    with _log_deletes(config, f"kv:{namespace_id}", ["*"]) as record_deletes:
        _with_account(config, lambda kv: kv.delete_namespace(namespace_id))
        record_deletes(["*"])
    _print_result(as_json=as_json, text=f"deleted {title}", data={"id": namespace_id, "title": title})
    return EXIT_OK


def _with_account(config: "Config", work: "Callable[[KV], Awaitable[_T]]") -> _T:
    async def run() -> _T:
        from syncd.cloudflare.kv import KV
        from syncd.service.build import open_transport

        async with open_transport(config) as transport:
            return await work(KV(transport))

    return run_async(run())


def _title_taken(title: str) -> Conflict:
    return Conflict(f"a KV namespace has the title {title!r} already; choose another: syncd kv namespaces")


# -- keys of one namespace


@group.command
@click.option(
    "--prefix",
    metavar="P",
    type=Text(),
    default="",
    show_default=False,
    help="List only keys that begin with this text.",
)
@_namespace_option
@as_json_option
@_pass_config
def keys(config: "Config", prefix: str, namespace: str | None, *, as_json: bool) -> int:
    """List keys with metadata and expiration."""

    async def work(kv: "KVNamespace") -> "list[ListedKey]":
        return [key async for key in kv.iter_keys(prefix)]

    found = _with_namespace(config, namespace, work)
    if as_json:
        print_json({"keys": [asdict(key) for key in found]})
    else:
        rows = ((key.name, _format_time(key.expiration), _compact(key.metadata)) for key in found)
        print_table(("key", "expires", "metadata"), rows)
    return EXIT_OK


@group.command
@_key_argument
@_namespace_option
@_pass_config
def get(config: "Config", key: str, namespace: str | None) -> int:
    """Write a value to stdout, byte for byte.

    Control characters are escaped if stdout is a terminal.
    """

    async def work(kv: "KVNamespace") -> bytes:
        return await _existing(key, kv.read_value(key))

    content = _with_namespace(config, namespace, work)
    sys.stdout.flush()
    if sys.stdout.isatty():
        content = "\n".join(map(printable, content.decode("utf-8", "backslashreplace").split("\n"))).encode()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    return EXIT_OK


@group.command
@_key_argument
@_namespace_option
@as_json_option
@_pass_config
def meta(config: "Config", key: str, namespace: str | None, *, as_json: bool) -> int:
    """Show the metadata of a key."""
    metadata = _with_namespace(config, namespace, lambda kv: _existing(key, kv.read_metadata(key)))
    if as_json:
        print_json({"key": key, "metadata": metadata})
    elif isinstance(metadata, dict):
        print_table(
            ("name", "value"),
            [(name, value if isinstance(value, str) else _compact(value)) for name, value in metadata.items()],
        )
    else:
        print_line(_compact(metadata))
    return EXIT_OK


@group.command
@_key_argument
@click.argument("file", type=file_path, help="The file with the value; - reads stdin.")
@click.option("--metadata", metavar="JSON", help="The metadata of the key, as a JSON object.")
@click.option("--expiration-ttl", metavar="TIME", type=Duration(60), help="Time until the key expires, such as 1h.")
@_namespace_option
@as_json_option
@_pass_config
def put(  # noqa: PLR0913 - the options of the command
    config: "Config",
    key: str,
    file: Path,
    metadata: str | None,
    expiration_ttl: float | None,
    namespace: str | None,
    *,
    as_json: bool,
) -> int:
    """Store a file under a key."""
    fields = _parse_metadata(metadata)
    content = _read_value(file)

    async def work(kv: "KVNamespace") -> None:
        await kv.write_value(
            key, content, fields, expiration_ttl=None if expiration_ttl is None else int(expiration_ttl)
        )

    _with_namespace(config, namespace, work)
    text = f"stored {key}, {shown_size(len(content))}"
    _print_result(as_json=as_json, text=text, data={"key": key, "bytes": len(content)})
    return EXIT_OK


@group.command
@click.argument("names", metavar="KEY...", type=Text(), nargs=-1, required=True, help="The keys.")
@_namespace_option
@as_json_option
@_pass_config
def rm(config: "Config", names: tuple[str, ...], namespace: str | None, *, as_json: bool) -> int:
    """Remove keys. A key that is absent counts as removed."""
    wanted = list(dict.fromkeys(names))
    namespace = namespace or _only_namespace(config)
    with _log_deletes(config, f"kv:{namespace}", wanted) as record_deletes:
        failed = _with_namespace(config, namespace, lambda kv: remove_keys(kv, wanted))
        removed = [key for key in wanted if key not in failed]
        record_deletes(removed)
    for key, error in failed.items():
        print_error(f"{key}: {error}")
    data = {"removed": removed, "failed": {key: str(error) for key, error in failed.items()}}
    _print_result(as_json=as_json, text=f"removed {len(removed)} of {len(wanted)}", data=data)
    return EXIT_PROBLEMS if failed else EXIT_OK


async def remove_keys(kv: "KVNamespace", wanted: Sequence[str]) -> dict[str, SyncdError]:
    """Delete one key, or many in bulk. Return the keys that failed with their errors. Raises Halt and Unreachable."""
    import asyncio

    from syncd.targets.kv.writing import BULK_DELETES, send_bulk

    # Only bulk requests transmit control characters.
    if len(wanted) == 1 and wanted[0].isprintable():
        try:
            await kv.delete_value(wanted[0])
        except SyncdError as error:
            return {wanted[0]: file_error(error, wanted[0])}
        return {}
    failed: dict[str, SyncdError] = {}
    for start in range(0, len(wanted), BULK_DELETES):
        failed |= await send_bulk(wanted[start : start + BULK_DELETES], kv.bulk_delete, asyncio.sleep)
    return failed


def _with_namespace(config: "Config", given: str | None, work: "Callable[[KVNamespace], Awaitable[_T]]") -> _T:
    name = given or _only_namespace(config)

    async def in_namespace(kv: "KV") -> _T:
        from syncd.cloudflare.kv import KVNamespace, find_by_id_or_title

        return await work(KVNamespace(kv.transport, await find_by_id_or_title(kv, name)))

    return _with_account(config, in_namespace)


def _only_namespace(config: "Config") -> str:
    """Return the namespace of the only kv mirror. Raises ConfigError with the choices if there is not exactly one."""
    from syncd.config.target_sections import KVSection

    namespaces = {
        name: section.target.namespace_id or section.target.namespace_title or ""
        for name, section in config.mirrors.items()
        if isinstance(section.target, KVSection)
    }
    if len(set(namespaces.values())) == 1:
        return next(iter(namespaces.values()))
    choices = ", ".join(f"{namespace} (mirror {name})" for name, namespace in namespaces.items())
    why = f"the kv mirrors have: {choices}" if choices else "no kv mirror is configured; see: syncd kv namespaces"
    raise ConfigError(f"which namespace? Name it with --namespace TITLE-OR-ID; {why}")


async def _existing(key: str, read: Awaitable[_T]) -> _T:
    """Return the result of `read`. Raises NotFound with the name of the key if the key does not exist."""
    from syncd.cloudflare.kv import KEY_NOT_FOUND

    try:
        return await read
    except NotFound as error:
        if error.code not in (None, KEY_NOT_FOUND):
            raise
        raise NotFound(f"no key {key!r} in this namespace; see: syncd kv keys") from error


def _parse_metadata(given: str | None) -> dict[str, Any] | None:
    if given is None:
        return None
    from syncd.cloudflare.request import compact_json

    try:
        metadata = json.loads(given)
        compact_json(metadata)  # such as NaN cannot be sent
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise ConfigError('--metadata should be a JSON object, such as {"lang": "en"}')
    return metadata


def _read_value(file: Path) -> bytes:
    """Return the content of a file, at most one byte over the limit of KV. Raises ConfigError if it is unreadable."""
    from syncd.cloudflare.kv_bodies import VALUE_LIMIT

    try:
        if str(file) == "-":
            return sys.stdin.buffer.read(VALUE_LIMIT + 1)
        with file.open("rb") as opened:
            return opened.read(VALUE_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; name a file that can be read") from None


# -- deletes and output


@contextmanager
def _log_deletes(config: "Config", target: str, keys: Sequence[str]) -> Iterator[Callable[[Sequence[str]], None]]:
    """Yield a function that adds deleted keys to the delete log. It does nothing if the state cannot be written.

    keys: the keys about to be deleted; "*" is the whole namespace.
    """
    from syncd.core.plan import removal_log_entry
    from syncd.state.deletions import DeleteLog

    lines = {
        key: {"mirror": "", "target": target}
        | removal_log_entry(key, key, "by_hand", "a person deleted it by syncd kv")
        for key in keys
    }
    if not os.access(config.state_dir, os.W_OK | os.X_OK):
        yield lambda _: None
        return
    with DeleteLog(config.state_dir).writing(lines.values()) as log:

        def record_deletes(deleted: Sequence[str]) -> None:
            for key in deleted:
                log.write(lines[key], time.time())

        yield record_deletes


def _print_result(*, as_json: bool, text: str, data: dict[str, Any]) -> None:
    if as_json:
        print_json(data)
    else:
        print_line(text)


def _format_time(expiration: int | None) -> str:
    return utc_time(max(0, min(expiration, _LAST_SECOND))).replace("T", " ") if expiration else ""


def _compact(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
