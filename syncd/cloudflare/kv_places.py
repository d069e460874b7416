"""Which KV namespace is meant: by its id or by its title, and what there is instead when it is not there."""

import re
from collections.abc import Iterable

from syncd.cloudflare.kv import KV
from syncd.cloudflare.kv_values import KVNamespaceInfo
from syncd.errors import Halt, TargetMissing

NAMESPACE_ID = re.compile(r"[0-9a-f]{32}")
NAMED = 20
"""Titles that an error names; the rest is counted."""


async def by_id(kv: KV, namespace_id: str, *, hint: str = "") -> str:
    """Return the id if there is such a namespace. Raises TargetMissing naming those that are there, and the hint."""
    try:
        return (await kv.get_namespace(namespace_id)).id
    except TargetMissing as error:
        there = [each async for each in kv.iter_namespaces()]
        raise _missing(f"no KV namespace has the id {namespace_id}", there, hint) from error


async def by_title(kv: KV, title: str, *, hint: str = "", remedy: str = "set namespace_id to one of") -> str:
    """Return the id of the namespace of a title. Raises TargetMissing like `by_id`, Halt if the title stands twice."""
    there = [each async for each in kv.iter_namespaces()]
    ids = [each.id for each in there if each.title == title]
    if len(ids) > 1:
        raise Halt(f"{len(ids)} KV namespaces have the title {title!r}: {remedy} {ids}")
    if not ids:
        raise _missing(f"no KV namespace has the title {title!r}", there, hint)
    return ids[0]


async def by_either(kv: KV, name: str) -> str:
    """Return the id of the namespace that has this id, else of the one that has this title."""
    if NAMESPACE_ID.fullmatch(name):
        try:
            return (await kv.get_namespace(name)).id
        except TargetMissing:
            pass
    return await by_title(kv, name, remedy="name it by one of the ids")


def _missing(what: str, there: Iterable[KVNamespaceInfo], hint: str) -> TargetMissing:
    """The error that says what is not there, what is, and what to do about it."""
    titles = sorted(each.title for each in there)
    named = ", ".join(map(repr, titles[:NAMED])) + (f" and {len(titles) - NAMED} more" if len(titles) > NAMED else "")
    return TargetMissing(f"{what}; there is: {named or 'none'}{hint and '. ' + hint}")
