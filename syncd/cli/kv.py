"""kv: the group of commands that look at and change Workers KV by hand; here those on whole namespaces."""

import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from syncd.cli.app import Globals, app, await_
from syncd.core.errors import EXIT_OK, EXIT_PROBLEMS, ConfigError, Conflict

if TYPE_CHECKING:
    from syncd.cloudflare.kv import KV
    from syncd.config.schema import Config

_T = TypeVar("_T")

group = typer.Typer(
    name="kv", help="Look at and change Workers KV by hand.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(group)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
NamespaceId = Annotated[str, typer.Argument(metavar="ID", help="32 hex digits.")]


# -- namespaces


@group.command()
def namespaces(ctx: typer.Context, *, as_json: AsJson = False) -> int:
    """List the namespaces of the account."""
    found = with_account(ctx, _list)
    from syncd.cli.out import emit, table

    if as_json:
        emit({"namespaces": [{"id": each_id, "title": title} for each_id, title in found]})
    else:
        table(("id", "title"), found)
    return EXIT_OK


async def _list(kv: "KV") -> list[tuple[str, str]]:
    found = [(each.id, each.title) async for each in kv.iter_namespaces()]
    return sorted(found, key=lambda each: (each[1], each[0]))


@group.command()
def create(
    ctx: typer.Context, title: Annotated[str, typer.Argument(metavar="TITLE")], *, as_json: AsJson = False
) -> int:
    """Make a namespace."""

    async def work(kv: "KV") -> str:
        try:
            return (await kv.create_namespace(title)).id
        except Conflict as error:
            raise _taken(title) from error

    made = with_account(ctx, work)
    tell(as_json=as_json, text=made, data={"id": made, "title": title})
    return EXIT_OK


@group.command()
def rename(
    ctx: typer.Context,
    namespace_id: NamespaceId,
    title: Annotated[str, typer.Argument(metavar="TITLE")],
    *,
    as_json: AsJson = False,
) -> int:
    """Give a namespace another title."""
    _check_id(namespace_id)

    async def work(kv: "KV") -> None:
        from syncd.cloudflare.kv import find_by_id

        await find_by_id(kv, namespace_id)
        try:
            await kv.rename_namespace(namespace_id, title)
        except Conflict as error:
            raise _taken(title) from error

    with_account(ctx, work)
    tell(as_json=as_json, text=f"{namespace_id} is now {title}", data={"id": namespace_id, "title": title})
    return EXIT_OK


@group.command()
def delete(
    ctx: typer.Context,
    namespace_id: NamespaceId,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> int:
    """Delete a namespace and all that is in it."""
    _check_id(namespace_id)
    if not yes and not sys.stdin.isatty():
        raise ConfigError("a namespace goes with all that is in it, and nobody is there to be asked: add --yes")

    async def title_of(kv: "KV") -> str:
        from syncd.cloudflare.kv import find_by_id

        await find_by_id(kv, namespace_id)
        return (await kv.get_namespace(namespace_id)).title

    title = with_account(ctx, title_of)
    if not yes and not typer.confirm(f"Delete the KV namespace {title!r} and all that is in it?", err=True):
        typer.echo("nothing was deleted", err=True)
        return EXIT_PROBLEMS
    with noted_by_hand(ctx, f"kv:{namespace_id}", ["*"]) as note:
        with_account(ctx, lambda kv: kv.delete_namespace(namespace_id))
        note(["*"])
    tell(as_json=as_json, text=f"deleted {title}", data={"id": namespace_id, "title": title})
    return EXIT_OK


# -- what they share


@contextmanager
def noted_by_hand(
    ctx: typer.Context, target: str, keys: "Sequence[str]"
) -> "Iterator[Callable[[Sequence[str]], None]]":
    """Enter what is deleted by hand in the log of deletes, if there is a state directory that we may write to.

    keys: what is about to go; "*" is all of a namespace. What went is told to the function that it gives.
    """
    from syncd.core.evidence import taken_away
    from syncd.state.history import DeleteLog, log_path

    options: Globals = ctx.obj
    state_dir = options.load(account_only=True).state_dir
    lines = {
        key: {"mirror": "", "target": target} | taken_away(key, key, "by_hand", "a person deleted it by syncd kv")
        for key in keys
    }
    if not os.access(state_dir, os.W_OK | os.X_OK):
        yield lambda _: None
        return
    with DeleteLog(log_path(state_dir)).writing(lines.values()) as pen:

        def note(gone: Sequence[str]) -> None:
            for key in gone:
                pen.write(lines[key], time.time())

        yield note


def with_account(ctx: typer.Context, work: "Callable[[KV], Awaitable[_T]]") -> _T:
    options: Globals = ctx.obj
    config = options.load(account_only=True)

    async def run() -> _T:
        async with open_account(config) as kv:
            return await work(kv)

    return await_(run())


@asynccontextmanager
async def open_account(config: "Config") -> "AsyncIterator[KV]":
    from syncd.cloudflare.kv import KV
    from syncd.service.build import open_transport

    async with open_transport(config) as transport:
        yield KV(transport)


def _taken(title: str) -> Conflict:
    return Conflict(f"a KV namespace has the title {title!r} already; choose another: syncd kv namespaces")


def _check_id(namespace_id: str) -> None:
    from syncd.cloudflare.kv import NAMESPACE_ID

    if not NAMESPACE_ID.fullmatch(namespace_id):
        raise ConfigError(f"{namespace_id!r} is no namespace id, which has 32 hex digits; see: syncd kv namespaces")


def tell(*, as_json: bool, text: str, data: dict[str, Any]) -> None:
    from syncd.cli.out import emit, line

    if as_json:
        emit(data)
    else:
        line(text)
